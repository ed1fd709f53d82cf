"""`manage.py chat`: the bot's commands in a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from activities.cli import OneLineCommand, wrong
from activities.container import container, utc_now
from activities.domain import LANGUAGES, Broken, Violation, read_chat_id
from bot.commands import Commands
from bot.console import Conversation, language_of, read_file


class Command(OneLineCommand):
    help = "The bot's commands typed in a terminal, or from a pipe, one command a line."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--local", action="store_true", help="keep everything in this process's memory")
        parser.add_argument("--chat-id", default="1", metavar="N", help="the chat to act for (default: 1)")
        parser.add_argument(
            "--language",
            choices=LANGUAGES,
            default=language_of(os.environ),
            help="what to speak (default: by the locale, English unless it is Russian)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            chat_id = read_chat_id(options["chat_id"])
        except Broken as broken:
            raise wrong(f"--chat-id: {Violation('chat_id', broken.code, broken.params).message}") from None
        # One line for each command would stand between the replies to them.
        logging.getLogger("activities.requests").setLevel(logging.WARNING)
        parts = container()
        commands = Commands(
            parts.activities,
            parts.chats,
            parts.streams,
            access=parts.access,
            clock=utc_now,
            api_url=settings.ACTIVITIES_PUBLIC_URL,
            read_file=read_file,
        )
        conversation = Conversation(commands, chat_id=chat_id, language=options["language"], write=_write)
        try:
            if sys.stdin is None or sys.stdout is None:
                pass  # closed: nobody asks, or nobody reads
            elif sys.stdin.isatty() and sys.stdout.isatty():
                conversation.from_terminal()
            else:
                conversation.from_pipe(sys.stdin.buffer)
        except BrokenPipeError:
            pass  # nobody reads any more
        except OSError as failed:
            raise wrong(f"the conversation cannot go on ({failed.strerror or failed})") from None
        finally:
            parts.close()


def _write(text: str) -> None:
    """Writes past Python's buffer: what nobody reads must not wait there for the process's end."""
    rest = text.encode("utf-8", "replace")
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]
