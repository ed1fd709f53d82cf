"""How much each caller may ask for, so that none takes the others' share."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from activities.domain import RateLimited
from activities.repositories.windows import Windows

HOLD_SECONDS = 0.1
"""How long a transport keeps a refusal back: who asks again at once, whatever the answer, is slowed down by it."""
MOST_REFUSED = 10_000
"""How many tokens are remembered that were refused."""
REFUSED_SECONDS = 1.0
"""For how long one is refused unseen: it may have been revoked meanwhile."""


class FairUse:
    """Bounds requests within any minute: of each chat by token, of each chat in the bot, of each service.

    A bound of 0 is none. A chat has one bound for all of its tokens, and another one in the bot, where it can still
    revoke a token that somebody else wears out.
    """

    def __init__(
        self,
        windows: Windows,
        *,
        per_chat: int,
        per_service: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._windows = windows
        self._per_chat = per_chat
        self._per_service = per_service
        self._clock = clock
        self._lock = threading.Lock()
        self._refused: dict[str, tuple[float, float]] = {}
        """Each token's, until when it is refused, and until when nobody looks."""

    def by_token(self, chat_id: int) -> None:
        """Counts a request by one of the chat's tokens. Raises `RateLimited` beyond the bound."""
        self._take(f"chat:{chat_id}", self._per_chat)

    def in_bot(self, chat_id: int) -> None:
        """Counts what a chat sends to the bot. Raises `RateLimited` beyond the bound."""
        self._take(f"bot:{chat_id}", self._per_chat)

    def by_service(self, name: str) -> None:
        """Counts a request by a service's token. Raises `RateLimited` beyond the bound."""
        self._take(f"service:{name}", self._per_service)

    def remember(self, token: str, refused: RateLimited) -> None:
        """Notes that this token was refused."""
        now = self._clock()
        with self._lock:
            self._refused.pop(token, None)  # so that the oldest are first
            if len(self._refused) >= MOST_REFUSED:
                del self._refused[next(iter(self._refused))]
            self._refused[token] = now + int(refused.details["retry_after"]), now + REFUSED_SECONDS

    def refusal(self, token: str) -> RateLimited | None:
        """Why this token need not be looked at yet; None for all but a noisy caller's."""
        until, unseen_until = self._refused.get(token, (0.0, 0.0))
        now = self._clock()
        return _refused(until - now) if now < min(until, unseen_until) else None

    def _take(self, who: str, limit: int) -> None:
        wait = self._windows.take(who, limit=limit) if limit else 0.0
        if wait > 0:
            raise _refused(wait)


def _refused(seconds: float) -> RateLimited:
    return RateLimited(retry_after=str(math.ceil(seconds)))
