"""`Activities` through a real Kafka and Redis: what is sent, and how its end comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from kafka import KafkaConsumer, TopicPartition

from activities.container import Container, on_queue, on_repository, outcome_connections
from activities.domain import (
    LATEST_END_FIRST,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    Command,
    Create,
    Delete,
    InvalidActivity,
    Outcome,
    OutcomePending,
    Page,
    RequestIdReused,
    StorageBusy,
    StorageTimeout,
    TooManyActivities,
    Update,
)
from activities.ports import Call, Cancellation, Cancelled
from activities.repositories.memory import MemoryRepository
from kafka_worker import client
from kafka_worker.client import CommandProducer, QueuedActivities
from kafka_worker.messages import CREATE, DELETE, UPDATE, Position, Received, read, record_of
from kafka_worker.outcomes import Listener, Outcomes
from kafka_worker.topics import ensure_topics
from tests.contract.backends import patient
from tests.environment import require_services
from tests.examples import activity
from tests.faults.services import eventually

PILL = activity("pill")
FULL = TooManyActivities(limit="1")
SHORT = 0.5


class StandIn:
    """A consumer on which tests decide: it answers a chat's commands as `decide` does, and is silent about None."""

    def __init__(self, servers: str, chat_id: int, decide: Callable[[Received], Outcome]) -> None:
        self._chat_id = chat_id
        self._stopping = threading.Event()
        self.decide = decide
        self.silent = False
        self.received: list[Received] = []
        self._consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
        partitions = [
            TopicPartition(topic, partition)
            for topic in (CREATE, UPDATE, DELETE)
            for partition in self._consumer.partitions_for_topic(topic)
        ]
        self._consumer.assign(partitions)
        for partition, end in self._consumer.end_offsets(partitions).items():
            self._consumer.seek(partition, end)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def count(self, request_id: UUID) -> int:
        """How many records came under an id."""
        return len([each for each in self.received if each.request_id == request_id])

    def answer(self, received: Received, outcome: Outcome) -> None:
        with closing(Outcomes(outcome_connections)) as outcomes:
            assert not isinstance(received.command, InvalidActivity)
            outcomes.tell([(received.chat_id, received.request_id, outcome, received.command.fingerprint)])

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for records in self._consumer.poll(timeout_ms=50).values():
                for record in records:
                    if record.key == str(self._chat_id).encode():
                        position = Position(record.topic, record.partition, record.offset)
                        self.received.append(read(position, record.value, record.headers, record.timestamp))
                        if not self.silent:
                            self.answer(self.received[-1], self.decide(self.received[-1]))


@pytest.fixture
def servers() -> str:
    require_services()
    ensure_topics(settings.KAFKA_BOOTSTRAP_SERVERS, timeout=20)
    return str(settings.KAFKA_BOOTSTRAP_SERVERS)


@pytest.fixture
def data() -> Iterator[Container]:
    with closing(on_repository(MemoryRepository())) as data:
        yield data


@pytest.fixture
def consumer(servers: str, chat_id: int, data: Container) -> Iterator[StandIn]:
    def applied(received: Received) -> Outcome:
        assert not isinstance(received.command, InvalidActivity)
        (outcome,) = data.activities.apply([received.command], call=Call())
        return outcome

    with closing(StandIn(servers, chat_id, applied)) as consumer:
        yield consumer


@pytest.fixture
def parts(consumer: StandIn, servers: str, data: Container) -> Iterator[Container]:
    with patient():
        parts = on_queue(servers=servers, connections=outcome_connections, data=replace(data, close=lambda: None))
    with closing(parts):
        parts.ready(Call())
        yield parts


@pytest.fixture
def hasty(parts: Container, consumer: StandIn, servers: str, data: Container) -> Iterator[QueuedActivities]:
    """An interface that waits for `SHORT` seconds at most."""
    with (
        closing(CommandProducer(servers, limit=20)) as producer,
        closing(Listener(outcome_connections)) as listener,
    ):
        producer.ready(time.monotonic() + 20)
        yield QueuedActivities(reads=data.activities, producer=producer, listener=listener, limit=SHORT)


def test_writes_are_done_by_the_data_service_and_read_there(parts: Container, data: Container, chat_id: int) -> None:
    activities = parts.activities
    assert activities.create(chat_id, activity=PILL, call=Call()) == PILL
    changed = activities.update(chat_id, name="PILL", changes=ActivityChanges(times_per_day=5), call=Call())
    assert changed == replace(PILL, times_per_day=5)
    assert activities.get(chat_id, name="pill", call=Call()) == changed
    assert activities.list(chat_id, page=Page(), call=Call()).activities == (changed,)
    assert activities.today(chat_id, page=Page(), call=Call()) == data.activities.today(
        chat_id, page=Page(), call=Call()
    )
    assert list(activities.stream(chat_id, order=LATEST_END_FIRST, call=Call())) == [changed]
    with pytest.raises(ActivityExists):
        activities.create(chat_id, activity=PILL, call=Call())
    activities.delete(chat_id, name="pill", call=Call())
    with pytest.raises(ActivityNotFound):
        activities.delete(chat_id, name="pill", call=Call())


