"""How often somebody has asked within the last minute: in this process, or in Redis by all processes together."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from redis import ConnectionPool
from redis.exceptions import RedisError

from activities.repositories.timed_redis import Sessions, reason

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
ASK_SECONDS = 0.1
"""What one question to Redis may take, connecting included."""
PAUSE_SECONDS = 1.0
"""How often Redis is tried after it failed."""
CONNECT_SECONDS = 1.0
"""What making the connections at the start may take."""
LEASE_SECONDS = 5.0
"""How long what was counted in advance may be used: so much later than it counts a request may come."""
BUSY_SECONDS = 1.0
"""Whoever has used up a lease within this gets a larger one."""
LARGEST_SHARE = 50
"""The largest lease is this part of the limit, so that what others hold or let go to waste does not weigh much."""
LARGEST_LEASE = 64
PREFIX = "activities:requests:"
"""Of every key."""

TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000000
local oldest = redis.call('LINDEX', KEYS[1], 0)
while oldest and tonumber(oldest) <= now - window do
    redis.call('LPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], 0)
end
local length = redis.call('LLEN', KEYS[1])
if length >= limit then
    return -(tonumber(redis.call('LINDEX', KEYS[1], length - limit)) + window - now)
end
local granted = math.min(limit - length, tonumber(ARGV[3]))
for _ = 1, granted do
    redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return granted"""
"""Counts up to ARGV[3] requests and returns how many, or the microseconds to wait as a negative number."""


class Windows(Protocol):
    """Counts what each one does within any minute. Thread-safe; never raises."""

    def take(self, who: str, *, limit: int) -> float:
        """Counts one more, unless there were `limit` within the last minute: then the seconds until there are
        fewer. 0 when it counted."""
        ...

    def close(self) -> None: ...


class MemoryWindows:
    """Counts in this process. `clock` is in seconds and never goes back."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: defaultdict[str, deque[float]] = defaultdict(deque)
        self._swept_at = clock()

    def take(self, who: str, *, limit: int) -> float:
        now = self._clock()
        with self._lock:
            self._sweep(now)
            taken = self._taken[who]
            while taken and taken[0] <= now - WINDOW_SECONDS:
                taken.popleft()
            if len(taken) >= limit:
                return taken[len(taken) - limit] + WINDOW_SECONDS - now
            taken.append(now)
        return 0.0

    def close(self) -> None:
        """There is nothing to give back."""

    def _sweep(self, now: float) -> None:
        """Forgets, once a window, whoever has not asked for a whole one."""
        if now < self._swept_at + WINDOW_SECONDS:
            return
        self._swept_at = now
        for who in [who for who, taken in self._taken.items() if taken[-1] <= now - WINDOW_SECONDS]:
            del self._taken[who]


@dataclass(slots=True)
class _Lease:
    """Requests of somebody that were counted before they came."""

    size: int
    left: int
    since: float


class SharedWindows:
    """Counts in Redis, for all processes together; while that does not answer, each process counts for itself.

    Who asks often is counted several at a time, so that not every request costs a question: the last requests of a
    window may then be refused although others of them, counted in another process, never came.
    """

    def __init__(
        self, connections: Callable[[], ConnectionPool], *, most: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sessions = Sessions(connections, most=most)
        self._asking = threading.BoundedSemaphore(most)
        self._own = MemoryWindows(clock=clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._leases: dict[str, _Lease] = {}
        self._swept_at = clock()
        self._next_try = 0.0
        self._is_away = False

    def connect(self) -> None:
        """Makes the connections before they are needed."""
        try:
            self._sessions.fill(CONNECT_SECONDS)
        except (RedisError, OSError) as error:
            self._left(error)

    def take(self, who: str, *, limit: int) -> float:
        now = self._clock()
        with self._lock:
            self._sweep(now)
            lease = self._leases.get(who)
            if lease is not None and lease.left and now < lease.since + LEASE_SECONDS:
                lease.left -= 1
                return 0.0
        size = _next_size(lease, limit, now)
        answer = self._ask(who, limit, size)
        if answer is None:
            return self._own.take(who, limit=limit)
        if answer < 0:
            return -answer / 1e6
        with self._lock:
            current = self._leases.get(who)
            others = current.left if current is not None and current is not lease else 0  # taken at the same time
            self._leases[who] = _Lease(size, answer - 1 + others, now)
        return 0.0

    def close(self) -> None:
        self._sessions.close()

    def _ask(self, who: str, limit: int, size: int) -> int | None:
        """What the script says; None when Redis does not answer."""
        if not self._may_ask() or not self._asking.acquire(timeout=ASK_SECONDS):
            return None
        try:
            answer: int = self._sessions.ask(
                lambda redis: redis.ask("EVAL", TAKE, 1, PREFIX + who, limit, WINDOW_SECONDS, size), ASK_SECONDS
            )
        except (RedisError, OSError) as error:
            self._left(error)
            return None
        finally:
            self._asking.release()
        self._answered()
        return answer

    def _may_ask(self) -> bool:
        """While Redis is away, one caller tries it now and then; the others do not wait for the outcome."""
        if not self._is_away:
            return True
        with self._lock:
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + PAUSE_SECONDS
            return True

    def _left(self, error: Exception) -> None:
        with self._lock:
            self._next_try = self._clock() + PAUSE_SECONDS
            was_away, self._is_away = self._is_away, True
        if not was_away:
            logger.warning("Redis does not answer (%s); requests are counted in this process alone", reason(error))

    def _answered(self) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, False
        if was_away:
            logger.warning("Redis answers again; requests are counted by all processes together")

    def _sweep(self, now: float) -> None:
        """Forgets, once a window, the leases that nobody may use any more."""
        if now < self._swept_at + WINDOW_SECONDS:
            return
        self._swept_at = now
        self._leases = {who: lease for who, lease in self._leases.items() if now < lease.since + LEASE_SECONDS}


def _next_size(former: _Lease | None, limit: int, now: float) -> int:
    """One for whoever asks now and then; for the others twice as many as before."""
    if former is None or now >= former.since + BUSY_SECONDS:
        return 1
    return max(1, min(2 * former.size, limit // LARGEST_SHARE, LARGEST_LEASE))
