"""`ActivityListStream` of 100 000: at least 0.7 of the rows of a bare stream that a psycopg loop feeds, the first
message within 50 ms, and less than 10 MB more memory in the process."""

from __future__ import annotations

import time
from pathlib import Path

import grpc

from benchmarks.harness import Figures, Measure, Row, compare
from benchmarks.load import SERVICE
from benchmarks.servers import Server, baseline, chat_token, database, ours
from proto.activities.v1 import activities_pb2 as pb

ROWS = 100_000
TIMEOUT = 120.0


def run() -> list[Row]:
    with (
        database(chats=2, per_chat=ROWS) as rows,
        ours(rows) as activities,
        baseline("bare", rows) as bare,
    ):
        return compare("stream", _streams(activities), {"bare grpcio + psycopg": _streams(bare)})


def _streams(server: Server) -> Measure:
    first_chat, token = 1, chat_token(1)
    request = pb.ActivityListStreamRequest(chat_id=first_chat).SerializeToString()

    def measure() -> Figures:
        before = _resident(server.pid)
        with grpc.insecure_channel(server.address) as channel:
            grpc.channel_ready_future(channel).result(TIMEOUT)
            method = channel.unary_stream(f"/{SERVICE}/ActivityListStream", bytes, bytes)
            began = time.monotonic()
            answers = iter(method(request, metadata=(("authorization", f"Bearer {token}"),), timeout=TIMEOUT))
            next(answers)
            first = time.monotonic()
            received = 1 + sum(1 for _ in answers)
            ended = time.monotonic()
        if received != ROWS:
            raise RuntimeError(f"{received} rows of {ROWS}")
        return {
            "rows/s": ROWS / (ended - began),
            "ms to the first": (first - began) * 1000,
            "MB grown": _most_resident(server.pid) - before,
        }

    return measure


def _resident(pid: int) -> float:
    """MB in memory now, from where on its most is remembered anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets the peak
    return _megabytes(pid, "VmRSS")


def _most_resident(pid: int) -> float:
    return _megabytes(pid, "VmHWM")


def _megabytes(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.removesuffix("kB")) / 1024
    raise LookupError(field)
