"""What goes to Telegram: within its limits, tried again where that helps, never ending the one who sends."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiolimiter import AsyncLimiter
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    LinkPreviewOptions,
    MessageEntity,
    ReplyParameters,
)
from telegram.constants import ChatAction
from telegram.error import BadRequest, ChatMigrated, Forbidden, RetryAfter, TelegramError

from bot.replies import Copy, Reply, plain, units

CALL_SECONDS = 15.0
"""How long Telegram may take for one call."""
FILE_SECONDS = 60.0
"""The same, to take a file."""
ATTEMPTS = 6
"""How often a message is tried."""
FIRST_PAUSE_SECONDS = 0.5
"""The pause before the second attempt; each further one is twice as long."""
MESSAGES_A_SECOND = 25
"""Over all chats, evenly. Telegram takes about 30; what is between is for the unevenness of the way."""
GROUP_BURST, GROUP_SECONDS = 4, 16
"""A group gets so many messages at once, and as many again in so many seconds: at most 19 in any minute of the 20."""
MOST_CHATS = 10_000
"""Of so many chats, those written to last, it is known when they may be written to again and whether they are gone."""

_NOTHING_TO_DO = ("message is not modified", "message to edit not found", "message can't be edited", "query is too old")
_NO_FILES = "not enough rights to send documents"
_GONE = ("chat not found", "group chat was deleted", "user is deactivated", "bot was kicked", "not enough rights")

logger = logging.getLogger(__name__)


class Undeliverable(Exception):
    """The chat takes no messages from us, or is no more."""


class FileRefused(Exception):
    """The chat takes no files from us."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer goes. `reference` is what the log has in its stead."""

    chat_id: int
    reference: object
    thread_id: int | None = None
    answers: int | None = None
    """The message, of a group, that is answered."""


class _Chat:
    def __init__(self, chat_id: int, second: float) -> None:
        self.free_at = 0.0
        self.is_gone = False
        self.a_minute = AsyncLimiter(GROUP_BURST, GROUP_SECONDS * second) if chat_id < 0 else None


