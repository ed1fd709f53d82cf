"""Streams whose reader takes nothing are ended: each keeps a place and a thread that others wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 10.0
"""How often it is looked whether readers take what they asked for."""
MOST_LOOKS = 12
"""How often in a row one may have taken nothing. The store is given less time than this for what comes next."""


class _Reader:
    __slots__ = ("cancel", "given", "looks", "seen")

    def __init__(self, cancel: Callable[[], object]) -> None:
        self.cancel = cancel
        self.given = 0
        self.seen = -1
        self.looks = 0


class StalledReaders:
    """Looks after the readers of one server, in a thread that is there while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: set[_Reader] = set()
        self._looking = False

    def watched(self, messages: Iterable[T], cancel: Callable[[], object]) -> Iterator[T]:
        """The same messages; `cancel` is called, from another thread, when nobody takes the next one."""
        reader = _Reader(cancel)
        with self._lock:
            self._readers.add(reader)
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="stalled-readers", daemon=True).start()
        try:
            for message in messages:
                reader.given += 1
                yield message
        finally:
            with self._lock:
                self._readers.discard(reader)

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(LOOK_SECONDS)
            with self._lock:
                readers = list(self._readers)
                self._looking = bool(readers)
            if not readers:
                return
            for reader in readers:
                reader.looks = 0 if reader.given != reader.seen else reader.looks + 1
                reader.seen = reader.given
                if reader.looks == MOST_LOOKS:
                    reader.cancel()
