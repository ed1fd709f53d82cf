"""The least that goes through Kafka and comes back through Redis.

`publish TOPIC` publishes what comes, `insert TOPIC` after an INSERT. `ask TOPIC` sends one record after another and
prints how many milliseconds each took to come back.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import partial
from uuid import uuid4

import psycopg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from redis import Redis

from benchmarks.asker import ROUND_TRIPS, WARMING_UP
from benchmarks.baselines.insert import INSERT

SERVERS = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
TIMEOUT = 10.0
VALUE = b"x" * 80
"""As long as a create."""


def consume(topic: str, redis: Redis, then: Callable[[], object]) -> None:
    consumer = KafkaConsumer(bootstrap_servers=SERVERS)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_end()
    consumer.position(partition)  # only now is it known what will not be passed over
    print("consuming", flush=True)
    for record in consumer:
        then()
        redis.publish(topic, record.value)


def insert(connection: psycopg.Connection) -> None:
    name = f"bare {uuid4()}"
    connection.execute(INSERT, [1, name, name, date(2026, 7, 20), date(2026, 12, 31), 2, Decimal("0.5")])


def ask(topic: str, redis: Redis) -> list[float]:
    answers = redis.pubsub()  # type: ignore[no-untyped-call]
    answers.subscribe(topic)
    if answers.get_message(timeout=TIMEOUT) is None:
        raise TimeoutError("no subscription")
    producer = KafkaProducer(bootstrap_servers=SERVERS, acks="all", linger_ms=0)
    took = []
    for number in range(WARMING_UP + ROUND_TRIPS):
        value = VALUE + str(number).encode()
        began = time.perf_counter()
        producer.send(topic, value)
        message = answers.get_message(timeout=TIMEOUT)
        took.append((time.perf_counter() - began) * 1000)
        if message is None or message["data"] != value:
            raise RuntimeError(f"{message} came back for {value!r}")
    return took[WARMING_UP:]


def main(kind: str, topic: str) -> None:
    with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        if kind == "ask":
            print(json.dumps(ask(topic, redis)))
        elif kind == "publish":
            consume(topic, redis, lambda: None)
        else:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=None) as connection:
                consume(topic, redis, partial(insert, connection))


if __name__ == "__main__":
    main(*sys.argv[1:])
