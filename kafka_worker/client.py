"""`Activities` whose writes go through Kafka. What became of them is told through Redis; reads are delegated."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, cast
from uuid import uuid4

from kafka import KafkaProducer
from kafka.errors import KafkaConnectionError, KafkaError
from kafka.future import Future
from kafka.protocol.producer import ProduceRequest

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityPage,
    Command,
    Create,
    Delete,
    Order,
    Outcome,
    OutcomePending,
    Page,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    Update,
)
from activities.ports import Activities, Call
from kafka_worker.messages import CREATE, DELETE, REQUEST_ID, UPDATE, Record, record_of
from kafka_worker.network import Network, connection
from kafka_worker.outcomes import Expected, Listener, key_of
from kafka_worker.security import OPEN, Security

logger = logging.getLogger(__name__)

MOST_IN_FLIGHT = 1000
"""How many commands of a process wait for their outcomes at once."""
CONNECT_SHARE, LEAVE_SHARE = 0.25, 0.75
"""Of the limit: until then a producer must be there, and the record must have left."""
BOOTSTRAP_SECONDS = 1.0
"""What one try to reach a broker, or to let go of a producer, may take."""
PAUSE_SECONDS = 0.5
"""Between tries."""


class QueuedActivities:
    """`Activities` of the data service behind the queue; `limit` seconds for each write."""

    def __init__(self, *, reads: Activities, producer: CommandProducer, listener: Listener, limit: float) -> None:
        self._reads = reads
        self._producer = producer
        self._listener = listener
        self._limit = limit
        self._in_flight = threading.BoundedSemaphore(MOST_IN_FLIGHT)

    def create(self, chat_id: int, *, activity: Activity, call: Call) -> Activity:
        command = Create(chat_id=chat_id, activity=activity, request_id=call.request_id)
        return cast("Activity", self._done(command, call))

    def update(self, chat_id: int, *, name: str, changes: ActivityChanges, call: Call) -> Activity:
        command = Update(chat_id=chat_id, name=name, changes=changes, request_id=call.request_id)
        return cast("Activity", self._done(command, call))

    def delete(self, chat_id: int, *, name: str, call: Call) -> None:
        self._done(Delete(chat_id=chat_id, name=name, request_id=call.request_id), call)

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        return self._reads.get(chat_id, name=name, call=call)

    def list(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return self._reads.list(chat_id, page=page, call=call)

    def stream(self, chat_id: int, *, order: Order, call: Call) -> Generator[Activity]:
        return self._reads.stream(chat_id, order=order, call=call)

    def today(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return self._reads.today(chat_id, page=page, call=call)

    def apply(self, commands: Sequence[Command], *, call: Call) -> Sequence[Outcome]:
        """Sends all, then waits for all. They are not one transaction, and may be done in any order."""
        with ExitStack() as leaving:
            waits = [self._wait(command, call, leaving) for command in commands]
            self._listener.prepare([each.expected for each in waits if each], until=call.deadline)
            for each in waits:
                if each:
                    each.send(self._producer)
            return [each.outcome() if each else StorageBusy() for each in waits]

    def _done(self, command: Command, call: Call) -> Activity | None:
        (outcome,) = self.apply([command], call=call)
        if isinstance(outcome, ActivitiesError):
            raise outcome
        return outcome

    def _wait(self, command: Command, call: Call, leaving: ExitStack) -> _Wait | None:
        """A wait for the command's outcome, which ends with `leaving`; None where there are too many."""
        if not self._in_flight.acquire(blocking=False):
            return None
        leaving.callback(self._in_flight.release)
        request_id = command.request_id or uuid4()
        expected = self._listener.expect(
            key_of(command.chat_id, request_id), command.fingerprint, is_new=command.request_id is None
        )
        leaving.callback(self._listener.leave, expected)
        call.cancellation.on_cancel(expected.cancel)
        leaving.callback(call.cancellation.forget, expected.cancel)
        pending = OutcomePending(request_id=str(request_id))
        return _Wait(record_of(command, request_id, call.traceparent), expected, pending, call, self._limit)


