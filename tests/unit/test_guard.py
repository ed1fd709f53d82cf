"""The guard: so many at once, an answer in time, slots that come back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from activities.domain import (
    LATEST_END_FIRST,
    ActivityNotFound,
    ChatChanges,
    Delete,
    Page,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Call, Cancellation, Cancelled
from activities.repositories.guarded import LIMIT, SLOTS, Guard, GuardedRepository
from activities.repositories.memory import MemoryRepository
from tests.examples import NOON

LONG = 30.0
"""Seconds that no passing test waits for."""


class Access:
    """An access that goes on until it is released or its deadline is there, and counts who is inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> str:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        in_time = self.released.wait(max(0.0, call.deadline - time.monotonic()))
        with self._lock:
            self.inside -= 1
        if not in_time:
            raise StorageTimeout
        return "done"


class Noticed(Cancellation):
    """Tells when the guard has put its call in line."""

    def __init__(self) -> None:
        super().__init__()
        self.in_line = threading.Event()

    def on_cancel(self, hook) -> None:
        super().on_cancel(hook)
        self.in_line.set()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def all_of(semaphore: threading.Semaphore, count: int) -> None:
    for _ in range(count):
        assert semaphore.acquire(timeout=LONG)


def timed(guard: Guard, access: Access) -> tuple[type, float]:
    """How one ask ends, and after how many seconds."""
    call = Call()
    try:
        guard.run(access, call)
    except Exception as error:
        return type(error), time.monotonic() - call.asked_at
    return str, time.monotonic() - call.asked_at


@pytest.mark.parametrize("limit", [0.2, LIMIT])
def test_of_eleven_accesses_ten_hang_and_the_eleventh_finds_no_slot(threads, limit):
    guard = Guard(slots=SLOTS, limit=limit)
    access = Access()
    asks = [threads.submit(timed, guard, access) for _ in range(10)]
    all_of(access.entered, 10)
    asks.append(threads.submit(timed, guard, access))
    answers = [ask.result(LONG) for ask in asks]
    assert [kind for kind, _ in answers] == [StorageTimeout] * 10 + [StorageBusy]
    assert all(0.9 * limit <= seconds < limit + 1 for _, seconds in answers)

    assert access.most == 10
    together = threading.Barrier(10)
    again = [threads.submit(guard.run, lambda call: together.wait(LONG), Call()) for _ in range(10)]
    assert sorted(ask.result(LONG) for ask in again) == list(range(10))
    guard.close()


def test_never_are_more_inside_than_there_are_slots(threads):
    guard = Guard(slots=3, limit=LONG)
    access = Access()
    asks = [threads.submit(guard.run, access, Call()) for _ in range(32)]
    all_of(access.entered, 3)
    access.released.set()
    assert [ask.result(LONG) for ask in asks] == ["done"] * 32
    assert access.most == 3


def test_whoever_asked_first_gets_in_first(threads):
    guard = Guard(slots=1, limit=LONG)
    access = Access()
    threads.submit(guard.run, access, Call())
    all_of(access.entered, 1)
    order: list[int] = []
    asks: list[Future[None]] = []
    for number in range(10):
        call = Call(cancellation=(noticed := Noticed()))
        asks.append(threads.submit(guard.run, lambda call, number=number: order.append(number), call))
        assert noticed.in_line.wait(LONG)
    access.released.set()
    for ask in asks:
        ask.result(LONG)
    assert order == list(range(10))


def test_a_slot_that_comes_free_in_time_is_used(threads):
    guard = Guard(slots=1, limit=LONG)
    access = Access()
    threads.submit(guard.run, access, Call())
    all_of(access.entered, 1)
    waiting = threads.submit(guard.run, lambda call: "in", Call(cancellation=(noticed := Noticed())))
    assert noticed.in_line.wait(LONG)
    assert not waiting.done()
    access.released.set()
    assert waiting.result(LONG) == "in"


def test_the_time_runs_from_the_ask_and_the_access_knows_its_end():
    guard = Guard(slots=1, limit=5.0)
    call = Call(asked_at=time.monotonic() - 1)
    assert guard.run(lambda inside: inside.deadline, call) == call.asked_at + 5.0


def test_what_has_waited_too_long_elsewhere_is_not_begun():
    guard = Guard(slots=1, limit=2.0)
    begun: list[Call] = []
    for late in (Call(asked_at=time.monotonic() - 3), Call(deadline=time.monotonic() - 1)):
        with pytest.raises(StorageBusy):
            guard.run(begun.append, late)
    guard.close()
    assert begun == []


def test_a_callers_own_shorter_deadline_counts(threads):
    guard = Guard(slots=1, limit=LONG)
    access = Access()
    call = Call(deadline=time.monotonic() + 0.1)
    with pytest.raises(StorageTimeout):
        guard.run(access, call)
    threads.submit(guard.run, access, Call())
    all_of(access.entered, 2)
    with pytest.raises(StorageBusy):
        guard.run(access, Call(deadline=time.monotonic() + 0.1))
    assert time.monotonic() - call.asked_at < LONG / 2
    access.released.set()
    assert guard.run(lambda inside: inside.deadline, Call(deadline=math.inf)) < time.monotonic() + LONG


