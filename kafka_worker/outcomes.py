"""Outcomes of commands through Redis: told by the consumer, awaited by whoever sent the command.

The key of an outcome is also the channel on which it is published: who listens has it at once, and who missed it finds
it under the key.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from google.protobuf.message import DecodeError
from redis import ConnectionPool
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from activities.domain import ActivitiesError, Outcome, RequestIdReused, is_final
from activities.ports import Cancelled
from activities.repositories.timed_redis import Session, reason, within
from activities.wire import outcome_from, outcome_message
from proto.activities.v1 import outcomes_pb2 as pb

logger = logging.getLogger(__name__)

LIFETIME = 60
"""How long an outcome is kept, in seconds."""
TELL_SECONDS = 1.0
"""What telling the outcomes of a batch may take."""
ERASE_SECONDS = 0.5
"""What erasing a chat's outcomes may take."""
READY_SECONDS = 0.1
"""What a wait's being prepared may take: then the command is sent all the same."""
LOOK_SECONDS = 0.1
"""How often keys are looked at, those that have been waited for as long."""
ASK_SECONDS = 0.5
"""What connecting to Redis, or looking, may take, while nobody waits for that alone."""
CONFIRM_SECONDS = 1.0
"""After which a Redis that does not confirm a subscription is taken to be away."""
LONGEST_PAUSE = 1.0
"""Between tries to reach Redis."""

_Command = tuple[str | bytes | int, ...]


def key_of(chat_id: int, request_id: UUID) -> str:
    """Under which an outcome is kept, and the channel on which it is published."""
    return f"activities:result:{chat_id}:{request_id}"


def erase(connections: Callable[[], ConnectionPool], chat_id: int) -> None:
    """Erases a chat's outcomes, as far as Redis answers; what is left dies by itself within `LIFETIME`."""
    redis, until, cursor = _Redis(connections), time.monotonic() + ERASE_SECONDS, b"0"
    try:
        while True:
            scan = ("SCAN", cursor, "MATCH", f"activities:result:{chat_id}:*", "COUNT", 1000)
            ((cursor, keys),) = redis.ask([scan], until=until)
            if keys:
                redis.ask([("UNLINK", *keys)], until=until)
            if cursor == b"0":
                return
    except (RedisError, OSError) as error:
        logger.warning("Redis does not answer (%s); outcomes of a forgotten chat expire", reason(error))
    finally:
        redis.close()


class Outcomes:
    """The consumer's end. For one thread at a time."""

    def __init__(self, connections: Callable[[], ConnectionPool]) -> None:
        self._redis = _Redis(connections)

    def tell(self, outcomes: Sequence[tuple[int, UUID, Outcome, str]]) -> None:
        """Tells each outcome: of this chat, under this request id, of the command with this fingerprint, which is
        empty where the command could not be read.

        Over within `TELL_SECONDS`. Raises `RedisError` and `OSError`; what may have been told may be told again.
        """
        commands: list[_Command] = []
        for chat_id, request_id, outcome, fingerprint in outcomes:
            key, value = key_of(chat_id, request_id), outcome_message(outcome, fingerprint).SerializeToString()
            # Who has no right to the id leaves what its owner was told.
            given_way = ("NX",) if isinstance(outcome, RequestIdReused) or not fingerprint else ()
            commands += [("SET", key, value, "EX", LIFETIME, *given_way), ("PUBLISH", key, value)]
        if commands:
            self._redis.ask(commands, until=time.monotonic() + TELL_SECONDS)

    def close(self) -> None:
        self._redis.close()


class _Redis:
    """One connection, made when something is asked. For one thread at a time."""

    def __init__(self, connections: Callable[[], ConnectionPool]) -> None:
        self._connections = connections
        self._session: Session | None = None

    def ask(self, commands: Sequence[_Command], *, until: float) -> list[Any]:
        """The answers to commands that may be sent twice; raises `RedisError` and `OSError`. A connection that the
        other end has closed while it was idle is no answer: they are sent again on a new one."""
        with within(until):
            while True:
                session = self._session or Session(self._connections())
                self._session = session
                try:
                    return session.ask_all(commands)
                except ResponseError:
                    raise
                except (RedisError, OSError) as error:
                    self.close()
                    if session.is_fresh or isinstance(error, TimeoutError | RedisTimeoutError):
                        raise

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


@dataclass(slots=True, eq=False)
class _Channel:
    """What is published under one key."""

    confirmed: threading.Event = field(default_factory=threading.Event)
    """Redis has our subscription."""
    expected: list[Expected] = field(default_factory=list)