def test_several_are_sent_together_and_each_has_its_own_end(parts: Container, consumer: StandIn, chat_id: int) -> None:
    consumer.silent = True
    own_id = uuid4()
    commands: list[Command] = [
        Create(chat_id=chat_id, activity=PILL),
        Update(chat_id=chat_id, name="none", changes=ActivityChanges(times_per_day=5)),
        Delete(chat_id=chat_id, name="none", request_id=own_id),
    ]
    ends: list[Sequence[Outcome]] = []
    asking = threading.Thread(target=lambda: ends.append(parts.activities.apply(commands, call=Call())))
    asking.start()
    eventually(lambda: len(consumer.received) == len(commands))
    for each in consumer.received:
        consumer.answer(each, consumer.decide(each))
    asking.join()
    assert ends == [[PILL, ActivityNotFound(name="none"), ActivityNotFound(name="none")]]
    assert consumer.count(own_id) == 1


def test_an_outcome_that_does_not_come_is_pending_and_its_id_gets_it_later(
    hasty: QueuedActivities, parts: Container, consumer: StandIn, data: Container, chat_id: int
) -> None:
    consumer.silent = True
    began = time.monotonic()
    with pytest.raises(OutcomePending) as pending:
        hasty.create(chat_id, activity=PILL, call=Call())
    assert SHORT <= time.monotonic() - began < SHORT + 2
    request_id = UUID(pending.value.details["request_id"])
    eventually(lambda: consumer.count(request_id) == 1)
    consumer.decide(consumer.received[0])
    consumer.silent = False
    assert parts.activities.create(chat_id, activity=PILL, call=Call(request_id=request_id)) == PILL
    assert data.activities.list(chat_id, page=Page(), call=Call()).total == 1


def test_who_has_less_patience_than_the_limit_is_answered_in_time(
    parts: Container, consumer: StandIn, chat_id: int
) -> None:
    consumer.silent = True
    call = Call(deadline=time.monotonic() + SHORT, request_id=uuid4())
    with pytest.raises(OutcomePending) as pending:
        parts.activities.delete(chat_id, name="pill", call=call)
    assert SHORT <= time.monotonic() - call.asked_at < SHORT + 2
    assert pending.value.details == {"request_id": str(call.request_id)}


def test_who_asks_too_late_has_sent_nothing(parts: Container, consumer: StandIn, chat_id: int) -> None:
    late = Call(deadline=time.monotonic() - 1, request_id=uuid4())
    with pytest.raises(StorageTimeout):
        parts.activities.create(chat_id, activity=PILL, call=late)
    parts.activities.create(chat_id, activity=PILL, call=Call())
    assert [each.request_id for each in consumer.received if each.request_id == late.request_id] == []


def test_a_repeat_soon_after_is_answered_without_being_sent(parts: Container, consumer: StandIn, chat_id: int) -> None:
    call = Call(request_id=uuid4())
    assert call.request_id is not None
    for _ in range(3):
        assert parts.activities.create(chat_id, activity=PILL, call=call) == PILL
    with pytest.raises(RequestIdReused):
        parts.activities.create(chat_id, activity=activity("other"), call=call)
    parts.activities.create(chat_id, activity=activity("last"), call=Call())  # behind whatever was sent before
    assert consumer.count(call.request_id) == 1


def test_a_refusal_is_asked_for_again(parts: Container, consumer: StandIn, chat_id: int) -> None:
    applied, call = consumer.decide, Call(request_id=uuid4())
    assert call.request_id is not None
    consumer.decide = lambda received: FULL
    with pytest.raises(TooManyActivities):
        parts.activities.create(chat_id, activity=PILL, call=call)
    consumer.decide = applied
    assert parts.activities.create(chat_id, activity=PILL, call=call) == PILL
    assert consumer.count(call.request_id) == 2


def test_who_has_gone_is_waited_for_no_longer(parts: Container, consumer: StandIn, chat_id: int) -> None:
    consumer.silent = True
    cancellation = Cancellation()
    threading.Timer(0.3, cancellation.cancel).start()
    with pytest.raises(Cancelled):
        parts.activities.create(chat_id, activity=PILL, call=Call(cancellation=cancellation))


def test_more_than_so_many_at_once_are_refused_at_once(
    servers: str, consumer: StandIn, chat_id: int, data: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_IN_FLIGHT", 2)
    with patient():
        parts = on_queue(servers=servers, connections=outcome_connections, data=replace(data, close=lambda: None))
    with closing(parts):
        commands = [Create(chat_id=chat_id, activity=activity(name)) for name in "abc"]
        for _ in range(2):
            *taken, refused = parts.activities.apply(commands, call=Call())
            assert not any(isinstance(each, StorageBusy) for each in taken)
            assert refused == StorageBusy()
    assert len(consumer.received) == 4


def test_what_was_sent_leaves_before_the_end(servers: str, consumer: StandIn, chat_id: int) -> None:
    consumer.silent = True
    producer = CommandProducer(servers, limit=20)
    producer.ready(time.monotonic() + 20)
    for number in range(1000):
        create = Create(chat_id=chat_id, activity=activity(f"pill {number}"))
        producer.send(record_of(create, uuid4()), until=time.monotonic() + 20)
    producer.close()
    eventually(lambda: len(consumer.received) == 1000)


def test_it_can_be_closed_at_any_moment(servers: str) -> None:
    for moment in range(10):
        producer = CommandProducer(servers, limit=2)
        time.sleep(moment / 50)
        producer.close()
