"""Redis cache-aside in front of a repository, for single activities.

A read that finds nothing leaves a *claim* of its own, a value that no other has, before it asks the store; what it
fetched replaces this claim and nothing else. A write drops the key when it is over, claims included. So a reader that
fetched the row before a write cannot put it back after the write, however late it comes and whatever has become of
Redis meanwhile.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar
from zlib import crc32

from prometheus_client import Counter
from redis import ConnectionPool
from redis.exceptions import RedisError, ResponseError

from activities.domain import (
    INT64,
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
from activities.repositories.timed_redis import Session, Sessions, reason
from activities.wire import activity_from_bytes, activity_to_bytes

logger = logging.getLogger(__name__)

T = TypeVar("T")

LIFETIME = 30
"""How long an entry is kept, in seconds."""
READ_SECONDS = 3.0
"""How long a claim is kept, the longest that an access can take: its limit and the second within which stores end."""
ASK_SECONDS = 0.02
"""What one question to Redis may take, connecting included; an operation asks at most twice."""
DROP_SECONDS = 0.045
"""What telling Redis of a write may take: an operation tells once, and asks nothing else then."""
PATIENT_DROP_SECONDS = 1.0
"""The same for what came by the queue: whoever sent it waits for longer things."""
PAUSE_SECONDS = 0.5
"""How often Redis is tried after it failed."""
SETTLE_SECONDS = 1.0
"""What paying the debts may take then, while nobody waits for it."""
MOST_DEBTS = 10_000
"""How many are remembered; after more, all entries of the time have to die before Redis is used again."""
PREFIX = "activities:activity:2:"
"""Of every key; the number is the format's version."""
CLAIM = b"claim:"
ENTRY = b"entry:"
"""What values begin with."""

REPLACE_CLAIM = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end"""

HITS = Counter("activities_cache_hits", "Activities found in the cache.")
MISSES = Counter("activities_cache_misses", "Activities looked for in the cache in vain.")


class Cache:
    """Entries in Redis, as far as Redis answers. No method raises or takes long because it does not.

    Keys that were changed while Redis could not be told are *debts*: they are paid before anything is asked again.
    """

    def __init__(
        self,
        connections: Callable[[], ConnectionPool],
        *,
        most: int = 10,
        longest_read: float = READ_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = Sessions(connections, most=most)
        self._longest_read = longest_read
        self._clock = clock
        self._lock = threading.Lock()
        self._away = False
        self._closing = threading.Event()
        # Each with the number of its last change, which tells a debt that was paid from one that was made meanwhile.
        self._debts: dict[str, int] = {}
        self._changes = 0
        self._forgot_debts = False
        self._blind_until = 0.0

    def connect(self) -> None:
        """Makes the connections before they are needed: one that is made under load, and so late, would pass for an
        outage, during which others may see the past."""
        try:
            self._sessions.fill(SETTLE_SECONDS)
        except (RedisError, OSError) as error:
            self._leave(error)

    def find(self, key: str) -> bytes | None:
        """An entry's bytes; None when there is none or Redis does not answer."""
        return self._ask(lambda redis: _entry(redis, key))

    def find_or_claim(self, key: str) -> tuple[bytes | None, bytes | None]:
        """An entry's bytes, or the claim with which `fill` may put them there; neither when another has claimed it."""

        def question(redis: Session) -> tuple[bytes | None, bytes | None]:
            entry = _entry(redis, key)
            if entry is not None:
                return entry, None
            claim = CLAIM + secrets.token_bytes(16)
            claimed = redis.ask("SET", key, claim, "NX", "PX", int(self._longest_read * 1000))
            return None, claim if claimed else None

        return self._ask(question) or (None, None)

    def fill(self, key: str, claim: bytes, value: bytes) -> None:
        """Puts an entry where `claim` still is."""
        self._ask(lambda redis: redis.ask("EVAL", REPLACE_CLAIM, 1, key, claim, value, LIFETIME))

    def drop(self, keys: Iterable[str], *, seconds: float = DROP_SECONDS) -> None:
        """Takes entries and claims away: now or, when Redis is away, before this process uses it again."""
        with self._lock:
            for key in keys:
                self._changes += 1
                self._debts[key] = self._changes
            if self._away and len(self._debts) > MOST_DEBTS:
                self._debts.clear()
                self._forgot_debts = True
        self._ask(lambda _: None, seconds)

    def close(self) -> None:
        self._closing.set()
        self._sessions.close()

    def _ask(self, question: Callable[[Session], T], seconds: float | None = None) -> T | None:
        if self._away:
            return None
        try:
            return self._within(ASK_SECONDS if seconds is None else seconds, question)
        except ResponseError:
            return None  # it answers, but refuses: it is full, or what is under the key is of another kind
        except (RedisError, OSError) as error:
            self._leave(error)
            return None

    def _within(self, seconds: float, question: Callable[[Session], T]) -> T:
        """The answer to a question after the debts are paid."""

        def after_debts(redis: Session) -> T:
            if self._debts:
                self._pay(redis)
            return question(redis)

        return self._sessions.ask(after_debts, seconds)

    def _pay(self, redis: Session) -> None:
        with self._lock:
            owed = dict(self._debts)
        if not owed:
            return
        try:
            redis.ask("DEL", *owed)
        except ResponseError as refused:  # by a replica, say; whoever cannot pay must not ask
            raise RedisError(str(refused)) from refused
        with self._lock:
            for key, change in owed.items():
                if self._debts.get(key) == change:
                    del self._debts[key]

    def _leave(self, error: Exception) -> None:
        with self._lock:
            if self._away:
                return
            self._away = True
        logger.warning("Redis does not answer (%s); going on without the cache", reason(error))
        threading.Thread(target=self._return, name="redis-return", daemon=True).start()

    def _return(self) -> None:
        """Tries until Redis answers as fast as it must and knows every change."""
        while not self._closing.wait(PAUSE_SECONDS):
            if self._settled():
                logger.warning("Redis answers again; the cache is used")
                return

    def _settled(self) -> bool:
        try:
            self._sessions.fill(SETTLE_SECONDS)
            self._within(SETTLE_SECONDS, lambda redis: redis.ask("PING"))  # which pays the debts
            self._within(ASK_SECONDS, lambda redis: redis.ask("PING"))
        except (RedisError, OSError):
            return False
        with self._lock:
            now = self._clock()
            if self._forgot_debts:
                # By then every entry that should have been dropped has died by itself.
                self._forgot_debts, self._blind_until = False, now + LIFETIME + self._longest_read
            if now < self._blind_until or self._debts:
                return False
            self._away = False
            return True


