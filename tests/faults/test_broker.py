"""The asking end of the queue while the broker is away, silent, or without topics.

There is no consumer: a command that is taken is pending. What is in the topics is read with a plain client.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from redis import ConnectionPool

from activities.container import Container, on_queue, on_repository
from activities.domain import ActivitiesError, OutcomePending, StorageUnavailable
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from activities.repositories.timed_redis import TimedConnection
from kafka_worker.messages import CREATE, REQUEST_ID
from kafka_worker.topics import TOPICS, ensure_topics
from tests.examples import activity
from tests.faults.services import ANSWER_SECONDS, SECONDS, Services, eventually

SEED = 7


@dataclass(frozen=True)
class End:
    """What a caller was told, and after how many seconds."""

    request_id: UUID
    error: type[ActivitiesError]
    after: float


@pytest.fixture
def servers(services: Services) -> str:
    """A broker with its topics."""
    servers = services.environment["KAFKA_BOOTSTRAP_SERVERS"]
    ensure_topics(servers, timeout=SECONDS)
    return servers


@pytest.fixture
def connected(services: Services) -> Callable[[str], AbstractContextManager[Container]]:
    """Makes an interface service on brokers."""
    pool = ConnectionPool.from_url(services.environment["REDIS_URL"], connection_class=TimedConnection)

    @contextmanager
    def connected(servers: str) -> Iterator[Container]:
        data = on_repository(MemoryRepository())
        with closing(on_queue(servers=servers, connections=lambda: pool, data=data)) as parts:
            yield parts

    return connected


@pytest.fixture
def parts(connected: Callable[[str], AbstractContextManager[Container]], servers: str) -> Iterator[Container]:
    """An interface service that was connected once."""
    with connected(servers) as parts:
        eventually(lambda: is_ready(parts))
        yield parts


def address_of(nobody: socket.socket) -> str:
    """Where connections are refused."""
    nobody.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{nobody.getsockname()[1]}"


def is_ready(parts: Container) -> bool:
    try:
        parts.ready(Call())
    except StorageUnavailable:
        return False
    return True


def ask(parts: Container, *, seconds: float = SECONDS, chat_id: int = 1) -> End:
    call = Call(request_id=uuid4(), deadline=time.monotonic() + seconds)
    assert call.request_id is not None
    try:
        parts.activities.create(chat_id, activity=activity("pill"), call=call)
    except (OutcomePending, StorageUnavailable) as error:
        return End(call.request_id, type(error), time.monotonic() - call.asked_at)
    raise AssertionError("nobody can have done it")


def ask_together(parts: Container, count: int) -> list[End]:
    with ThreadPoolExecutor(count) as asking:
        return list(asking.map(lambda number: ask(parts, chat_id=number + 1), range(count)))


def ids(ends: list[End], error: type[ActivitiesError]) -> set[UUID]:
    return {each.request_id for each in ends if each.error is error}


def in_topic(servers: str) -> Counter[UUID]:
    """The request ids of all creates that were ever taken, and how often."""
    with KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest") as consumer:
        partitions = [TopicPartition(CREATE, each) for each in consumer.partitions_for_topic(CREATE)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: Counter[UUID] = Counter()
        while any(consumer.position(each) < ends[each] for each in partitions):
            for records in consumer.poll(timeout_ms=500).values():
                found.update(UUID(dict(record.headers)[REQUEST_ID].decode()) for record in records)
        return found


def check(servers: str, ends: list[End]) -> None:
    """Who was told that nothing was sent was told the truth, and nothing is there twice."""
    found = in_topic(servers)
    assert ids(ends, StorageUnavailable).isdisjoint(found)
    assert {found[each.request_id] for each in ends} <= {0, 1}


def test_a_broker_that_was_never_there_is_unavailable_in_time(
    connected: Callable[[str], AbstractContextManager[Container]], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as nobody, connected(address_of(nobody)) as parts:
        first = ask(parts)
        assert (first.error, first.after < ANSWER_SECONDS) == (StorageUnavailable, True)
        eventually(lambda: "Kafka cannot be used" in caplog.text)
        later = [ask(parts) for _ in range(20)]
        assert {each.error for each in later} == {StorageUnavailable}
        assert max(each.after for each in later) < 0.5, "that it is away is known"
        with pytest.raises(StorageUnavailable):
            parts.ready(Call())
    assert len(caplog.messages) == 1


def test_a_broker_that_comes_is_used_without_a_restart_and_what_was_refused_is_never_sent(
    connected: Callable[[str], AbstractContextManager[Container]],
    services: Services,
    servers: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    services.kill("kafka")
    with connected(servers) as parts:
        ends = [ask(parts) for _ in range(5)]
        assert {each.error for each in ends} == {StorageUnavailable}
        services.start()
        eventually(lambda: is_ready(parts))
        ends += ask_together(parts, 8)
        assert {each.error for each in ends[5:]} == {OutcomePending}
    assert set(in_topic(servers)) >= ids(ends, OutcomePending)
    check(servers, ends)
    assert [line for line in caplog.messages if "Kafka can be used again" in line]


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_writes_go_on_after_the_broker_was_away(how: str, services: Services, servers: str, parts: Container) -> None:
    stopping = threading.Event()
    ends: list[End] = []

    def keep_asking(chat_id: int) -> None:
        while not stopping.is_set():
            ends.append(ask(parts, chat_id=chat_id))

    with ThreadPoolExecutor(8) as asking:
        for number in range(8):
            asking.submit(keep_asking, number + 1)
        try:
            eventually(lambda: len(ends) >= 8)
            getattr(services, how)("kafka")
            eventually(lambda: len(ids(ends, StorageUnavailable)) > 100)
            services.start()
            eventually(lambda: is_ready(parts))
        finally:
            stopping.set()
    after = ask_together(parts, 8)
    assert {each.error for each in after} == {OutcomePending}
    assert set(in_topic(servers)) >= ids(after, OutcomePending)
    check(servers, [*ends, *after])
    assert max(each.after for each in [*ends, *after]) < ANSWER_SECONDS


def test_what_was_sent_to_a_silent_broker_is_pending_and_there_once(
    services: Services, servers: str, parts: Container
) -> None:
    services.pause("kafka")
    ends = ask_together(parts, 8)
    assert max(each.after for each in ends) < ANSWER_SECONDS
    more = ask_together(parts, 8)
    assert {each.error for each in more} == {StorageUnavailable}
    services.resume("kafka")
    eventually(lambda: is_ready(parts))
    # It answers one request of a connection after the other: what stood behind one that nobody listened to is lost.
    eventually(lambda: not ids(ends, OutcomePending).isdisjoint(in_topic(servers)))
    after = ask_together(parts, 8)
    assert {each.error for each in after} == {OutcomePending}
    check(servers, [*ends, *more, *after])


def test_who_has_little_patience_spoils_nothing_for_others(services: Services, servers: str, parts: Container) -> None:
    services.pause("kafka")
    ends = [ask(parts, seconds=0.1) for _ in range(8)]
    services.resume("kafka")
    assert {each.error for each in ends} == {OutcomePending}
    eventually(lambda: set(in_topic(servers)) >= ids(ends, OutcomePending))
    check(servers, ends)


def test_a_write_that_was_lost_on_its_way_does_not_spoil_the_next(
    services: Services, servers: str, parts: Container
) -> None:
    services.pause("kafka")
    lost = ask(parts, seconds=0.3)
    services.kill("kafka")
    services.start()
    eventually(lambda: is_ready(parts))
    after = ask(parts)
    assert (lost.error, after.error) == (OutcomePending, OutcomePending)
    check(servers, [lost, after])


def test_what_could_not_leave_in_time_leaves_no_more(services: Services, servers: str, parts: Container) -> None:
    """The broker speaks again at about the moment when records are given up."""
    chance = random.Random(SEED)
    ends: list[End] = []
    for _ in range(6):
        services.pause("kafka")
        with ThreadPoolExecutor(40) as asking:
            asked = []
            for number in range(40):
                asked.append(asking.submit(ask, parts, chat_id=number + 1))
                time.sleep(chance.uniform(0, 0.02))
            time.sleep(chance.uniform(0.7, 1.3))
            services.resume("kafka")
            ends += [each.result() for each in asked]
        eventually(lambda: is_ready(parts))
    assert ids(ends, OutcomePending)
    assert ids(ends, StorageUnavailable)
    time.sleep(1)  # for what should not come
    check(servers, ends)


def test_topics_that_are_missing_are_named_and_used_when_they_come(
    connected: Callable[[str], AbstractContextManager[Container]], servers: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kafka_worker")
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        admin.delete_topics(list(TOPICS))
        eventually(lambda: not set(TOPICS) & {topic["name"] for topic in admin.describe_topics()})
    with connected(servers) as parts:
        end = ask(parts)
        assert (end.error, end.after < ANSWER_SECONDS) == (StorageUnavailable, True)
        eventually(lambda: "topic activities.create" in caplog.text)
        ensure_topics(servers, timeout=SECONDS)
        eventually(lambda: is_ready(parts))
        assert ask(parts).error is OutcomePending
    check(servers, [end])


def test_who_watches_learns_that_the_broker_is_silent(services: Services, servers: str, parts: Container) -> None:
    services.pause("kafka")
    began = time.monotonic()
    assert not is_ready(parts)
    assert time.monotonic() - began < ANSWER_SECONDS
    services.resume("kafka")
    eventually(lambda: is_ready(parts))


def test_a_silent_broker_does_not_hold_up_the_end(services: Services, servers: str, parts: Container) -> None:
    services.pause("kafka")
    ask_together(parts, 8)
    began = time.monotonic()
    parts.close()
    assert time.monotonic() - began < 2 * ANSWER_SECONDS
