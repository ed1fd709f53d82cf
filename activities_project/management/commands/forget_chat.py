"""`manage.py forget_chat`: erases all that is kept of a chat."""

from contextlib import closing
from typing import Any

from django.core.management.base import CommandError, CommandParser

from activities.cli import OneLineCommand, chat_id_of, must_reach_chats, wrong
from activities.container import unqueued
from activities.domain import ActivitiesError
from activities.ports import Call


class Command(OneLineCommand):
    help = "Erases a chat's activities, settings and answers to requests, and revokes its tokens."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--chat-id", required=True, metavar="N", help="the chat to forget")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        chat_id = chat_id_of(options)
        must_reach_chats()
        if not options["yes"]:
            try:
                answer = input(f"Erase all of chat {chat_id}? This cannot be undone. Type its id to go on: ")
            except (EOFError, KeyboardInterrupt):
                answer = ""
            if answer.strip() != str(chat_id):
                raise wrong("nothing was erased; type the chat's id when asked, or add --yes")
        with closing(unqueued()) as parts:
            try:
                parts.chats.forget(chat_id, call=Call())
            except ActivitiesError as error:
                raise CommandError(str(error)) from None
        self.say(f"Chat {chat_id} is forgotten.")
