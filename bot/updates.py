"""Updates in hand: each acted on once, in order within its chat, several chats at the same time. Knows no Telegram."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

MOST_REMEMBERED = 10_000
"""Of so many updates it is known that they came already; Telegram shows at most 100 unconfirmed ones at once."""

logger = logging.getLogger(__name__)


class Updates:
    """What has come, and how far it is finished. For one event loop.

    Telegram forgets the updates before the offset that it is asked with. So the offset moves only past those that are
    finished, their answers included, and whatever else was in hand when the process ends comes again. A set of ids,
    not the highest one, tells what came already: after a quiet week Telegram begins anew at a random id.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, asyncio.Task[None]] = OrderedDict()
        self._unconfirmed: dict[int, asyncio.Task[None]] = {}
        self._last_of_chat: dict[int, asyncio.Task[None]] = {}
        self._open: Counter[int] = Counter()
        self._in_hand = 0
        self._ended = asyncio.Event()

    @property
    def in_hand(self) -> int:
        return self._in_hand

    def open_of(self, chat_id: int) -> int:
        """How many updates of a chat are not finished."""
        return self._open[chat_id]

    def __contains__(self, update_id: int) -> bool:
        return update_id in self._known

    def take(
        self, update_id: int, chat_id: int, handle: Callable[[], Awaitable[None]], *, polled: bool = False
    ) -> asyncio.Task[None]:
        """Handles an update when those of its chat that came before are done, unless it is known; its task."""
        if update_id in self._known:
            return self._known[update_id]
        before = self._last_of_chat.get(chat_id)
        task = asyncio.create_task(self._in_turn(update_id, before, handle))
        self._known[update_id] = self._last_of_chat[chat_id] = task
        if polled:
            self._unconfirmed[update_id] = task
        self._in_hand += 1
        self._open[chat_id] += 1
        task.add_done_callback(partial(self._end, chat_id))
        while len(self._known) > MOST_REMEMBERED and next(iter(self._known.values())).done():
            self._known.popitem(last=False)
        return task

    async def _in_turn(
        self, update_id: int, before: asyncio.Task[None] | None, handle: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            await handle()
        except Exception:  # it cannot be answered any more, and must not come again and again
            logger.exception("update %s failed", update_id)

    def _end(self, chat_id: int, task: asyncio.Task[None]) -> None:
        self._in_hand -= 1
        self._open[chat_id] -= 1
        if not self._open[chat_id]:
            del self._open[chat_id]
        self._ended.set()
        if self._last_of_chat.get(chat_id) is task:
            del self._last_of_chat[chat_id]

    @property
    def offset(self) -> int | None:
        """What to ask Telegram with; None when everything that was finished is confirmed."""
        if not self._unconfirmed:
            return None
        open_ones = [update_id for update_id, task in self._unconfirmed.items() if not _is_finished(task)]
        return min(open_ones) if open_ones else max(self._unconfirmed) + 1

    def confirm(self, offset: int | None) -> None:
        """Telegram has been asked with this offset and has answered."""
        if offset is not None:
            self._unconfirmed = {each: task for each, task in self._unconfirmed.items() if each >= offset}

    async def halved(self, *, seconds: float) -> None:
        """Returns when half of what is in hand now is finished, after so many seconds at the latest."""
        enough = self._in_hand // 2
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._in_hand > enough:
                    self._ended.clear()
                    await self._ended.wait()

    async def finish(self, *, seconds: float) -> None:
        """Lets what is in hand end, and leaves what does not end in time."""
        open_ones = [task for task in self._known.values() if not task.done()]
        if open_ones:
            _, left = await asyncio.wait(open_ones, timeout=seconds)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


def _is_finished(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled()
