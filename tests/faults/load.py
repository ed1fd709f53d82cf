"""Callers who use the product without rest and check each of its answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID, uuid4

from activities.domain import (
    Activity,
    ActivityChanges,
    OutcomePending,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Activities, Call
from tests.examples import activity
from tests.faults.services import SECONDS

T = TypeVar("T")

ALLOWED = (StorageUnavailable, StorageTimeout, StorageBusy, OutcomePending)
"""What a caller may be told instead of its answer while a server is away."""


class Caller:
    """The only one who writes to its chat, so that it knows what each answer has to be.

    A write that was not answered is repeated with its request id until it is. `kept` are those that it leaves there.
    """

    def __init__(self, activities: Activities, chat_id: int, *, patience: float) -> None:
        self._activities = activities
        self._patience = patience
        self.chat_id = chat_id
        self.answered = 0
        self.refused = 0
        self.slowest = 0.0
        self.kept: set[str] = set()

    def round(self, number: int) -> None:
        kept, fresh = activity(f"pill {number}"), activity("pill", times_per_day=number % 100 + 1)
        for wanted in (kept, fresh):
            assert wanted == self._until_answered(
                lambda call, wanted=wanted: self._activities.create(  # type: ignore[misc]
                    self.chat_id, activity=wanted, call=call
                )
            )
        self.kept.add(kept.name)
        for times in range(1, 4):
            changes = ActivityChanges(times_per_day=times)
            expected = changes.applied_to(fresh)
            assert expected == self._until_answered(
                lambda call, changes=changes: self._activities.update(  # type: ignore[misc]
                    self.chat_id, name="pill", changes=changes, call=call
                )
            )
            for _ in range(2):
                assert self._until_answered(self._get) == expected
        self._until_answered(lambda call: self._activities.delete(self.chat_id, name="pill", call=call))

    def _get(self, call: Call) -> Activity:
        return self._activities.get(self.chat_id, name="pill", call=call)

    def _until_answered(self, ask: Callable[[Call], T]) -> T:
        request_id: UUID = uuid4()
        end = time.monotonic() + self._patience
        while True:
            began = time.monotonic()
            try:
                answer = ask(Call(request_id=request_id))
            except ALLOWED:
                self.refused += 1
                assert time.monotonic() < end, "the product does not recover"
            else:
                self.answered += 1
                return answer
            finally:
                self.slowest = max(self.slowest, time.monotonic() - began)


class Load:
    """Some callers at work."""

    def __init__(self, callers: list[Caller]) -> None:
        self.callers = callers
        self.wrong: list[BaseException] = []

    def answers(self) -> int:
        """How many the callers have by now; fails when one was wrong."""
        if self.wrong:
            raise self.wrong[0]
        return sum(each.answered for each in self.callers)

    def have(self, count: int) -> bool:
        """Whether the callers have so many answers by now."""
        return self.answers() >= count

    @property
    def refusals(self) -> int:
        return sum(each.refused for each in self.callers)

    def everyone_has_more(self) -> Callable[[], bool]:
        """Whether each caller has been answered some times since now."""
        before = [each.answered for each in self.callers]

        def they_have() -> bool:
            self.answers()
            return all(each.answered > number + 3 for each, number in zip(self.callers, before, strict=True))

        return they_have


@contextmanager
def load(activities: Activities, first_chat: int, *, callers: int = 4, patience: float = SECONDS) -> Iterator[Load]:
    """Callers until the block ends; fails when one of their answers was wrong."""
    at_work = Load([Caller(activities, first_chat * 100 + number, patience=patience) for number in range(callers)])
    stopping = threading.Event()

    def work(caller: Caller) -> None:
        number = 0
        try:
            while not stopping.is_set():
                number += 1
                caller.round(number)
        except Exception as wrong:
            at_work.wrong.append(wrong)

    threads = [threading.Thread(target=work, args=[each]) for each in at_work.callers]
    for each in threads:
        each.start()
    try:
        yield at_work
    finally:
        stopping.set()
        for each in threads:
            each.join()
    at_work.answers()
