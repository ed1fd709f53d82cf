"""Redis gone, silent, slow, emptied or full of garbage: right answers all the same, and one line in the log."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import pytest
import redis

from activities.domain import ActivityChanges, Create, Delete, Update
from activities.ports import Call
from activities.repositories import cached, timed_redis
from activities.repositories.cached import ASK_SECONDS, DROP_SECONDS, Cache, CachedRepository
from activities.repositories.memory import MemoryRepository
from activities.repositories.timed_redis import SHORTEST_SECONDS, TimedConnection, within
from tests.examples import NOON, activity
from tests.faults.load import load
from tests.faults.product import Product
from tests.faults.services import Services, eventually
from tests.faults.wire import Wire, wire_to

Fault = Callable[[Services], Any]


@contextmanager
def killed(services: Services) -> Iterator[None]:
    services.kill("redis")
    yield


@contextmanager
def terminated(services: Services) -> Iterator[None]:
    services.terminate("redis")
    yield


@contextmanager
def paused(services: Services) -> Iterator[None]:
    services.pause("redis")
    yield


@contextmanager
def replaced_by_one_that_never_answers(services: Services) -> Iterator[None]:
    services.kill("redis")
    with socket.create_server(("127.0.0.1", services.ports["redis"])):
        yield


@pytest.mark.parametrize("fault", [killed, terminated, paused, replaced_by_one_that_never_answers])
def test_an_outage_costs_no_answer(fault: Fault, services: Services, product: Product, chat_id: int) -> None:
    before = product.logged

    def last_line_says(words: str) -> bool:
        return any(words in line for line in product.log_since(before)[-1:])

    with load(product.activities, chat_id) as callers:
        eventually(callers.everyone_has_more())
        with fault(services):
            eventually(lambda: last_line_says("Redis does not answer"))
            eventually(callers.everyone_has_more())
        services.mend()
        eventually(lambda: last_line_says("Redis answers again"))
        eventually(callers.everyone_has_more())
    assert callers.refusals == 0


@contextmanager
def again_and_again(harm: Callable[[], object]) -> Iterator[None]:
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            harm()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run)
        yield
        stopping.set()
        running.result()


def test_being_emptied_again_and_again_costs_no_answer(product: Product, chat_id: int, raw_redis: redis.Redis) -> None:
    with again_and_again(raw_redis.flushall), load(product.activities, chat_id) as callers:
        for _ in range(5):
            eventually(callers.everyone_has_more())
    assert callers.refusals == 0


def _list(client: redis.Redis, key: str) -> None:
    with client.pipeline() as pipeline:
        pipeline.delete(key)
        pipeline.rpush(key, "one", "two")
        pipeline.execute()


GARBAGE: dict[str, Callable[[redis.Redis, str], object]] = {
    "nothing": lambda client, key: client.set(key, b""),
    "random-bytes": lambda client, key: client.set(key, bytes(range(256))),
    "of-another-type": _list,
    "of-another-chat": lambda client, key: client.set(key, _entry_of(client, chat_id=2)),
    "of-another-name": lambda client, key: client.set(key, _entry_of(client, name="other")),
    "cut-short": lambda client, key: client.set(key, _entry_of(client)[:-9]),
    "damaged": lambda client, key: client.set(key, _entry_of(client).replace(b"2026", b"2027")),
}


def _entry_of(client: redis.Redis, *, chat_id: int = 1, name: str = "pill") -> bytes:
    """What is in the cache for an activity."""
    entry = client.get(f"{cached.PREFIX}{chat_id}:{name}")
    assert isinstance(entry, bytes)
    return entry


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is not to be taken for a silent Redis."""
    monkeypatch.setattr(cached, "ASK_SECONDS", 5.0)


@pytest.fixture
def store() -> MemoryRepository:
    return MemoryRepository()


class Connect(Protocol):
    """Makes the client that the product uses, to a Redis on a port; it waits for so many seconds."""

    def __call__(self, port: int, *, seconds: float = 5.0) -> redis.Redis: ...


