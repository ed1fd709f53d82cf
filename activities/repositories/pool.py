"""Connections, each used by one access at a time, and made apart from whoever waits for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)


class Pool(Generic[T]):
    """Keeps at most `most` idle connections, and makes new ones in threads of its own.

    So a caller is never held up longer than it wants by what has no time limit, such as the resolution of a name.
    """

    def __init__(self, make: Callable[[], T], *, most: int) -> None:
        self._make = make
        self._most = most
        self._idle: list[T] = []  # append and pop are atomic
        self._makers = ThreadPoolExecutor(most, thread_name_prefix="connect")

    def take(self, until: float) -> T:
        """A connection, the one used last if any is idle; what making one raises, or `TimeoutError` at `until`.

        `until` is in monotonic seconds. The connection must be given back or closed.
        """
        with suppress(IndexError):
            return self._idle.pop()
        made = self._makers.submit(self._make)
        try:
            return made.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            if not made.cancel():
                made.add_done_callback(self._keep)
            raise

    def fill(self, until: float) -> None:
        """Makes connections until as many are idle as may be; raises as `take` does."""
        made = [self._makers.submit(self._make) for _ in range(self._most - len(self._idle))]
        for each in made:
            each.add_done_callback(self._keep)
        for each in made:
            each.result(max(0.0, until - time.monotonic()))

    def give_back(self, connection: T) -> None:
        if len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Closes what is idle, and makes no more."""
        self._makers.shutdown()
        self.clear()

    def clear(self) -> None:
        """Closes what is idle."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _keep(self, made: Future[T]) -> None:
        """What came too late for the one who asked serves the next."""
        if made.exception() is None:
            self.give_back(made.result())
