"""The cache in front of PostgreSQL: what was replaced is never served again, and what is there saves a query."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
import redis
from django_redis import get_redis_connection
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from activities.domain import (
    Activity,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    Command,
    Create,
    Delete,
    Update,
    name_key,
)
from activities.ports import Call, Repository
from activities.repositories import cached
from activities.repositories.cached import Cache, CachedRepository
from activities.repositories.postgres import PostgresRepository
from tests.examples import NOON, activity, names
from tests.faults.services import eventually

SECONDS = 30.0  # what a test waits at most for anything


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is not to be taken for a silent Redis: that has its own tests."""
    monkeypatch.setattr(cached, "ASK_SECONDS", 5.0)


@pytest.fixture
def raw_redis(database: None) -> Iterator[redis.Redis]:
    """Redis as another program would use it, with a client that is patient."""
    options = get_redis_connection("default").connection_pool.connection_kwargs
    place = {name: options[name] for name in ("host", "port", "password", "db")}
    with redis.Redis(**place) as client:
        yield client


class Observed:
    """A store whose reads can be stopped when they have fetched and not answered yet."""

    def __init__(self, inner: Repository) -> None:
        self._inner = inner
        self.reads = 0
        self.writes = 0
        self.stop_next = False
        self.fetched, self.go_on = threading.Event(), threading.Event()

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        self.reads += 1
        stopping, self.stop_next = self.stop_next, False
        found = self._inner.get(chat_id, name=name, call=call)
        if stopping:
            self.fetched.set()
            assert self.go_on.wait(SECONDS)
        return found

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        self.writes += 1
        return self._inner.apply(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Process:
    """What one process has: a cache of its own on the common Redis, and connections of its own."""

    def __init__(self, client: redis.Redis) -> None:
        self.store = Observed(PostgresRepository())
        self.repository = CachedRepository(cast("Repository", self.store), Cache(lambda: client.connection_pool))

    def get(self, chat_id: int, name: str = "pill") -> Activity:
        return self.repository.get(chat_id, name=name, call=soon())

    def apply(self, command: Command) -> object:
        (outcome,) = self.repository.apply([command], now=NOON, call=soon())
        return outcome


def soon() -> Call:
    call = Call()
    return Call(asked_at=call.asked_at, deadline=call.asked_at + SECONDS)


def create(chat_id: int, times: int = 1) -> Create:
    return Create(chat_id=chat_id, activity=activity("pill", times_per_day=times))


def update(chat_id: int, times: int) -> Update:
    return Update(chat_id=chat_id, name="pill", changes=ActivityChanges(times_per_day=times))


@pytest.fixture
def processes(raw_redis: redis.Redis) -> Iterator[tuple[Process, Process]]:
    processes = Process(raw_redis), Process(raw_redis)
    yield processes
    for each in processes:
        each.repository.close()


@pytest.fixture
def reader(processes: tuple[Process, Process]) -> Process:
    return processes[0]


@pytest.fixture
def writer(processes: tuple[Process, Process]) -> Process:
    return processes[1]


def key_of(chat_id: int) -> str:
    return f"{cached.PREFIX}{chat_id}:pill"


def _nothing(client: redis.Redis, reader: Process, chat_id: int) -> None:
    pass


def _emptied(client: redis.Redis, reader: Process, chat_id: int) -> None:
    client.delete(key_of(chat_id))


def _read_by_another(client: redis.Redis, reader: Process, chat_id: int) -> None:
    assert reader.get(chat_id).times_per_day == 2


def _emptied_after_another_read(client: redis.Redis, reader: Process, chat_id: int) -> None:
    _read_by_another(client, reader, chat_id)
    _emptied(client, reader, chat_id)


def _claimed_by_another(client: redis.Redis, reader: Process, chat_id: int) -> None:
    client.set(key_of(chat_id), cached.CLAIM + b"another", px=60_000)


@pytest.mark.parametrize("who", ["reader", "writer"])
@pytest.mark.parametrize(
    "meanwhile", [_nothing, _emptied, _read_by_another, _emptied_after_another_read, _claimed_by_another]
)
def test_a_reader_that_fetched_before_a_write_does_not_put_it_back_after_the_write(
    who: str,
    meanwhile: Callable[[redis.Redis, Process, int], None],
    reader: Process,
    writer: Process,
    raw_redis: redis.Redis,
    chat_id: int,
) -> None:
    writing = {"reader": reader, "writer": writer}[who]
    writer.apply(create(chat_id))
    reader.store.stop_next = True
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(reader.get, chat_id)
        assert reader.store.fetched.wait(SECONDS)
        assert writing.apply(update(chat_id, 2)) == activity("pill", times_per_day=2)
        meanwhile(raw_redis, reader, chat_id)
        reader.store.go_on.set()
        assert late.result().times_per_day == 1, "it began before the write returned: the old row is a right answer"
    for each in (reader, writer, reader, writer):
        assert each.get(chat_id).times_per_day == 2


def test_a_reader_that_fetched_before_a_delete_does_not_bring_it_back(
    reader: Process, writer: Process, chat_id: int
) -> None:
    writer.apply(create(chat_id))
    reader.store.stop_next = True
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(reader.get, chat_id)
        assert reader.store.fetched.wait(SECONDS)
        assert writer.apply(Delete(chat_id=chat_id, name="pill")) is None
        reader.store.go_on.set()
        late.result()
    with pytest.raises(ActivityNotFound):
        reader.get(chat_id)
    assert writer.apply(create(chat_id, 3)) == activity("pill", times_per_day=3)
    assert reader.get(chat_id).times_per_day == 3


def test_of_readers_and_writers_without_rest_none_sees_what_was_replaced_before_it_asked(
    database: None, chat_id: int
) -> None:
    """`states[n]` is what is there after the n-th write, and `returned` how many writes have."""
    states: list[int | None] = [None]
    returned = 0
    stopping = threading.Event()
    clients = [Process(get_redis_connection("default")) for _ in range(2)]

    def write() -> None:
        nonlocal returned
        choose = random.Random(7)
        for number in range(400):
            times = number % 100 + 1
            command: Command
            if states[-1] is None:
                command, state = create(chat_id, times), times
            elif choose.random() < 0.2:
                command, state = Delete(chat_id=chat_id, name="pill"), None
            else:
                command, state = update(chat_id, times), times
            states.append(state)
            outcome = choose.choice(clients).apply(command)
            assert outcome == (None if state is None else activity("pill", times_per_day=state))
            returned += 1

    def read(process: Process) -> None:
        while not stopping.is_set():
            least = returned
            try:
                found = process.get(chat_id).times_per_day
            except ActivityNotFound:
                found = None
            assert found in states[least:]

    hits = value("activities_cache_hits_total")
    with ThreadPoolExecutor(7) as threads:
        reading = [threads.submit(read, process) for process in clients * 3]
        writing = threads.submit(write)
        eventually(lambda: writing.done() or any(each.done() for each in reading), seconds=60)
        stopping.set()
        for each in [writing, *reading]:
            each.result()
    assert value("activities_cache_hits_total") - hits > 100, "nothing was put to the test"
    for process in clients:
        process.repository.close()


def value(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def test_hits_save_a_query_and_are_counted_as_are_misses(reader: Process, writer: Process, chat_id: int) -> None:
    writer.apply(create(chat_id))
    hits, misses = value("activities_cache_hits_total"), value("activities_cache_misses_total")
    for found in range(3):
        reader.get(chat_id)
        assert value("activities_cache_hits_total") == hits + found
        assert value("activities_cache_misses_total") == misses + 1
    assert reader.store.reads == 1
    writer.get(chat_id)
    assert writer.store.reads == 0


def test_a_hit_before_a_create_decides_alone_only_without_a_request_id(
    reader: Process, writer: Process, chat_id: int, direct: psycopg.Connection
) -> None:
    writer.apply(create(chat_id))
    reader.get(chat_id)
    writes = reader.store.writes
    assert reader.apply(create(chat_id, 5)) == ActivityExists(name="pill")
    assert reader.store.writes == writes, "the store was not asked"
    wanted = Create(chat_id=chat_id, activity=activity("pill", times_per_day=5), request_id=uuid4())
    direct.execute("DELETE FROM activities_activity WHERE chat_id = %s", [chat_id])  # of which the cache knows nothing
    assert reader.apply(wanted) == activity("pill", times_per_day=5)
    assert reader.apply(wanted) == activity("pill", times_per_day=5)


def test_the_second_of_two_creates_with_one_id_gets_the_firsts_answer_though_the_name_is_cached(
    reader: Process, chat_id: int
) -> None:
    wanted = Create(chat_id=chat_id, activity=activity("pill"), request_id=uuid4())
    assert reader.apply(wanted) == activity("pill")
    reader.get(chat_id)
    assert reader.apply(wanted) == activity("pill")


def test_an_entry_lives_for_30_seconds_and_a_claim_as_long_as_the_longest_read(
    reader: Process, writer: Process, raw_redis: redis.Redis, chat_id: int
) -> None:
    writer.apply(create(chat_id))
    reader.store.stop_next = True
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(reader.get, chat_id)
        assert reader.store.fetched.wait(SECONDS)
        claim, left = raw_redis.get(key_of(chat_id)), raw_redis.pttl(key_of(chat_id))
        reader.store.go_on.set()
        reading.result()
    if claim is not None:  # a slow machine may look too late
        assert isinstance(claim, bytes)
        assert claim.startswith(cached.CLAIM)
        assert left <= cached.READ_SECONDS * 1000
    reader.get(chat_id)
    reader.get(chat_id)
    assert 0 < raw_redis.pttl(key_of(chat_id)) <= 30_000


chats = st.integers(-(2**63), 2**63 - 1).filter(bool) | st.sampled_from([1, 11, -1, 111])
places = st.tuples(chats, names | st.sampled_from(["1:a", "a", ":", "1:1:a", "A"]))


@given(places, places)
def test_two_activities_share_a_key_only_when_they_are_one(one: tuple[int, str], other: tuple[int, str]) -> None:
    same = (one[0], name_key(one[1])) == (other[0], name_key(other[1]))
    assert (cached._key(*one) == cached._key(*other)) == same
