"""The Telegram bot: updates in, replies out, through `bot.commands`."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import aclosing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID, uuid5

import telegram
from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as _
from telegram import BotCommand, Update, User
from telegram.error import BadRequest, Conflict, InvalidToken, NetworkError, RetryAfter, TelegramError, TimedOut
from telegram.request import HTTPXRequest

from activities.cli import STOP_SECONDS, cannot_listen, listening_host
from activities.container import Container, utc_now
from activities.domain import LANGUAGES, ActivitiesError
from activities.ports import Call, Cancelled, Chats
from activities.tls import server_tls
from bot import texts
from bot.asked import Refused
from bot.chat_files import MOST_BYTES
from bot.commands import Commands, spoken
from bot.incoming import ASKED_FOR, Attached, Incoming, Moved, Pressed, Written, chat_of, read
from bot.replies import Reply, Text
from bot.sending import CALL_SECONDS, FileRefused, Place, Sender, Undeliverable
from bot.updates import Updates
from bot.webhook import Webhook

POLL_SECONDS = 25
"""How long Telegram holds a poll open when there is nothing new."""
PACE_SECONDS = 0.25
"""How soon it is asked again while updates are in hand, which it would show again at once."""
STEP_SECONDS = 15.0
"""How long a use case may take to the next reply; each has shorter limits of its own."""
TYPING_AFTER, TYPING_EVERY = 1.0, 4.0
"""When the typing indicator is shown, in seconds; Telegram takes it away after 5."""
THREADS = 16
"""For use cases; more than there are slots in a storage, so that it is the storage that says no."""
START_SECONDS = 10.0
"""How long Telegram may take to tell whether the token is right."""
LONGEST_PAUSE_SECONDS = 30.0
"""Between two attempts to reach Telegram."""
SAME_PRESS_SECONDS = 3.0
"""Within which pressing the same button again is taken for a double tap."""
MOST_REMEMBERED = 10_000
"""Messages whose last pressed button is known."""
MOVE_ATTEMPTS = 8
FETCH_SECONDS = 10.0
"""How long Telegram may take to give out a file."""
MOST_FILES = 4
"""Messages with files that are answered at once: reading them takes threads, and a while."""
MOST_OPEN = 20
"""Updates of one chat that wait for their answers, of which it gets one a second: more would keep the others waiting,
since Telegram shows 100 at once."""
_REQUESTS = UUID("6f5902ac-237b-5bb0-b21f-5f0eb6fd2aa8")
"""The name space of request ids; the same in every release, since an update may come again to the next one."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class WrongToken(Exception):
    """Telegram knows no bot with this token."""


class OutOfReach(Exception):
    """Telegram does not answer; the words say why."""


@dataclass(frozen=True)
class Account:
    """The bot's account with Telegram, or with another server of the Bot API."""

    token: str = field(repr=False)
    base_url: str
    """The token is appended to it."""

    def bot(self) -> _Bot:
        request = partial(HTTPXRequest, read_timeout=CALL_SECONDS, connect_timeout=5.0, pool_timeout=CALL_SECONDS)
        return _Bot(
            self.token,
            base_url=self.base_url,
            base_file_url="{}/file/{}".format(*self.base_url.rsplit("/", 1)),
            request=request(connection_pool_size=128),
            get_updates_request=request(connection_pool_size=2),
        )

    def check(self) -> User:
        """Who the bot is. Raises `WrongToken` or `OutOfReach`."""

        async def ask() -> User:
            async with asyncio.timeout(START_SECONDS), self.bot() as bot:
                return bot.bot

        try:
            return asyncio.run(ask())
        except InvalidToken:  # it would quote the token
            raise WrongToken from None
        except (TelegramError, TimeoutError) as failed:
            raise OutOfReach(_reason(failed)) from None


