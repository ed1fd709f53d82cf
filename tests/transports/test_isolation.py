"""What a token for one chat learns of another: nothing, not even from how long the answer takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from activities.container import on_service
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from grpc_server.server import GrpcServer
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.examples import activity
from tests.transports.served import SERVICE, VITAMIN, Served, bearer, serving
from tests.transports.test_access_table import RPCS, URLS, ForChats, ask

MINE = 5
INT64 = 2**63
OTHERS = (6, -5, INT64 - 1, -INT64)
NOT_IDS = ("5.0", "5 6", "0x6", "6,5", str(INT64), str(-INT64 - 1), "9" * 5000, "٦", "None", "true", "-0")
"""What names no chat in a header."""


Access = tuple[str, object]
"""What is asked of the store, and of which chat."""
OF_MY_TOKEN: Access = ("chat", MINE)
"""Whether it was revoked, once in a while."""


class Watched:
    """A store that notes what is asked of it."""

    def __init__(self) -> None:
        self._inner = MemoryRepository()
        self._accesses: list[Access] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def access(*chat: Any, **asked: Any) -> Any:
            self._accesses.append((name, *chat))
            return getattr(self._inner, name)(*chat, **asked)

        return access

    def during(self, do: Callable[[], object]) -> set[Access]:
        """What it is asked meanwhile."""
        self._accesses.clear()
        do()
        return set(self._accesses)


@pytest.fixture(scope="module")
def store() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def data(store: Watched) -> Iterator[Served]:
    with serving(store) as served:
        for chat_id in OTHERS:
            served.container.activities.create(chat_id, activity=activity(), call=Call())
        yield served


@pytest.fixture(scope="module")
def data_target(data: Served) -> Iterator[str]:
    server = GrpcServer(data.container, "127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{server.port}"
    server.stop(0)


@pytest.fixture(scope="module", params=["data service", "interface service"])
def served(request: pytest.FixtureRequest, data: Served, data_target: str) -> Iterator[Served]:
    if request.param == "data service":
        yield data
    else:
        with serving(container=on_service(target=data_target, token=SERVICE)) as served:
            yield served


@pytest.fixture(scope="module")
def channel(served: Served) -> Iterator[grpc.Channel]:
    server = GrpcServer(served.container, "127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel
    server.stop(0)


@pytest.mark.parametrize("method", [method for method, (decision, _) in RPCS.items() if decision != "open to all"])
def test_no_method_looks_for_what_is_another_chats(
    served: Served, channel: grpc.Channel, store: Watched, method: str
) -> None:
    _, request = RPCS[method]
    token = served.container.access.issue(MINE)
    for chat_id in OTHERS:
        for name in ("vitamin C", "not there", "", "\x00"):  # there, not there, and no names at all
            asked: Any = type(request)()
            asked.CopyFrom(request)
            asked.chat_id = chat_id
            if "name" in asked.DESCRIPTOR.fields_by_name:
                asked.name = name
            answers = []
            accesses = store.during(lambda: answers.append(ask(channel, method, asked, token)))  # noqa: B023
            assert answers == [("PERMISSION_DENIED", "PermissionDenied")]
            assert accesses <= {OF_MY_TOKEN}


@pytest.mark.parametrize(
    ("url", "method"),
    [
        (url.path.replace("vitamin%20C", name), method)
        for url in URLS.values()
        if isinstance(url, ForChats)
        for method in url.statuses
        for name in ("vitamin%20C", "not%20there", "%00")
    ],
)
def test_no_url_looks_for_what_is_another_chats(served: Served, store: Watched, url: str, method: str) -> None:
    token = bearer(served.container.access.issue(MINE))
    for chat_id in OTHERS:
        headers = {**token, "x-chat-id": str(chat_id)}
        statuses = []
        accesses = store.during(
            lambda: statuses.append(served.client.request(method, url, json=VITAMIN, headers=headers).status_code)  # noqa: B023
        )
        assert statuses == [403]
        assert accesses <= {OF_MY_TOKEN}


@pytest.mark.parametrize("raw", NOT_IDS)
def test_what_names_no_chat_opens_none(served: Served, store: Watched, raw: str) -> None:
    for token in (SERVICE, served.container.access.issue(MINE)):
        headers = [(b"authorization", f"Bearer {token}".encode()), (b"x-chat-id", raw.encode())]
        answers = []
        accesses = store.during(lambda: answers.append(served.client.get("/api/v1/activities/", headers=headers)))  # noqa: B023
        assert (answers[0].status_code, list(answers[0].json())) == (400, ["chat_id"])
        assert accesses <= {OF_MY_TOKEN}


def test_two_tokens_or_chats_at_once_are_never_mixed_up(served: Served, channel: grpc.Channel, store: Watched) -> None:
    mine, other = served.container.access.issue(MINE), served.container.access.issue(OTHERS[0])
    call = channel.unary_unary("/activities.v1.ChatService/ChatGet", bytes, _chat_of)
    metadata = (("authorization", f"Bearer {mine}"), ("authorization", f"Bearer {other}"))
    assert call(b"", metadata=metadata) == MINE
    chats = [*bearer(SERVICE).items(), ("x-chat-id", "5"), ("x-chat-id", "6")]
    with served.anonymous() as client:
        assert client.get("/api/v1/chat/", headers=list(metadata)).status_code == 401
        assert client.get("/api/v1/chat/", headers=chats).status_code == 400


def _chat_of(data: bytes) -> int:
    return int(chats_pb.Chat.FromString(data).chat_id)


def test_refusals_say_nothing_of_the_chat(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = bearer(served.container.access.issue(MINE))
    texts = {
        served.client.get(f"/api/v1/activities/{name}/", headers={**token, "x-chat-id": str(chat_id)}).text
        for chat_id in (*OTHERS, 7)
        for name in ("vitamin%20C", "not%20there")
    }
    assert len(texts) == 1
    assert "vitamin" not in caplog.text.lower().replace("/api/", "")
