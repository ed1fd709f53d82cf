"""Everything that keeps the ports `Activities` and `Chats`, from the use cases themselves to two services in a row.

One more way is one more entry in `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import pytest
from django.test import override_settings

from activities.container import Container, durable_repository, on_repository, on_service
from activities.domain import ActivitiesError
from activities.ports import Activities, Chats, Repository
from activities.repositories.memory import MemoryRepository
from activities_project.http import HttpServer
from grpc_server.server import GrpcServer
from tests.contract.http_activities import HttpActivities
from tests.examples import NOON

TOKEN = "service-secret-0123456789abcdefghij"
"""The service token of `tests.environment` that may do everything."""


class Clock:
    """The present, which passes when told."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Rigged:
    """A store whose every access fails with `error` while there is one."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self.error: ActivitiesError | None = None

    def __getattr__(self, name: str) -> Any:
        if self.error is not None:
            raise self.error
        return getattr(self._inner, name)


@dataclass(frozen=True)
class Backend:
    """The ports as they are to be tested, and the strings behind them."""

    activities: Activities
    chats: Chats
    clock: Clock
    store: Rigged
    data: Container
    """The data service behind; the same as the ports where there is nothing between."""


def patient() -> override_settings:
    """While a part is built: how fast this machine is must not decide, and time limits have their own tests."""
    return override_settings(ACTIVITIES_STORAGE_SECONDS=30.0)


@contextmanager
def _data(most: int, store: Repository | None = None) -> Iterator[tuple[Container, Rigged, Clock]]:
    """A data service, in memory unless told otherwise, where a chat has at most so many activities."""
    clock, rigged = Clock(), Rigged(store or MemoryRepository(max_activities=most))
    with patient():
        container = on_repository(cast("Repository", rigged), clock=clock)
    try:
        yield container, rigged, clock
    finally:
        container.close()


@contextmanager
def _over_grpc(container: Container) -> Iterator[Container]:
    """An interface service on a data service that serves `container` over gRPC."""
    server = GrpcServer(container, "127.0.0.1:0")
    server.start()
    with patient():
        remote = on_service(target=f"127.0.0.1:{server.port}", token=TOKEN)
    try:
        yield remote
    finally:
        remote.close()
        server.stop(0)


@contextmanager
def _over_http(container: Container) -> Iterator[HttpActivities]:
    server = HttpServer(container, "127.0.0.1:0")
    server.start()
    try:
        with closing(HttpActivities(f"http://127.0.0.1:{server.port}", TOKEN)) as client:
            yield client
    finally:
        server.stop()


@contextmanager
def use_cases(most: int) -> Iterator[Backend]:
    with _data(most) as (data, store, clock):
        yield Backend(data.activities, data.chats, clock, store, data)


@contextmanager
def postgres(most: int) -> Iterator[Backend]:
    with override_settings(ACTIVITIES_MAX_PER_CHAT=most):
        repository = durable_repository()
    with _data(most, repository) as (data, store, clock):
        yield Backend(data.activities, data.chats, clock, store, data)


@contextmanager
def grpc(most: int) -> Iterator[Backend]:
    with _data(most) as (data, store, clock), _over_grpc(data) as remote:
        yield Backend(remote.activities, remote.chats, clock, store, data)


@contextmanager
def http(most: int) -> Iterator[Backend]:
    with _data(most) as (data, store, clock), _over_http(data) as client:
        yield Backend(client, client.chats, clock, store, data)


@contextmanager
def grpc_on_grpc(most: int) -> Iterator[Backend]:
    with _data(most) as (data, store, clock), _over_grpc(data) as interface, _over_grpc(interface) as remote:
        yield Backend(remote.activities, remote.chats, clock, store, data)


@contextmanager
def http_on_grpc(most: int) -> Iterator[Backend]:
    with _data(most) as (data, store, clock), _over_grpc(data) as interface, _over_http(interface) as client:
        yield Backend(client, client.chats, clock, store, data)


BACKENDS: dict[str, Callable[[int], AbstractContextManager[Backend]]] = {
    "use-cases": use_cases,
    "postgres": postgres,
    "grpc": grpc,
    "http": http,
    "grpc-on-grpc": grpc_on_grpc,
    "http-on-grpc": http_on_grpc,
}


def starting(request: pytest.FixtureRequest, most: int) -> AbstractContextManager[Backend]:
    """The backend that a fixture's parameter names."""
    if request.param == "postgres":
        request.getfixturevalue("database")
    return BACKENDS[request.param](most)