def test_whoever_waited_in_vain_takes_nobodys_slot(threads):
    guard = Guard(slots=1, limit=LONG)
    access = Access()
    inside = threads.submit(guard.run, access, Call())
    all_of(access.entered, 1)
    with pytest.raises(StorageBusy):
        guard.run(access, Call(deadline=time.monotonic() + 0.05))
    access.released.set()
    assert inside.result(LONG) == "done"
    assert guard.run(access, Call()) == "done"
    assert access.most == 1


def test_the_access_of_a_caller_who_has_gone_does_not_begin():
    guard = Guard(slots=1, limit=LONG)
    call, begun = Call(), list[Call]()
    call.cancellation.cancel()
    with pytest.raises(Cancelled):
        guard.run(begun.append, call)
    guard.close()
    assert begun == []


def test_a_caller_who_goes_while_waiting_leaves_the_line(threads):
    guard = Guard(slots=1, limit=LONG)
    access = Access()
    threads.submit(guard.run, access, Call())
    all_of(access.entered, 1)
    begun: list[Call] = []
    call = Call(cancellation=(noticed := Noticed()))
    waiting = threads.submit(guard.run, begun.append, call)
    assert noticed.in_line.wait(LONG)
    call.cancellation.cancel()
    with pytest.raises(Cancelled):
        waiting.result(LONG)
    access.released.set()
    assert guard.run(lambda inside: "next", Call()) == "next"
    assert begun == []


def test_an_access_that_is_inside_learns_that_its_caller_has_gone(threads):
    guard = Guard(slots=1, limit=LONG)
    inside = threading.Event()

    def access(call: Call) -> bool:
        gone = threading.Event()
        call.cancellation.on_cancel(gone.set)
        inside.set()
        return gone.wait(LONG)

    call = Call()
    ask = threads.submit(guard.run, access, call)
    assert inside.wait(LONG)
    call.cancellation.cancel()
    assert ask.result(LONG) is True


def test_an_answered_call_keeps_nothing_of_its_access():
    class Counted(Cancellation):
        hooks = 0

        def on_cancel(self, hook):
            self.hooks += 1
            super().on_cancel(hook)

        def forget(self, hook):
            self.hooks -= 1
            super().forget(hook)

    guard = Guard(slots=1, limit=LONG)
    counted = Counted()
    for _ in range(3):
        guard.run(lambda inside: None, Call(cancellation=counted))
    assert counted.hooks == 0


@pytest.mark.parametrize("error", [ActivityNotFound(name="x"), LookupError("a bug"), TimeoutError("a socket's")])
def test_what_an_access_raises_passes_through(error):
    def access(call: Call) -> None:
        raise error

    guard = Guard(slots=1, limit=LONG)
    for _ in range(2):  # and its slot is free again
        with pytest.raises(type(error)) as raised:
            guard.run(access, Call())
        assert raised.value is error


def test_closing_lets_what_is_inside_end_and_nothing_more_in(threads):
    guard = Guard(slots=1, limit=LONG)
    access = Access()
    inside = threads.submit(guard.run, access, Call())
    all_of(access.entered, 1)
    closing = threads.submit(guard.close)
    assert not closing.done()
    access.released.set()
    assert inside.result(LONG) == "done"
    closing.result(LONG)
    with pytest.raises(StorageUnavailable):
        guard.run(access, Call())


@pytest.mark.parametrize(
    "method",
    [
        lambda store, call: store.apply([Delete(chat_id=1, name="x")], now=NOON, call=call),
        lambda store, call: store.get(1, name="x", call=call),
        lambda store, call: store.page(1, page=Page(), call=call),
        lambda store, call: store.batch(1, order=LATEST_END_FIRST, after=None, size=1, call=call),
        lambda store, call: store.today(1, now=NOON, page=Page(), call=call),
        lambda store, call: store.chat(1, call=call),
        lambda store, call: store.update_chat(1, changes=ChatChanges(), call=call),
        lambda store, call: store.revoke_tokens(1, now=NOON, call=call),
        lambda store, call: store.forget(1, now=NOON, call=call),
        lambda store, call: store.move(1, to_chat_id=2, now=NOON, call=call),
        lambda store, call: store.purge(now=NOON, call=call),
        lambda store, call: store.ping(call=call),
    ],
)
def test_every_method_of_a_store_needs_a_slot(threads, method):
    guard = Guard(slots=1, limit=0.05)
    access = Access()
    threads.submit(guard.run, access, Call(asked_at=time.monotonic() + LONG))
    all_of(access.entered, 1)
    with pytest.raises(StorageBusy):
        method(GuardedRepository(MemoryRepository(), guard), Call())
    access.released.set()