@pytest.fixture
def connect(services: Services) -> Iterator[Connect]:
    clients: list[redis.Redis] = []

    def connect(port: int, *, seconds: float = 5.0) -> redis.Redis:
        url = services.environment["REDIS_URL"].replace(f":{services.ports['redis']}/", f":{port}/")
        pool = redis.ConnectionPool.from_url(
            url, connection_class=TimedConnection, socket_timeout=seconds, socket_connect_timeout=seconds
        )
        clients.append(redis.Redis(connection_pool=pool))
        return clients[-1]

    yield connect
    for each in clients:
        each.connection_pool.disconnect()


@pytest.fixture
def repository(
    store: MemoryRepository, services: Services, connect: Connect, raw_redis: redis.Redis, patience: None
) -> Iterator[CachedRepository]:
    client = connect(services.ports["redis"])
    repository = CachedRepository(store, Cache(lambda: client.connection_pool))
    yield repository
    repository.close()


def create(repository: CachedRepository, chat_id: int = 1, name: str = "pill", times: int = 2) -> None:
    repository.apply([Create(chat_id=chat_id, activity=activity(name, times_per_day=times))], now=NOON, call=Call())


def update(repository: CachedRepository, times: int, name: str = "pill") -> None:
    changes = ActivityChanges(times_per_day=times)
    repository.apply([Update(chat_id=1, name=name, changes=changes)], now=NOON, call=Call())


def times(repository: CachedRepository, name: str = "pill") -> int:
    return repository.get(1, name=name, call=Call()).times_per_day


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_under_a_key_is_not_served_and_makes_room(
    garbage: str, repository: CachedRepository, raw_redis: redis.Redis
) -> None:
    for chat_id, name, number in [(1, "pill", 2), (1, "other", 3), (2, "pill", 4)]:
        create(repository, chat_id, name, number)
        repository.get(chat_id, name=name, call=Call())
    good = _entry_of(raw_redis)
    GARBAGE[garbage](raw_redis, f"{cached.PREFIX}1:pill")
    assert times(repository) == 2
    assert times(repository) == 2
    assert _entry_of(raw_redis) == good


