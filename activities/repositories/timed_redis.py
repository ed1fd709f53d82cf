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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis import ConnectionPool, Redis
from redis.connection import Connection

SHORTEST_SECONDS = 0.005
"""What any wait may take even when the time is over."""
LONGEST_SECONDS = 2.0
"""What any wait may take outside of `within`."""


class _Allowed(threading.local):
    until: float = math.inf


_allowed = _Allowed()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """While it lasts, what this thread waits for on `TimedConnection`s ends at that time, connecting included."""
    _allowed.until = time.monotonic() + seconds
    try:
        yield
    finally:
        _allowed.until = math.inf


def client_of_thread(pool: ConnectionPool) -> Callable[[], Redis]:
    """Gives each thread a client with a connection of its own, which need not be fetched and looked at each time."""
    own = threading.local()

    def client() -> Redis:
        try:
            return own.client  # type: ignore[no-any-return]
        except AttributeError:
            made = own.client = Redis(connection_pool=pool, single_connection_client=True)
            return made

    return client


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
    """A socket whose waits are the kernel's own, which costs neither a second call nor the interpreter's lock.

    A time limit of Python's would have it wait and read in two calls, and each lets another thread take the lock.
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
        # Late for want of the interpreter's lock is not Redis's fault: its answer may be there already.
        seconds, rest = divmod(max(left, SHORTEST_SECONDS), 1)
        self.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", int(seconds), int(rest * 1e6)))
