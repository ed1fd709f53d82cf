"""What of Telegram's updates is for us."""

from __future__ import annotations

import re
from dataclasses import dataclass

from telegram import CallbackQuery, Message, Update, User
from telegram.constants import ChatType

ASKED_FOR = ("message", "edited_message", "callback_query")
"""The kinds of update that Telegram is to send."""

_COMMAND = re.compile(r"\s*/[^\s@]+(?:@(?P<bot>\S*))?(?=\s|$)")
_IMPORT = re.compile(r"\s*/import(?=[\s@]|$)", re.IGNORECASE)
"""The one command that a caption may be: a file is for us when its sender says so."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that came along."""

    file_id: str
    size: int | None
    """In bytes, when Telegram says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A message, new or edited."""

    chat_id: int
    user_id: int
    language: str | None
    """The language code of the person's Telegram."""
    is_private: bool
    message_id: int
    thread_id: int | None
    text: str
    """Empty for a picture, a voice message and the like."""
    needs_dialog: bool
    """Whether it is for us only as the answer to a question of ours."""
    attached: Attached | None = None
    """The message's file, or the one that it answers with /import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """A button under a message of ours."""

    chat_id: int
    user_id: int
    language: str | None
    is_private: bool
    message_id: int
    thread_id: int | None
    query_id: str
    data: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A group that has become another chat."""

    chat_id: int
    to_chat_id: int


Incoming = Written | Pressed | Moved


def chat_of(update: Update) -> int:
    """The chat within which the update has its order; 0 when it has none."""
    chat = update.effective_chat
    return chat.id if chat else 0


def read(update: Update, bot: User) -> Incoming | None:
    """What the update wants of us; None when that is nothing."""
    if update.callback_query is not None:
        return _read_press(update.callback_query)
    message = update.message or update.edited_message
    if message is None or message.chat.type == ChatType.CHANNEL:
        return None
    if message.migrate_to_chat_id:
        return Moved(message.chat.id, message.migrate_to_chat_id)
    if message.migrate_from_chat_id:
        return Moved(message.migrate_from_chat_id, message.chat.id)
    return _read_message(message, bot, is_edited=update.edited_message is not None)


def _read_press(query: CallbackQuery) -> Pressed | None:
    if query.message is None:  # under a message that is not ours
        return None
    topic = query.message if isinstance(query.message, Message) and query.message.is_topic_message else None
    return Pressed(
        chat_id=query.message.chat.id,
        user_id=query.from_user.id,
        language=query.from_user.language_code,
        is_private=query.message.chat.type == ChatType.PRIVATE,
        message_id=query.message.message_id,
        thread_id=topic.message_thread_id if topic else None,
        query_id=query.id,
        data=query.data or "",
    )


def _read_message(message: Message, bot: User, *, is_edited: bool) -> Written | None:
    sender = message.sender_chat or message.from_user  # an anonymous administrator writes as the group
    if sender is None or message.is_automatic_forward or (isinstance(sender, User) and sender.is_bot):
        return None
    text = message.text or (message.caption if message.document and _IMPORT.match(message.caption or "") else None)
    if text is None and (is_edited or not (message.effective_attachment or message.checklist)):
        return None  # a live location that moves on; that somebody joined, a pinned message and the like
    is_private = message.chat.type == ChatType.PRIVATE
    command = _COMMAND.match(text or "")
    if not is_private and command and command["bot"] and command["bot"].lower() != (bot.username or "").lower():
        return None
    answered = message.reply_to_message
    is_reply = answered is not None and answered.from_user is not None and answered.from_user.id == bot.id
    for_us = is_private or command or is_reply
    if not for_us and text is None and message.document is None:
        return None
    document = message.document or (answered.document if answered and _IMPORT.match(text or "") else None)
    return Written(
        chat_id=message.chat.id,
        user_id=sender.id,
        language=message.from_user.language_code if message.from_user else None,
        is_private=is_private,
        message_id=message.message_id,
        thread_id=message.message_thread_id if message.is_topic_message else None,
        text=text or "",
        needs_dialog=not for_us,
        attached=Attached(document.file_id, document.file_size) if document else None,
    )
