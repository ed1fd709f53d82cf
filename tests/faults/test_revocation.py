"""Revocation and forgetting across processes that share nothing but the database."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import psycopg
import pytest

from activities.ports import Call
from proto.activities.v1 import chats_pb2 as chats_pb
from proto.activities.v1 import chats_pb2_grpc
from tests.examples import activity
from tests.faults.product import TOKEN, Process, Product
from tests.faults.services import ROOT, Services

KEYS = {"DJANGO_SECRET_KEY": os.environ["DJANGO_SECRET_KEY"]}


def manage(environment: Mapping[str, str], *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment, **KEYS},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextmanager
def interface_on(data: Product, environment: Mapping[str, str], log: Path) -> Iterator[Callable[[str], int]]:
    """Asks an interface service on the data service over HTTP for a token's chat."""
    theirs = {
        **environment,
        **KEYS,
        "ACTIVITIES_BACKEND": "grpc",
        "ACTIVITIES_GRPC_TARGET": data.target,
        "ACTIVITIES_GRPC_TOKEN": TOKEN,
    }
    ports = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    process = Process(theirs, log, "serve", *ports, up=r"HTTP +(http://[^/]+)/")
    said = process.said(r"HTTP +(http://[^/]+)/")
    assert said is not None
    with httpx.Client(base_url=said[1], timeout=20) as client:
        yield lambda token: client.get("/api/v1/chat/", headers={"authorization": f"Bearer {token}"}).status_code
    process.stop()


def over_grpc(product: Product, token: str) -> int:
    with grpc.insecure_channel(product.target) as channel:
        metadata = [("authorization", f"Bearer {token}")]
        try:
            chats_pb2_grpc.ChatServiceStub(channel).ChatGet(chats_pb.ChatGetRequest(), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return 401 if error.code() is grpc.StatusCode.UNAUTHENTICATED else 500
        return 200


def until_refused(asks: list[Callable[[str], int]], token: str) -> None:
    """Within a second from now, all of them."""
    end = time.monotonic() + 1
    for ask in asks:
        while True:
            late = time.monotonic() >= end
            status = ask(token)
            if status == 401:
                break
            assert (status, late) == (200, False)


@pytest.mark.parametrize("through", ["the command", "another process", "the interface"])
def test_a_revocation_reaches_every_process_within_a_second(
    services: Services,
    product: Product,
    second: Product,
    environment: dict[str, str],
    chat_id: int,
    tmp_path: Path,
    through: str,
) -> None:
    token = manage(environment, "token", "issue", "--chat-id", str(chat_id)).stdout.strip()
    with interface_on(product, environment, tmp_path / "interface") as interface:
        asks = [lambda token: over_grpc(product, token), lambda token: over_grpc(second, token), interface]
        assert [ask(token) for ask in asks] == [200] * 3
        if through == "the command":
            ended = manage(environment, "token", "revoke", "--chat-id", str(chat_id))
            assert (ended.returncode, ended.stderr) == (0, "")
        elif through == "another process":
            second.chats.revoke_tokens(chat_id, call=Call())
        else:
            theirs = {"ACTIVITIES_BACKEND": "grpc", "ACTIVITIES_GRPC_TARGET": product.target}
            given = {**environment, **theirs, "ACTIVITIES_GRPC_TOKEN": TOKEN}
            assert manage(given, "token", "revoke", "--chat-id", str(chat_id)).returncode == 0
        until_refused(asks, token)
        new = manage(environment, "token", "issue", "--chat-id", str(chat_id)).stdout.strip()
        assert [ask(new) for ask in asks] == [200] * 3
    third = Product({**environment, **KEYS}, tmp_path / "third")
    assert [over_grpc(third, each) for each in (token, new)] == [401, 200]
    third.stop()


def test_a_chat_is_forgotten_by_a_command_that_asks_first(
    product: Product, environment: dict[str, str], chat_id: int, direct: psycopg.Connection
) -> None:
    product.activities.create(chat_id, activity=activity(), call=Call())
    command = ("forget_chat", "--chat-id", str(chat_id))

    def count() -> int:
        rows = direct.execute("SELECT count(*) FROM activities_activity WHERE chat_id = %s", [chat_id]).fetchone()
        assert rows is not None
        return int(rows[0])

    for typed in ("", "yes\n", f"{chat_id + 1}\n"):
        refused = manage(environment, *command, typed=typed)
        assert (refused.returncode, count()) == (2, 1)
        assert len(refused.stderr.splitlines()) == 1
    assert manage(environment, *command, typed=f"{chat_id}\n").returncode == 0
    assert count() == 0
    assert manage(environment, *command, "--yes").returncode == 0


@pytest.mark.parametrize("command", [("token", "revoke"), ("forget_chat", "--yes")])
def test_on_memory_a_command_says_that_it_reaches_nothing(command: tuple[str, ...]) -> None:
    ended = manage({"ACTIVITIES_BACKEND": "memory"}, *command, "--chat-id", "5")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r".*memory of the process that serves.*\n", ended.stderr)
    wrong = manage({"ACTIVITIES_BACKEND": "memory"}, *command, "--chat-id", "0")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "--chat-id" in wrong.stderr


def test_a_store_that_is_away_is_one_line_and_the_reason(environment: dict[str, str]) -> None:
    away = {**environment, "DATABASE_URL": "postgres://nobody:x@127.0.0.1:1/none"}
    for command in (("token", "revoke"), ("forget_chat", "--yes")):
        ended = manage(away, *command, "--chat-id", "5")
        why, refusal = ended.stderr.splitlines()
        assert (ended.returncode, refusal[:13]) == (1, "CommandError:")
        assert "Connection refused" in why
