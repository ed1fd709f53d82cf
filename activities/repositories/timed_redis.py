"""Connections to Redis on which everything that belongs to one question is over within one time.

A time limit of the client's own counts for each wait alone: one question may wait for the log-in, for what the client
tells about itself, and for every piece of every answer.
"""

from __future__ import annotations

import math
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from redis import ConnectionPool
from redis.connection import Connection
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
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


def connections_to(url: str, *, tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    """What makes a `ConnectionPool` of timed connections. `rediss` is TLS, by `tls` or by the system's CAs.

    The driver takes the class that it is given for either scheme: one that speaks plain text where TLS was asked for.
    """
    if url.startswith("rediss:"):
        return {"connection_class": TimedTlsConnection, "tls": tls or ssl.create_default_context()}
    return {"connection_class": TimedConnection}


class TimedConnection(Connection):
    """A connection that keeps to `within`, and says no more than it must when it is made."""

    def __init__(self, **options: Any) -> None:
        # The second version of the protocol needs one exchange to log in; of the driver, Redis need not know.
        super().__init__(**options | {"protocol": 2, "driver_info": None})  # type: ignore[no-untyped-call]

    def _connect(self) -> socket.socket:
        return _TimedSocket(fileno=self._connected())

    def _connected(self) -> int:
        """The descriptor of a socket that waits without end."""
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        plain.settimeout(None)
        return plain.detach()


class TimedTlsConnection(TimedConnection):
    """The same over TLS. Raises `ssl.SSLError`, within redis-py's `ConnectionError`, for whom it does not trust."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connect(self) -> socket.socket:
        return _TimedTlsSocket(self._connected(), self._tls, self.host)


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


class _TimedTlsSocket(_TimedSocket):
    """The same, with TLS between the caller and the kernel.

    `ssl`'s own sockets have no limit for what several pieces make up, and may not be read and written by two threads
    at once, as the connection that outcomes are heard on is.
    """

    def __init__(self, descriptor: int, context: ssl.SSLContext, host: str) -> None:
        super().__init__(fileno=descriptor)
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._piece = bytearray(65536)
        self._turn = threading.Lock()  # guards the state of TLS, and the order in which its records leave
        try:
            self._tls = context.wrap_bio(self._received, self._to_send, server_hostname=host)
            self._until_done(self._tls.do_handshake)
        except BaseException:
            self.close()
            raise

    def recv_into(self, buffer: Any, *_: Any) -> int:
        try:
            return self._until_done(lambda: cast(int, self._tls.read(len(buffer), buffer)))  # a number, with a buffer
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # the protocol itself tells where an answer ends
            return 0

    def sendall(self, data: Any, *_: Any) -> None:
        with self._turn:
            self._tls.write(data)
            self._flush()

    def _until_done(self, step: Callable[[], T]) -> T:
        """What `step` returns when enough has been received for it."""
        while True:
            with self._turn:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    pass
                finally:  # also of what has failed: the other end is told why
                    self._flush()
            size = super().recv_into(self._piece)
            with self._turn:
                if size:
                    self._received.write(memoryview(self._piece)[:size])
                else:
                    self._received.write_eof()

    def _flush(self) -> None:
        if self._to_send.pending:
            super().sendall(self._to_send.read())


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


def reason(error: BaseException) -> str:
    """Why Redis cannot be used, for the log: without what it or the driver quotes, which may be names or secrets."""
    known: BaseException | None = error
    while known is not None:
        match known:
            case ssl.SSLCertVerificationError():
                return f"its certificate is refused: {known.verify_message}"
            case ssl.SSLError():
                return f"no TLS: {known.reason}"
            case AuthenticationError():
                return "it refuses user and password"
            case NoPermissionError():
                return "it does not allow this user what is needed"
        known = known.__cause__ or known.__context__
    return type(error).__name__
