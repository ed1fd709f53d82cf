"""A create through Kafka and its outcome through Redis, one at a time, beside the bare way there and back: at most
twice its median and three times its p99. Were an outcome found by looking alone, it would take 100 ms and more.

And beside the same with a bare INSERT on the way, which no lasting effect can do without.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from statistics import quantiles

from benchmarks.broker import group, own_topic
from benchmarks.harness import Figures, Measure, Row, compare
from benchmarks.servers import ROOT, bare_consumer, database, our_consumer
from kafka_worker.messages import GROUP

BASELINES = {"bare Kafka, Redis": "publish", "bare Kafka, INSERT, Redis": "insert"}


def run() -> list[Row]:
    with (
        database(chats=100, per_chat=10) as rows,
        group(GROUP),
        our_consumer(rows),
        ExitStack() as consumers,
    ):
        environment = {**rows.environment, "ACTIVITIES_BACKEND": "kafka"}
        baselines: dict[str, Measure] = {}
        for baseline, kind in BASELINES.items():
            topic = consumers.enter_context(own_topic(kind))
            consumers.enter_context(bare_consumer("bare_queue", rows, kind, topic))
            baselines[baseline] = partial(_asked, environment, "benchmarks.baselines.bare_queue", "ask", topic)
        return compare("round trip", partial(_asked, environment, "benchmarks.asker", str(rows.chats)), baselines)


def _asked(environment: Mapping[str, str], *program: str) -> Figures:
    """What a program that prints its round trips in milliseconds measured."""
    asker = [sys.executable, "-m", *program]
    done = subprocess.run(asker, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    took: list[float] = json.loads(done.stdout)
    hundredths = quantiles(took, n=100)
    return {"ms median": hundredths[49], "ms p90": hundredths[89], "ms p99": hundredths[98], "ms most": max(took)}
