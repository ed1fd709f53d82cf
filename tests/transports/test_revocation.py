"""Revoked tokens: refused within a second, however they are shown. And what only some may ask of a chat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import grpc
import httpx
import pytest

from activities.access import REMEMBER_SECONDS
from activities.container import on_service
from activities.domain import ActivitiesError, Chat, StorageBusy, StorageTimeout, StorageUnavailable
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from grpc_server.server import GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc, chats_pb2_grpc
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.transports.served import ACTIVITIES, READER, SECONDS, SERVICE, Served, bearer, serving

Ask = Callable[[str], int]
"""Asks with a token; 0 when it opens the chat, 401 when it opens nothing."""
CHAT = "/api/v1/chat/"
REFUSED = grpc.StatusCode.UNAUTHENTICATED


class Failing(MemoryRepository):
    """Does not tell what is known of a chat while there is an error."""

    error: ActivitiesError | None = None

    def chat(self, chat_id: int, *, call: Call) -> Chat:
        if self.error is not None:
            raise self.error
        return super().chat(chat_id, call=call)


def until_refused(ask: Ask, token: str, seconds: float = REMEMBER_SECONDS) -> None:
    """Asks again and again; what is asked after so many seconds has to be refused."""
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= end
        if ask(token) == 401:
            return
        assert not late, "it is still good"


@pytest.fixture
def store() -> Failing:
    return Failing()


@pytest.fixture
def served(store: Failing) -> Iterator[Served]:
    with serving(store) as served:
        yield served


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    server = GrpcServer(served.container, "127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    server.stop(0)


@pytest.fixture
def interface(served: Served, channel: grpc.Channel) -> Iterator[Served]:
    """HTTP on the data service."""
    target = channel._channel.target().decode()  # type: ignore[attr-defined]
    with serving(container=on_service(target=target, token=SERVICE)) as interface:
        yield interface


@pytest.fixture
def browsers(served: Served, interface: Served) -> Iterator[list[httpx.Client]]:
    """One of each server."""
    with served.anonymous() as one, interface.anonymous() as other:
        yield [one, other]


def over_grpc(channel: grpc.Channel) -> Ask:
    stub = activities_pb2_grpc.ActivityServiceStub(channel)

    def ask(token: str) -> int:
        try:
            metadata = [("authorization", f"Bearer {token}")]
            stub.ActivityList(pb.ActivityListRequest(), metadata=metadata, timeout=SECONDS)
        except grpc.RpcError as error:
            if error.code() is not REFUSED:
                raise
            return 401
        return 0

    return ask


def over_http(served: Served) -> Ask:
    def ask(token: str) -> int:
        status = served.client.get(ACTIVITIES, headers=bearer(token)).status_code
        return 0 if status == 200 else status

    return ask


def with_a_cookie(browser: httpx.Client, token: str) -> Ask:
    assert browser.post("/api/login/", data={"token": token}).status_code == 303

    def ask(_: str) -> int:
        answer = browser.get(ACTIVITIES)
        return 0 if answer.status_code == 200 else answer.status_code

    return ask


@pytest.mark.parametrize("how", ["grpc", "http", "forgotten"])
def test_a_revoked_token_is_refused_within_a_second_and_a_new_one_is_good_at_once(
    served: Served, channel: grpc.Channel, interface: Served, browsers: list[httpx.Client], how: str
) -> None:
    access = served.container.access
    token, other = access.issue(5), access.issue(6)
    asks = [over_grpc(channel), over_http(served), over_http(interface)]
    asks += [with_a_cookie(browser, token) for browser in browsers]
    assert [ask(token) for ask in asks] == [0] * 5

    if how == "forgotten":
        assert served.client.delete(CHAT, headers=bearer(token)).status_code == 204
        valid_after = served.container.chats.get(5, call=Call()).tokens_valid_after
    elif how == "http":
        valid_after = served.container.chats.revoke_tokens(5, call=Call()).tokens_valid_after
    else:
        stub = chats_pb2_grpc.ChatServiceStub(channel)
        metadata = [("authorization", f"Bearer {token}")]
        valid_after = stub.ChatRevokeTokens(
            chats_pb.ChatRevokeTokensRequest(), metadata=metadata, timeout=SECONDS
        ).tokens_valid_after
    end = time.monotonic() + REMEMBER_SECONDS
    for ask in asks:
        until_refused(ask, token, end - time.monotonic())
    assert browsers[0].post("/api/login/", data={"token": token}).status_code == 401

    new = access.issue(5, valid_after=valid_after)
    assert [ask(new) for ask in asks[:3]] == [0] * 3
    assert [ask(other) for ask in asks[:3]] == [0] * 3


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StorageUnavailable(), 503, grpc.StatusCode.UNAVAILABLE),
        (StorageBusy(), 503, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (StorageTimeout(), 504, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_a_store_that_does_not_tell_whether_a_token_is_revoked_is_the_error(
    store: Failing,
    served: Served,
    channel: grpc.Channel,
    interface: Served,
    error: ActivitiesError,
    status: int,
    code: grpc.StatusCode,
) -> None:
    token = served.container.access.issue(5)
    store.error = error
    for each in (served, interface):
        answer = each.client.get(ACTIVITIES, headers=bearer(token))
        assert (answer.status_code, answer.json()["error"]) == (status, type(error).__name__)
        login = each.client.post("/api/login/", json={"token": token}, headers={"accept": "application/json"})
        assert login.status_code == status
    with pytest.raises(grpc.RpcError) as raised:
        over_grpc(channel)(token)
    assert raised.value.code() is code
    service = {**bearer(SERVICE), "x-chat-id": "5"}
    assert served.client.get(ACTIVITIES, headers=service).status_code == 200  # it is nobody's to revoke


def test_a_chat_is_forgotten_over_http(served: Served) -> None:
    token = bearer(served.container.access.issue(5))
    vitamin = {"name": "x", "begin_date": "2026-07-20", "end_date": "2026-07-30", "times_per_day": 2}
    assert served.client.post(ACTIVITIES, json={**vitamin, "quantity_per_time": 1}, headers=token).status_code == 201
    answer = served.client.delete(CHAT, headers=token)
    assert (answer.status_code, answer.content) == (204, b"")
    service = {**bearer(SERVICE), "x-chat-id": "5"}
    assert served.client.get(ACTIVITIES, headers=service).json()["count"] == 0
    assert served.client.delete(CHAT, headers=bearer(READER) | {"x-chat-id": "5"}).status_code == 403
    assert served.client.delete(CHAT, headers=bearer(SERVICE)).status_code == 400


WHO = {"nobody": "", "chat": "", "reader": READER, "service": SERVICE}


@pytest.mark.parametrize(
    ("rpc", "codes"),
    [
        ("ChatRevokeTokens", {"nobody": REFUSED, "chat": None, "reader": "PERMISSION_DENIED", "service": None}),
        ("ChatForget", {"nobody": REFUSED, "chat": None, "reader": "PERMISSION_DENIED", "service": None}),
        (
            "ChatMove",
            {"nobody": REFUSED, "chat": "PERMISSION_DENIED", "reader": "PERMISSION_DENIED", "service": None},
        ),
    ],
)
def test_who_may_do_it_over_grpc(
    served: Served, channel: grpc.Channel, rpc: str, codes: dict[str, grpc.StatusCode | str | None]
) -> None:
    request = getattr(chats_pb, f"{rpc}Request")(chat_id=5, **({"to_chat_id": 6} if rpc == "ChatMove" else {}))
    tokens = {**WHO, "chat": served.container.access.issue(5)}
    for who, code in codes.items():
        metadata = [("authorization", f"Bearer {tokens[who]}")]
        ended = None
        try:
            getattr(chats_pb2_grpc.ChatServiceStub(channel), rpc)(request, metadata=metadata, timeout=SECONDS)
        except grpc.RpcError as error:
            ended = error.code()
        assert ended is (getattr(grpc.StatusCode, code) if isinstance(code, str) else code), who


def test_a_move_names_where_to(channel: grpc.Channel) -> None:
    stub = chats_pb2_grpc.ChatServiceStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ChatMove(chats_pb.ChatMoveRequest(), metadata=[("authorization", f"Bearer {SERVICE}")], timeout=SECONDS)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "to_chat_id: " in str(raised.value.details())
