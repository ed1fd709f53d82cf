"""How many streams a process serves at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from activities.domain import StorageBusy


class StreamSlots:
    """Places for streams. Each keeps a handler thread for as long as its reader likes, so there are fewer places
    than threads: the other calls always find one."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """A place; `StorageBusy` when there is none."""
        if not self._free.acquire(blocking=False):
            raise StorageBusy
        try:
            yield
        finally:
            self._free.release()
