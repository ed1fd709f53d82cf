"""The store of `--local`: in memory, thread-safe, with the promises of the real one while the process lives."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityExists,
    ActivityNotFound,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Create,
    Order,
    Outcome,
    Page,
    RequestIdReused,
    TooManyActivities,
    Update,
    name_key,
)
from activities.ports import RECORD_LIFETIME, Call


@dataclass(slots=True)
class _Shelf:
    """The activities of one chat by name key, and the orders in which they were asked for since the last change."""

    by_key: dict[str, Activity] = field(default_factory=dict)
    _sorted: dict[Order, list[Activity]] = field(default_factory=dict)

    def put(self, activity: Activity) -> None:
        self.by_key[activity.key] = activity
        self._sorted.clear()

    def drop(self, key: str) -> None:
        del self.by_key[key]
        self._sorted.clear()

    def sorted(self, order: Order) -> list[Activity]:
        if order not in self._sorted:
            self._sorted[order] = sorted(self.by_key.values(), key=order.sort_key)
        return self._sorted[order]


@dataclass(frozen=True, slots=True)
class _Record:
    """What a request id was used for, and the answer."""

    fingerprint: str
    outcome: Outcome
    made_at: datetime

    @property
    def answer(self) -> Outcome:
        """The outcome once more. An error is made anew: one that was raised holds on to the frames it went through."""
        if isinstance(self.outcome, ActivitiesError):
            return type(self.outcome)(**self.outcome.details)
        return self.outcome


class MemoryRepository:
    """Activities and chats in this process. One lock makes each access atomic."""

    def __init__(self, *, max_activities: int = 10_000) -> None:
        self._max_activities = max_activities
        self._lock = threading.Lock()
        self._shelves: dict[int, _Shelf] = {}
        self._chats: dict[int, Chat] = {}
        self._records: OrderedDict[tuple[int, UUID], _Record] = OrderedDict()

    def apply(self, commands: Sequence[Command], *, now: datetime, call: Call) -> Sequence[Outcome]:
        with self._lock:
            self._drop_old_records(now)
            return [self._apply_once(command, now) for command in commands]

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        with self._lock:
            return self._find(chat_id, name)

    def page(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        with self._lock:
            return _cut(self._shelf(chat_id).sorted(page.order), page)

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        with self._lock:
            ordered = self._shelf(chat_id).sorted(order)
            start = 0 if after is None else bisect_right(ordered, order.sort_key(after), key=order.sort_key)
            return ordered[start : start + size]

    def today(self, chat_id: int, *, now: datetime, page: Page, call: Call) -> ActivityPage:
        with self._lock:
            today = self._chat(chat_id).date_at(now)
            ordered = self._shelf(chat_id).sorted(page.order)
            return _cut([activity for activity in ordered if activity.is_active_on(today)], page)

    def chat(self, chat_id: int, *, call: Call) -> Chat:
        with self._lock:
            return self._chat(chat_id)

    def update_chat(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat:
        with self._lock:
            self._chats[chat_id] = changes.applied_to(self._chat(chat_id))
            return self._chats[chat_id]

    def ping(self, *, call: Call) -> None:
        with self._lock:
            return

    def close(self) -> None:
        """There is nothing to give back."""

    # What follows runs inside the lock.

    def _apply_once(self, command: Command, now: datetime) -> Outcome:
        """The effect and its record, or the record of the first time."""
        if command.request_id is None:
            return self._outcome(command)
        position = (command.chat_id, command.request_id)
        record = self._records.get(position)
        if record is not None:
            return record.answer if record.fingerprint == command.fingerprint else RequestIdReused()
        outcome = self._outcome(command)
        if not _is_final(outcome):
            return outcome
        record = self._records[position] = _Record(command.fingerprint, outcome, now)
        return record.answer

    def _outcome(self, command: Command) -> Outcome:
        try:
            return self._effect(command)
        except ActivitiesError as error:
            return error.with_traceback(None)

    def _effect(self, command: Command) -> Activity | None:
        if isinstance(command, Create):
            shelf = self._shelves.setdefault(command.chat_id, _Shelf())
            existing = shelf.by_key.get(command.activity.key)
            if existing is not None:
                raise ActivityExists(name=existing.name)
            if len(shelf.by_key) >= self._max_activities:
                raise TooManyActivities(limit=str(self._max_activities))
            shelf.put(command.activity)
            return command.activity
        activity = self._find(command.chat_id, command.name)
        shelf = self._shelf(command.chat_id)
        if isinstance(command, Update):
            changed = command.changes.applied_to(activity)
            shelf.put(changed)
            return changed
        shelf.drop(activity.key)
        return None

    def _find(self, chat_id: int, name: str) -> Activity:
        try:
            return self._shelf(chat_id).by_key[name_key(name)]
        except KeyError:
            raise ActivityNotFound(name=name) from None

    def _shelf(self, chat_id: int) -> _Shelf:
        return self._shelves.get(chat_id) or _Shelf()

    def _chat(self, chat_id: int) -> Chat:
        return self._chats.get(chat_id) or Chat(chat_id)

    def _drop_old_records(self, now: datetime) -> None:
        while self._records:
            position, record = next(iter(self._records.items()))
            if record.made_at > now - RECORD_LIFETIME:
                return
            del self._records[position]


def _is_final(outcome: Outcome) -> bool:
    """Whether the same request would get the same answer for good reasons, so that it is worth remembering."""
    return not isinstance(outcome, ActivitiesError) or isinstance(outcome, ActivityExists | ActivityNotFound)


def _cut(ordered: Iterable[Activity], page: Page) -> ActivityPage:
    everything = tuple(ordered)
    return ActivityPage(everything[page.offset : page.offset + page.limit], len(everything))
