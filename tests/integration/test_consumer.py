"""The consumer on a real broker: what it does with records, good and bad."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from kafka import KafkaAdminClient, KafkaProducer
from redis.exceptions import ConnectionError as RedisConnectionError

from activities.container import Container, on_repository
from activities.domain import (
    LATEST_END_FIRST,
    Activity,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    Command,
    Create,
    Delete,
    InvalidActivity,
    Outcome,
    Page,
    StorageBusy,
    StorageTimeout,
    Update,
)
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from kafka_worker.consumer import REFUSED_OF, Consumer, TooManyRefused
from kafka_worker.dead_letters import DeadLetter, DeadLetters
from kafka_worker.messages import CREATE, DELETE, REQUEST_ID, UPDATE, Position, read, record_of
from kafka_worker.topics import ensure_topics
from proto.activities.v1 import activities_pb2 as pb
from tests.examples import activity
from tests.faults.services import eventually


class Told:
    """Keeps the outcomes that a consumer tells."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[int, UUID, Outcome, str]] = []
        self.error: Exception | None = None

    def tell(self, outcomes: Sequence[tuple[int, UUID, Outcome, str]]) -> None:
        if isinstance(self.error, LookupError):
            error, self.error = self.error, None
            raise error
        if self.error is not None:
            raise self.error
        self.outcomes += outcomes

    def under(self, request_id: UUID) -> list[Outcome]:
        return [outcome for _, known_as, outcome, _ in self.outcomes if known_as == request_id]


class Unsteady:
    """`Activities` whose `apply` does what a test wants before the real one."""

    def __init__(self, inner: Container) -> None:
        self._inner = inner
        self.before: Callable[[Sequence[Command]], None] = lambda commands: None

    def apply(self, commands: Sequence[Command], *, call: Call) -> Sequence[Outcome]:
        self.before(commands)
        return self._inner.activities.apply(commands, call=call)


@pytest.fixture
def servers() -> str:
    ensure_topics(settings.KAFKA_BOOTSTRAP_SERVERS, timeout=20)
    return str(settings.KAFKA_BOOTSTRAP_SERVERS)


@pytest.fixture
def parts() -> Iterator[Container]:
    parts = on_repository(MemoryRepository())
    yield parts
    parts.close()


@pytest.fixture
def unsteady(parts: Container) -> Unsteady:
    return Unsteady(parts)


@pytest.fixture
def told() -> Told:
    return Told()


@contextmanager
def consuming(servers: str, activities: Any, told: Told, **options: Any) -> Iterator[Consumer]:
    with closing(DeadLetters(servers)) as dead_letters:
        consumer = Consumer(servers, activities=activities, outcomes=told, dead_letters=dead_letters, **options)
        stopping = threading.Event()
        thread = threading.Thread(target=consumer.run, args=[stopping])
        thread.start()
        try:
            yield consumer
        finally:
            stopping.set()
            thread.join()


@pytest.fixture
def consumer(servers: str, unsteady: Unsteady, told: Told) -> Iterator[Consumer]:
    with consuming(servers, unsteady, told) as consumer:
        yield consumer