def test_a_redis_that_is_full_is_asked_on(
    repository: CachedRepository, raw_redis: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    create(repository)
    assert times(repository) == 2
    usual = str(raw_redis.config_get("maxmemory")["maxmemory"])
    raw_redis.config_set("maxmemory", 1)
    try:
        for number in range(3, 6):
            update(repository, number)
            assert times(repository) == number
    finally:
        raw_redis.config_set("maxmemory", usual)
    assert caplog.messages == []
    assert times(repository) == 5
    assert times(repository) == 5
    assert _entry_of(raw_redis)


@pytest.fixture
def wire(services: Services) -> Iterator[Wire]:
    """Between one process's cache and Redis."""
    with wire_to(services.ports["redis"]) as wire:
        yield wire


def test_an_operation_asks_at_most_twice_for_20_ms(
    services: Services,
    store: MemoryRepository,
    connect: Connect,
    raw_redis: redis.Redis,
    patience: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 2 * (ASK_SECONDS + 2 * SHORTEST_SECONDS) <= 0.05
    assert DROP_SECONDS + 2 * SHORTEST_SECONDS <= 0.05
    asked = 0
    client = connect(services.ports["redis"])
    repository = CachedRepository(store, Cache(lambda: client.connection_pool))
    create(repository)  # which connects
    timed = within

    def counted(until: float) -> AbstractContextManager[None]:
        nonlocal asked
        asked += 1
        return timed(until)

    monkeypatch.setattr(timed_redis, "within", counted)
    operations: list[Callable[[], object]] = [
        lambda: times(repository),  # which fills
        lambda: times(repository),  # which finds
        lambda: create(repository),
        lambda: client.set(f"{cached.PREFIX}1:pill", b"garbage"),
        lambda: times(repository),
        lambda: client.set(f"{cached.PREFIX}1:pill", b"garbage"),
        lambda: create(repository),
        lambda: update(repository, 5),
        lambda: repository.apply([Delete(chat_id=1, name="pill")], now=NOON, call=Call()),
    ]
    for operation in operations:
        asked = 0
        operation()
        assert asked <= 2
    repository.close()


def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    store: MemoryRepository,
    connect: Connect,
    raw_redis: redis.Redis,
    wire: Wire,
    patience: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = connect(wire.port)
    repository = CachedRepository(store, Cache(lambda: client.connection_pool))
    create(repository)
    for _ in range(2):
        wire.take_down()
        for number in range(1, 50):
            update(repository, number)
            assert times(repository) == number
        (line,) = caplog.messages
        assert "Redis does not answer" in line
        wire.down = False
        eventually(lambda: len(caplog.messages) > 1)
        for number in range(1, 50):
            update(repository, number)
            assert times(repository) == number
        _, line = caplog.messages
        assert "Redis answers again" in line
        caplog.clear()
    repository.close()


def test_all_that_belongs_to_a_question_shares_its_time(
    store: MemoryRepository, connect: Connect, raw_redis: redis.Redis, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is in time for itself, but there are several: to the log-in, the look and the claim."""
    monkeypatch.setattr(cached, "ASK_SECONDS", 0.5)
    client = connect(wire.port, seconds=0.5)
    repository = CachedRepository(store, Cache(lambda: client.connection_pool))
    create(CachedRepository(store, Cache(lambda: raw_redis.connection_pool)))
    wire.delay = 0.4
    began = time.monotonic()
    assert times(repository) == 2
    assert time.monotonic() - began < 3 * 0.4
    repository.close()


def test_the_writer_sees_its_writes_while_it_cannot_reach_redis_and_pays_its_debt_by_itself(
    connect: Connect, repository: CachedRepository, store: MemoryRepository, wire: Wire
) -> None:
    client = connect(wire.port)
    writer = CachedRepository(store, Cache(lambda: client.connection_pool))
    create(writer)
    assert times(repository) == 2
    wire.take_down()
    update(writer, 3)
    assert times(writer) == 3
    assert times(repository) == 2, "the others find what is there, which nobody could take away"
    wire.down = False
    eventually(lambda: times(writer) == times(repository) == 3)
    writer.close()


def test_many_changes_at_once_are_all_told_to_a_redis_that_answers(
    repository: CachedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "MOST_DEBTS", 3)
    names = [f"pill {number}" for number in range(5)]
    for name in names:
        create(repository, name=name)
        assert times(repository, name) == 2
    changes = ActivityChanges(times_per_day=3)
    repository.apply([Update(chat_id=1, name=name, changes=changes) for name in names], now=NOON, call=Call())
    assert [times(repository, name) for name in names] == [3] * 5


def test_a_writer_that_has_forgotten_its_debts_waits_until_they_are_void(
    connect: Connect,
    repository: CachedRepository,
    store: MemoryRepository,
    wire: Wire,
    raw_redis: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cached, "MOST_DEBTS", 3)
    monkeypatch.setattr(cached, "PAUSE_SECONDS", 0.01)
    now = 0.0
    client = connect(wire.port)
    writer = CachedRepository(store, Cache(lambda: client.connection_pool, clock=lambda: now))
    for name in ("pill", "last", *"abcde"):
        create(writer, name=name)
        assert times(repository, name) == 2
    wire.take_down()
    for name in ("pill", *"abcde", "last"):
        update(writer, 3, name)
    wire.down = False
    eventually(lambda: raw_redis.get(f"{cached.PREFIX}1:last") is None)  # the one debt that it knew
    assert (times(writer), times(repository)) == (3, 2)
    raw_redis.flushall()  # which stands for the time in which all entries die

    def it_is_back() -> bool:
        nonlocal now
        now += cached.LIFETIME / 10
        return any("answers again" in message for message in caplog.messages)

    eventually(it_is_back)
    assert now > cached.LIFETIME
    writer.close()