class Expected:
    """Somebody's wait for the outcome of one command."""

    def __init__(self, key: str, fingerprint: str, confirmed: threading.Event, *, is_new: bool) -> None:
        self.key = key
        self.since = time.monotonic()
        self._fingerprint = fingerprint
        self._confirmed = confirmed
        self._looked = threading.Event()
        self._end: Future[Outcome] = Future()
        if is_new:
            self._looked.set()

    @property
    def was_looked_for(self) -> bool:
        """Whether it is known that nothing is under the key which an earlier request left."""
        return self._looked.is_set()

    @property
    def is_over(self) -> bool:
        return self._end.done()

    def prepared(self, until: float) -> None:
        """Returns when nothing that is told from now on can be missed; at `until`, in monotonic seconds, anyway."""
        for event in (self._confirmed, self._looked):
            event.wait(max(0.0, until - time.monotonic()))

    def wait(self, until: float) -> Outcome:
        """The outcome; `TimeoutError` when there is none until then, in monotonic seconds; `Cancelled`."""
        try:
            return self._end.result(max(0.0, until - time.monotonic()))
        except CancelledError:
            raise Cancelled from None

    def cancel(self) -> None:
        self._end.cancel()

    def hear(self, message: pb.Outcome) -> None:
        """Takes what was published. That of another request under this id is for another ear.

        When the same request was sent before and is still under way, its refusal may be taken for the end of this one,
        which may then end otherwise: they cannot be told apart, and who repeats it gets its true end.
        """
        if self._is_own(message):
            self._take(outcome_from(message))

    def see(self, message: pb.Outcome) -> None:
        """Takes what is under the key while it is waited for."""
        outcome = outcome_from(message)
        if not is_final(outcome):
            # Left by an earlier request perhaps, when that could not be looked for: this one's may end otherwise.
            if self._is_own(message) and self.was_looked_for:
                self._take(outcome)
        elif self._is_own(message):
            self._take(outcome)
        else:  # Only the first of the requests under an id has a final outcome.
            self._take(RequestIdReused())

    def look_back(self, message: pb.Outcome | None) -> bool:
        """Takes what was under the key before anything was sent, if it is the end of the matter; whether it has to
        go since it is not."""
        if message is not None:
            self.see(message)
        self._looked.set()
        return message is not None and not self.is_over and self._is_own(message)

    def _is_own(self, message: pb.Outcome) -> bool:
        return message.fingerprint in ("", self._fingerprint)

    def _take(self, outcome: Outcome) -> None:
        with suppress(InvalidStateError):  # it came twice, or too late
            self._end.set_result(outcome)


