"""`manage.py token`: gives out chat tokens."""

from typing import Any

from django.core.management.base import CommandParser

from activities.cli import OneLineCommand, OneLineParser, wrong
from activities.container import access
from activities.domain import Broken, Violation, read_chat_id


class Command(OneLineCommand):
    help = "Gives out a token that opens one chat."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="issue", parser_class=OneLineParser)
        issue = actions.add_parser("issue", help="print a new token and nothing else", allow_abbrev=False)
        issue.add_argument("--chat-id", required=True, metavar="N", help="the chat that it opens")
        issue.add_argument("--local", action="store_true", help="for a process that was started with --local")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            chat_id = read_chat_id(options["chat_id"])
        except Broken as broken:
            raise wrong(f"--chat-id: {Violation('chat_id', broken.code, broken.params).message}") from None
        self.stdout.write(access().issue(chat_id))
