"""The interface service refuses what breaks a rule itself, without a call, in the data service's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from activities.container import Container, on_repository, on_service
from activities.domain import ActivityNotFound, Chat
from activities.repositories.memory import MemoryRepository
from activities.wire import chat_message, status_of
from activities_project.http import HttpServer
from bot.commands import Commands
from bot.replies import plain
from grpc_server.server import GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc, chats_pb2_grpc
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.examples import NOON
from tests.transports.data_services import TOKEN, Asked, Scripted, refused, says, scripted
from tests.transports.served import READER, bearer

SECONDS = 30.0
CHAT = chat_message(Chat(1, language="en", timezone="UTC")).SerializeToString()


@dataclass(frozen=True)
class Side:
    """A service over gRPC and HTTP."""

    parts: Container
    channel: grpc.Channel
    client: httpx.Client

    def over_grpc(self, rpc: str, request: Message, metadata: dict[str, str]) -> status_pb2.Status | None:
        """How it refuses."""
        stubs = activities_pb2_grpc.ActivityServiceStub(self.channel), chats_pb2_grpc.ChatServiceStub(self.channel)
        method = getattr(stubs[rpc.startswith("Chat")], rpc)
        with pytest.raises(grpc.RpcError) as raised:
            list(method(request, metadata=tuple(metadata.items()), timeout=SECONDS))
        return rpc_status.from_call(raised.value)  # type: ignore[arg-type]


@contextmanager
def side(parts: Container) -> Iterator[Side]:
    grpc_server, http_server = GrpcServer(parts, "127.0.0.1:0"), HttpServer(parts, "127.0.0.1:0")
    grpc_server.start()
    http_server.start()
    try:
        with (
            grpc.insecure_channel(f"127.0.0.1:{grpc_server.port}") as channel,
            httpx.Client(base_url=f"http://127.0.0.1:{http_server.port}", timeout=SECONDS) as client,
        ):
            yield Side(parts, channel, client)
    finally:
        http_server.stop()
        grpc_server.stop(0)


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[Scripted, int]]:
    """A data service that counts its calls, where nothing is stored."""
    nothing = refused(status_of(ActivityNotFound()))
    with scripted(ChatGet=says(CHAT), ActivityList=says(b""), ActivityGet=nothing) as far:
        yield far


@pytest.fixture(scope="module")
def interface(far: tuple[Scripted, int]) -> Iterator[Side]:
    with closing(on_service(target=f"127.0.0.1:{far[1]}", token=TOKEN)) as parts, side(parts) as interface:
        yield interface


@pytest.fixture(scope="module")
def data() -> Iterator[Side]:
    """A data service, which says how it would refuse."""
    with closing(on_repository(MemoryRepository())) as parts, side(parts) as data:
        yield data


@pytest.fixture
def asked(far: tuple[Scripted, int]) -> list[Asked]:
    """What the data service was asked in this test."""
    far[0].asked.clear()
    return far[0].asked


BAD_DAY = {"begin_date": "2026-02-30", "end_date": "2026-01-01", "times_per_day": 0, "quantity_per_time": 0.0001}
WRONG: list[tuple[str, Message, dict[str, str]]] = [
    ("ActivityCreate", pb.ActivityCreateRequest(chat_id=1, name="..", **BAD_DAY), {}),  # type: ignore[arg-type]
    ("ActivityCreate", pb.ActivityCreateRequest(), {}),
    ("ActivityGet", pb.ActivityGetRequest(chat_id=1, name="\x00"), {}),
    ("ActivityGet", pb.ActivityGetRequest(chat_id=1, name="pill"), {"x-request-id": "no UUID"}),
    ("ActivityList", pb.ActivityListRequest(chat_id=1, limit=501, offset=-1, order="size"), {}),
    ("ActivityListStream", pb.ActivityListStreamRequest(chat_id=1, order="size"), {}),
    ("ActivityToday", pb.ActivityTodayRequest(chat_id=1, limit=-1), {}),
    ("ActivityUpdate", pb.ActivityUpdateRequest(chat_id=1, name="pill", **BAD_DAY), {}),  # type: ignore[arg-type]
    ("ActivityDelete", pb.ActivityDeleteRequest(chat_id=1), {}),
    ("ActivityDelete", pb.ActivityDeleteRequest(name="pill"), {}),
    ("ChatGet", chats_pb.ChatGetRequest(), {}),
    ("ChatUpdate", chats_pb.ChatUpdateRequest(chat_id=1, timezone="Mars/Base", language="tlh"), {}),
    ("ChatMove", chats_pb.ChatMoveRequest(chat_id=1), {}),
    ("ActivityGet", pb.ActivityGetRequest(chat_id=1, name="pill"), {"authorization": "Bearer forged"}),
    ("ActivityGet", pb.ActivityGetRequest(chat_id=1, name="pill"), {"authorization": "Bearer act_forged"}),
    ("ActivityDelete", pb.ActivityDeleteRequest(chat_id=1, name="pill"), {"authorization": f"Bearer {READER}"}),
]


@pytest.mark.parametrize(("rpc", "request_", "metadata"), WRONG)
def test_over_grpc(rpc, request_, metadata, interface, data, asked):
    given = {"authorization": f"Bearer {TOKEN}", **metadata}
    told = interface.over_grpc(rpc, request_, given)
    assert told is not None
    assert told == data.over_grpc(rpc, request_, given)
    assert asked == []


WRONG_OVER_HTTP: list[tuple[str, str, str, dict[str, str]]] = [
    ("POST", "activities/", '{"name": "..", "begin_date": "2026-02-30", "times_per_day": 1.5}', {}),
    ("POST", "activities/", "{", {}),
    ("POST", "activities/", "{}", {"x-request-id": "no UUID"}),
    ("GET", "activities/?limit=0&offset=x&order=size", "", {}),
    ("GET", "activities/%00/", "", {}),
    ("PUT", "activities/pill/", '{"name": "another"}', {}),
    ("PATCH", "activities/pill/", '{"quantity_per_time": "a lot"}', {}),
    ("DELETE", "activities/%2E%2E/", "", {}),
    ("GET", "today/?limit=501", "", {}),
    ("GET", "stream/?order=size", "", {}),
    ("PATCH", "chat/", '{"timezone": "Mars/Base"}', {}),
    ("GET", "activities/", "", {"x-chat-id": "0x1"}),
    ("GET", "activities/", "", {"authorization": "Bearer act_forged"}),
    ("DELETE", "activities/pill/", "", {"authorization": f"Bearer {READER}"}),
]


@pytest.mark.parametrize(("method", "path", "body", "headers"), WRONG_OVER_HTTP)
def test_over_http(method, path, body, headers, interface, data, asked):
    given = {**bearer(TOKEN), "x-chat-id": "1", "content-type": "application/json", **headers}
    told, expected = (
        each.client.request(method, f"/api/v1/{path}", content=body, headers=given) for each in (interface, data)
    )
    assert 400 <= told.status_code < 404
    assert (told.status_code, told.json()) == (expected.status_code, expected.json())
    assert asked == []


def test_a_chats_token_is_asked_about_and_nothing_else(interface, asked):
    """Whether it is revoked only the data service knows."""
    token = interface.parts.access.issue(1)
    wrong = pb.ActivityGetRequest(name="..")
    assert interface.over_grpc("ActivityGet", wrong, bearer(token)) is not None
    assert interface.client.get("/api/v1/activities/?limit=501", headers=bearer(token)).status_code == 400
    assert {each.rpc for each in asked} <= {"ChatGet"}
    asked.clear()
    assert interface.over_grpc("ActivityGet", pb.ActivityGetRequest(chat_id=2, name="x"), bearer(token)) is not None
    expired = interface.parts.access.issue(1)[:-2] + "xx"
    assert interface.client.get("/api/v1/activities/", headers=bearer(expired)).status_code == 401
    assert {each.rpc for each in asked} <= {"ChatGet"}


LINES = [
    "/add drops 31.04.2027 10.05.2027 3 2",
    "/add drops today +7d 0 2",
    "/update drops _ 01.01.1999 _ _",
    "/delete",
    "/get ..",
    "/list 0",
    "/timezone Mars/Base",
]


@pytest.mark.parametrize("line", LINES)
def test_in_chat(line, interface, data, asked):
    """The data service is asked for what makes the refusal a good one: language, zone, what there is instead."""

    def said(parts: Container) -> str:
        commands = Commands(parts.activities, parts.chats, parts.streams, access=parts.access, clock=lambda: NOON)
        return "\n".join(plain(reply) for reply in commands.answer(line, chat_id=1))

    assert said(interface.parts) == said(data.parts)
    assert {each.rpc for each in asked} <= {"ChatGet", "ActivityList", "ActivityGet"}
