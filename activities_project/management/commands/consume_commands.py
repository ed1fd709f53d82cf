"""`manage.py consume_commands`: the data service's consumer of the queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from activities.cli import STOP_SECONDS, OneLineCommand, cannot_listen, listening_host, until_signalled, wrong
from activities.container import container, outcome_connections
from activities.monitoring import monitored
from activities.tls import server_tls
from kafka_worker.consumer import Consumer, TooManyRefused
from kafka_worker.dead_letters import DeadLetters
from kafka_worker.outcomes import Outcomes

STALLED_SECONDS = 15.0
"""A consumer that has done nothing for so long is not well."""


class Command(OneLineCommand):
    help = "Applies the commands that come through Kafka, until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--local", action="store_true", help="be the data service too, in memory, and serve it over gRPC"
        )
        parser.add_argument("--grpc", metavar="HOST:PORT", help="serve gRPC there; with --local 127.0.0.1:50051")
        parser.add_argument("--insecure", action="store_true", help="allow plain text beyond this machine")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.ACTIVITIES_BACKEND not in ("postgres", "memory"):
            raise wrong(
                f"ACTIVITIES_BACKEND: commands are applied where the data are, on postgres or memory, "
                f"not on {settings.ACTIVITIES_BACKEND}"
            )
        if not settings.KAFKA_BOOTSTRAP_SERVERS:
            raise wrong("KAFKA_BOOTSTRAP_SERVERS: required, for example 127.0.0.1:9092")
        if not settings.REDIS_URL:
            raise wrong("REDIS_URL: required, since outcomes are told there, for example redis://:PASSWORD@HOST:6379/0")
        kafka: dict[str, Any] = {"servers": settings.KAFKA_BOOTSTRAP_SERVERS, "security": settings.KAFKA_SECURITY}
        grpc = options["grpc"] or ("127.0.0.1:50051" if settings.ACTIVITIES_BACKEND == "memory" else None)
        parts = container()
        with (
            until_signalled() as stopping,
            closing(parts),
            closing(DeadLetters(**kafka)) as dead_letters,
            closing(Outcomes(outcome_connections)) as outcomes,
            _serving(grpc, insecure=options["insecure"]) as where,
        ):
            consumer = Consumer(**kafka, activities=parts.activities, outcomes=outcomes, dead_letters=dead_letters)
            with monitored(partial(_ails, consumer)) as shown:
                backend = settings.ACTIVITIES_BACKEND
                self.say("; ".join([f"Activities on backend {backend}: consuming commands", *where, *shown]))
                try:
                    consumer.run(stopping)
                except TooManyRefused as refused:
                    raise CommandError(str(refused)) from None


@contextmanager
def _serving(address: str | None, *, insecure: bool) -> Iterator[list[str]]:
    """gRPC beside the consumer; where, for people."""
    if address is None:
        yield []
        return
    from grpc_server.server import GrpcServer, reflects

    tls = server_tls()
    host = listening_host("--grpc", address, insecure=insecure, tls=tls is not None)
    try:
        server = GrpcServer(container(), address, tls=tls, reflected=reflects(host))
    except OSError as failed:
        raise cannot_listen("--grpc", address, failed) from None
    server.start()
    try:
        yield [f"gRPC {address.rpartition(':')[0]}:{server.port}"]
    finally:
        server.stop(STOP_SECONDS)


def _ails(consumer: Consumer) -> str | None:
    seconds = consumer.stalled_for()
    return f"no command was finished for {seconds:.0f} s" if seconds > STALLED_SECONDS else None
