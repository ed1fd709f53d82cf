"""What transports call, and what a store offers. Implementations are interchangeable."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from activities.domain import (
    Activity,
    ActivityChanges,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Order,
    Outcome,
    Page,
)

MAX_REQUEST_BYTES = 1 << 20
"""The largest request that any transport takes; a valid one is under 10 kB."""


RECORD_LIFETIME = timedelta(hours=24)
"""How long the answer to a request id is kept."""
QUEUE_LIFETIME = timedelta(days=9)
"""How long after it was accepted a command may still come: a day in its topic, 7 as a dead letter, a day once more."""


_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_of(raw: str | None) -> str:
    """A header of W3C's Trace Context, which is passed on as it came; empty for none, and for what is none."""
    return raw if raw is not None and _TRACEPARENT.fullmatch(raw) else ""


class Cancelled(Exception):
    """The caller has gone; there is nobody to answer."""


class Cancellation:
    """Tells that the caller has gone. Thread-safe; what is hooked on after the fact is called at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hooks: list[Callable[[], object]] = []
        self._happened = False

    @property
    def happened(self) -> bool:
        return self._happened

    def cancel(self) -> None:
        with self._lock:
            self._happened = True
            hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook()

    def on_cancel(self, hook: Callable[[], object]) -> None:
        with self._lock:
            if not self._happened:
                self._hooks.append(hook)
                return
        hook()

    def forget(self, hook: Callable[[], object]) -> None:
        """Takes a hook back, so that a long call does not collect them."""
        with self._lock:
            if hook in self._hooks:
                self._hooks.remove(hook)


@dataclass(frozen=True, slots=True)
class Call:
    """What comes with a request besides its content.

    `asked_at` and `deadline` are on `time.monotonic()`'s clock, in seconds: when the caller asked, and when it
    stops waiting of its own accord (infinity when it does not say).
    """

    asked_at: float = field(default_factory=time.monotonic)
    deadline: float = math.inf
    request_id: UUID | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    traceparent: str = ""
    """The trace that the request belongs to, as `traceparent_of` has it."""


class Activities(Protocol):
    """The use cases. Every method raises `activities.domain.ActivitiesError`s and nothing else by design.

    A create, update or delete with `call.request_id` is safe to repeat: the second gets the first one's answer.
    """

    def create(self, chat_id: int, *, activity: Activity, call: Call) -> Activity: ...

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity: ...

    def list(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage: ...

    def stream(self, chat_id: int, *, order: Order, call: Call) -> Generator[Activity]:
        """All activities as they are read. No snapshot: what does not change meanwhile appears exactly once.

        Whoever stops early closes it.
        """
        ...

    def today(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        """Those active on the chat's own date."""
        ...

    def update(self, chat_id: int, *, name: str, changes: ActivityChanges, call: Call) -> Activity: ...

    def delete(self, chat_id: int, *, name: str, call: Call) -> None: ...

    def apply(self, commands: Sequence[Command], *, call: Call) -> Sequence[Outcome]:
        """Commands together in one access; each succeeds or fails for itself."""
        ...


class Chats(Protocol):
    """What is known of a chat. A chat that nobody has spoken of has the defaults."""

    def get(self, chat_id: int, *, call: Call) -> Chat: ...

    def update(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat: ...

    def revoke_tokens(self, chat_id: int, *, call: Call) -> Chat:
        """Makes every token worthless that was issued for the chat so far."""
        ...

    def forget(self, chat_id: int, *, call: Call) -> None:
        """Erases all that is known of the chat and revokes its tokens.

        A command that was accepted before has no effect: it is answered as if it had been carried out and erased.
        """
        ...

    def move(self, chat_id: int, *, to_chat_id: int, call: Call) -> Chat:
        """Takes all that a chat has to another one, whose own stays as it is; returns the latter.

        An activity whose name is taken there gets a number behind its name, unless it is the same in everything. A
        setting goes along where there is none yet. The chat that is left has nothing, and its tokens are revoked. Again
        after a crash, or for what was written to the old chat meanwhile: that goes along as well. There may be more
        activities thereafter than a chat may have.
        """
        ...


class Repository(Protocol):
    """What a store offers: each method is one access, atomic, over before or soon after `call.deadline`."""

    def apply(self, commands: Sequence[Command], *, now: datetime, call: Call) -> Sequence[Outcome]:
        """All commands in one transaction, each in a savepoint of its own."""
        ...

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity: ...

    def page(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage: ...

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        """At most `size` activities that come after `after` in the order; the first ones when it is None."""
        ...

    def today(self, chat_id: int, *, now: datetime, page: Page, call: Call) -> ActivityPage: ...

    def chat(self, chat_id: int, *, call: Call) -> Chat: ...

    def update_chat(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat: ...

    def revoke_tokens(self, chat_id: int, *, now: datetime, call: Call) -> Chat: ...

    def forget(self, chat_id: int, *, now: datetime, call: Call) -> Sequence[str]:
        """The keys of the activities that were erased. Purges as well."""
        ...

    def move(self, chat_id: int, *, to_chat_id: int, now: datetime, call: Call) -> tuple[Chat, Sequence[str]]:
        """The chat that they came to, and the keys of the activities that left."""
        ...

    def purge(self, *, now: datetime, call: Call) -> bool:
        """Drops a batch of what tells nothing any more; returns whether there may be more.

        These are answers to request ids after their lifetime, and what is left of chats once no revoked token and no
        command that was accepted before can come.
        """
        ...

    def ping(self, *, call: Call) -> None:
        """Returns when the store answers."""
        ...

    def close(self) -> None:
        """Gives back what it holds, after the last access."""
        ...
