"""`manage.py serve`: HTTP and gRPC in one process."""

import threading
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from activities.cli import STOP_SECONDS, OneLineCommand, listening_host, until_signalled, wrong
from activities.container import Container, container


class Command(OneLineCommand):
    help = "Serves HTTP and gRPC in one process until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--local", action="store_true", help="keep everything in memory; needs nothing else")
        parser.add_argument("--http", default="127.0.0.1:8000", metavar="HOST:PORT", help="default: %(default)s")
        parser.add_argument("--grpc", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
        parser.add_argument("--insecure", action="store_true", help="allow plain text beyond this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        from activities_project.http import HttpServer
        from grpc_server.server import GrpcServer, reflects

        insecure = options["insecure"]
        http_host = listening_host("--http", options["http"], insecure=insecure)
        grpc_host = listening_host("--grpc", options["grpc"], insecure=insecure)
        parts = container()
        try:
            http = HttpServer(parts, options["http"])
        except OSError as failed:
            raise wrong(f"--http {options['http']}: cannot listen there ({failed.strerror or failed})") from None
        try:
            grpc = GrpcServer(parts, options["grpc"], reflected=reflects(grpc_host))
        except OSError as failed:
            http.stop()
            raise wrong(f"--grpc {options['grpc']}: cannot listen there ({failed.strerror or failed})") from None
        with until_signalled() as stopping:
            grpc.start()
            http.start()
            self._say_where(parts, http_host, http.port, grpc_host, grpc.port)
            stopping.wait()
            stop_grpc = threading.Thread(target=grpc.stop, args=(STOP_SECONDS,))
            stop_grpc.start()
            http.stop()
            stop_grpc.join()
            parts.close()

    def _say_where(self, parts: Container, http_host: str, http_port: int, grpc_host: str, grpc_port: int) -> None:
        url = f"http://{_bracketed(http_host)}:{http_port}"
        grpc_address = f"{_bracketed(grpc_host)}:{grpc_port}"
        token = parts.access.issue(1)
        create = '{"name": "vitamin C", "begin_date": "2026-01-01", "end_date": "2999-12-31", "times_per_day": 2, '
        lines = [
            f"Activities on backend {settings.ACTIVITIES_BACKEND}. Ctrl-C stops it.",
            f"HTTP     {url}/api/v1/activities/   (in a browser, log in first: {url}/api/login/)",
            f"Swagger  {url}/api/docs/",
            f"gRPC     {grpc_address}",
            f"metrics  {url}/metrics",
            f"token: {token}",
            "Try it in another terminal:",
            f"curl -H 'Authorization: Bearer {token}' {url}/api/v1/today/",
            f"grpcurl -plaintext -H 'authorization: Bearer {token}' -d '{create}"
            f'"quantity_per_time": 0.5}}\' {grpc_address} activities.v1.ActivityService/ActivityCreate',
        ]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