class _Bot(telegram.Bot):
    async def raw_updates(self, *, offset: int | None, seconds: int, limit: int = 100) -> list[dict[str, Any]]:
        """`get_updates` without reading them: one that cannot be read must not hide the others for ever."""
        data = {"offset": offset, "timeout": seconds, "limit": limit, "allowed_updates": ASKED_FOR}
        async with asyncio.timeout(CALL_SECONDS + seconds):
            return cast(
                "list[dict[str, Any]]", await self._post("getUpdates", data, read_timeout=CALL_SECONDS + seconds)
            )


class TelegramBot:
    """Answers in a thread with an event loop of its own, from `start` to `close`.

    Updates come through `webhook`, or are asked for. Only the chats in `allowed` are served; empty: all. Telegram's
    limits count in seconds that last `second` seconds.
    """

    def __init__(
        self,
        account: Account,
        commands: Commands,
        chats: Chats,
        *,
        allowed: frozenset[int] = frozenset(),
        webhook: Webhook | None = None,
        second: float = 1.0,
    ) -> None:
        self._account = account
        self._commands = commands
        self._chats = chats
        self._allowed = allowed
        self._webhook = webhook
        self._second = second
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bot")
        self._presses: OrderedDict[tuple[int, int, int], tuple[str, float, str]] = OrderedDict()
        self._flooding: set[int] = set()
        self._heard_at = time.monotonic()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="telegram")

    def check(self) -> str:
        """The bot's name. Raises `WrongToken` or `OutOfReach`."""
        return self._account.check().username or ""

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def close(self) -> None:
        """Takes no new update, and lets those in hand end for `STOP_SECONDS`; the others come again."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._webhook:
            self._webhook.close()

    def silent_for(self) -> float:
        """For how many seconds Telegram has not been reached."""
        return time.monotonic() - self._heard_at

    # ------------------------------------------------------------------------------- from start to stop

    async def _main(self) -> None:
        self._loop, self._stopping, self._updates = asyncio.get_running_loop(), asyncio.Event(), Updates()
        self._bot = self._account.bot()
        self._sender = Sender(self._bot, move=self._move, second=self._second)
        self._files = asyncio.Semaphore(MOST_FILES)
        self._started.set()
        introducing = asyncio.create_task(self._introduce())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([introducing, stopped], return_when=asyncio.FIRST_COMPLETED)
        if introducing.done():
            await (self._listen() if self._webhook else self._poll())
        introducing.cancel()
        with suppress(Exception):
            await self._bot.shutdown()

    async def _introduce(self) -> None:
        """Says who we are, and how updates are to come, as soon as Telegram can be reached."""

        async def once() -> None:
            await self._bot.initialize()
            if self._webhook:
                await self._bot.set_webhook(
                    self._webhook.url, secret_token=self._webhook.secret, allowed_updates=ASKED_FOR
                )
            else:
                await self._bot.delete_webhook()
            for code in LANGUAGES:
                with translation.override(code):
                    known = [
                        BotCommand(usage.command, usage.meaning) for usage in map(texts.Usage.translated, texts.USAGES)
                    ]
                await self._bot.set_my_commands(known, language_code=None if code == "en" else code)

        await self._persist(lambda: _within(CALL_SECONDS * 2, once()))
        logger.info("Telegram: @%s", self._bot.username)

    async def _persist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What the call gives, tried until Telegram answers it."""
        pause, told = 1.0, ""
        while True:
            try:
                answer = await call()
            except Exception as failed:
                reason = _reason(failed)
                if reason != told:
                    logger.warning("Telegram: %s; trying again", reason)
                if not isinstance(failed, TelegramError | TimeoutError):
                    logger.exception("that was not expected")
                told = reason
                wait = failed.retry_after if isinstance(failed, RetryAfter) else pause * random.uniform(0.5, 1)  # noqa: S311
                await asyncio.sleep((wait if isinstance(wait, int | float) else wait.total_seconds()) * self._second)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                if told:
                    logger.warning("Telegram: back again")
                self._heard_at = time.monotonic()
                return answer

    async def _poll(self) -> None:
        polling = asyncio.create_task(self._poll_on())
        await self._stopping.wait()
        polling.cancel()
        await self._updates.finish(seconds=STOP_SECONDS - 1.5)
        if (offset := self._updates.offset) is not None:
            with suppress(TelegramError, TimeoutError):
                await _within(1.0, self._bot.raw_updates(offset=offset, seconds=0, limit=1))

    async def _poll_on(self) -> None:
        while True:
            offset, seconds = self._updates.offset, 0 if self._updates.in_hand else POLL_SECONDS
            found = await self._persist(partial(self._bot.raw_updates, offset=offset, seconds=seconds))
            self._updates.confirm(offset)
            for raw in found:
                self.take(raw, polled=True)
            if self._updates.in_hand:
                await self._updates.halved(seconds=PACE_SECONDS)

    async def _listen(self) -> None:
        assert self._webhook is not None
        async with self._webhook.listening(self.take):
            self._heard_at = float("inf")  # it is Telegram that calls
            await self._stopping.wait()
            self._webhook.refuse()
            await self._updates.finish(seconds=STOP_SECONDS - 1.5)

    # ------------------------------------------------------------------------------------ one update

    def take(self, raw: Mapping[str, Any], *, polled: bool = False) -> asyncio.Task[None]:
        """Handles an update as Telegram sends it, unless that is done or under way; its task. Raises `KeyError`."""
        update_id = int(raw["update_id"])
        try:
            update = None if update_id in self._updates else Update.de_json(dict(raw), self._bot)
            incoming = read(update, self._bot.bot) if update else None
        except Exception as failed:  # a kind that is newer than our library
            logger.error("update %s cannot be read (%s)", update_id, type(failed).__name__)
            update = incoming = None
        chat_id = chat_of(update) if update else 0
        handle = partial(self._handle, update_id, incoming)
        if isinstance(incoming, Written) and self._updates.open_of(chat_id) >= MOST_OPEN:
            if chat_id in self._flooding:
                return self._updates.take(update_id, 0, _nothing, polled=polled)
            self._flooding.add(chat_id)
            handle = partial(self._slow_down, incoming, self._request_id(update_id))
        return self._updates.take(update_id, chat_id, handle, polled=polled)

    async def _handle(self, update_id: int, incoming: Incoming | None) -> None:
        if isinstance(incoming, Moved):
            await self._move(incoming.chat_id, incoming.to_chat_id)
        elif incoming is not None:
            await self._answer(incoming, self._request_id(update_id))

    def _request_id(self, update_id: int) -> UUID:
        return uuid5(_REQUESTS, f"{self._bot.id} {update_id}")

    async def _slow_down(self, asked: Written, reference: UUID) -> None:
        """Tells a chat that has too many updates open, once for all that are too many."""
        self._flooding.discard(asked.chat_id)
        to = Place(self._sender.moved(asked.chat_id), reference=reference, thread_id=asked.thread_id)
        with translation.override(spoken(asked.language or "")):
            slower = _("That was a lot at once. Please try again in {seconds} s.").format(seconds=MOST_OPEN)
        with suppress(Undeliverable):
            await self._sender.send(Reply((Text(slower),)), to)

    async def _answer(self, asked: Written | Pressed, request_id: UUID) -> None:
        chat_id = self._sender.moved(asked.chat_id)
        answers = asked.message_id if isinstance(asked, Written) and not asked.is_private else None
        to = Place(chat_id, reference=request_id, thread_id=asked.thread_id, answers=answers)
        self._sender.is_back(chat_id)
        try:
            if self._allowed and not self._allowed & {chat_id, asked.chat_id}:
                await self._turn_away(asked, to)
            elif isinstance(asked, Pressed):
                await self._answer_press(asked, to, request_id)
            else:
                await self._answer_message(asked, to, request_id)
        except Undeliverable:
            pass  # the log has it
        except Exception:
            logger.exception("an update failed; reference %s", request_id)
            with translation.override(spoken(asked.language or "")):
                sorry = Reply((Text(_("Sorry, something went wrong on my side.")), texts.reference(request_id)))
            with suppress(Undeliverable):
                await self._sender.send(sorry, to)

    async def _answer_message(self, asked: Written, to: Place, request_id: UUID) -> None:
        is_asked_for = self._commands.awaits_file if asked.attached else self._commands.has_dialog
        if asked.needs_dialog and not await self._waited_for(
            self._threads.submit(is_asked_for, to.chat_id, asked.user_id), to
        ):
            return
        replies = self._commands.answer(
            asked.text,
            chat_id=to.chat_id,
            language=asked.language,
            request_id=request_id,
            user_id=asked.user_id,
            is_private=asked.is_private,
            has_buttons=True,
            attached=partial(self._fetched, asked.attached, request_id) if asked.attached else None,
        )
        async with self._files if asked.attached else nullcontext(), aclosing(self._steps(replies, to)) as steps:
            async for reply in steps:
                self._forget_presses(reply, to)
                try:
                    if reply.lines:
                        await self._sender.send(reply, to)
                except FileRefused:
                    await self._sender.send(Reply((Text(reply.instead_of_file),)), to)
                    return

    def _fetched(self, file: Attached, reference: UUID) -> bytes:
        """The file's content. For the thread of a use case; raises `Refused`."""
        content = None
        try:
            if (file.size or 0) <= MOST_BYTES:
                content = asyncio.run_coroutine_threadsafe(self._fetch(file), self._loop).result()
        except CancelledError:
            raise Cancelled from None
        except (TelegramError, TimeoutError) as failed:
            logger.warning("a file was not to be had (%s); reference %s", _reason(failed), reference)
            raise Refused(Text(texts.file_not_to_be_had())) from None
        if content is None:
            raise Refused(Text(texts.file_too_large(MOST_BYTES)))
        return content

    async def _fetch(self, file: Attached) -> bytes | None:
        """The file's content; None when it is too large."""
        async with asyncio.timeout(FETCH_SECONDS):
            found = await self._bot.get_file(file.file_id)
            if (found.file_size or 0) > MOST_BYTES:
                return None
            return bytes(await found.download_as_bytearray(read_timeout=FETCH_SECONDS))

    def _forget_presses(self, reply: Reply, to: Place) -> None:
        if reply.forgets:
            for button in [each for each in self._presses if each[0] == to.chat_id]:
                del self._presses[button]

    async def _answer_press(self, asked: Pressed, to: Place, request_id: UUID) -> None:
        """Acts on a button and tells Telegram that it was pressed, whatever comes of it. A double tap is one press."""
        button = (asked.chat_id, asked.message_id, asked.user_id)
        data, pressed_at, notice = self._presses.get(button, ("", 0.0, ""))
        if data == asked.data and time.monotonic() - pressed_at < SAME_PRESS_SECONDS:
            await self._sender.answer_press(asked.query_id, notice, to.reference)
            return
        replies = self._commands.press(
            asked.data,
            chat_id=to.chat_id,
            user_id=asked.user_id,
            language=asked.language,
            request_id=request_id,
            is_private=asked.is_private,
        )
        notice, is_told = "", False
        try:
            async with aclosing(self._steps(replies, to)) as steps:
                async for reply in steps:
                    if not is_told:
                        notice, is_told = reply.notice, True
                        await self._sender.answer_press(asked.query_id, notice, to.reference)
                    self._forget_presses(reply, to)
                    if reply.lines:
                        await self._sender.send(reply, to, edits=asked.message_id if reply.replaces else None)
        finally:
            if not is_told:
                await self._sender.answer_press(asked.query_id, "", to.reference)
        self._presses[button] = asked.data, time.monotonic(), notice
        if len(self._presses) > MOST_REMEMBERED:
            self._presses.popitem(last=False)

    async def _turn_away(self, asked: Written | Pressed, to: Place) -> None:
        with translation.override(spoken(asked.language or "")):
            sentence = texts.not_for_this_chat(to.chat_id)
        if isinstance(asked, Pressed):
            await self._sender.answer_press(asked.query_id, sentence, to.reference)
        elif not asked.needs_dialog:
            await self._sender.send(Reply((Text(sentence),)), to)

    async def _move(self, chat_id: int, to_chat_id: int) -> None:
        """Takes all that a chat has along to its new id. Telegram says so up to three times; once is enough."""
        if self._sender.moved(chat_id) == to_chat_id:
            return
        pause = 1.0
        for _attempt in range(MOVE_ATTEMPTS):
            try:
                move = partial(self._chats.move, chat_id, to_chat_id=to_chat_id, call=Call())
                await asyncio.wrap_future(self._threads.submit(move))
            except ActivitiesError as failed:
                reason = type(failed).__name__
                await asyncio.sleep(pause * self._second)
                pause *= 2
            else:
                logger.info("chat %s has become %s; all it has was taken along", chat_id, to_chat_id)
                break
        else:
            logger.error(
                "chat %s has become %s, and could not take along what it has (%s)", chat_id, to_chat_id, reason
            )
        self._sender.moved(chat_id, to_chat_id)
        if chat_id in self._allowed:  # until the setting names it
            self._allowed |= {to_chat_id}

    async def _steps(self, replies: Generator[Reply, None, None], to: Place) -> AsyncGenerator[Reply, None]:
        """The replies, each made in a thread within `STEP_SECONDS`."""
        step: Future[Reply | None] | None = None
        try:
            while True:
                step = self._threads.submit(next, replies, None)
                reply = await self._waited_for(step, to)
                if reply is None:
                    return
                yield reply
        finally:
            if step is None or step.done():
                self._threads.submit(replies.close)
            else:  # it took too long, and cannot be closed while it goes on
                step.add_done_callback(lambda _: replies.close())

    async def _waited_for(self, step: Future[T], to: Place) -> T:
        """The step's result; whoever waits sees that something is being done."""
        typing = asyncio.create_task(self._type(to))
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await asyncio.wrap_future(step)
        finally:
            typing.cancel()

    async def _type(self, to: Place) -> None:
        await asyncio.sleep(TYPING_AFTER)
        while True:
            await self._sender.show_typing(to)
            await asyncio.sleep(TYPING_EVERY)


