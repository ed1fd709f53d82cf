"""`manage.py runbot`: the Telegram bot."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from activities.cli import OneLineCommand, until_signalled, wrong
from activities.container import container
from activities.monitoring import monitored
from bot.telegram import OutOfReach, TelegramBot, WrongToken, telegram_bot

SILENT_SECONDS = 90.0
"""A bot that has not reached Telegram for so long is not well; a poll lasts 25 s."""


class Command(OneLineCommand):
    help = "The Telegram bot, until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--local", action="store_true", help="keep everything in this process's memory")
        parser.add_argument("--insecure", action="store_true", help="allow a webhook in plain text beyond this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.TELEGRAM_BOT_TOKEN:
            raise wrong("TELEGRAM_BOT_TOKEN: required; @BotFather in Telegram gives one")
        parts = container()
        with closing(parts), until_signalled() as stopping:
            bot = telegram_bot(parts, insecure=options["insecure"])
            with closing(bot):
                try:
                    name = bot.check()
                except WrongToken:
                    raise wrong("TELEGRAM_BOT_TOKEN: Telegram knows no bot with this token") from None
                except OutOfReach as failed:
                    raise wrong(f"TELEGRAM_API_BASE_URL {settings.TELEGRAM_API_BASE_URL}: {failed}") from None
                with monitored(partial(_ails, bot)) as shown:
                    bot.start()
                    self.say(
                        "; ".join([f"Activities on backend {settings.ACTIVITIES_BACKEND}: Telegram @{name}", *shown])
                    )
                    stopping.wait()


def _ails(bot: TelegramBot) -> str | None:
    seconds = bot.silent_for()
    return f"Telegram was not reached for {seconds:.0f} s" if seconds > SILENT_SECONDS else None
