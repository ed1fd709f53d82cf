"""What the commands of the processes share: one clear line and exit code 2 for whatever is wrong; a polite stop."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from activities.domain import Broken, Violation, read_chat_id

STOP_SECONDS = 9.0
"""How long a stopping process lets what it has under way take: ten seconds, less one to put everything away."""


class OneLineParser(CommandParser):
    """Says what is wrong without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


class OneLineCommand(BaseCommand):
    """A command whose bad options are one line on standard error and exit code 2."""

    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own attribute

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.__class__ = OneLineParser  # Django offers no way to choose it
        parser.allow_abbrev = False  # `--loc` would come too late to be `--local`, which is read before the settings
        return parser

    def say(self, text: str) -> None:
        """Prints for whoever listens; that nobody does is no reason not to serve."""
        if sys.stdout is None:  # it was closed before the start
            return
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except OSError:
            # What is left in Python's buffer would be tried again, and fail again, when the process ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def wrong(message: str) -> CommandError:
    """An error that ends the command with its one line and exit code 2."""
    return CommandError(message, returncode=2)


def chat_id_of(options: Mapping[str, Any]) -> int:
    """The chat that --chat-id names."""
    try:
        return read_chat_id(options["chat_id"])
    except Broken as broken:
        raise wrong(f"--chat-id: {Violation('chat_id', broken.code, broken.params).message}") from None


def must_reach_chats() -> None:
    """Ends a command that would change a chat where this process cannot."""
    if settings.ACTIVITIES_BACKEND == "memory":
        raise wrong(
            "ACTIVITIES_BACKEND: on memory the chats are in the memory of the process that serves, which cannot be "
            "reached from here; ask its API"
        )


def cannot_listen(option: str, address: str, failed: OSError) -> CommandError:
    """The error of a port that is not to be had."""
    reason = (failed.strerror or str(failed)).partition(" (while attempting")[0]  # what follows repeats the address
    return wrong(f"{option} {address}: cannot listen there ({reason})")


_ADDRESS = re.compile(r"(?P<host>[^\s:\[\]]+|\[(?P<ipv6>[^\s\[\]]+)\]):(?P<port>[0-9]{1,5})")


def host_and_port(address: str) -> tuple[str, int]:
    """From HOST:PORT, where an IPv6 host is in brackets; port 0 means any free one. `ValueError` for anything else."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) >= 2**16:
        raise ValueError(address)
    return match["ipv6"] or match["host"], int(match["port"])


def listening_host(option: str, address: str, *, insecure: bool, tls: bool = False) -> str:
    """The host of a command's HOST:PORT. Without TLS only this machine may reach it unless told otherwise in words."""
    try:
        host, _ = host_and_port(address)
    except ValueError:
        raise wrong(f"{option} {address}: expected HOST:PORT like 127.0.0.1:8000") from None
    if not (insecure or tls or is_loopback(host)):
        raise wrong(
            f"{option} {address}: tokens and health data would cross the network in plain text; set "
            "TLS_CERTIFICATE_FILE and TLS_KEY_FILE, listen on 127.0.0.1 behind a proxy with TLS, or add --insecure if "
            "that is what you want"
        )
    return host


def family(address: str) -> socket.AddressFamily:
    """The family of the sockets that listen on HOST:PORT."""
    return socket.AF_INET6 if address.startswith("[") else socket.AF_INET


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reached_at(host: str) -> str:
    """The host, as URLs write it, at which this machine reaches what listens on `host`."""
    try:
        if ipaddress.ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
    except ValueError:
        pass  # a name
    return f"[{host}]" if ":" in host else host


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set. To be entered before the first line that says the process is up."""
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
