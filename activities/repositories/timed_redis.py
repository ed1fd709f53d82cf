"""Connections to Redis on which everything that belongs to one question is over within one time.

A time limit of the client's own counts for each wait alone: one question may wait for the log-in, for what the client
tells about itself, and for every piece of every answer.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from redis import ConnectionPool
from redis.connection import Connection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from activities.repositories.pool import Pool

T = TypeVar("T")

SHORTEST_SECONDS = 0.002
"""What any wait may take even when the time is over: that this process was slow is not Redis's fault."""
LONGEST_SECONDS = 2.0
"""What any wait may take outside of `within`."""
CONNECT_SECONDS = 1.0
"""What making a connection may take where nobody waits for it."""


class _Allowed(threading.local):
    until: float = math.inf


_allowed = _Allowed()


@contextmanager
def within(until: float) -> Iterator[None]:
    """While it lasts, what this thread waits for on `TimedConnection`s ends at `until`, in monotonic seconds,
    connecting included."""
    _allowed.until = until
    try:
        yield
    finally:
        _allowed.until = math.inf


class TimedConnection(Connection):
    """A connection that keeps to `within`, and says no more than it must when it is made."""

    def __init__(self, **options: Any) -> None:
        # The second version of the protocol needs one exchange to log in; of the driver, Redis need not know.
        super().__init__(**options | {"protocol": 2, "driver_info": None})  # type: ignore[no-untyped-call]

    def _connect(self) -> socket.socket:
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        plain.settimeout(None)
        return _TimedSocket(fileno=plain.detach())


class _TimedSocket(socket.socket):
    """A socket whose waits are bounded by the kernel.

    A time limit of Python's has it wait and read in two calls, each of which lets go of the interpreter's lock.
    """

    def recv_into(self, *arguments: Any) -> int:
        self._limit(socket.SO_RCVTIMEO)
        try:
            return super().recv_into(*arguments)
        except BlockingIOError:
            raise TimeoutError("Redis did not answer in time") from None

    def sendall(self, *arguments: Any) -> None:
        self._limit(socket.SO_SNDTIMEO)
        try:
            super().sendall(*arguments)
        except BlockingIOError:
            raise TimeoutError("Redis did not listen in time") from None

    def settimeout(self, value: float | None) -> None:
        """What the driver sets is left to `within`, which knows what is left."""

    def _limit(self, option: int) -> None:
        left = min(_allowed.until - time.monotonic(), LONGEST_SECONDS)
        seconds, rest = divmod(max(left, SHORTEST_SECONDS), 1)
        self.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(seconds), int(rest * 1e6)))


class Session:
    """One connection, without what the client's own methods do beside asking. Connects when made."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._connection = pool.connection_class(**pool.connection_kwargs)
        self._connection.connect()
        self.is_fresh = True
        """Whether it has not answered yet."""

    def ask(self, *command: str | bytes | int) -> Any:
        """The answer to one command; raises `redis.exceptions.RedisError` and `OSError`."""
        self._connection.send_command(*command)
        answer = self._connection.read_response()
        self.is_fresh = False
        return answer

    def ask_all(self, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        """The answers to commands that are sent together; raises as `ask` does, when all have been read."""
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        answers = [self._answer() for _ in commands]
        self.is_fresh = False
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    def _answer(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as refused:
            return refused

    def close(self) -> None:
        self._connection.disconnect()


class Sessions:
    """At most `most` idle sessions, for questions that may be asked twice."""

    def __init__(self, connections: Callable[[], ConnectionPool], *, most: int) -> None:
        self._pool = Pool(lambda: _connected(connections()), most=most)

    def fill(self, seconds: float) -> None:
        """Makes the sessions before they are needed; raises what making one raises, and `TimeoutError`."""
        self._pool.fill(time.monotonic() + seconds)

    def ask(self, question: Callable[[Session], T], seconds: float) -> T:
        """The answer to a question, connecting included; raises `redis.exceptions.RedisError` and `OSError`.

        A connection that the other end has closed while it was idle is no answer: it is asked again on a new one.
        """
        until = time.monotonic() + seconds
        with within(until):
            while True:
                session = self._pool.take(until)
                try:
                    answer = question(session)
                except ResponseError:
                    self._pool.give_back(session)
                    raise
                except (RedisError, OSError) as error:
                    session.close()
                    if session.is_fresh or isinstance(error, TimeoutError | RedisTimeoutError):
                        raise
                    self._pool.clear()
                else:
                    self._pool.give_back(session)
                    return answer

    def close(self) -> None:
        self._pool.close()


def _connected(connections: ConnectionPool) -> Session:
    with within(time.monotonic() + CONNECT_SECONDS):
        return Session(connections)
