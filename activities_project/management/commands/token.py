"""`manage.py token`: gives out chat tokens, and takes them back."""

import time
from contextlib import closing
from typing import Any

from django.core.management.base import CommandError, CommandParser

from activities.cli import OneLineCommand, OneLineParser, chat_id_of, must_reach_chats
from activities.container import access, unqueued
from activities.domain import ActivitiesError
from activities.ports import Call


class Command(OneLineCommand):
    help = "Gives out a token that opens one chat, or revokes all of a chat's."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(
            dest="action", required=True, metavar="{issue,revoke}", parser_class=OneLineParser
        )
        issue = actions.add_parser("issue", help="print a new token and nothing else", allow_abbrev=False)
        issue.add_argument("--chat-id", required=True, metavar="N", help="the chat that it opens")
        issue.add_argument("--local", action="store_true", help="for a process that was started with --local")
        revoke = actions.add_parser("revoke", help="make a chat's tokens worthless", allow_abbrev=False)
        revoke.add_argument("--chat-id", required=True, metavar="N", help="the chat that they open")

    def handle(self, *args: Any, **options: Any) -> None:
        chat_id = chat_id_of(options)
        if options["action"] == "issue":
            self._issue(chat_id)
        else:
            self._revoke(chat_id)

    def _issue(self, chat_id: int) -> None:
        # It works without a store, which could tell that the chat's tokens were revoked in this second: that would hold
        # for what is issued until its end.
        time.sleep(1 - time.time() % 1)
        self.stdout.write(access(lambda *_: 0).issue(chat_id))

    def _revoke(self, chat_id: int) -> None:
        must_reach_chats()
        with closing(unqueued()) as parts:
            try:
                parts.chats.revoke_tokens(chat_id, call=Call())
            except ActivitiesError as error:
                raise CommandError(str(error)) from None
        self.say(f"Every token issued so far for chat {chat_id} is refused, everywhere within 1 s.")
