"""The usual consumer: one message, one transaction, one commit of offsets. No ids, no outcomes, no rules."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing

import psycopg
from kafka import KafkaConsumer

from benchmarks.baselines.insert import INSERT
from kafka_worker.messages import CREATE, DELETE, UPDATE
from proto.activities.v1 import activities_pb2 as pb

GROUP = "activities-benchmark-naive"
_UPDATE = """
    UPDATE activities_activity
    SET begin_date = COALESCE(%s, begin_date), end_date = COALESCE(%s, end_date),
        times_per_day = COALESCE(%s, times_per_day), quantity_per_time = COALESCE(%s, quantity_per_time)
    WHERE chat_id = %s AND key = %s"""
_DELETE = "DELETE FROM activities_activity WHERE chat_id = %s AND key = %s"


def statement(topic: str, value: bytes) -> tuple[str, list[object]]:
    if topic == CREATE:
        new = pb.ActivityCreateRequest.FromString(value)
        fields = [new.begin_date, new.end_date, new.times_per_day, new.quantity_per_time]
        return INSERT, [new.chat_id, new.name.casefold(), new.name, *fields]
    if topic == UPDATE:
        changed = pb.ActivityUpdateRequest.FromString(value)
        names = ("begin_date", "end_date", "times_per_day", "quantity_per_time")
        given = [getattr(changed, name) if changed.HasField(name) else None for name in names]
        return _UPDATE, [*given, changed.chat_id, changed.name.casefold()]
    gone = pb.ActivityDeleteRequest.FromString(value)
    return _DELETE, [gone.chat_id, gone.name.casefold()]


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    consumer = KafkaConsumer(
        CREATE,
        UPDATE,
        DELETE,
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    with closing(consumer), psycopg.connect(os.environ["DATABASE_URL"], prepare_threshold=None) as connection:
        print("consuming", flush=True)
        for record in consumer:
            connection.execute(*statement(record.topic, record.value))
            connection.commit()
            consumer.commit()


if __name__ == "__main__":
    main()
