"""`manage.py kafka_topics`: makes the topics of the queue."""

import logging
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from kafka.errors import KafkaError

from activities.cli import OneLineCommand, wrong
from kafka_worker.topics import TOPICS, consumer_acls, ensure_topics, interface_acls

TIMEOUT_SECONDS = 30.0


class Command(OneLineCommand):
    help = "Makes the topics of the queue that are missing, and says who may use them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--interface", metavar="USER", help="allow this user of Kafka what an interface needs")
        parser.add_argument("--consumer", metavar="USER", help="allow this user of Kafka what the consumer needs")

    def handle(self, *args: Any, **options: Any) -> None:
        servers = settings.KAFKA_BOOTSTRAP_SERVERS
        if not servers:
            raise wrong("KAFKA_BOOTSTRAP_SERVERS: expected HOST:PORT, separated by commas")
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it tells of each attempt; what fails is raised as well
        interface, consumer = options["interface"], options["consumer"]
        acls = (interface_acls(interface) if interface else []) + (consumer_acls(consumer) if consumer else [])
        try:
            ensure_topics(
                servers,
                timeout=TIMEOUT_SECONDS,
                replication_factor=settings.KAFKA_REPLICATION_FACTOR,
                security=settings.KAFKA_SECURITY,
                acls=acls,
            )
        except KafkaError as failed:
            raise CommandError(f"the topics cannot be made: {failed}") from failed
        self.say(f"Topics: {', '.join(TOPICS)}")