class Sender:
    def __init__(self, servers: str) -> None:
        self._producer = KafkaProducer(bootstrap_servers=servers, acks="all")

    def send(self, command: Command, request_id: UUID | None = None) -> UUID:
        """The id under which the outcome is told."""
        record = record_of(command, request_id or uuid4())
        self.raw(record.topic, command.chat_id, record.value, record.headers)
        return UUID(record.headers[0][1].decode())

    def raw(self, topic: str, chat_id: int, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> Position:
        sent = self._producer.send(topic, key=str(chat_id).encode(), value=value, headers=list(headers))
        taken = sent.get(timeout=20)
        return Position(taken.topic, taken.partition, taken.offset)

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def sender(servers: str) -> Iterator[Sender]:
    with closing(Sender(servers)) as sender:
        yield sender


def answer(told: Told, request_id: UUID, count: int = 1) -> Outcome:
    """The outcome that is told under an id, which is the same however often it is told."""
    eventually(lambda: len(told.under(request_id)) >= count)
    first, *others = told.under(request_id)
    assert all(each == first for each in others)
    return first


def test_commands_are_done_and_their_outcomes_told(consumer, sender, told, parts, chat_id) -> None:
    pill = activity("pill")
    create = sender.send(Create(chat_id=chat_id, activity=pill))
    assert answer(told, create) == pill
    again = sender.send(Create(chat_id=chat_id, activity=pill))
    assert answer(told, again) == ActivityExists(name="pill")
    update = Update(chat_id=chat_id, name="PILL", changes=ActivityChanges(times_per_day=7))
    assert answer(told, sender.send(update)) == activity("pill", times_per_day=7)
    delete = Delete(chat_id=chat_id, name="pill")
    assert answer(told, sender.send(delete)) is None
    assert answer(told, sender.send(delete)) == ActivityNotFound(name="pill")
    prints = {known_as: fingerprint for _, known_as, _, fingerprint in told.outcomes}
    assert prints[create] == Create(chat_id=chat_id, activity=pill).fingerprint


def test_what_comes_again_is_done_once_and_answered_alike(consumer, sender, told, parts, chat_id) -> None:
    request_id = uuid4()
    create = Create(chat_id=chat_id, activity=activity("pill"))
    for count in (1, 2, 3):
        sender.send(create, request_id)
        assert answer(told, request_id, count) == activity("pill")


def test_a_command_that_waits_while_its_chat_is_forgotten_has_no_effect(
    consumer, unsteady, sender, told, parts, chat_id
) -> None:
    waiting = uuid4()

    def forget(commands: Sequence[Command]) -> None:
        if any(each.request_id == waiting for each in commands):
            parts.chats.forget(chat_id, call=Call())

    unsteady.before = forget
    create = Create(chat_id=chat_id, activity=activity("pill"))
    assert answer(told, sender.send(create, waiting)) == ActivityNotFound(name="pill")
    assert answer(told, sender.send(create)) == activity("pill")


@pytest.mark.parametrize("headers", [[], [(REQUEST_ID, b"no uuid")], [(REQUEST_ID, b"\xff")]])
def test_its_position_stands_in_for_a_valid_request_id(consumer, sender, told, chat_id, headers) -> None:
    record = record_of(Create(chat_id=chat_id, activity=activity("pill")), uuid4())
    position = sender.raw(record.topic, chat_id, record.value, headers)
    assert answer(told, position.as_id) == activity("pill")


def test_broken_rules_are_told_and_nothing_is_put_aside(consumer, sender, told, servers, chat_id) -> None:
    request = pb.ActivityCreateRequest(chat_id=chat_id, name=" ", begin_date="2026-02-30")
    position = sender.raw(CREATE, chat_id, request.SerializeToString())
    outcome = answer(told, position.as_id)
    assert isinstance(outcome, InvalidActivity)
    assert set(outcome.by_field) == {"name", "begin_date", "end_date", "times_per_day", "quantity_per_time"}
    assert position not in {letter.position for letter in DeadLetters(servers).all()}


def letter_of(servers: str, position: Position) -> DeadLetter:
    """The dead letter that a record becomes."""
    found: list[DeadLetter] = []

    def is_there() -> bool:
        found[:] = [each for each in DeadLetters(servers).all() if each.position == position]
        return bool(found)

    eventually(is_there)
    (letter,) = found
    return letter


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xff\xff garbage", "ActivityDeleteRequest"),
        (None, "no value"),
        (pb.ActivityDeleteRequest(name="pill").SerializeToString(), "chat_id"),
    ],
)
def test_a_poison_record_between_two_good_ones_is_put_aside_and_blocks_nothing(
    consumer, sender, told, servers, chat_id, value, reason
) -> None:
    delete = Delete(chat_id=chat_id, name="pill")
    before = sender.send(delete)
    position = sender.raw(DELETE, chat_id, value, [("traceparent", b"00-1")])
    after = sender.send(delete)
    assert answer(told, before) == answer(told, after) == ActivityNotFound(name="pill")
    letter = letter_of(servers, position)
    assert reason in letter.reason
    assert (letter.key, letter.value) == (str(chat_id).encode(), value)
    assert letter.headers == [("traceparent", b"00-1")]


