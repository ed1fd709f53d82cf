"""What the processes print, with their logs at the finest, while tokens are shown to them over every transport."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import grpc
import httpx
import pytest
import redis

from kafka_worker.topics import ensure_topics
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc, chats_pb2_grpc
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.bot.api import TOKEN as BOT_TOKEN
from tests.bot.api import Api
from tests.faults.product import TOKEN, Process
from tests.faults.services import Services, eventually
from tests.transports.served import ACTIVITIES, READER, VITAMIN, bearer, url_of

HEALTH = "tincture-for-nobody-else"
"""Is in all that people call their activities here, and in what they write otherwise."""
SECONDS = 30


class Talk:
    """What a chat and its programs say to a service, right and wrong, over HTTP and gRPC."""

    def __init__(self, process: Process, chat_id: int) -> None:
        token = process.said(r"token: (act_\S+)")
        http, target = process.said(r"HTTP +(http://[^/]+)/"), process.said(r"gRPC +(\S+)")
        assert token is not None
        assert http is not None
        assert target is not None
        self.token, self._url, self._target = token[1], http[1], target[1]
        self._chat_id = chat_id
        self._bad = (f"{self.token}x", self.token[:-5], f"{TOKEN}x", f"Basic {HEALTH}")

    def over_http(self) -> None:
        vitamin: dict[str, Any] = {**VITAMIN, "name": f"{HEALTH} http"}
        service = {**bearer(TOKEN), "x-chat-id": str(self._chat_id)}
        with httpx.Client(base_url=self._url, timeout=SECONDS) as client:
            for headers in (bearer(self.token), service, bearer(READER), *map(bearer, self._bad)):
                client.post(ACTIVITIES, json=vitamin, headers={**headers, "x-request-id": str(uuid4())})
                for url in (ACTIVITIES, url_of(vitamin["name"]), "/api/v1/today/", "/api/v1/stream/", "/api/v1/chat/"):
                    client.get(url, headers=headers)
                client.get(ACTIVITIES, headers={**headers, "accept": "text/html"})
                client.get(f"{ACTIVITIES}?order={HEALTH}", headers=headers)
                client.patch("/api/v1/chat/", json={"timezone": HEALTH}, headers=headers)
                client.post(ACTIVITIES, content=f'{{"name": "{HEALTH}', headers=headers)
                client.put(f"/api/v1/activities/{HEALTH}", headers=headers)
                client.post(f"/{HEALTH}/", headers=headers)
                client.get(f"/api/v1/activities/{HEALTH}%ff/", headers=headers)
            client.delete(url_of(vitamin["name"]), headers=bearer(self.token))
            for token in (self.token, *self._bad):
                client.post("/api/login/", data={"token": token})
                client.get(url_of(HEALTH))
                client.post(ACTIVITIES, data=vitamin)
                client.post("/api/login/", data={"token": token}, headers={"origin": "https://elsewhere.example"})
                client.post(f"/?token={HEALTH}", data={"token": token})
                client.post(f"/metrics?{HEALTH}", data={"token": token})
                client.post("/admin/login/", data={"username": HEALTH, "password": token})
            client.get("/", headers={"host": "elsewhere.example"})
        address = urlsplit(self._url)
        for line in (f"GET /{self.token} HTTP/9.9", self.token, f"GET / HTTP/1.1\r\nAuthorization {self.token}"):
            with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as raw:
                raw.sendall(f"{line}\r\n\r\n".encode())
                raw.recv(1000)

    def over_grpc(self) -> None:
        fields: dict[str, Any] = {**VITAMIN, "name": f"{HEALTH} grpc"}
        creation = pb.ActivityCreateRequest(**fields)
        with grpc.insecure_channel(self._target) as channel:
            stub: Any
            chats: Any
            stub, chats = activities_pb2_grpc.ActivityServiceStub(channel), chats_pb2_grpc.ChatServiceStub(channel)
            for token in (self.token, TOKEN, READER, *self._bad):
                metadata = (("authorization", f"Bearer {token}"), ("x-request-id", str(uuid4())))
                for ask, request in (
                    (stub.ActivityCreate, creation),
                    (stub.ActivityCreate, pb.ActivityCreateRequest(name=HEALTH, begin_date=HEALTH)),
                    (stub.ActivityGet, pb.ActivityGetRequest(name=HEALTH)),
                    (stub.ActivityList, pb.ActivityListRequest(order=HEALTH)),
                    (stub.ActivityUpdate, pb.ActivityUpdateRequest(name=creation.name)),
                    (stub.ActivityDelete, pb.ActivityDeleteRequest(name=creation.name)),
                    (chats.ChatUpdate, chats_pb.ChatUpdateRequest(timezone=HEALTH)),
                ):
                    _ended(lambda: ask(request, metadata=metadata, timeout=SECONDS))  # noqa: B023 - called at once
                _ended(lambda: list(stub.ActivityListStream(pb.ActivityListStreamRequest(), metadata=metadata)))  # noqa: B023
                unreadable = channel.unary_unary("/activities.v1.ActivityService/ActivityGet", bytes, bytes)
                _ended(lambda: unreadable(b"\xff" + HEALTH.encode(), metadata=metadata, timeout=SECONDS))  # noqa: B023


def _ended(call: Any) -> None:
    with suppress(grpc.RpcError):
        call()


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(second=0.01).serving() as api:
        yield api


def test_no_token_no_secret_and_nothing_that_people_wrote_is_printed(
    services: Services, environment: dict[str, str], api: Api, tmp_path: Path, chat_id: int
) -> None:
    given = {
        **environment,
        "LOG_LEVEL": "DEBUG",
        "DJANGO_SECRET_KEY": os.environ["DJANGO_SECRET_KEY"],
        "ACTIVITIES_SERVICE_TOKENS": os.environ["ACTIVITIES_SERVICE_TOKENS"],
    }
    ensure_topics(given["KAFKA_BOOTSTRAP_SERVERS"], timeout=20)
    ports, up = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"), r"(?s)token: act_.*grpcurl .*\n"
    logs = [tmp_path / name for name in ("data", "consumer", "interface")]
    with ExitStack() as running:

        def run(log: Path, *command: str, up: str, **changes: str) -> Process:
            process = Process({**given, **changes}, log, *command, up=up)
            running.callback(process.stop)
            return process

        data = run(logs[0], "serve", *ports, up=up)
        run(logs[1], "consume_commands", up="consuming commands")
        target = data.said(r"gRPC +(\S+)")
        assert target
        interface = run(
            logs[2],
            "serve",
            *ports,
            up=up,
            ACTIVITIES_BACKEND="kafka",
            ACTIVITIES_GRPC_TARGET=target[1],
            ACTIVITIES_GRPC_TOKEN=TOKEN,
            TELEGRAM_BOT_TOKEN=BOT_TOKEN,
            TELEGRAM_API_BASE_URL=api.base_url,
        )
        talks = [Talk(data, chat_id), Talk(interface, chat_id)]
        for talk in talks:
            talk.over_http()
            talk.over_grpc()
        asked = [
            f'/add "{HEALTH} bot" today +10d 2 1',
            "/token",
            f"/get {HEALTH}",
            f"/{HEALTH}",
            HEALTH,
            f"/add {HEALTH}",
        ]
        for text in asked:
            api.say(text)
        eventually(lambda: len(api.texts()) >= len(asked))
        given_out = re.findall(r"act_[\w:-]+", "\n".join(api.texts()))

    printed = {log.name: log.read_text() + _unasked(log.with_suffix(".out").read_text()) for log in logs}
    passwords = {urlsplit(given[name]).password or "" for name in ("DATABASE_URL", "REDIS_URL", "DATABASE_DIRECT_URL")}
    tokens = [*(talk.token for talk in talks), *given_out]
    secrets = {
        *tokens,
        *(token.rpartition(":")[2] for token in tokens),
        *(token.removeprefix("act_").partition(":")[0] for token in tokens),
        *(TOKEN, READER, given["DJANGO_SECRET_KEY"], BOT_TOKEN, BOT_TOKEN.partition(":")[2]),
        *(each for each in passwords if each),
    }
    assert given_out
    assert len(passwords) > 1
    secrets |= {quote(each) for each in secrets}
    lines = [(name, line) for name, text in printed.items() for line in text.splitlines()]
    assert any(" DEBUG " in line for _, line in lines)
    assert [(name, line) for name, line in lines if any(each in line for each in {HEALTH, *secrets})] == []
    with redis.Redis.from_url(given["REDIS_URL"]) as stored:
        assert [key for key in stored.scan_iter(count=1000) if any(each.encode() in key for each in secrets)] == []


def _unasked(printed: str) -> str:
    """What a server prints beside the token and the two lines to paste that it is asked for."""
    return "\n".join(line for line in printed.splitlines() if not line.startswith(("token: ", "curl ", "grpcurl ")))