class Sender:
    """Sends and edits messages. For one event loop; two messages to one chat are not to be sent at the same time.

    Telegram's limits count in seconds that last `second` seconds, less than one in tests alone. `move` is called
    when a group has become another chat, with both ids.
    """

    def __init__(self, bot: Bot, *, move: Callable[[int, int], Awaitable[None]], second: float = 1.0) -> None:
        self._bot = bot
        self._move = move
        self._second = second
        self._all = AsyncLimiter(1, second / MESSAGES_A_SECOND)
        self._paused_until = 0.0
        self._chats: OrderedDict[int, _Chat] = OrderedDict()
        self._moved: dict[int, int] = {}

    def moved(self, chat_id: int, to_chat_id: int | None = None) -> int:
        """The id that the chat has now, when it is this one, or `to_chat_id` from now on."""
        if to_chat_id is not None:
            self._moved[chat_id] = to_chat_id
        return self._moved.get(chat_id, chat_id)

    def is_gone(self, chat_id: int) -> bool:
        """Whether the chat took no message last time, and has not been heard of since."""
        return self._chat(chat_id).is_gone

    def is_back(self, chat_id: int) -> None:
        self._chat(chat_id).is_gone = False

    async def send(self, reply: Reply, to: Place, *, edits: int | None = None) -> None:
        """Sends the reply, or edits the message `edits`.

        Raises `Undeliverable` and `FileRefused`; any other failure is logged.
        """
        text, entities = message(reply)
        buttons = [[InlineKeyboardButton(each.label, callback_data=each.data) for each in row] for row in reply.buttons]
        keyboard = InlineKeyboardMarkup(buttons) if buttons else None
        no_preview = LinkPreviewOptions(is_disabled=True)
        answered = ReplyParameters(to.answers, allow_sending_without_reply=True) if to.answers else None

        async def send(chat_id: int) -> None:
            if edits is not None:
                await self._bot.edit_message_text(
                    text,
                    chat_id,
                    edits,
                    entities=entities,
                    reply_markup=keyboard,
                    link_preview_options=no_preview,
                )
                return
            if reply.file is not None:
                await self._bot.send_document(
                    chat_id,
                    InputFile(reply.file.content, filename=reply.file.name),
                    caption=text,
                    caption_entities=entities,
                    disable_content_type_detection=True,
                    message_thread_id=to.thread_id,
                    reply_parameters=answered,
                    write_timeout=FILE_SECONDS,
                    read_timeout=FILE_SECONDS,
                )
                return
            await self._bot.send_message(
                chat_id,
                text,
                entities=entities,
                reply_markup=keyboard,
                link_preview_options=no_preview,
                message_thread_id=to.thread_id,
                reply_parameters=answered,
            )

        await self._deliver(send, to, seconds=FILE_SECONDS if reply.file else CALL_SECONDS)

    async def answer_press(self, query_id: str, notice: str, reference: object) -> None:
        """Ends the waiting of whoever pressed a button. It is no message: no limit counts it, and it gets old soon."""
        try:
            await self._wait_until(self._paused_until)
            async with asyncio.timeout(CALL_SECONDS):
                await self._bot.answer_callback_query(query_id, notice[:200] or None)
        except RetryAfter as told:
            self._pause(told)
        except (TelegramError, TimeoutError) as failed:
            if not _is_one_of(_NOTHING_TO_DO, failed):
                logger.warning("a press was not answered (%s); reference %s", _reason(failed), reference)

    async def show_typing(self, to: Place) -> None:
        if self._paused_until > self._now() or self.is_gone(to.chat_id):
            return
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._bot.send_chat_action(
                    self.moved(to.chat_id), ChatAction.TYPING, message_thread_id=to.thread_id
                )
        except RetryAfter as told:
            self._pause(told)
        except (TelegramError, TimeoutError):
            pass  # the answer itself will tell

    async def _deliver(self, send: Callable[[int], Awaitable[None]], to: Place, *, seconds: float) -> None:
        pause, failed = FIRST_PAUSE_SECONDS * self._second, "flood control"
        for attempt in range(ATTEMPTS):
            chat_id = self.moved(to.chat_id)
            chat = self._chat(chat_id)
            if chat.is_gone:
                raise Undeliverable
            await self._turn(chat)
            try:
                async with asyncio.timeout(seconds):
                    await send(chat_id)
                return
            except RetryAfter as told:
                self._pause(told, chat if chat_id < 0 else None)
            except ChatMigrated as told:
                await self._move(chat_id, told.new_chat_id)
            except (Forbidden, BadRequest) as refused:
                if _is_one_of(_NOTHING_TO_DO, refused):
                    return
                if _is_one_of((_NO_FILES,), refused):
                    raise FileRefused from None
                if isinstance(refused, Forbidden) or _is_one_of(_GONE, refused):
                    chat.is_gone = True
                    logger.info("a chat takes no messages (%s); reference %s", _reason(refused), to.reference)
                    raise Undeliverable from None
                logger.error("a reply was refused (%s); reference %s", _reason(refused), to.reference)
                return
            except (TelegramError, TimeoutError) as error:
                failed = _reason(error)
                if attempt < ATTEMPTS - 1:
                    await asyncio.sleep(pause)
                    pause *= 2
            finally:
                # From the answer on, not from the call: calls that took unequally long would arrive too close.
                chat.free_at = max(chat.free_at, self._now() + self._second)
        logger.error("a reply could not be sent in %s attempts (%s); reference %s", ATTEMPTS, failed, to.reference)

    async def _turn(self, chat: _Chat) -> None:
        """Returns when a message may go to this chat."""
        await self._wait_until(chat.free_at)
        if chat.a_minute is not None:
            await chat.a_minute.acquire()
        await self._all.acquire()
        while self._paused_until > self._now():
            await self._wait_until(self._paused_until)
            await self._all.acquire()  # not all at once, when the pause is over

    def _pause(self, told: RetryAfter, group: _Chat | None = None) -> None:
        """Nothing is sent for so long: to this group, which has a limit of its own, or to anybody."""
        wait = told.retry_after
        seconds = wait if isinstance(wait, int) else wait.total_seconds()
        until = self._now() + seconds * self._second
        if group is not None:
            group.free_at = max(group.free_at, until)
        else:
            self._paused_until = max(self._paused_until, until)
        logger.warning("Telegram wants nothing for %s s", seconds)

    async def _wait_until(self, moment: float) -> None:
        if (seconds := moment - self._now()) > 0:
            await asyncio.sleep(seconds)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _chat(self, chat_id: int) -> _Chat:
        chat = self._chats.pop(chat_id, None) or _Chat(chat_id, self._second)
        self._chats[chat_id] = chat
        if len(self._chats) > MOST_CHATS:
            self._chats.popitem(last=False)
        return chat


def message(reply: Reply) -> tuple[str, list[MessageEntity]]:
    """The text of a message, and its commands to copy as entities. What people named their things is never markup."""
    lines: list[str] = []
    entities: list[MessageEntity] = []
    at = 0
    for line in reply.lines:
        text = plain(Reply((line,)))
        if isinstance(line, Copy):
            length = units(line.command)
            entities.append(MessageEntity(MessageEntity.CODE, at + units(text) - length, length))
        lines.append(text)
        at += units(text) + 1
    return "\n".join(lines), entities


def _is_one_of(sayings: tuple[str, ...], error: BaseException) -> bool:
    return isinstance(error, TelegramError) and any(each in error.message.lower() for each in sayings)


def _reason(error: BaseException) -> str:
    """What the log may have: Telegram's own words on a request. A network error may quote anything."""
    return error.message if isinstance(error, BadRequest | Forbidden) else type(error).__name__
