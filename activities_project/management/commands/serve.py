"""`manage.py serve`: HTTP, gRPC and the bot in one process."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from activities.cli import (
    STOP_SECONDS,
    OneLineCommand,
    cannot_listen,
    is_loopback,
    listening_host,
    reached_at,
    until_signalled,
    wrong,
)
from activities.container import Container, container
from activities.tls import server_tls

if TYPE_CHECKING:
    from bot.telegram import TelegramBot


class Command(OneLineCommand):
    help = "Serves HTTP, gRPC and, with TELEGRAM_BOT_TOKEN, the bot in one process until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--local", action="store_true", help="keep everything in memory; needs nothing else")
        parser.add_argument("--http", default="127.0.0.1:8000", metavar="HOST:PORT", help="default: %(default)s")
        parser.add_argument("--grpc", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
        parser.add_argument("--insecure", action="store_true", help="allow plain text beyond this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        from activities_project.http import HttpServer
        from grpc_server.server import GrpcServer, reflects

        tls = server_tls()
        allowed = {"insecure": options["insecure"], "tls": tls is not None}
        http_host = listening_host("--http", options["http"], **allowed)
        grpc_host = listening_host("--grpc", options["grpc"], **allowed)
        parts = container()
        try:
            http = HttpServer(parts, options["http"], tls=tls)
        except OSError as failed:
            raise cannot_listen("--http", options["http"], failed) from None
        try:
            reflected = reflects(grpc_host)
            grpc = GrpcServer(parts, options["grpc"], tls=tls, reflected=reflected)
        except OSError as failed:
            http.stop()
            raise cannot_listen("--grpc", options["grpc"], failed) from None
        try:
            bot, telegram = _bot(parts, insecure=options["insecure"])
        except CommandError:
            http.stop()
            grpc.stop(0)
            raise
        # Whoever names a host to listen on means requests to it.
        settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, reached_at(http_host)]
        with until_signalled() as stopping:
            grpc.start()
            http.start()
            if bot is not None:
                bot.start()
            url = f"{'https' if tls else 'http'}://{reached_at(http_host)}:{http.port}"
            flags = ("" if tls else "-plaintext ") + ("" if reflected else _protos())
            # Beyond this machine the output is a log that others read.
            token = parts.access.issue(1) if is_loopback(http_host) and is_loopback(grpc_host) else ""
            self._say_where(token, url, f"{reached_at(grpc_host)}:{grpc.port}", flags, telegram)
            stopping.wait()
            others = [threading.Thread(target=grpc.stop, args=(STOP_SECONDS,))]
            if bot is not None:
                others.append(threading.Thread(target=bot.close))
            for other in others:
                other.start()
            http.stop()
            for other in others:
                other.join()
            parts.close()

    def _say_where(self, token: str, url: str, grpc_address: str, flags: str, telegram: str) -> None:
        shown = token or "TOKEN"
        create = '{"name": "vitamin C", "begin_date": "2026-01-01", "end_date": "2999-12-31", "times_per_day": 2, '
        lines = [
            f"Activities on backend {settings.ACTIVITIES_BACKEND}. Ctrl-C stops it.",
            f"HTTP     {url}/api/v1/activities/   (in a browser, log in first: {url}/api/login/)",
            f"Swagger  {url}/api/docs/",
            f"gRPC     {grpc_address}",
            f"metrics  {url}/metrics",
            *([f"Telegram {telegram}"] if telegram else []),
            f"token: {token or 'manage.py token issue --chat-id N prints one'}",
            "Try it in another terminal:",
            f"curl -H 'Authorization: Bearer {shown}' {url}/api/v1/today/",
            f"grpcurl {flags}-H 'authorization: Bearer {shown}' -d '{create}"
            f'"quantity_per_time": 0.5}}\' {grpc_address} activities.v1.ActivityService/ActivityCreate',
        ]
        self.say("\n".join(lines))


def _bot(parts: Container, *, insecure: bool) -> tuple[TelegramBot | None, str]:
    """The bot, when there is to be one, and what to say of it."""
    if not settings.TELEGRAM_BOT_TOKEN:
        return None, ""
    from bot.telegram import OutOfReach, WrongToken, telegram_bot

    bot = telegram_bot(parts, insecure=insecure)
    try:
        return bot, f"@{bot.check()}"
    except WrongToken:
        bot.close()
        raise wrong("TELEGRAM_BOT_TOKEN: Telegram knows no bot with this token") from None
    except OutOfReach as failed:
        return bot, f"{failed}; it is tried again"


def _protos() -> str:
    """What grpcurl has to be told of the services where the server does not tell it."""
    import google.api

    roots = (settings.BASE_DIR, Path(google.api.__path__[0]).parent.parent)
    return (
        "".join(f"-import-path {shlex.quote(str(root))} " for root in roots)
        + "-proto proto/activities/v1/activities.proto "
    )