class Listener:
    """The asking end: all waits of a process, on two connections to Redis.

    On one a thread listens. On the other a second one looks at the keys of what is waited for, so that a notification
    that is lost costs a moment. While Redis is away waits go on; they end when it comes back in time.
    """

    def __init__(self, connections: Callable[[], ConnectionPool]) -> None:
        self._connections = connections
        self._redis = _Redis(connections)
        self._lock = threading.Lock()  # guards what follows, and what is sent on the connection that is listened on
        self._channels: dict[str, _Channel] = {}
        self._connection: Any = None  # the driver's methods have no types
        self._away = False
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._look_now = threading.Event()
        self._garbage = False

    def expect(self, key: str, fingerprint: str, *, is_new: bool) -> Expected:
        """Begins a wait for the outcome under this key of the command with this fingerprint. `is_new` says that the
        request id cannot have been used before. To be given to `leave`."""
        with self._lock:
            self._start()
            channel = self._channels.get(key)
            if channel is None:
                channel = self._channels[key] = _Channel()
                self._send("SUBSCRIBE", key)
            expected = Expected(key, fingerprint, channel.confirmed, is_new=is_new)
            channel.expected.append(expected)
        if not is_new:
            self._look_now.set()
        return expected

    def prepare(self, expected: Iterable[Expected], until: float) -> None:
        """Returns when nothing can be missed that is told from now on; soon, whatever Redis does."""
        until = min(until, time.monotonic() + READY_SECONDS)
        for each in expected:
            if self._away:
                return
            each.prepared(until)

    def leave(self, expected: Expected) -> None:
        """Ends a wait."""
        with self._lock:
            self._channels[expected.key].expected.remove(expected)

    def close(self) -> None:
        self._closing.set()
        self._look_now.set()
        with self._lock:
            if self._connection is not None:
                self._connection.disconnect()  # which wakes the one who listens
        for each in self._threads:
            each.join()

    def _start(self) -> None:
        if not self._threads and not self._closing.is_set():
            for name, run in (("outcomes-listen", self._listen), ("outcomes-look", self._look)):
                self._threads.append(threading.Thread(target=run, name=name, daemon=True))
                self._threads[-1].start()

    # --------------------------------------------------------------------------------- listening

    def _listen(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            try:
                connection = self._connect()
                pause = 0.0
                self._hear_all(connection)
            except (RedisError, OSError) as error:
                pause = min(LONGEST_PAUSE, max(0.1, 2 * pause))
                if not self._closing.is_set():
                    self._lost(error)

    def _connect(self) -> Any:
        """A connection that subscribes to all that is waited for."""
        pool = self._connections()
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            with within(time.monotonic() + ASK_SECONDS):
                connection.connect()
                connection.send_command("PING")  # a Redis that is paused takes connections
                connection.read_response()
                with self._lock:
                    self._connection = connection
                    self._forget_channels()
                    if self._channels:
                        self._send("SUBSCRIBE", *self._channels)
                    if self._away:
                        logger.warning("Redis answers again; outcomes are heard")
                    self._away = False
        except (RedisError, OSError):
            connection.disconnect()
            raise
        return connection

    def _hear_all(self, connection: Any) -> None:
        """Takes what Redis says on this connection, until it is lost."""
        while True:
            try:
                with within(time.monotonic() + ASK_SECONDS):
                    kind, name, content = connection.read_response(disconnect_on_error=False)
            except (RedisTimeoutError, TimeoutError):
                self._check()
                continue
            with self._lock:
                channel = self._channels.get(name.decode())
                expected = [] if channel is None else [*channel.expected]
                if channel is not None and kind == b"subscribe":
                    channel.confirmed.set()
            if kind == b"message":
                message = self._read(content)
                for each in expected:
                    if message is not None:
                        each.hear(message)

    def _check(self) -> None:
        """Raises `TimeoutError` when Redis owes us the confirmation of a subscription."""
        before = time.monotonic() - CONFIRM_SECONDS
        with self._lock:
            for channel in self._channels.values():
                if not channel.confirmed.is_set() and any(each.since < before for each in channel.expected):
                    raise TimeoutError("Redis does not confirm a subscription")

    def _lost(self, error: Exception) -> None:
        with self._lock:
            if not self._away:
                logger.warning("Redis does not answer (%s); outcomes come late or not at all", reason(error))
            self._away = True
            if self._connection is not None:
                self._connection.disconnect()
                self._connection = None
            for channel in self._channels.values():
                channel.confirmed.clear()

    def _send(self, *command: str) -> None:
        """Sends what is answered on the connection that is listened on, if there is one."""
        if self._connection is None:
            return
        try:
            with within(time.monotonic() + READY_SECONDS):
                self._connection.send_command(*command)
        except (RedisError, OSError):
            # The one who listens learns it as well. A connection that is not in use is not sent on: it would connect.
            self._connection = None

    def _forget_channels(self) -> list[str]:
        """Those that nobody waits on any more."""
        idle = [key for key, channel in self._channels.items() if not channel.expected]
        for key in idle:
            del self._channels[key]
        return idle

    # ----------------------------------------------------------------------------------- looking

    def _look(self) -> None:
        while not self._closing.is_set():
            self._look_now.wait(LOOK_SECONDS)
            self._look_now.clear()
            with self._lock:
                idle = self._forget_channels()
                if idle:
                    self._send("UNSUBSCRIBE", *idle)
                before = time.monotonic() - LOOK_SECONDS
                waits = [
                    each
                    for channel in self._channels.values()
                    for each in channel.expected
                    if each.since < before or not each.was_looked_for
                ]
            if waits:
                with suppress(RedisError, OSError):  # the one who listens tells of it; they are looked at again
                    self._look_at(waits)
        self._redis.close()

    def _look_at(self, waits: Sequence[Expected]) -> None:
        until = time.monotonic() + ASK_SECONDS
        keys = list(dict.fromkeys(each.key for each in waits))
        (values,) = self._redis.ask([("MGET", *keys)], until=until)
        found = {key: self._read(value) for key, value in zip(keys, values, strict=True)}
        stale: list[str] = []
        for each in waits:
            message = found[each.key]
            if not each.was_looked_for:
                if each.look_back(message):
                    stale.append(each.key)
            elif message is not None:
                each.see(message)
        if stale:
            self._redis.ask([("DEL", *stale)], until=until)

    def _read(self, value: bytes | None) -> pb.Outcome | None:
        """An outcome; None for none, and for anything else that somebody has put there."""
        if value is None:
            return None
        try:
            message = pb.Outcome.FromString(value)
            outcome_from(message)
        except (DecodeError, ActivitiesError, ArithmeticError, TypeError, ValueError) as wrong:
            if not self._garbage:
                logger.warning("something that is no outcome is ignored (%s); so will others be", type(wrong).__name__)
            self._garbage = True
            return None
        return message
