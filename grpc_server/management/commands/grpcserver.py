"""`manage.py grpcserver`: the gRPC service alone."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from activities.cli import STOP_SECONDS, OneLineCommand, cannot_listen, listening_host, until_signalled, wrong
from activities.container import container
from activities.monitoring import monitored
from activities.tls import ServerTls, client_tls, server_tls

MOST_WORKERS = 64


class Command(OneLineCommand):
    help = "Serves gRPC until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--local", action="store_true", help="keep everything in memory; needs nothing else")
        parser.add_argument("--address", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
        parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes on the port; default: 1")
        parser.add_argument("--insecure", action="store_true", help="allow plain text beyond this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        from grpc_server.server import reflects

        address = options["address"]
        tls = server_tls()
        host = listening_host("--address", address, insecure=options["insecure"], tls=tls is not None)
        workers = options["workers"]
        if not 1 <= workers <= MOST_WORKERS:
            raise wrong(f"--workers {workers}: expected a number from 1 to {MOST_WORKERS}")
        if workers > 1 and settings.ACTIVITIES_BACKEND == "memory":
            raise wrong(f"--workers {workers}: what is in memory is in one process; leave it out, or --local")
        try:
            if workers > 1:
                client_tls()  # what is wrong with the files is told here once, not by each worker
                self._serve_together(address, workers, reflected=reflects(host))
            else:
                self._serve_alone(address, tls, reflected=reflects(host))
        except OSError as failed:
            raise cannot_listen("--address", address, failed) from None

    def _serve_alone(self, address: str, tls: ServerTls | None, *, reflected: bool) -> None:
        from grpc_server.server import GrpcServer

        parts = container()
        server = GrpcServer(parts, address, tls=tls, reflected=reflected)
        with until_signalled() as stopping, monitored(lambda: None) as shown:
            server.start()
            self._say("; ".join([f"{address.rpartition(':')[0]}:{server.port}", *shown]))
            stopping.wait()
            server.stop(STOP_SECONDS)
            parts.close()

    def _serve_together(self, address: str, count: int, *, reflected: bool) -> None:
        from grpc_server.workers import Workers, reserved

        with reserved(address) as known, until_signalled() as stopping:
            workers = Workers(known, count, reflected=reflected)
            try:
                if not workers.wait_until_up():
                    raise wrong(f"--workers {count}: a worker did not start; see above")
                self._say(f"{known}, {count} workers")
                workers.run(stopping)
            finally:
                workers.stop()

    def _say(self, where: str) -> None:
        self.say(f"Activities on backend {settings.ACTIVITIES_BACKEND}: gRPC {where}")
