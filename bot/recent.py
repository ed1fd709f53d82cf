"""What is remembered for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most the `most` newest values, each for `lifetime` after it was put there. Thread-safe."""

    def __init__(self, *, most: int, lifetime: timedelta, clock: Callable[[], datetime]) -> None:
        self._most = most
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._values: dict[K, tuple[datetime, V]] = {}

    def put(self, key: K, value: V) -> None:
        with self._lock:
            now = self._clock()
            self._values.pop(key, None)  # so that the oldest are first
            self._values[key] = now + self._lifetime, value
            while len(self._values) > self._most or next(iter(self._values.values()))[0] <= now:
                del self._values[next(iter(self._values))]

    def get(self, key: K) -> V | None:
        return self._live(self._values.get(key))

    def take(self, key: K) -> V | None:
        """The value, which is then gone: of several takers one has it."""
        with self._lock:
            return self._live(self._values.pop(key, None))

    def drop(self, belongs: Callable[[K], bool]) -> None:
        """Forgets every value whose key belongs to what is dropped."""
        with self._lock:
            self._values = {key: value for key, value in self._values.items() if not belongs(key)}

    def _live(self, entry: tuple[datetime, V] | None) -> V | None:
        return entry[1] if entry is not None and self._clock() < entry[0] else None
