"""Connections to Redis on which everything that belongs to one question is over within one time.

A time limit of the client's own counts for each wait alone: one question may wait for the log-in, for what the client
tells about itself, and for every piece of every answer.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.connection import Connection


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


class TimedConnection(Connection):
    """A connection that keeps to `within`, and says no more than it must when it is made."""

    def __init__(self, **options: Any) -> None:
        # The second version of the protocol needs one exchange to log in; of the driver, Redis need not know.
        super().__init__(**options | {"protocol": 2, "driver_info": None})  # type: ignore[no-untyped-call]

    def _connect(self) -> socket.socket:
        plain: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        timed = _TimedSocket(fileno=plain.detach())
        timed.settimeout(self.socket_timeout)
        return timed


class _TimedSocket(socket.socket):
    def recv_into(self, *arguments: Any) -> int:
        with self._hurried():
            return super().recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        with self._hurried():
            super().sendall(*arguments)

    @contextmanager
    def _hurried(self) -> Iterator[None]:
        if _allowed.until == math.inf:
            yield
            return
        usual = self.gettimeout()
        left = max(0.0, _allowed.until - time.monotonic())  # at 0 it takes what is there, and waits no more
        self.settimeout(left if usual is None else min(usual, left))
        try:
            yield
        finally:
            self.settimeout(usual)
