"""Every request is counted under how it ended and told with the name of who asked, over gRPC and HTTP alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from uuid import uuid4

import grpc
import pytest
from prometheus_client import REGISTRY

from activities.repositories.memory import MemoryRepository
from activities.requests import logger
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import chats_pb2 as chats_pb
from tests.transports import test_grpc
from tests.transports.served import ACTIVITIES, READER, SECONDS, SERVICE, VITAMIN, Served, bearer, serving, url_of

HEALTHY = "/healthz"


def counted(transport: str, use_case: str) -> dict[str, float]:
    labels = {"transport": transport, "use_case": use_case}
    samples = {name: f"activities_requests_{name}_total" for name in ("received", "succeeded", "failed")}
    samples |= {"errors": "activities_request_errors_total", "timed": "activities_request_duration_seconds_count"}
    return {name: REGISTRY.get_sample_value(sample, labels) or 0 for name, sample in samples.items()}


def counts(transport: str, use_case: str, act: Callable[[], object]) -> dict[str, float]:
    """What an act adds to the counters."""
    before = counted(transport, use_case)
    with suppress(grpc.RpcError):
        act()
    return {name: value - before[name] for name, value in counted(transport, use_case).items() if value != before[name]}


DONE = {"received": 1, "succeeded": 1, "timed": 1}
REFUSED = {"received": 1, "failed": 1, "timed": 1}


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def client() -> Iterator[test_grpc.Client]:
    with test_grpc.serving(MemoryRepository()) as (client, _, _):
        yield client


def test_http_counts_what_is_done_and_what_is_refused(served):
    ask = served.client
    assert counts("http", "create", lambda: ask.post(ACTIVITIES, json=VITAMIN)) == DONE
    assert counts("http", "create", lambda: ask.post(ACTIVITIES, json=VITAMIN)) == REFUSED
    assert counts("http", "create", lambda: ask.post(ACTIVITIES, content="{")) == REFUSED
    assert counts("http", "get", lambda: ask.get(url_of("vitamin C"))) == DONE
    assert counts("http", "get", lambda: ask.get(url_of("unknown"))) == REFUSED
    assert counts("http", "get", lambda: ask.get(url_of("vitamin C"), headers=bearer("wrong"))) == REFUSED
    assert counts("http", "list", lambda: ask.head(ACTIVITIES)) == DONE
    assert counts("http", "stream", lambda: ask.get("/api/v1/stream/")) == DONE
    assert counts("http", "update", lambda: ask.patch(url_of("vitamin C"), json={"times_per_day": 3})) == DONE
    assert counts("http", "delete", lambda: ask.delete(url_of("vitamin C"))) == DONE
    assert counts("http", "chat_get", lambda: ask.get("/api/v1/chat/")) == DONE
    assert counts("http", "login", lambda: ask.post("/api/login/", json={"token": "wrong"})) == REFUSED


def test_grpc_counts_the_same(client):
    def call(method: Callable[..., object], request: object) -> Callable[[], object]:
        return lambda: client.call(method, request)

    stub, chats = client.activities, client.chats
    assert counts("grpc", "create", call(stub.ActivityCreate, test_grpc.creation())) == DONE
    assert counts("grpc", "create", call(stub.ActivityCreate, test_grpc.creation())) == REFUSED
    assert counts("grpc", "get", call(stub.ActivityGet, pb.ActivityGetRequest(name="unknown"))) == REFUSED
    assert counts("grpc", "list", call(stub.ActivityList, pb.ActivityListRequest())) == DONE
    assert counts("grpc", "today", call(stub.ActivityToday, pb.ActivityTodayRequest())) == DONE
    everything = lambda: list(client.call(stub.ActivityListStream, pb.ActivityListStreamRequest()))
    assert counts("grpc", "stream", everything) == DONE
    assert (
        counts("grpc", "chat_revoke_tokens", call(chats.ChatRevokeTokens, chats_pb.ChatRevokeTokensRequest())) == DONE
    )


def test_a_failure_of_ours_is_an_error() -> None:
    class Broken(MemoryRepository):
        def page(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise RuntimeError

    with serving(Broken()) as served:
        errors = counts("http", "list", lambda: served.client.get(ACTIVITIES))
    assert errors == {"received": 1, "errors": 1, "timed": 1}


def test_a_line_has_the_name_of_who_asked_and_nothing_of_what_they_sent(served, client, caplog):
    caplog.set_level(logging.INFO, logger.name)
    request_id = str(uuid4())
    served.client.get(url_of("insulin"), headers={**bearer(SERVICE), "x-chat-id": "77", "x-request-id": request_id})
    served.client.get(url_of("insulin"))
    served.client.get(url_of("insulin"), headers=bearer("act_wrong"))
    served.client.get(HEALTHY)
    get = pb.ActivityGetRequest(chat_id=77, name="insulin")
    with suppress(grpc.RpcError):
        client.activities.ActivityGet(get, metadata=(("authorization", f"Bearer {READER}"),), timeout=SECONDS)
    lines = [record.getMessage() for record in caplog.records if record.name == logger.name]
    assert [line.rpartition(" in ")[0] for line in lines] == [
        "http get for interface: ActivityNotFound",
        "http get for chat: ActivityNotFound",
        "http get for nobody: NotAuthenticated",
        "grpc get for watcher: ActivityNotFound",
    ]
    assert lines[0].endswith(f"request id {request_id}")
    assert not any("insulin" in line or "77" in line.rpartition(" in ")[0] for line in lines)
