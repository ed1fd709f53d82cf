"""gRPC for clients that mean no good: what one may take, and that the others are served meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from activities.container import on_repository
from activities.domain import Activity, Order
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from activities.streams import StreamSlots
from activities.tls import ServerTls
from grpc_server import server as bounds
from grpc_server.client import Remote
from grpc_server.server import GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.examples import activity
from tests.transports.certificates import Authority
from tests.transports.http2 import (
    ACK,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    Connection,
    connected,
)
from tests.transports.served import SECONDS, SERVICE
from tests.transports.test_grpc import Client, Hanging, refusal, serving, until

GET_CHAT = "/activities.v1.ChatService/ChatGet"


def is_served(port: int) -> bool:
    """Whether somebody who comes now gets an answer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        ask = channel.unary_unary(GET_CHAT, chats_pb.ChatGetRequest.SerializeToString, chats_pb.Chat.FromString)
        metadata = (("authorization", f"Bearer {SERVICE}"),)
        answer = ask(chats_pb.ChatGetRequest(chat_id=1), metadata=metadata, timeout=SECONDS)
        return bool(answer.timezone == "UTC")


@pytest.fixture
def served() -> Iterator[GrpcServer]:
    with serving(MemoryRepository()) as (_, server, _):
        yield server


def test_who_pings_too_often_is_told_to_calm_down(served: GrpcServer) -> None:
    with connected(served.port) as rude:
        rude.begin()
        for _ in range(bounds.MOST_PING_STRIKES + 3):
            rude.send(PING, b"12345678")
        end = rude.first(GOAWAY)
        assert (end.code, end.payload[8:]) == (ENHANCE_YOUR_CALM, b"too_many_pings")
        assert is_served(served.port)


def test_who_does_not_answer_a_ping_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PING_SECONDS", 1)
    monkeypatch.setattr(bounds, "PONG_SECONDS", 1)
    with serving(MemoryRepository()) as (_, server, _), connected(server.port) as dead, connected(server.port) as alive:
        dead.begin()
        alive.begin()
        answering = threading.Thread(target=answer_pings, args=(alive, 3))
        answering.start()
        assert [frame.kind for frame in dead.frames() if frame.kind == PING]  # until it is closed
        answering.join()


def answer_pings(connection: Connection, count: int) -> None:
    """Answers so many, which come only while the server thinks that somebody is there."""
    pings = (frame for frame in connection.frames() if frame.kind == PING and not frame.flags & ACK)
    for _ in range(count):
        connection.send(PING, next(pings).payload, flags=ACK)


def test_calls_beyond_those_of_a_connection_wait_and_other_connections_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_CALLS_OF_A_CONNECTION", 2)
    hanging = Hanging()
    with serving(hanging) as (client, server, _):
        request = pb.ActivityGetRequest(name="pill")
        calls = [
            client.activities.ActivityGet.future(request, metadata=client.metadata, timeout=SECONDS) for _ in range(3)
        ]
        for _ in range(2):
            assert hanging.entered.acquire(timeout=SECONDS)
        assert is_served(server.port)
        assert not hanging.entered.acquire(blocking=False)
        hanging.let_go.set()
        assert [call.code() for call in calls] == [grpc.StatusCode.NOT_FOUND] * 3


def test_who_does_not_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_CALLS_OF_A_CONNECTION", 2)
    with serving(MemoryRepository()) as (_, server, _), connected(server.port) as rude:
        rude.begin()
        for stream in (1, 3, 5):
            rude.ask(stream, GET_CHAT)
        end = rude.first(RST_STREAM, GOAWAY)
        assert (end.kind, end.stream, end.code) == (RST_STREAM, 5, REFUSED_STREAM)
        assert is_served(server.port)