def test_a_dead_letter_that_is_sent_back_is_tried_again(consumer, sender, told, servers, chat_id) -> None:
    garbage = b"\xff" + uuid4().bytes
    position = sender.raw(DELETE, chat_id, garbage)
    with closing(DeadLetters(servers)) as letters:
        letters.send_back(letter_of(servers, position))
        eventually(lambda: [each.value for each in letters.all()].count(garbage) == 2)


def test_a_dead_letter_that_is_sent_back_does_not_bring_back_what_was_erased(
    consumer, unsteady, parts, sender, told, servers, chat_id
) -> None:
    """It was accepted when it was sent first, however often it was put aside since."""

    def refuse(commands: Sequence[Command]) -> None:
        if any(each.chat_id == chat_id for each in commands):
            raise ValueError("a fault of ours")

    sent, key = uuid4(), str(chat_id).encode()
    with closing(DeadLetters(servers)) as letters:

        def aside(count: int) -> DeadLetter:
            """The last of so many that the record became."""
            found: list[DeadLetter] = []

            def are_there() -> bool:
                found[:] = [each for each in letters.all() if each.key == key]
                return len(found) == count

            eventually(are_there)
            return found[-1]

        unsteady.before = refuse
        sender.send(Create(chat_id=chat_id, activity=activity()), sent)
        first = aside(1)
        parts.chats.forget(chat_id, call=Call())
        letters.send_back(first)
        second = aside(2)
        assert second.accepted_at == first.accepted_at
        unsteady.before = lambda commands: None
        letters.send_back(second)
        assert answer(told, sent) == ActivityNotFound(name="vitamin C")
        assert parts.activities.list(chat_id, page=Page(), call=Call()).total == 0


def test_headers_that_other_clients_send_without_a_value_stop_nothing(servers, chat_id) -> None:
    """Ours cannot."""
    value, position = pb.ActivityDeleteRequest(chat_id=chat_id, name="pill").SerializeToString(), Position(DELETE, 0, 7)
    headers: list[tuple[str, bytes | None]] = [(REQUEST_ID, None), ("other", None)]
    assert read(position, value, headers, 5).request_id == position.as_id
    reason = str(uuid4())
    with closing(DeadLetters(servers)) as letters:
        letters.put_aside(position, key=None, value=value, headers=headers, timestamp=5, reason=reason)
        (letter,) = [each for each in letters.all() if each.reason == reason]
    assert letter.headers == [(REQUEST_ID, b""), ("other", b"")]


@contextmanager
def topic(servers: str, name: str) -> Iterator[str]:
    with closing(KafkaAdminClient(bootstrap_servers=servers)) as admin:
        admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}})
        try:
            admin.wait_for_topics([name])
            yield name
        finally:
            admin.delete_topics([name])


def test_what_comes_by_a_topic_of_a_newer_release_is_put_aside(servers, unsteady, told, sender, chat_id) -> None:
    with topic(servers, f"activities.new-{uuid4()}") as new, consuming(servers, unsteady, told):
        position = sender.raw(new, chat_id, b"")
        assert new in letter_of(servers, position).reason


def test_when_nearly_everything_is_refused_the_consumer_stops_instead_of_draining(
    servers, unsteady, told, sender, chat_id
) -> None:
    with topic(servers, f"bad-release-{uuid4()}") as bad, closing(DeadLetters(servers)) as letters:
        for _ in range(2 * REFUSED_OF):
            sender.raw(bad, chat_id, b"new")
        consumer = Consumer(
            servers, activities=unsteady, outcomes=told, dead_letters=letters, group=bad, topics=f"^{bad}$"
        )
        with pytest.raises(TooManyRefused, match="bad release"):
            consumer.run(threading.Event())
        assert sum(each.position.topic == bad for each in letters.all()) < REFUSED_OF


def test_fields_of_a_newer_release_are_passed_over_and_absent_ones_kept(consumer, sender, told, chat_id) -> None:
    assert answer(told, sender.send(Create(chat_id=chat_id, activity=activity("pill")))) == activity("pill")
    old = pb.ActivityUpdateRequest(chat_id=chat_id, name="pill", times_per_day=5).SerializeToString()
    new = old + b"\xfa\x3f\x03new"  # field 1023, a text
    position = sender.raw(UPDATE, chat_id, new)
    assert answer(told, position.as_id) == activity("pill", times_per_day=5)


