"""Redis cache-aside in front of a repository, for single activities.

An entry holds an activity, or a *marker* that says: changed a moment ago, ask the store and put nothing here. A write
leaves a marker when it is over; a read fills only what is empty. So a reader that fetched the row before a write cannot
put it back after the write: as long as such a reader can be on its way, the marker stands in its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar, cast

from prometheus_client import Counter
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from activities.domain import (
    Activity,
    ActivityExists,
    ActivityPage,
    Chat,
    ChatChanges,
    Command,
    Create,
    Order,
    Outcome,
    Page,
    name_key,
)
from activities.ports import Call, Repository
from activities.wire import activity_from_bytes, activity_to_bytes

logger = logging.getLogger(__name__)

T = TypeVar("T")

LIFETIME = 30
"""How long an entry is kept, in seconds."""
READ_SECONDS = 3.0
"""The longest that an access can take: the guard's limit and the second within which every store ends."""
SLOW_SECONDS = 0.025
"""What one exchange with Redis may take; after a slower one an operation does without any more."""
PAUSE_SECONDS = 0.5
"""How long Redis is left alone after it failed."""
MOST_DEBTS = 10_000
PREFIX = "activities:activity:1:"
"""Of every key; the number is the format's version."""
MARKER = b"changed"

HITS = Counter("activities_cache_hits", "Activities found in the cache.")
MISSES = Counter("activities_cache_misses", "Activities looked for in the cache in vain.")


class Cache:
    """Entries in Redis, as far as Redis answers. No method raises or takes long because it does not."""

    def __init__(
        self,
        client: Callable[[], Redis],
        *,
        longest_read: float = READ_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        # A reader may have begun just before the write was over; twice its time leaves room for clocks and queues.
        self._marker_milliseconds = int(longest_read * 1000 * 2)
        self._clock = clock
        self._lock = threading.Lock()
        # Keys that were changed and of which Redis does not know yet, each with the number of its last change.
        self._debts: dict[str, int] = {}
        self._changes = 0
        self._blind_until = 0.0
        self._away_until = 0.0
        self._away = False

    def get(self, key: str) -> bytes | None:
        """An entry's bytes, marker included; None when there is none or Redis does not answer."""

        def question(redis: Redis) -> bytes | None:
            try:
                return cast("bytes | None", redis.get(key))
            except ResponseError:
                return None  # something of another kind under our key

        return self._ask(question)

    def fill(self, key: str, value: bytes) -> None:
        """Puts an entry where there is nothing."""
        self._ask(lambda redis: redis.set(key, value, ex=LIFETIME, nx=True))

    def mark(self, keys: Iterable[str]) -> None:
        """Puts markers in place of entries: now or, when Redis is away, before this process uses it again."""
        with self._lock:
            for key in keys:
                self._changes += 1
                self._debts[key] = self._changes
            if len(self._debts) > MOST_DEBTS:
                self._debts.clear()
                # By then every entry of this time has died by itself.
                self._blind_until = self._clock() + LIFETIME
        self._ask(lambda _: None)

    def _ask(self, question: Callable[[Redis], T]) -> T | None:
        now = self._clock()
        with self._lock:
            if now < max(self._away_until, self._blind_until):
                return None
            if self._away:
                self._away_until = now + PAUSE_SECONDS  # one tries, the others go on without
            owed = dict(self._debts)
        try:
            redis = self._client()
            if owed:
                self._pay(redis, owed)
            answer = question(redis)
        except (RedisError, OSError) as error:
            self._fail(error)
            return None
        if self._away:
            with self._lock:
                self._away, self._away_until = False, 0.0
            logger.warning("Redis answers again; the cache is used")
        return answer

    def _pay(self, redis: Redis, owed: dict[str, int]) -> None:
        with redis.pipeline(transaction=False) as pipeline:
            for key in owed:
                pipeline.set(key, MARKER, px=self._marker_milliseconds)
            pipeline.execute()
        with self._lock:
            for key, change in owed.items():
                if self._debts.get(key) == change:  # otherwise it was changed again meanwhile
                    del self._debts[key]

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._away_until = self._clock() + PAUSE_SECONDS
            before, self._away = self._away, True
        if not before:
            logger.warning("Redis does not answer (%s); going on without the cache", type(error).__name__)


class CachedRepository:
    """A repository behind the cache: single activities are looked for there first."""

    def __init__(self, repository: Repository, cache: Cache) -> None:
        self._inner = repository
        self._cache = cache

    def apply(self, commands: Sequence[Command], *, now: datetime, call: Call) -> Sequence[Outcome]:
        known = self._known_before(commands)
        if known is not None:
            return [known]
        changed = {_key(each.chat_id, each.name) for each in commands if not isinstance(each, Create)}
        try:
            return self._inner.apply(commands, now=now, call=call)
        finally:
            # Also after a failure: whether the store did it is not known then.
            if changed:
                self._cache.mark(changed)

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        began = time.monotonic()
        key = _key(chat_id, name)
        entry = self._cache.get(key)
        found = self._read(key, name, entry)
        if found is not None:
            return found
        quick = time.monotonic() - began < SLOW_SECONDS
        activity = self._inner.get(chat_id, name=name, call=call)
        if entry is None and quick:
            self._cache.fill(key, activity_to_bytes(activity))
        return activity

    def page(self, chat_id: int, *, page: Page, call: Call) -> ActivityPage:
        return self._inner.page(chat_id, page=page, call=call)

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        return self._inner.batch(chat_id, order=order, after=after, size=size, call=call)

    def today(self, chat_id: int, *, now: datetime, page: Page, call: Call) -> ActivityPage:
        return self._inner.today(chat_id, now=now, page=page, call=call)

    def chat(self, chat_id: int, *, call: Call) -> Chat:
        return self._inner.chat(chat_id, call=call)

    def update_chat(self, chat_id: int, *, changes: ChatChanges, call: Call) -> Chat:
        return self._inner.update_chat(chat_id, changes=changes, call=call)

    def ping(self, *, call: Call) -> None:
        self._inner.ping(call=call)

    def close(self) -> None:
        self._inner.close()

    def _known_before(self, commands: Sequence[Command]) -> Outcome:
        """The answer to a single create whose name is in the cache; with a request id the store's record decides."""
        create = commands[0] if len(commands) == 1 else None
        if not isinstance(create, Create) or create.request_id is not None:
            return None
        key = _key(create.chat_id, create.activity.name)
        found = self._read(key, create.activity.name, self._cache.get(key))
        return None if found is None else ActivityExists(name=found.name)

    def _read(self, key: str, name: str, entry: bytes | None) -> Activity | None:
        """The activity in an entry; None for a marker, for none, and for garbage, which makes room for a good one."""
        if entry is not None and entry != MARKER:
            try:
                activity = activity_from_bytes(entry)
            except ValueError:
                activity = None
            if activity is not None and activity.key == name_key(name):
                HITS.inc()
                return activity
            self._cache.mark([key])
        MISSES.inc()
        return None


def _key(chat_id: int, name: str) -> str:
    """A chat id has no colon in it, so that no two activities share a key."""
    return f"{PREFIX}{chat_id}:{name_key(name)}"
