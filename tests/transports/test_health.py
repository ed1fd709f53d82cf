"""Health over gRPC, asked by whoever likes to: it needs no token, so it must cost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from activities.container import on_repository
from activities.repositories.memory import MemoryRepository
from grpc_server.server import MOST_CONVERSATIONS, GrpcServer
from tests.transports.served import SECONDS

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
COMINGS_AND_GOINGS = 1500


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    container = on_repository(MemoryRepository())
    server = GrpcServer(container, "127.0.0.1:0")
    server.start()
    yield server
    server.stop(0)
    container.close()


@pytest.fixture
def stub(server: GrpcServer) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)


def watch(stub: Any, name: str = "") -> Any:
    return stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)


def status_of(stub: Any, name: str = "") -> int:
    return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS).status)


def test_what_is_served_is_told(stub: Any) -> None:
    names = {"", "activities.v1.ActivityService", "activities.v1.ChatService"}
    assert {status_of(stub, name) for name in names} == {SERVING}
    listed = stub.List(health_pb2.HealthListRequest(), timeout=SECONDS).statuses
    assert {name: listed[name].status for name in listed} == dict.fromkeys(names, SERVING)
    with pytest.raises(grpc.RpcError) as raised:
        status_of(stub, "activities.v2.ActivityService")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_who_watches_is_told_of_the_end_and_does_not_put_it_off(server: GrpcServer, stub: Any) -> None:
    watched, unknown = watch(stub), watch(stub, "activities.v2.ActivityService")
    assert (next(watched).status, next(unknown).status) == (SERVING, UNKNOWN)
    server.stop(10 * SECONDS)  # returns when they have ended
    assert [each.status for each in watched] == [NOT_SERVING]
    assert list(unknown) == []


def test_who_watches_and_goes_stops_nobody(stub: Any) -> None:
    def come_and_go(number: int) -> None:
        watched = watch(stub, str(number))
        if number % 2:
            with suppress(grpc.RpcError):  # there are too many at times
                next(watched)
        watched.cancel()

    with ThreadPoolExecutor(8) as visitors:
        list(visitors.map(come_and_go, range(COMINGS_AND_GOINGS)))
    assert status_of(stub) == SERVING


def test_watchers_leave_threads_for_calls(stub: Any) -> None:
    watchers = [watch(stub) for _ in range(MOST_CONVERSATIONS)]
    assert {next(each).status for each in watchers} == {SERVING}
    with pytest.raises(grpc.RpcError) as raised:
        next(watch(stub))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status_of(stub) == SERVING
    for each in watchers:
        each.cancel()
