"""A Bot API server for tests, as strict as Telegram: what breaks a documented rule is refused, and noted.

Each request is read by aiogram's models of the methods, which know nothing of our library.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from aiogram import methods
from aiogram.types import BufferedInputFile, InlineKeyboardMarkup, MessageEntity
from aiohttp import web
from pydantic import ValidationError

TOKEN = "42:a-token_of-the-tests"
NAME = "ThisBot"
SECONDS = 30.0  # what a test waits at most for anything
ANNA: dict[str, Any] = {"id": 1001, "is_bot": False, "first_name": "Anna", "language_code": "en"}
BORIS: dict[str, Any] = {"id": 1002, "is_bot": False, "first_name": "Борис", "language_code": "ru-RU"}
GROUP: dict[str, Any] = {"id": -2001, "type": "group", "title": "Family"}
ME: dict[str, Any] = {"id": 42, "is_bot": True, "first_name": "Activities", "username": NAME}

_METHODS = {
    name[0].lower() + name[1:]: getattr(methods, name)
    for name in (
        "GetMe",
        "GetUpdates",
        "SendMessage",
        "SendDocument",
        "GetFile",
        "EditMessageText",
        "AnswerCallbackQuery",
        "SendChatAction",
        "SetMyCommands",
        "SetWebhook",
        "DeleteWebhook",
    )
}
_TEXTS = frozenset(
    {"text", "caption", "file_id", "language_code", "callback_query_id", "url", "secret_token", "action", "parse_mode"}
)
"""Parameters whose value is the text itself, not JSON."""
MOST_SENT, MOST_FETCHED = 50 << 20, 20 << 20
"""The largest files that bots may send and fetch, in bytes."""

T = TypeVar("T")


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@dataclass(frozen=True)
class Sent:
    """A message as its reader sees it."""

    chat_id: int
    message_id: int
    text: str
    buttons: dict[str, str]
    """Data by label."""
    copies: list[str]
    """What is shown as code."""
    edits: bool = False
    thread_id: int | None = None
    answers: int | None = None
    file: tuple[str, bytes] | None = None
    """Name and content."""


@dataclass(frozen=True)
class Fault:
    """How a request fails. Without a status it is not answered until the client gives up, or after `seconds`."""

    status: int | None = None
    description: str = "told to fail"
    seconds: float = 0.0
    acts: bool = False
    """Whether the request is carried out all the same."""
    parameters: dict[str, int] = field(default_factory=dict)


class _Wrong(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.status, self.parameters = status, parameters


class Api:
    """The server. Its seconds last `second` seconds where it counts messages."""

    def __init__(self, *, second: float = 1.0) -> None:
        self.second = second
        self.broken_rules: list[str] = []
        self.messages: list[Sent] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.notices: list[tuple[str, str]] = []
        """Answered presses: query id, text."""
        self.commands: dict[str | None, dict[str, str]] = {}
        self.webhook: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        """What people have sent, by id."""
        self.given: list[str] = []
        """The ids of files that were given out."""
        self.unconfirmed: list[dict[str, Any]] = []
        self.old_queries: set[str] = set()
        self.handed_over = 0
        """Updates that getUpdates has answered with, each time counted."""
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._update_id, self._message_id = 7000, 100
        self._last_in_chat: dict[int, float] = {}
        self._in_group: dict[int, deque[float]] = defaultdict(deque)
        self._level = self._leaked_at = 0.0
        self._polls = 0

    # ----------------------------------------------------------------------------------- for tests

    def wait(self, ready: Callable[[], T], *, seconds: float = SECONDS, what: str = "") -> T:
        """What `ready` gives as soon as that is something."""
        with self._changed:
            found = self._changed.wait_for(ready, seconds)
        assert found, f"not within {seconds} s: {what or ready}; {self.texts()[-5:]}"
        return found

    def texts(self, chat_id: int | None = None) -> list[str]:
        return [each.text for each in list(self.messages) if chat_id in (None, each.chat_id)]

    def answers(self, chat_id: int, count: int = 1, *, seconds: float = SECONDS) -> list[str]:
        """The texts of all messages in a chat, once there are so many."""
        self.wait(lambda: len(self.texts(chat_id)) >= count, seconds=seconds, what=f"{count} messages in {chat_id}")
        return self.texts(chat_id)

    def confirmed(self) -> None:
        """Waits until the bot has confirmed everything."""
        self.wait(lambda: not self.unconfirmed, what="all updates confirmed")

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in list(self.calls))

    def fail(self, method: str, *faults: Fault) -> None:
        """The next requests of this method fail like this."""
        self._faults[method].extend(faults)

    def say(
        self,
        text: str | None,
        *,
        user: dict[str, Any] = ANNA,
        chat: dict[str, Any] | None = None,
        kind: str = "message",
        **more: Any,
    ) -> int:
        """A message of the user's, in private unless there is a chat; the update's id."""
        message = {**self._message(chat or private(user)), "from": user, **more}
        if text is not None:
            message["text"] = text
        if kind.startswith("edited_"):
            message["edit_date"] = message["date"]
        return self.deliver({kind: message})

    def upload(self, content: bytes, name: str = "activities.json", **more: Any) -> int:
        """A message of the user's with a file; its details are those of `say`."""
        return self.say(None, document=self.document(content, name), **more)

    @contextmanager
    def holding_files(self) -> Iterator[None]:
        """Meanwhile no file is given out."""
        self._loop.call_soon_threadsafe(self._giving.clear)
        yield
        self._loop.call_soon_threadsafe(self._giving.set)

    def document(self, content: bytes, name: str = "activities.json") -> dict[str, Any]:
        """A file on the server, as messages tell of it."""
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = content
        return {"file_id": file_id, "file_unique_id": file_id, "file_name": name, "file_size": len(content)}

    def press(
        self, data: str, message_id: int, *, user: dict[str, Any] = ANNA, chat: dict[str, Any] | None = None
    ) -> str:
        """A pressed button; the query's id."""
        message = {**self._message(chat or private(user)), "message_id": message_id, "from": ME, "text": "?"}
        query_id = f"query-{self._update_id}"
        query = {"id": query_id, "from": user, "chat_instance": "1", "message": message, "data": data}
        self.deliver({"callback_query": query})
        return query_id

    def deliver(self, content: dict[str, Any]) -> int:
        """An update, also one that was delivered before."""
        update = {"update_id": self._next_id(), **content}
        with self._changed:
            self.unconfirmed.append(update)
            self.unconfirmed.sort(key=lambda each: each["update_id"])
            self._changed.notify_all()
        if hasattr(self, "_loop"):
            self._loop.call_soon_threadsafe(self._news.set)
        return int(update["update_id"])

    def bring(self, content: dict[str, Any], **headers: str) -> httpx.Response:
        """Takes an update to the webhook, as Telegram does, with the right secret unless there is another."""
        right = {"x-telegram-bot-api-secret-token": self.webhook["secret_token"], **headers}
        update = {"update_id": self._next_id(), **content}
        return httpx.post(self.webhook["url"], json=update, headers=right, timeout=SECONDS)

    def message_of(self, text: str, user: dict[str, Any] = ANNA) -> dict[str, Any]:
        return {"message": {**self._message(private(user)), "from": user, "text": text}}

    def _next_id(self) -> int:
        self._update_id += 1
        return self._update_id

    def _message(self, chat: dict[str, Any]) -> dict[str, Any]:
        self._message_id += 1
        return {"message_id": self._message_id, "date": int(time.time()), "chat": chat}

    # ----------------------------------------------------------------------------------- the server

    @contextmanager
    def serving(self) -> Iterator[Api]:
        """The server on a port of its own, in a thread; at the end every broken rule fails the test."""
        up = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(up)), name="api")
        thread.start()
        up.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._ending.set)
            thread.join()
        assert not self.broken_rules, self.broken_rules

    async def _serve(self, up: threading.Event) -> None:
        self._loop, self._ending, self._news = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._giving = asyncio.Event()
        self._giving.set()
        application = web.Application(client_max_size=MOST_SENT)
        application.router.add_post("/bot{token}/{method}", self._answer)
        application.router.add_get("/file/bot{token}/documents/{file}", self._give)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{self.port}/bot"
        up.set()
        await self._ending.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["method"]
        form = {key: _read(value) for key, value in (await request.post()).items()}
        try:
            if request.match_info["token"] != TOKEN:
                raise _Wrong(401, "Unauthorized")
            fault = self._faults[name].popleft() if self._faults[name] else None
            if fault and not fault.acts:
                await self._fail(fault)
            result = await self._carry_out(name, form)
            if fault:
                await self._fail(fault)
        except _Wrong as wrong:
            body = {"ok": False, "error_code": wrong.status, "description": str(wrong)}
            if wrong.parameters:
                body["parameters"] = wrong.parameters
            return web.json_response(body, status=wrong.status)
        finally:
            with self._changed:
                self._changed.notify_all()
        return web.json_response({"ok": True, "result": result})

    async def _give(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults["file"].popleft() if self._faults["file"] else None
        try:
            if fault:
                await self._fail(fault)
            await self._giving.wait()
            file_id = request.match_info["file"]
            content = self.files.get(file_id)
            if request.match_info["token"] != TOKEN or content is None:
                raise _Wrong(404, "Not Found")
        except _Wrong as wrong:
            return web.json_response({"ok": False, "error_code": wrong.status}, status=wrong.status)
        self.given.append(file_id)
        return web.Response(body=content)

    async def _fail(self, fault: Fault) -> None:
        if fault.status is None:
            await asyncio.sleep(fault.seconds or 3600)
        else:
            raise _Wrong(fault.status, fault.description, **fault.parameters)

    async def _carry_out(self, name: str, form: dict[str, Any]) -> Any:
        model = _METHODS.get(name)
        if model is None:
            raise self._rule_broken(f"no method {name}")
        given = {
            key: _json(value) if isinstance(value, str) and key not in _TEXTS else value for key, value in form.items()
        }
        if unknown := given.keys() - model.model_fields.keys():
            raise self._rule_broken(f"{name} has no {', '.join(unknown)}")
        try:
            read = model.model_validate(given)
        except ValidationError as wrong:
            raise self._rule_broken(f"{name}: {wrong}") from None
        with self._changed:
            self.calls.append((name, given))
            self._changed.notify_all()
        return await getattr(self, f"_{name}")(read)

    def _rule_broken(self, what: str) -> _Wrong:
        self.broken_rules.append(what)
        return _Wrong(400, f"Bad Request: {what}")

    # ---------------------------------------------------------------------------------- the methods

    async def _getMe(self, _: methods.GetMe) -> Any:  # noqa: N802 - Telegram's names
        return {**ME, "can_join_groups": True, "can_read_all_group_messages": False, "supports_inline_queries": False}

    async def _getUpdates(self, asked: methods.GetUpdates) -> Any:  # noqa: N802
        if self.webhook:
            raise _Wrong(409, "Conflict: can't use getUpdates method while webhook is active")
        self._polls += 1
        me = self._polls
        with self._changed:
            self.unconfirmed[:] = [each for each in self.unconfirmed if each["update_id"] >= (asked.offset or 0)]
            self._changed.notify_all()
        end = self._loop.time() + (asked.timeout or 0)
        while not self.unconfirmed and (left := end - self._loop.time()) > 0:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                break
            if me != self._polls:
                raise _Wrong(409, "Conflict: terminated by other getUpdates request")
        found = self.unconfirmed[: asked.limit or 100]
        self.handed_over += len(found)
        return found

    async def _sendMessage(self, asked: methods.SendMessage) -> Any:  # noqa: N802
        chat_id = int(asked.chat_id)
        self._check_text(asked)
        self._check_rate(chat_id)
        self._message_id += 1
        answered = asked.reply_parameters.message_id if asked.reply_parameters else None
        return self._sent(chat_id, self._message_id, asked, thread_id=asked.message_thread_id, answers=answered)

    async def _sendDocument(self, asked: methods.SendDocument) -> Any:  # noqa: N802
        chat_id = int(asked.chat_id)
        file = asked.document
        if not isinstance(file, BufferedInputFile) or not file.filename or not 1 <= len(file.data) <= MOST_SENT:
            raise self._rule_broken("a document is a file with a name, of 1 byte to 50 MB")
        if units(asked.caption or "") > 1024:
            raise self._rule_broken(f"a caption has at most 1024 characters, not {units(asked.caption or '')}")
        self._check_markup(asked.caption or "", asked.caption_entities, asked.reply_markup, asked.parse_mode)
        self._check_rate(chat_id)
        self._message_id += 1
        answered = asked.reply_parameters.message_id if asked.reply_parameters else None
        text = methods.SendMessage(chat_id=chat_id, text=asked.caption or "", entities=asked.caption_entities)
        place = {"thread_id": asked.message_thread_id, "answers": answered}
        told = self._sent(chat_id, self._message_id, text, file=(file.filename, file.data), **place)
        return told | {"document": self.document(file.data, file.filename)}

    async def _getFile(self, asked: methods.GetFile) -> Any:  # noqa: N802
        content = self.files.get(asked.file_id)
        if content is None:
            raise _Wrong(400, "Bad Request: wrong file_id or the file is temporarily unavailable")
        if len(content) > MOST_FETCHED:
            raise _Wrong(400, "Bad Request: file is too big")
        found = {"file_id": asked.file_id, "file_unique_id": asked.file_id, "file_size": len(content)}
        return found | {"file_path": f"documents/{asked.file_id}"}

    async def _editMessageText(self, asked: methods.EditMessageText) -> Any:  # noqa: N802
        assert asked.chat_id is not None
        chat_id = int(asked.chat_id)
        self._check_text(asked)
        self._check_rate(chat_id)
        before = [each for each in self.messages if (each.chat_id, each.message_id) == (chat_id, asked.message_id)]
        if not before:
            raise _Wrong(400, "Bad Request: message to edit not found")
        buttons = _buttons(asked.reply_markup)
        if (before[-1].text, before[-1].buttons) == (asked.text, buttons):
            raise _Wrong(400, "Bad Request: message is not modified: specified new message content and reply markup")
        return self._sent(chat_id, before[-1].message_id, asked, edits=True)

    async def _answerCallbackQuery(self, asked: methods.AnswerCallbackQuery) -> Any:  # noqa: N802
        if units(asked.text or "") > 200:
            raise self._rule_broken("a notice has at most 200 characters")
        self.notices.append((asked.callback_query_id, asked.text or ""))
        if asked.callback_query_id in self.old_queries:
            raise _Wrong(400, "Bad Request: query is too old and response timeout expired or query id is invalid")
        return True

    async def _sendChatAction(self, asked: methods.SendChatAction) -> Any:  # noqa: N802
        return asked.action == "typing" or self._rule_broken("typing is all we do")

    async def _setMyCommands(self, asked: methods.SetMyCommands) -> Any:  # noqa: N802
        for each in asked.commands:
            if not re.fullmatch("[a-z0-9_]{1,32}", each.command) or not 1 <= units(each.description) <= 256:
                raise self._rule_broken(f"not a command: {each}")
        self.commands[asked.language_code] = {each.command: each.description for each in asked.commands}
        return True

    async def _setWebhook(self, asked: methods.SetWebhook) -> Any:  # noqa: N802
        if not re.fullmatch("[A-Za-z0-9_-]{1,256}", asked.secret_token or ""):
            raise self._rule_broken("not a secret token")
        self.webhook = {"url": asked.url, "secret_token": asked.secret_token or ""}
        return True

    async def _deleteWebhook(self, _: methods.DeleteWebhook) -> Any:  # noqa: N802
        self.webhook = {}
        return True

    # ------------------------------------------------------------------------------------- the rules

    def _check_text(self, asked: methods.SendMessage | methods.EditMessageText) -> None:
        text = asked.text or ""
        if not units(text.strip()) >= 1 or units(text) > 4096:
            raise self._rule_broken(f"a text has 1 to 4096 characters, not {units(text)}")
        if asked.link_preview_options is None or not getattr(asked.link_preview_options, "is_disabled", False):
            raise self._rule_broken("previews of links are off")
        self._check_markup(text, asked.entities, asked.reply_markup, asked.parse_mode)

    def _check_markup(self, text: str, entities: list[MessageEntity] | None, markup: Any, parse_mode: Any) -> None:
        if isinstance(parse_mode, str):
            raise self._rule_broken("what people write would be markup")
        for each in entities or []:
            if each.length < 1 or each.offset < 0 or each.offset + each.length > units(text):
                raise self._rule_broken(f"an entity out of bounds: {each}")
        if isinstance(markup, InlineKeyboardMarkup):
            for button in (button for row in markup.inline_keyboard for button in row):
                if not button.text or not 1 <= len((button.callback_data or "").encode()) <= 64:
                    raise self._rule_broken(f"a button has a label and 1 to 64 bytes: {button}")

    def _check_rate(self, chat_id: int) -> None:
        """Not more than 30 at once and 30 a second; one a second in a chat; 20 in any minute in a group."""
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._leaked_at) * 30 / self.second) + 1
        self._leaked_at = now
        if self._level > 31:
            raise self._rule_broken("more than 30 messages a second")
        if now - self._last_in_chat.get(chat_id, -self.second) < self.second:
            raise self._rule_broken(f"more than one message a second in chat {chat_id}")
        self._last_in_chat[chat_id] = now
        if chat_id < 0:
            minute = self._in_group[chat_id]
            minute.append(now)
            while minute[0] <= now - 60 * self.second:
                minute.popleft()
            if len(minute) > 20:
                raise self._rule_broken(f"more than 20 messages a minute in group {chat_id}")

    def _sent(self, chat_id: int, message_id: int, asked: Any, **more: Any) -> dict[str, Any]:
        entities: list[MessageEntity] = asked.entities or []
        copies = [each.extract_from(asked.text) for each in entities if each.type == "code"]
        sent = Sent(chat_id, message_id, asked.text, _buttons(asked.reply_markup), copies, **more)
        with self._changed:
            self.messages.append(sent)
            self._changed.notify_all()
        chat = {"id": chat_id, "type": "private", "first_name": "?"} if chat_id > 0 else GROUP | {"id": chat_id}
        return {"message_id": message_id, "date": int(time.time()), "chat": chat, "from": ME, "text": asked.text}


def private(user: dict[str, Any]) -> dict[str, Any]:
    return {"id": user["id"], "type": "private", "first_name": user["first_name"]}


def _read(value: str | bytes | bytearray | web.FileField) -> str | BufferedInputFile:
    if isinstance(value, web.FileField):
        return BufferedInputFile(value.file.read(), value.filename)
    return str(value)


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _buttons(markup: Any) -> dict[str, str]:
    rows = markup.inline_keyboard if markup else []
    return {button.text: button.callback_data or "" for row in rows for button in row}
