"""A chat that asks too often hears when to come back, over each transport, and takes nothing from the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from activities.container import Container, on_repository
from activities.repositories.memory import MemoryRepository
from grpc_server import exchange
from grpc_server.server import THREADS, GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.transports import test_grpc
from tests.transports.served import ACTIVITIES, SECONDS, SERVICE, Served, bearer, serving

LIMIT = 3


@pytest.fixture
def bounded(settings: Any) -> None:
    settings.ACTIVITIES_REQUESTS_PER_MINUTE = LIMIT


@pytest.fixture
def client(bounded: None) -> Iterator[tuple[test_grpc.Client, Container]]:
    with test_grpc.serving(MemoryRepository()) as (client, _, container):
        yield client, container


@pytest.fixture
def served(bounded: None) -> Iterator[Served]:
    with serving() as served:
        yield served


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, int]:
    """A refused call's code, its reason and when to try again, in seconds."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]
    assert status is not None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if not detail.Unpack(info):
            detail.Unpack(retry)
    assert info.domain == "activities"
    assert info.metadata["retry_after"] == str(retry.retry_delay.seconds)
    error: Any = raised.value  # the stubs know its metadata otherwise than they are
    told = dict(error.trailing_metadata())
    assert told["retry-after"] == str(retry.retry_delay.seconds)
    return raised.value.code(), info.reason, retry.retry_delay.seconds


def test_grpc_refuses_every_call_beyond_the_bound_with_the_time_to_wait(client):
    mine, container = client
    get = chats_pb.ChatGetRequest()
    for _ in range(LIMIT):
        mine.call(mine.chats.ChatGet, get)
    for _ in range(2):  # the second one is kept back, and says the same
        for call in (
            lambda: mine.call(mine.chats.ChatGet, get),
            lambda: mine.call(mine.activities.ActivityCreate, test_grpc.creation()),
            lambda: list(mine.call(mine.activities.ActivityListStream, pb.ActivityListStreamRequest())),
        ):
            code, reason, seconds = refusal(call)
            assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RateLimited")
            assert 1 <= seconds <= 60
    other = (("authorization", f"Bearer {container.access.issue(2)}"),)
    assert mine.chats.ChatGet(get, metadata=other, timeout=SECONDS).chat_id == 2


def test_grpc_answers_a_refused_caller_in_the_time_that_it_has(client):
    mine, _ = client
    for _ in range(LIMIT):
        mine.call(mine.chats.ChatGet, chats_pb.ChatGetRequest())
    for _ in range(2):
        code, _reason, _seconds = refusal(lambda: mine.call(mine.chats.ChatGet, chats_pb.ChatGetRequest(), timeout=1.0))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_refusals_that_are_kept_back_keep_no_thread(client, monkeypatch):
    mine, container = client
    get = chats_pb.ChatGetRequest()
    goes_on = threading.Event()
    refuse_at = exchange._Held._refuse_at

    def refuse_when_told(held: Any, _until: float, *rest: Any) -> None:
        goes_on.wait(SECONDS)
        refuse_at(held, 0.0, *rest)

    monkeypatch.setattr(exchange._Held, "_refuse_at", refuse_when_told)
    for _ in range(LIMIT + 1):
        mine.chats.ChatGet.future(get, metadata=mine.metadata, timeout=SECONDS).exception()
    kept_back = [mine.chats.ChatGet.future(get, metadata=mine.metadata, timeout=SECONDS) for _ in range(2 * THREADS)]
    other = (("authorization", f"Bearer {container.access.issue(2)}"),)
    assert mine.chats.ChatGet(get, metadata=other, timeout=SECONDS).chat_id == 2
    assert not any(call.done() for call in kept_back)
    goes_on.set()
    assert {call.code() for call in kept_back} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_a_service_is_not_bounded_by_default(client):
    mine, _ = client
    service = (("authorization", f"Bearer {SERVICE}"),)
    for _ in range(3 * LIMIT):
        mine.chats.ChatGet(chats_pb.ChatGetRequest(chat_id=1), metadata=service, timeout=SECONDS)


def test_a_setting_bounds_services(settings):
    settings.ACTIVITIES_SERVICE_REQUESTS_PER_MINUTE = 1
    with serving() as served:
        headers = {**bearer(SERVICE), "x-chat-id": "1"}
        assert served.client.get(ACTIVITIES, headers=headers).status_code == 200
        assert served.client.get(ACTIVITIES, headers=headers).status_code == 429


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize("url", [ACTIVITIES, "/api/v1/stream/", "/api/v1/chat/"])
def test_http_answers_429_and_says_when_to_come_back(served, url, accept):
    for _ in range(LIMIT):
        assert served.client.get(url, headers={"accept": accept}).status_code == 200  # a page counts once as well
    page = served.client.get(url, headers={"accept": "text/html"})
    assert page.status_code == 429
    assert 1 <= int(page.headers["retry-after"]) <= 60
    answer = served.client.get(url)
    assert answer.status_code == 429
    assert answer.json() == {
        "error": "RateLimited",
        "detail": f"too many requests; try again in {answer.headers['retry-after']} s",
    }
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert served.client.get(url, headers=bearer(served.container.access.issue(2))).status_code == 200
    assert served.client.get("/readyz").status_code == 200


def test_a_browser_is_bounded_like_its_token(served):
    with served.anonymous() as browser:
        token = served.container.access.issue(1)
        assert browser.post("/api/login/", json={"token": token}).status_code == 303
        for _ in range(LIMIT - 1):
            assert browser.get(ACTIVITIES).status_code == 200
        assert browser.get(ACTIVITIES).status_code == 429
        assert browser.post("/api/login/", json={"token": token}).status_code == 429
        page = browser.post("/api/login/", data={"token": token}, headers={"accept": "text/html"})
        assert page.status_code == 429
        assert "too many requests" in page.text
        assert 1 <= int(page.headers["retry-after"]) <= 60


def test_grpc_and_http_share_the_bound(bounded):
    container = on_repository(MemoryRepository())
    with serving(container=container) as served:
        for _ in range(LIMIT):
            assert served.client.get(ACTIVITIES).status_code == 200
        server = GrpcServer(container, "127.0.0.1:0")
        server.start()
        client = test_grpc.Client(server.port, container.access.issue(1))
        code, reason, _ = refusal(lambda: client.call(client.chats.ChatGet, chats_pb.ChatGetRequest()))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RateLimited")
        client.channel.close()
        server.stop(0)
