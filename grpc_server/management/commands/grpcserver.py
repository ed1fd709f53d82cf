"""`manage.py grpcserver`: the gRPC service alone."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from activities.cli import STOP_SECONDS, OneLineCommand, listening_host, until_signalled, wrong
from activities.container import container


class Command(OneLineCommand):
    help = "Serves gRPC until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--local", action="store_true", help="keep everything in memory; needs nothing else")
        parser.add_argument("--address", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
        parser.add_argument("--insecure", action="store_true", help="allow plain text beyond this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        from grpc_server.server import GrpcServer, reflects

        address = options["address"]
        host = listening_host("--address", address, insecure=options["insecure"])
        parts = container()
        try:
            server = GrpcServer(parts, address, reflected=reflects(host))
        except OSError as failed:
            raise wrong(f"--address {address}: cannot listen there ({failed.strerror or failed})") from None
        with until_signalled() as stopping:
            server.start()
            self.stdout.write(f"Activities on backend {settings.ACTIVITIES_BACKEND}: gRPC {host}:{server.port}")
            self.stdout.flush()
            stopping.wait()
            server.stop(STOP_SECONDS)
            parts.close()
