"""The guard around a store: at most so many accesses at once, an answer within so many seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
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
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Call, Cancelled, Repository

T = TypeVar("T")

SLOTS = 10
LIMIT = 2.0


class Guard:
    """Lets at most `slots` accesses into a store at once, and answers each caller within `limit` seconds.

    A slot is a thread: an access that runs over its limit keeps it until it has really ended, while its caller is
    answered in time. Whoever finds no free slot waits for one in order of asking.
    """

    def __init__(self, *, slots: int = SLOTS, limit: float = LIMIT) -> None:
        self.slots = slots
        self.limit = limit
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="storage")

    def run(self, access: Callable[[Call], T], call: Call) -> T:
        """The access's result. `access` is given the call with the deadline that it must keep.

        Raises `StorageBusy` when no slot came free in time, `StorageTimeout` when the access did not finish in
        time, `Cancelled` when the caller had gone before the access began, `StorageUnavailable` after `close`.
        """
        if call.cancellation.happened:
            raise Cancelled
        deadline = min(call.asked_at + self.limit, call.deadline)
        if deadline <= time.monotonic():
            raise StorageBusy  # it waited too long before it came here; what nobody waits for is not begun
        try:
            future: Future[T] = self._threads.submit(access, replace(call, deadline=deadline))
        except RuntimeError:  # what an executor that is shut down says
            raise StorageUnavailable from None
        call.cancellation.on_cancel(future.cancel)
        try:
            return future.result(timeout=max(0.0, deadline - time.monotonic()))
        except CancelledError:
            raise Cancelled from None
        except TimeoutError:
            if future.cancel():
                raise StorageBusy from None
            if future.done():  # it ended between the two lines above, or timed out by itself
                return future.result()
            raise StorageTimeout from None
        finally:
            call.cancellation.forget(future.cancel)

    def close(self) -> None:
        """Lets the accesses that are inside end."""
        self._threads.shutdown()


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

    def ping(self, *, call: Call) -> None:
        self._guard.run(lambda inside: self._inner.ping(call=inside), call)

    def close(self) -> None:
        """Lets the accesses that are inside end, then closes the store."""
        self._guard.close()
        self._inner.close()