def _entry(redis: Session, key: str) -> bytes | None:
    try:
        entry: bytes | None = redis.ask("GET", key)
    except ResponseError:
        return b""  # something of another kind is under our key: garbage
    return None if entry is not None and entry.startswith(CLAIM) else entry


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
                by_queue = any(each.delivery_id for each in commands)
                self._cache.drop(changed, seconds=PATIENT_DROP_SECONDS if by_queue else DROP_SECONDS)

    def get(self, chat_id: int, *, name: str, call: Call) -> Activity:
        key = _key(chat_id, name)
        entry, claim = self._cache.find_or_claim(key)
        found = self._read(key, entry)
        if found is not None:
            return found
        activity = self._inner.get(chat_id, name=name, call=call)
        if claim is not None:
            self._cache.fill(key, claim, _sealed(key, activity_to_bytes(activity)))
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

    def revoke_tokens(self, chat_id: int, *, now: datetime, call: Call) -> Chat:
        return self._inner.revoke_tokens(chat_id, now=now, call=call)

    def forget(self, chat_id: int, *, now: datetime, call: Call) -> Sequence[str]:
        with self._dropping(chat_id, call) as gone:
            gone.extend(self._inner.forget(chat_id, now=now, call=call))
        return gone

    def move(self, chat_id: int, *, to_chat_id: int, now: datetime, call: Call) -> tuple[Chat, Sequence[str]]:
        # Nothing changes of what the other chat has; that it lacked something was not in the cache.
        with self._dropping(chat_id, call) as gone:
            chat, moved = self._inner.move(chat_id, to_chat_id=to_chat_id, now=now, call=call)
            gone.extend(moved)
        return chat, gone

    @contextmanager
    def _dropping(self, chat_id: int, call: Call) -> Iterator[list[str]]:
        """Drops all that a chat has: by what the store says, and after a failure by what was there before."""
        before = self._inner.batch(chat_id, order=Order("name"), after=None, size=INT64 - 1, call=call)
        gone: list[str] = []
        try:
            yield gone
        finally:
            self._cache.drop({f"{PREFIX}{chat_id}:{key}" for key in (*gone, *(each.key for each in before))})

    def purge(self, *, now: datetime, call: Call) -> bool:
        return self._inner.purge(now=now, call=call)  # what goes has no activities

    def ping(self, *, call: Call) -> None:
        self._inner.ping(call=call)

    def close(self) -> None:
        self._cache.close()
        self._inner.close()

    def _known_before(self, commands: Sequence[Command]) -> Outcome:
        """The answer to a single create whose name is in the cache; with a request id the store's record decides."""
        create = commands[0] if len(commands) == 1 else None
        if not isinstance(create, Create) or create.request_id is not None:
            return None
        key = _key(create.chat_id, create.activity.name)
        found = self._read(key, self._cache.find(key))
        return None if found is None else ActivityExists(name=found.name)

    def _read(self, key: str, entry: bytes | None) -> Activity | None:
        """The activity in an entry; None for none, and for garbage, which makes room for a good one."""
        if entry is not None:
            try:
                activity = activity_from_bytes(_opened(key, entry))
            except ValueError:
                self._cache.drop([key], seconds=ASK_SECONDS)
            else:
                HITS.inc()
                return activity
        MISSES.inc()
        return None


def _key(chat_id: int, name: str) -> str:
    """A chat id has no colon in it, so that no two activities share a key."""
    return f"{PREFIX}{chat_id}:{name_key(name)}"


def _sealed(key: str, data: bytes) -> bytes:
    """An entry, with a sum that tells it from what was damaged or belongs under another key."""
    return ENTRY + _sum(key, data) + data


def _opened(key: str, entry: bytes) -> bytes:
    """The data in what `_sealed` made for this key; `ValueError` for anything else."""
    data = entry[len(ENTRY) + 4 :]
    if entry != _sealed(key, data):
        raise ValueError("no entry of this key")
    return data


def _sum(key: str, data: bytes) -> bytes:
    return crc32(data, crc32(key.encode())).to_bytes(4, "big")
