"""The broker of `make services`, and the topics that the product makes on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidReplicationFactorError, KafkaError, KafkaTimeoutError

from kafka_worker.management.commands import kafka_topics
from kafka_worker.topics import ensure_topics
from tests.faults.product import manage
from tests.faults.services import Services, eventually

SECONDS = 20.0
DAY_MS = 86_400_000
COMMANDS = ("activities.create", "activities.update", "activities.delete")
DEAD_LETTER = "activities.dead-letter"


@pytest.fixture
def servers(services: Services) -> str:
    """A broker that has no topic of ours."""
    servers = services.environment["KAFKA_BOOTSTRAP_SERVERS"]
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        admin.delete_topics(list(partitions(admin)))
        eventually(lambda: not partitions(admin))
    return servers


@pytest.fixture
def admin(servers: str) -> Iterator[KafkaAdminClient]:
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        yield admin


def partitions(admin: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics() if not topic["is_internal"]}


def retention(admin: KafkaAdminClient, topic: str) -> int:
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return int(described["topic"][topic]["retention.ms"]["value"])


def test_four_processes_make_the_topics_at_once_and_again(admin: KafkaAdminClient, environment: dict[str, str]) -> None:
    with ThreadPoolExecutor(4) as starting:
        for _ in range(2):
            for each in [starting.submit(manage, environment, "kafka_topics") for _ in range(4)]:
                each.result()
            assert partitions(admin) == {**dict.fromkeys(COMMANDS, 8), DEAD_LETTER: 1}
    for topic, days in {**dict.fromkeys(COMMANDS, 1), DEAD_LETTER: 7}.items():
        assert retention(admin, topic) == days * DAY_MS


def test_topics_that_are_there_stay_as_they_are(admin: KafkaAdminClient, servers: str) -> None:
    admin.create_topics({"activities.update": {"num_partitions": 3, "replication_factor": 1}}, wait_for_metadata=True)
    ensure_topics(servers, timeout=SECONDS)
    assert partitions(admin) == {**dict.fromkeys(COMMANDS, 8), "activities.update": 3, DEAD_LETTER: 1}


def test_more_copies_than_there_are_brokers_are_refused(admin: KafkaAdminClient, servers: str) -> None:
    with pytest.raises(InvalidReplicationFactorError, match=r"activities\.create: "):
        ensure_topics(servers, timeout=SECONDS, replication_factor=2)
    assert partitions(admin) == {}


def test_a_broker_that_says_nothing_is_given_up(services: Services, servers: str) -> None:
    services.pause("kafka")
    began = time.monotonic()
    with pytest.raises(KafkaTimeoutError):
        ensure_topics(servers, timeout=1)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("servers", "code"), [("127.0.0.1:1", 1), ("", 2)])
def test_the_command_says_in_one_line_what_is_wrong(
    servers: str, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kafka_topics, "TIMEOUT_SECONDS", 0.5)
    with (
        override_settings(KAFKA_BOOTSTRAP_SERVERS=servers),
        pytest.raises(CommandError, match=servers or "KAFKA_BOOTSTRAP_SERVERS: expected HOST:PORT") as raised,
    ):
        call_command("kafka_topics")
    assert raised.value.returncode == code
    assert not caplog.records


def test_no_topic_comes_by_itself(admin: KafkaAdminClient, servers: str) -> None:
    with (
        KafkaProducer(bootstrap_servers=servers, max_block_ms=1000) as producer,
        pytest.raises(KafkaError),
    ):
        producer.send("activities.create", b"x").get(timeout=SECONDS)
    assert partitions(admin) == {}


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_what_the_broker_took_is_there_after_it_was_away(how: str, services: Services, servers: str) -> None:
    ensure_topics(servers, timeout=SECONDS)
    with KafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for number in range(100):
            producer.send("activities.create", b"%d" % number, partition=number % 8)
        producer.flush(timeout=SECONDS)
    getattr(services, how)("kafka")
    services.mend()
    with KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("activities.create", number) for number in range(8)])
        kept: set[int] = set()

        def all_are_there() -> bool:
            for records in consumer.poll(timeout_ms=500).values():
                kept.update(int(record.value) for record in records)
            return kept == set(range(100))

        eventually(all_are_there)