@pytest.mark.parametrize("error", [StorageBusy(), StorageTimeout()])
def test_commands_wait_while_the_store_cannot_be_used(consumer, sender, told, unsteady, chat_id, error) -> None:
    failures = 0

    def fail(commands: Sequence[Command]) -> None:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise error

    unsteady.before = fail
    request_id = sender.send(Create(chat_id=chat_id, activity=activity("pill")))
    assert answer(told, request_id) == activity("pill")
    assert failures == 3


def test_a_consumer_that_does_not_get_on_says_so(consumer, sender, told, unsteady, chat_id) -> None:
    stuck = True

    def fail(commands: Sequence[Command]) -> None:
        if stuck:
            raise StorageTimeout

    unsteady.before = fail
    request_id = sender.send(Create(chat_id=chat_id, activity=activity("pill")))
    eventually(lambda: consumer.stalled_for() > 1)
    stuck = False
    assert answer(told, request_id) == activity("pill")
    eventually(lambda: consumer.stalled_for() < 1)


def test_a_command_that_a_fault_of_ours_breaks_harms_no_neighbour(
    consumer, sender, told, unsteady, servers, chat_id
) -> None:
    bad = f"bad {uuid4()}"

    def fail(commands: Sequence[Command]) -> None:
        if any(isinstance(each, Create) and each.activity.name == bad for each in commands):
            raise LookupError("a bug")

    unsteady.before = fail
    ids = {name: sender.send(Create(chat_id=chat_id, activity=activity(name))) for name in ("one", bad, "two")}
    assert answer(told, ids["one"]) == activity("one")
    assert answer(told, ids["two"]) == activity("two")

    def reasons() -> list[str]:
        return [each.reason for each in DeadLetters(servers).all() if bad.encode() in (each.value or b"")]

    eventually(lambda: reasons() != [])
    assert reasons() == ["it cannot be applied: LookupError"]
    assert not told.under(ids[bad])


def test_without_redis_the_commands_are_done_all_the_same(consumer, sender, told, parts, chat_id, caplog) -> None:
    told.error = RedisConnectionError()
    for number in range(3):
        sender.send(Create(chat_id=chat_id, activity=activity(f"pill {number}")))

    def there() -> Sequence[Activity]:
        return list(parts.activities.stream(chat_id, order=LATEST_END_FIRST, call=Call()))

    eventually(lambda: len(there()) == 3)
    told.error = None
    assert answer(told, sender.send(Delete(chat_id=chat_id, name="pill 0"))) is None
    assert sum("does not take outcomes" in message for message in caplog.messages) == 1


def test_a_fault_outside_of_commands_is_no_end(consumer, sender, told, chat_id) -> None:
    """What was in hand is delivered again."""
    told.error = LookupError("a bug")
    request_id = sender.send(Create(chat_id=chat_id, activity=activity("pill")))
    eventually(lambda: told.error is None)
    assert answer(told, request_id) == activity("pill")


def test_a_chats_commands_of_one_kind_keep_their_order(consumer, sender, told, parts, chat_id) -> None:
    assert answer(told, sender.send(Create(chat_id=chat_id, activity=activity("pill")))) == activity("pill")
    ids = [
        sender.send(Update(chat_id=chat_id, name="pill", changes=ActivityChanges(times_per_day=number)))
        for number in range(1, 60)
    ]
    for number, request_id in enumerate(ids, start=1):
        assert answer(told, request_id) == activity("pill", times_per_day=number)
    assert parts.activities.get(chat_id, name="pill", call=Call()).times_per_day == 59


def test_two_consumers_share_the_work(servers, unsteady, told, consumer, sender, chat_ids) -> None:
    """And what one leaves undone at its end the other does."""
    with consuming(servers, unsteady, told):
        ids = [sender.send(Create(chat_id=each, activity=activity("pill"))) for each in chat_ids * 4]
    ids += [sender.send(Delete(chat_id=each, name="pill")) for each in chat_ids]
    for request_id in ids:
        assert answer(told, request_id) in (activity("pill"), ActivityExists(name="pill"), None)
