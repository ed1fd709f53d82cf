"""The store of `--local`: in memory, thread-safe, with the promises of the real one while the process lives."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from uuid import UUID

from activities.domain import (
    Activity,
    ActivityNotFound,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Order,
    Outcome,
    Page,
    name_key,
)
from activities.ports import RECORD_LIFETIME, Call
from activities.repositories.commands import (
    PURGE_BATCH,
    TOKEN_LIFETIME,
    Record,
    apply_once,
    joined,
    purged_until,
)


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


class MemoryRepository:
    """Activities and chats in this process. One lock makes each access atomic."""

    def __init__(self, *, max_activities: int = 10_000, token_lifetime: timedelta = TOKEN_LIFETIME) -> None:
        self._max_activities = max_activities
        self._token_lifetime = token_lifetime
        self._lock = threading.Lock()
        self._shelves: dict[int, _Shelf] = {}
        self._chats: dict[int, Chat] = {}
        self._records: OrderedDict[tuple[int, UUID], tuple[Record, datetime]] = OrderedDict()
        self._forgotten: dict[int, datetime] = {}
        self._now = datetime.min.replace(tzinfo=UTC)

    def apply(self, commands: Sequence[Command], *, now: datetime, call: Call) -> Sequence[Outcome]:
        with self._lock:
            self._now = now
            self._drop_old_records(now)
            return [apply_once(command, self, max_activities=self._max_activities) for command in commands]

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

    def revoke_tokens(self, chat_id: int, *, now: datetime, call: Call) -> Chat:
        with self._lock:
            self._chats[chat_id] = self._chat(chat_id).with_tokens_revoked(now)
            return self._chats[chat_id]

    def forget(self, chat_id: int, *, now: datetime, call: Call) -> Sequence[str]:
        with self._lock:
            for place in [place for place in self._records if place[0] == chat_id]:
                del self._records[place]
            gone = self._emptied(chat_id, now)
            self._purge(now)
            return [*gone]

    def move(self, chat_id: int, *, to_chat_id: int, now: datetime, call: Call) -> tuple[Chat, Sequence[str]]:
        with self._lock:
            self._chats[to_chat_id] = self._chat(to_chat_id).joined_by(self._chat(chat_id))
            moved = self._emptied(chat_id, now)
            for activity in joined(moved, self._shelf(to_chat_id).by_key).values():
                if activity is not None:
                    self.put(to_chat_id, activity)
            # In their order, by which the oldest are found.
            records = self._records.items()
            self._records = OrderedDict(
                ((to_chat_id, known_as) if chat == chat_id else (chat, known_as), record)
                for (chat, known_as), record in records
                if chat != chat_id or (to_chat_id, known_as) not in self._records
            )
            return self._chat(to_chat_id), [*moved]

    def purge(self, *, now: datetime, call: Call) -> bool:
        with self._lock:
            return self._purge(now)

    def ping(self, *, call: Call) -> None:
        with self._lock:
            return

    def close(self) -> None:
        """There is nothing to give back."""

    # What follows runs inside the lock. The first seven are what `apply_once` works on.

    def find(self, chat_id: int, key: str) -> Activity | None:
        return self._shelf(chat_id).by_key.get(key)

    def count(self, chat_id: int) -> int:
        return len(self._shelf(chat_id).by_key)

    def put(self, chat_id: int, activity: Activity) -> None:
        self._shelves.setdefault(chat_id, _Shelf()).put(activity)

    def drop(self, chat_id: int, key: str) -> None:
        self._shelves[chat_id].drop(key)

    def record(self, chat_id: int, known_as: UUID) -> Record | None:
        found = self._records.get((chat_id, known_as))
        return None if found is None else found[0]

    def remember(self, chat_id: int, known_as: UUID, record: Record) -> None:
        self._records[chat_id, known_as] = record, self._now

    def forgotten_at(self, chat_id: int) -> datetime | None:
        return self._forgotten.get(chat_id)

    def _emptied(self, chat_id: int, now: datetime) -> dict[str, Activity]:
        """The activities that the chat had."""
        self._chats[chat_id] = Chat(
            chat_id, tokens_valid_after=self._chat(chat_id).with_tokens_revoked(now).tokens_valid_after
        )
        self._forgotten.pop(chat_id, None)  # so that those that were left first are first
        self._forgotten[chat_id] = now
        return self._shelves.pop(chat_id, _Shelf()).by_key

    def _find(self, chat_id: int, name: str) -> Activity:
        activity = self.find(chat_id, name_key(name))
        if activity is None:
            raise ActivityNotFound(name=name)
        return activity

    def _shelf(self, chat_id: int) -> _Shelf:
        return self._shelves.get(chat_id) or _Shelf()

    def _chat(self, chat_id: int) -> Chat:
        return self._chats.get(chat_id) or Chat(chat_id)

    def _drop_old_records(self, now: datetime) -> None:
        while self._records:
            position, (_, made_at) = next(iter(self._records.items()))
            if made_at > now - RECORD_LIFETIME:
                return
            del self._records[position]

    def _purge(self, now: datetime) -> bool:
        self._drop_old_records(now)
        until = purged_until(now, self._token_lifetime)
        left = takewhile(lambda chat_id: self._forgotten[chat_id].timestamp() < until, self._forgotten)
        # It may have been left long ago, and its tokens revoked since.
        batch = list(islice((each for each in left if self._chat(each).tokens_valid_after <= until), PURGE_BATCH))
        for chat_id in batch:
            del self._forgotten[chat_id]
            chat = self._chats[chat_id]
            if chat == Chat(chat_id, tokens_valid_after=chat.tokens_valid_after) and not self._shelf(chat_id).by_key:
                del self._chats[chat_id]
        return len(batch) == PURGE_BATCH


def _cut(ordered: Iterable[Activity], page: Page) -> ActivityPage:
    everything = tuple(ordered)
    return ActivityPage(everything[page.offset : page.offset + page.limit], len(everything))