class _Wait:
    """One command on its way."""

    def __init__(self, record: Record, expected: Expected, pending: OutcomePending, call: Call, limit: float) -> None:
        self.expected = expected
        self._record = record
        self._pending = pending
        self._deadline = min(call.asked_at + limit, call.deadline)
        self._connected_by = min(call.asked_at + CONNECT_SHARE * limit, call.deadline)
        self._left_by = call.asked_at + LEAVE_SHARE * limit
        self._sent: Sent | None = None
        self._failed: ActivitiesError | None = None

    def send(self, producer: CommandProducer) -> None:
        if self.expected.is_over:  # an earlier request under the same id had its final outcome
            return
        if time.monotonic() >= self._deadline:
            self._failed = StorageTimeout()
            return
        try:
            self._sent = producer.send(self._record, until=self._connected_by)
        except StorageUnavailable:
            self._failed = StorageUnavailable()

    def outcome(self) -> Outcome:
        if self._failed is not None:
            return self._failed
        try:
            return self.expected.wait(min(self._left_by, self._deadline))
        except TimeoutError:
            pass
        # Who has less patience than that does not end the others' producer, and its record may still leave.
        if self._sent is not None and self._left_by <= self._deadline and self._sent.withdrawn():
            return StorageUnavailable()
        try:
            return self.expected.wait(self._deadline)
        except TimeoutError:
            return self._pending


class _Gate(Network):
    """A producer's way to the network. Knows which records have not passed yet, and can be shut: then none does.

    The producer itself does not tell whether a record that has failed had left, and may send it thereafter.
    """

    def __init__(self, **options: Any) -> None:
        patience = {"socket_connection_setup_timeout_ms": 1000, "socket_connection_setup_timeout_max_ms": 1000}
        super().__init__(**options | patience)
        self._passing = threading.Lock()
        self._is_shut = False
        self._inside: set[bytes] = set()

    def send(self, node_id: int, request: Any, **options: Any) -> Future:
        if isinstance(request, ProduceRequest):
            with self._passing:
                if self._is_shut:
                    return Future().failure(KafkaConnectionError("this producer has been given up"))
                for topic in request.topic_data:
                    for partition in topic.partition_data:
                        self._inside.difference_update(_MARKS.findall(partition.records))
        return super().send(node_id, request, **options)

    def enter(self, mark: bytes) -> None:
        """Tells of a record before it is given to the producer."""
        with self._passing:
            self._inside.add(mark)

    def shut(self) -> None:
        with self._passing:
            self._is_shut = True

    def shut_in(self, mark: bytes) -> bool:
        """Whether the record has not passed; then nothing does any more."""
        with self._passing:
            if mark not in self._inside:
                return False
            self._is_shut = True
            return True


_MARKS = re.compile(REQUEST_ID.encode() + rb"(?=.(.{36}))", re.DOTALL)
"""The request ids in records as they travel, which are not compressed: a header's value follows its name and length."""


class Sent:
    """A record that was given to a producer."""

    def __init__(self, line: _Line, mark: bytes) -> None:
        self._line = line
        self._mark = mark

    def withdrawn(self) -> bool:
        """Whether the record has not left the process, and never will: what could not leave by now ends its producer.
        False when it may have left."""
        if not self._line.gate.shut_in(self._mark):
            return False
        self._line.give_up("a record could not leave")
        return True