def test_metadata_without_end_is_refused(served: GrpcServer) -> None:
    with connected(served.port) as rude:
        rude.begin()
        rude.ask(1, GET_CHAT, **{f"x-{number}": "v" * 1000 for number in range(40)})
        answer = rude.first(HEADERS)
        assert b"grpc-status\x018" in answer.payload  # RESOURCE_EXHAUSTED
        assert b"metadata size exceeds hard limit" in answer.payload
    assert is_served(served.port)


def test_a_clients_metadata_is_bounded() -> None:
    with serving(MemoryRepository()) as (client, server, _):

        def ask(size: int) -> Any:
            return client.call(client.chats.ChatGet, chats_pb.ChatGetRequest(), ("x-long", "v" * size))

        assert ask(bounds.MOST_METADATA_BYTES - 2000).timezone == "UTC"
        assert refusal(lambda: ask(bounds.MOST_METADATA_BYTES)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert is_served(server.port)


def test_who_never_begins_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bounds, "HANDSHAKE_SECONDS", 1)
    pair = Authority(tmp_path / "ca").issue()
    tls = ServerTls(certificate=str(pair.certificate), key=str(pair.key))
    container = on_repository(MemoryRepository())
    servers = [GrpcServer(container, "127.0.0.1:0", tls=each) for each in (None, tls)]
    for server in servers:
        server.start()
    try:
        with ExitStack() as stack:
            silent = [stack.enter_context(connected(server.port)) for server in servers]
            for connection in silent:
                list(connection.frames())  # until it is closed
        assert is_served(servers[0].port)
    finally:
        for server in servers:
            server.stop(0)
        container.close()


def test_idle_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_CONNECTIONS", 3)
    with serving(MemoryRepository()) as (_, server, _), ExitStack() as idle:
        for _ in range(3):
            connection = idle.enter_context(connected(server.port))
            connection.begin()
            connection.first(SETTINGS)
        with connected(server.port) as one_more:
            assert list(one_more.frames()) == []
        idle.close()
        assert until(lambda: answered(server.port))


def answered(port: int) -> bool:
    try:
        return is_served(port)
    except grpc.RpcError:
        return False


def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "IDLE_SECONDS", 1)
    with serving(MemoryRepository()) as (_, server, _), connected(server.port) as idle:
        idle.begin()
        assert idle.first(GOAWAY).payload.endswith(b"connection idle")


def test_no_call_is_lost_when_connections_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "AGE_SECONDS", 1)
    with serving(MemoryRepository()) as (_, server, _), connected(server.port) as witness:
        witness.begin()
        remote = Remote(target=f"127.0.0.1:{server.port}", token=SERVICE, limit=SECONDS)
        ended = threading.Event()

        def wait() -> None:
            witness.first(GOAWAY)
            ended.set()

        threading.Thread(target=wait).start()
        try:
            remote.activities.create(1, activity=activity("pill"), call=Call())
            rounds = 0
            while not ended.is_set() or rounds < 200:
                assert remote.activities.get(1, name="pill", call=Call()).name == "pill"
                rounds += 1
        finally:
            remote.close()


class Endless(MemoryRepository):
    """A store whose streams have no end."""

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        return [activity("💊" * 120)] * size


def test_a_reader_who_takes_nothing_loses_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grpc_server.stalls.LOOK_SECONDS", 0.1)
    container = replace(on_repository(Endless()), streams=StreamSlots(1))
    server = GrpcServer(container, "127.0.0.1:0")
    server.start()
    client = Client(server.port, container.access.issue(1))
    try:
        stalled = client.call(client.activities.ActivityListStream, pb.ActivityListStreamRequest(), timeout=None)
        next(stalled)

        def another() -> Any:
            try:
                stream = client.call(client.activities.ActivityListStream, pb.ActivityListStreamRequest())
                first = next(stream)
                stream.cancel()
                return first
            except grpc.RpcError:
                return None

        assert another() is None
        assert until(another)
        with pytest.raises(grpc.RpcError) as ended:
            list(stalled)
        assert ended.value.code() is grpc.StatusCode.CANCELLED
    finally:
        client.channel.close()
        server.stop(0)
        container.close()
