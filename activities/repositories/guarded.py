"""The guard around a store: at most so many accesses at once, an answer within so many seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from activities.domain import (
    Activity,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Order,
    Outcome,
    Page,
    StorageBusy,
    StorageUnavailable,
)
from activities.ports import Call, Cancelled, Repository

T = TypeVar("T")

SLOTS = 10
LIMIT = 2.0
ACCESS_SHARE = 0.1
"""The part of a caller's time that must be left for the access itself: with less, none is begun."""


class _Place:
    """In the line of those who wait for a slot."""

    __slots__ = ("_called", "has_slot")

    def __init__(self) -> None:
        self._called = threading.Event()
        self.has_slot = False

    def wait(self, until: float) -> None:
        self._called.wait(max(0.0, until - time.monotonic()))

    def call(self) -> None:
        self._called.set()


class Guard:
    """Lets at most `slots` accesses into a store at once, each with `limit` seconds from the ask on.

    Whoever finds no free slot waits for one in order of asking. An access runs in its caller's thread, since handing
    it to another one costs more than most accesses do: it is the store that keeps the deadline which it is given.
    """

    def __init__(self, *, slots: int = SLOTS, limit: float = LIMIT) -> None:
        self.slots = slots
        self.limit = limit
        self._changed = threading.Condition()
        self._free = slots
        self._line: deque[_Place] = deque()
        self._closed = False

    def run(self, access: Callable[[Call], T], call: Call) -> T:
        """The access's result. `access` is given the call with the deadline that it must keep.

        Raises `StorageBusy` when no slot came free in time, `Cancelled` when the caller had gone before the access
        began, `StorageUnavailable` after `close`.
        """
        if call.cancellation.happened:
            raise Cancelled
        deadline = min(call.asked_at + self.limit, call.deadline)
        if deadline <= time.monotonic():
            raise StorageBusy  # it waited too long before it came here; what nobody waits for is not begun
        self._enter(call, deadline)
        try:
            return access(Call(call.asked_at, deadline, call.request_id, call.cancellation))
        finally:
            self._leave()

    def close(self) -> None:
        """Lets the accesses that are inside or in the line end."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._free == self.slots)

    def _enter(self, call: Call, deadline: float) -> None:
        with self._changed:
            if self._closed:
                raise StorageUnavailable
            if self._free:  # then nobody is in the line
                self._free -= 1
                return
            place = _Place()
            self._line.append(place)
        call.cancellation.on_cancel(place.call)
        try:
            place.wait(deadline - ACCESS_SHARE * (deadline - call.asked_at))
        finally:
            call.cancellation.forget(place.call)
            with self._changed:
                if not place.has_slot:
                    self._line.remove(place)
        if call.cancellation.happened:
            if place.has_slot:
                self._leave()
            raise Cancelled
        if not place.has_slot:
            raise StorageBusy

    def _leave(self) -> None:
        """Gives the slot to the first in the line."""
        with self._changed:
            if self._line:
                place = self._line.popleft()
                place.has_slot = True
                place.call()
                return
            self._free += 1
            if self._closed:
                self._changed.notify_all()


class GuardedRepository:
    """A repository behind a guard: each method is one access."""

    def __init__(self, repository: Repository, guard: Guard) -> None:
        self._inner = repository
        self._guard = guard

    def apply(self, commands: Sequence[Command], *, now: datetime, call: Call) -> Sequence[Outcome]:
        return self._guard.run(lambda inside: self._inner.apply(commands, now=now, call=inside), call)

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        return self._guard.run(lambda inside: self._inner.get(chat_id, name=name, call=inside), call)

    def page(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return self._guard.run(lambda inside: self._inner.page(chat_id, page=page, call=inside), call)

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        return self._guard.run(
            lambda inside: self._inner.batch(chat_id, order=order, after=after, size=size, call=inside), call
        )

    def today(self, chat_id: int, *, now: datetime, page: Page, call: Call) -> ActivityPage:
        return self._guard.run(lambda inside: self._inner.today(chat_id, now=now, page=page, call=inside), call)

    def chat(self, chat_id: int, *, call: Call) -> Chat:
        return self._guard.run(lambda inside: self._inner.chat(chat_id, call=inside), call)

    def update_chat(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat:
        return self._guard.run(lambda inside: self._inner.update_chat(chat_id, changes=changes, call=inside), call)

    def revoke_tokens(self, chat_id: int, *, now: datetime, call: Call) -> Chat:
        return self._guard.run(lambda inside: self._inner.revoke_tokens(chat_id, now=now, call=inside), call)

    def forget(self, chat_id: int, *, now: datetime, call: Call) -> Sequence[str]:
        return self._guard.run(lambda inside: self._inner.forget(chat_id, now=now, call=inside), call)

    def move(self, chat_id: int, *, to_chat_id: int, now: datetime, call: Call) -> tuple[Chat, Sequence[str]]:
        return self._guard.run(
            lambda inside: self._inner.move(chat_id, to_chat_id=to_chat_id, now=now, call=inside), call
        )

    def purge(self, *, now: datetime, call: Call) -> bool:
        return self._guard.run(lambda inside: self._inner.purge(now=now, call=inside), call)

    def ping(self, *, call: Call) -> None:
        self._guard.run(lambda inside: self._inner.ping(call=inside), call)

    def close(self) -> None:
        """Lets the accesses that are inside end, then closes the store."""
        self._guard.close()
        self._inner.close()