class _Line:
    """One producer of Kafka's, used until anything is wrong with it.

    One that has failed to deliver may be stuck for good (kafka-python 3.0.12 asks for no new producer id after it has
    dropped its own), and is not told from one that will recover: another takes its place.
    """

    def __init__(self, servers: str, security: Security, *, limit: float) -> None:
        """Returns when it can send to all topics of commands; `KafkaError` when it cannot reach a broker."""
        milliseconds = int(LEAVE_SHARE * limit * 1000)
        self.given_up = threading.Event()
        self.reason = ""
        self._gates: list[_Gate] = []
        try:
            self._producer = KafkaProducer(
                **{**connection(servers, security), "kafka_client": self._gate},
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                compression_type=None,  # the gate reads what passes
                request_timeout_ms=milliseconds,
                delivery_timeout_ms=milliseconds,
                max_block_ms=milliseconds // 2,
                bootstrap_timeout_ms=int(BOOTSTRAP_SECONDS * 1000),
                reconnect_backoff_max_ms=int(PAUSE_SECONDS * 1000),
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except BaseException:
            for gate in self._gates:
                gate.close()
            raise
        (self.gate,) = self._gates
        for topic in (CREATE, UPDATE, DELETE):
            try:
                self._producer.partitions_for(topic)
            except KafkaError as error:
                self.end(0)
                raise KafkaError(f"topic {topic}: {error}") from error

    def _gate(self, **options: Any) -> _Gate:
        self._gates.append(_Gate(**options))
        return self._gates[-1]

    def send(self, record: Record) -> Sent:
        mark = dict(record.headers)[REQUEST_ID]
        self.gate.enter(mark)
        try:
            future = self._producer.send(record.topic, record.value, record.key, record.headers)
        except KafkaError as error:
            # All of it happens before the record is among those that are to be sent.
            self.give_up(str(error))
            raise StorageUnavailable from error
        future.add_errback(lambda error: self.give_up(str(error)))
        return Sent(self, mark)

    def ping(self, until: float) -> None:
        """Returns when a broker answers; `StorageUnavailable`."""
        answered = threading.Event()
        asked = self.gate.cluster.request_update()
        asked.add_both(lambda _: answered.set())
        self.gate.wakeup()
        if not answered.wait(max(0.0, until - time.monotonic())) or asked.failed():
            raise StorageUnavailable

    def give_up(self, reason: str) -> None:
        """Nothing is to be sent on it any more. May be called by the producer's own thread."""
        self.gate.shut()
        self.reason = self.reason or reason
        self.given_up.set()

    def end(self, seconds: float) -> None:
        """Waits so long for what is under way, and ends the producer."""
        # Its own `close` waits so long for each batch, and stays open when that was in vain.
        sender = self._producer._sender
        sender.initiate_close()
        sender.join(seconds)
        sender.force_close()
        sender.join(BOOTSTRAP_SECONDS)
        with suppress(KafkaError):
            self._producer.close(0)


class CommandProducer:
    """Sends commands to their topics, through one producer at a time, which a thread makes in the background.

    Brokers may be away when it begins, and come and go: whoever sends meanwhile is told so.
    """

    def __init__(self, servers: str, *, limit: float, security: Security = OPEN) -> None:
        self._servers = servers
        self._security = security
        self._limit = limit
        self._changed = threading.Condition()
        self._line: _Line | None = None
        self._away: str | None = None
        self._told: set[str] = set()
        self._closing = threading.Event()
        self._maker = threading.Thread(target=self._keep_making, name="kafka-connect", daemon=True)
        self._maker.start()

    def send(self, record: Record, *, until: float) -> Sent:
        """Gives a record to the producer. `StorageUnavailable` when there is none until then, in monotonic seconds:
        nothing is sent then, nor later."""
        return self._current(until).send(record)

    def ready(self, until: float) -> None:
        """Returns when a broker answers; `StorageUnavailable`."""
        self._current(until).ping(until)

    def close(self) -> None:
        """Lets leave what is under way, within the time that a record has for that."""
        self._closing.set()
        with self._changed:
            if self._line is not None:
                self._line.given_up.set()
        self._maker.join()

    def _current(self, until: float) -> _Line:
        with self._changed:
            self._changed.wait_for(
                lambda: self._away is not None or (self._line is not None and not self._line.given_up.is_set()),
                timeout=max(0.0, until - time.monotonic()),
            )
            if self._line is None or self._line.given_up.is_set():
                raise StorageUnavailable
            return self._line

    def _keep_making(self) -> None:
        while line := self._made():
            with self._changed:
                self._line = line
                if self._closing.is_set():  # while it was made
                    line.given_up.set()
                self._changed.notify_all()
            line.given_up.wait()
            with self._changed:
                self._line = None
            if self._closing.is_set():
                line.end(LEAVE_SHARE * self._limit)
                return
            logger.warning("commands do not leave (%s); connecting to Kafka anew", line.reason)
            threading.Thread(target=line.end, args=[LEAVE_SHARE * self._limit], name="kafka-end", daemon=True).start()

    def _made(self) -> _Line | None:
        """A producer, as soon as a broker answers; None when none is wanted any more."""
        while not self._closing.is_set():
            try:
                line = _Line(self._servers, self._security, limit=self._limit)
            except Exception as error:  # whatever it is, it may be gone the next time
                self._tell(away=str(error))
                self._closing.wait(PAUSE_SECONDS)
            else:
                self._tell(away=None)
                return line
        return None

    def _tell(self, *, away: str | None) -> None:
        """Logs what is new: why no producer can be made, or that one has been made after all."""
        with self._changed:
            if away is not None and away not in self._told:
                logger.warning("Kafka cannot be used (%s); nothing is written until it can", away)
                self._told.add(away)
            elif self._away is not None and away is None:
                logger.warning("Kafka can be used again")
                self._told.clear()
            self._away = away
            self._changed.notify_all()
