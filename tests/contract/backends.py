"""Everything that keeps the ports `Activities` and `Chats`, from the use cases themselves to two services in a row.

One more way is one more entry in `BACKENDS`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
import redis
from django.conf import settings
from django.test import override_settings
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from redis import ConnectionPool

from activities.container import Container, durable_repository, on_repository, on_service
from activities.domain import ActivitiesError, Outcome
from activities.ports import Activities, Chats, Repository
from activities.repositories.memory import MemoryRepository
from activities.repositories.timed_redis import TimedConnection
from activities_project.http import HttpServer
from grpc_server.server import GrpcServer
from kafka_worker.client import CommandProducer, QueuedActivities
from kafka_worker.consumer import Consumer
from kafka_worker.dead_letters import DeadLetters
from kafka_worker.messages import CREATE, DELETE, UPDATE
from kafka_worker.outcomes import Expected, Listener, Outcomes, erase, key_of
from kafka_worker.topics import ensure_topics
from tests.contract.http_activities import HttpActivities
from tests.environment import require_services
from tests.examples import NOON

TOKEN = "service-secret-0123456789abcdefghij"
"""The service token of `tests.environment` that may do everything."""
SECONDS = 30.0
REDIS_DATABASE = 9
"""Where outcomes are kept here: it is emptied when time passes."""


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
    is_queued: bool = False
    """Writes wait while the store fails, and those of different kinds have no order."""


def patient() -> override_settings:
    """While a part is built: how fast this machine is must not decide, and time limits have their own tests."""
    return override_settings(ACTIVITIES_STORAGE_SECONDS=SECONDS)


@contextmanager
def _data(
    most: int, store: Repository | None = None, clock: Clock | None = None, **more: Callable[[int], None]
) -> Iterator[tuple[Container, Rigged, Clock]]:
    """A data service, in memory unless told otherwise, where a chat has at most so many activities."""
    clock, rigged = clock or Clock(), Rigged(store or MemoryRepository(max_activities=most))
    with patient():
        container = on_repository(cast("Repository", rigged), clock=clock, **more)
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
        with closing(HttpActivities(f"http://127.0.0.1:{server.port}", TOKEN, container.chats)) as client:
            yield client
    finally:
        server.stop()


class PassingClock(Clock):
    """A present with which passes what Redis keeps for a while."""

    def __init__(self, connections: ConnectionPool) -> None:
        self._redis = redis.Redis(connection_pool=connections)
        super().__init__()

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "now":
            self._redis.flushdb()


class Own(Listener):
    """Knows what it has asked: another backend's consumer finds the same records in the topics."""

    def __init__(self, connections: Callable[[], ConnectionPool]) -> None:
        super().__init__(connections)
        self.outcomes = Outcomes(connections)
        self.keys: set[str] = set()

    def expect(self, key: str, fingerprint: str, *, is_new: bool) -> Expected:
        self.keys.add(key)
        return super().expect(key, fingerprint, is_new=is_new)

    def tell(self, outcomes: Sequence[tuple[int, UUID, Outcome, str]]) -> None:
        self.outcomes.tell([each for each in outcomes if key_of(each[0], each[1]) in self.keys])

    def close(self) -> None:
        super().close()
        self.outcomes.close()


@contextmanager
def _over_kafka(container: Container, connections: ConnectionPool) -> Iterator[Activities]:
    """What an interface service has that writes to `container` through the queue, and reads there."""
    servers, group, stopping = settings.KAFKA_BOOTSTRAP_SERVERS, f"contract-{uuid4()}", threading.Event()
    ensure_topics(servers, timeout=SECONDS)
    begin_now(servers, group)
    with (
        closing(DeadLetters(servers)) as dead_letters,
        closing(Own(lambda: connections)) as own,
        closing(CommandProducer(servers, limit=SECONDS)) as producer,
    ):
        consumer = Consumer(
            servers, activities=container.activities, outcomes=own, dead_letters=dead_letters, group=group
        )
        consuming = threading.Thread(target=consumer.run, args=[stopping])
        consuming.start()
        try:
            yield QueuedActivities(reads=container.activities, producer=producer, listener=own, limit=SECONDS)
        finally:
            stopping.set()
            consuming.join()


def begin_now(servers: str, group: str) -> None:
    """A consumer group's first look is at what comes from now on: earlier runs had chats of the same ids."""
    with KafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False) as consumer:
        partitions = [
            TopicPartition(topic, each)
            for topic in (CREATE, UPDATE, DELETE)
            for each in consumer.partitions_for_topic(topic)
        ]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.commit({each: OffsetAndMetadata(end, "", -1) for each, end in ends.items()})


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


@contextmanager
def kafka(most: int) -> Iterator[Backend]:
    pool = ConnectionPool.from_url(
        urlsplit(settings.REDIS_URL)._replace(path=f"/{REDIS_DATABASE}").geturl(),
        connection_class=TimedConnection,
        socket_connect_timeout=5.0,
    )
    with (
        _data(most, clock=PassingClock(pool), erase_outcomes=partial(erase, lambda: pool)) as (data, store, clock),
        _over_kafka(data, pool) as activities,
    ):
        yield Backend(activities, data.chats, clock, store, data, is_queued=True)


BACKENDS: dict[str, Callable[[int], AbstractContextManager[Backend]]] = {
    "use-cases": use_cases,
    "postgres": postgres,
    "grpc": grpc,
    "http": http,
    "grpc-on-grpc": grpc_on_grpc,
    "http-on-grpc": http_on_grpc,
    "kafka": kafka,
}


def starting(request: pytest.FixtureRequest, most: int) -> AbstractContextManager[Backend]:
    """The backend that a fixture's parameter names."""
    if request.param == "kafka":
        require_services()
    if request.param == "postgres":
        request.getfixturevalue("database")
    return BACKENDS[request.param](most)