async def _nothing() -> None:
    """For updates that are not acted on."""


def telegram_bot(parts: Container, *, insecure: bool = False) -> TelegramBot:
    """The bot of the settings on these parts, its webhook's port taken. Ends a command where it cannot start."""
    account = Account(settings.TELEGRAM_BOT_TOKEN, settings.TELEGRAM_API_BASE_URL)
    return TelegramBot(
        account,
        Commands(
            parts.activities,
            parts.chats,
            parts.streams,
            access=parts.access,
            clock=utc_now,
            fair_use=parts.access.fair_use,
            transport="telegram",
            api_url=settings.ACTIVITIES_PUBLIC_URL,
        ),
        parts.chats,
        allowed=settings.TELEGRAM_ALLOWED_CHAT_IDS,
        webhook=_webhook(account, insecure=insecure),
    )


def _webhook(account: Account, *, insecure: bool) -> Webhook | None:
    if not settings.TELEGRAM_WEBHOOK_URL:
        return None
    name, address, tls = "TELEGRAM_WEBHOOK_ADDRESS", settings.TELEGRAM_WEBHOOK_ADDRESS, server_tls()
    listening_host(name, address, insecure=insecure, tls=tls is not None)
    try:
        return Webhook(settings.TELEGRAM_WEBHOOK_URL, address, token=account.token, key=settings.SECRET_KEY, tls=tls)
    except OSError as failed:
        raise cannot_listen(name, address, failed) from None


async def _within(seconds: float, call: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await call


def _reason(failed: BaseException) -> str:
    """What may be logged of an error: some quote the token."""
    if isinstance(failed, InvalidToken):
        return "the token is refused"
    if isinstance(failed, Conflict):
        return "another process polls with the same token, or has set a webhook"
    if isinstance(failed, BadRequest):
        return failed.message
    if isinstance(failed, TimedOut | TimeoutError):
        return "out of reach (no answer in time)"
    if isinstance(failed, NetworkError):
        return f"out of reach ({type(failed.__cause__ or failed).__name__})"
    return type(failed).__name__
