"""`manage.py dead_letters`: what was put aside, and sending it back."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from kafka.errors import KafkaError

from activities.cli import OneLineCommand, wrong
from kafka_worker.dead_letters import DeadLetter, DeadLetters


class Command(OneLineCommand):
    help = "Lists the records that can never succeed, with their reasons; --send-back gives one another try."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--send-back", type=int, metavar="NUMBER", help="send this one to the topic that it came from"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.KAFKA_BOOTSTRAP_SERVERS:
            raise wrong("KAFKA_BOOTSTRAP_SERVERS: required, for example 127.0.0.1:9092")
        try:
            with closing(_dead_letters()) as letters:
                if options["send_back"] is None:
                    self._list(letters)
                else:
                    self._send_back(letters, options["send_back"])
        except KafkaError as error:
            raise wrong(f"KAFKA_BOOTSTRAP_SERVERS {settings.KAFKA_BOOTSTRAP_SERVERS}: no answer ({error})") from None

    def _list(self, letters: DeadLetters) -> None:
        count = 0
        for count, letter in enumerate(letters.all(), start=1):  # noqa: B007 - how many there were
            self.say(_line(letter))
        self.say(f"{count} dead letter{'' if count == 1 else 's'}" + (", oldest first" if count > 1 else ""))

    def _send_back(self, letters: DeadLetters, number: int) -> None:
        for letter in letters.all():
            if letter.offset == number:
                letters.send_back(letter)
                self.say(f"sent back to {letter.position.topic}: {_line(letter)}")
                return
        raise wrong(f"--send-back {number}: there is no such dead letter; see manage.py dead_letters")


def _dead_letters() -> DeadLetters:
    return DeadLetters(settings.KAFKA_BOOTSTRAP_SERVERS, security=settings.KAFKA_SECURITY)


def _line(letter: DeadLetter) -> str:
    where = f"{letter.position.topic}/{letter.position.partition}/{letter.position.offset}"
    size = "no value" if letter.value is None else f"{len(letter.value)} bytes"
    return f"{letter.offset}  {letter.put_aside_at:%Y-%m-%d %H:%M:%S}Z  {where}  {size}  {letter.reason}"
