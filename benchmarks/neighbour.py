"""A chat's gets beside a chat that asks as fast as it can: their median at most twice that of a quiet server."""

from __future__ import annotations

import http.client
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from urllib.parse import urlsplit

import grpc

from benchmarks.harness import Figures, Measure, Row, compare
from benchmarks.load import SERVICE, TIMEOUT
from benchmarks.servers import ROOT, chat_token, database, empty_cache, ours, ours_over_http
from proto.activities.v1 import activities_pb2 as pb

GETS = 400
"""Of one round; a chat may ask 600 times a minute."""
FIRST_SECONDS = 1.0
"""Within this the noisy chat has used up its minute."""

Ask = Callable[[], object]


def run() -> list[Row]:
    chats = itertools.count(1)
    with (
        database(chats=100, per_chat=100, requests_per_minute=600) as rows,
        ours(rows) as server,
        ours_over_http(rows) as web,
    ):
        empty_cache()  # chats of the same numbers may have asked in a run before
        return [
            row
            for address, asking in ((server.address, _over_grpc), (web.address, _over_http))
            for row in compare(
                f"get over {'HTTP' if asking is _over_http else 'gRPC'} beside a noisy chat",
                _beside(_noise, address, asking, chats),
                {"quiet": _beside(_silence, address, asking, chats)},
            )
        ]


def _beside(
    neighbour: Callable[..., object], address: str, asking: Callable[[str, str], Ask], chats: Iterator[int]
) -> Measure:
    def measure() -> Figures:
        ask = asking(address, chat_token(next(chats)))
        with neighbour(address, chat_token(next(chats))):  # type: ignore[attr-defined]
            return {"ms": median(_took(ask) for _ in range(GETS))}

    return measure


def _took(ask: Ask) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def _over_grpc(address: str, token: str) -> Ask:
    get = grpc.insecure_channel(address).unary_unary(f"/{SERVICE}/ActivityGet", bytes, bytes)
    message = pb.ActivityGetRequest(name="activity 7").SerializeToString()
    return lambda: get(message, metadata=(("authorization", f"Bearer {token}"),), timeout=TIMEOUT)


def _over_http(address: str, token: str) -> Ask:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=TIMEOUT)

    def ask() -> None:
        connection.request("GET", "/api/v1/activities/activity%207/", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"answered {answer.status}")

    return ask


@contextmanager
def _noise(address: str, token: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.noise", address, token]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        time.sleep(FIRST_SECONDS)
        yield
        process.terminate()


@contextmanager
def _silence(_address: str, _token: str) -> Iterator[None]:
    time.sleep(FIRST_SECONDS)
    yield
