"""`manage.py consume_commands` and `dead_letters` as processes, on the real broker and Redis."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from kafka import KafkaProducer

from activities.container import Container, on_queue, on_service, outcome_connections
from activities.domain import Activity, ActivityNotFound, OutcomePending, StorageUnavailable
from activities.monitoring import MonitoringServer
from activities.ports import Call
from kafka_worker.messages import DELETE
from kafka_worker.topics import ensure_topics
from tests.examples import activity
from tests.faults.product import TOKEN, Process
from tests.faults.services import ROOT, SECONDS, eventually


@pytest.fixture
def environment() -> dict[str, str]:
    ensure_topics(settings.KAFKA_BOOTSTRAP_SERVERS, timeout=20)
    return {
        **os.environ,
        "ACTIVITIES_BACKEND": "postgres",  # which --local overrides
        "DJANGO_SETTINGS_MODULE": "activities_project.settings",
        "KAFKA_BOOTSTRAP_SERVERS": settings.KAFKA_BOOTSTRAP_SERVERS,
        "REDIS_URL": settings.REDIS_URL,
        "ACTIVITIES_SERVICE_TOKENS": f"tests:{TOKEN}",
        "METRICS_ADDRESS": "127.0.0.1:0",
    }


@pytest.fixture
def local(environment: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    """The data service in memory with its consumer."""
    command = ["consume_commands", "--local", "--grpc", "127.0.0.1:0"]
    process = Process(environment, tmp_path / "log", *command, up="consuming commands")
    yield process
    assert process.stop() == 0


def port(process: Process, what: str) -> str:
    said = process.said(rf"{what} 127\.0\.0\.1:(\d+)")
    assert said is not None
    return said[1]


@pytest.fixture
def interface(local: Process) -> Iterator[Container]:
    """An interface service on backend `kafka` beside it."""
    interface = on_queue(
        servers=settings.KAFKA_BOOTSTRAP_SERVERS,
        connections=outcome_connections,
        data=on_service(target=f"127.0.0.1:{port(local, 'gRPC')}", token=TOKEN),
    )
    yield interface
    interface.close()


def fetched(process: Process, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port(process, 'metrics')}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def patiently(write: Callable[[Call], Activity]) -> Activity:
    """What is answered when the same is asked until it is: a consumer that has just begun may not have its
    partitions."""
    request_id = uuid4()
    end = time.monotonic() + SECONDS
    while True:
        try:
            return write(Call(request_id=request_id))
        except (OutcomePending, StorageUnavailable):
            assert time.monotonic() < end


def test_what_comes_through_kafka_is_kept_in_memory_and_read_over_grpc(
    interface: Container, local: Process, chat_id: int
) -> None:
    pill = activity("pill")
    assert patiently(lambda call: interface.activities.create(chat_id, activity=pill, call=call)) == pill
    assert interface.activities.get(chat_id, name="PILL", call=Call()) == activity("pill")
    interface.activities.delete(chat_id, name="pill", call=Call())
    with pytest.raises(ActivityNotFound):
        interface.activities.delete(chat_id, name="pill", call=Call())
    status, counters = fetched(local, "/metrics")
    assert status == 200
    assert re.search(r'activities_commands_consumed_total{topic="activities.create"} [1-9]', counters)
    assert fetched(local, "/healthz") == (200, "ok\n")
    assert fetched(local, "/")[0] == 404


def test_what_ails_a_process_is_seen_at_its_health(local: Process) -> None:
    server = MonitoringServer("127.0.0.1:0", ails=lambda: "no command was finished for 20 s")
    server.start()
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=10)
        assert (refused.value.code, refused.value.read()) == (503, b"no command was finished for 20 s\n")
    finally:
        server.stop()


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("changes", "arguments", "says"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": ""}, ["--local"], "KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "nowhere"}, ["--local"], "KAFKA_BOOTSTRAP_SERVERS"),
        ({"REDIS_URL": ""}, ["--local"], "REDIS_URL"),
        ({"METRICS_ADDRESS": "nowhere"}, ["--local"], "METRICS_ADDRESS"),
        ({"ACTIVITIES_BACKEND": "grpc"}, [], "ACTIVITIES_BACKEND"),
        ({}, ["--local", "--grpc", "0.0.0.0:50051"], "--insecure"),
        ({}, ["--local", "--grpc", "nowhere"], "--grpc nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(
    environment: dict[str, str], changes: dict[str, str], arguments: list[str], says: str
) -> None:
    done = manage(environment | changes, "consume_commands", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert says in line


@pytest.mark.parametrize("option", ["--grpc", "METRICS_ADDRESS"])
def test_a_port_that_is_taken_is_one_line(environment: dict[str, str], option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        if option == "--grpc":
            done = manage(environment, "consume_commands", "--local", "--grpc", address)
        else:
            done = manage(environment | {option: address}, "consume_commands", "--local", "--grpc", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{option} {address}" in line


def test_dead_letters_are_listed_and_sent_back(environment: dict[str, str], local: Process, chat_id: int) -> None:
    with closing(KafkaProducer(bootstrap_servers=settings.KAFKA_BOOTSTRAP_SERVERS, acks="all")) as producer:
        sent = producer.send(DELETE, key=str(chat_id).encode(), value=b"\xff garbage").get(timeout=20)

    def listed() -> re.Match[str] | None:
        done = manage(environment, "dead_letters")
        assert (done.returncode, done.stderr) == (0, "")
        return re.search(
            rf"^(\d+)  \S+ \S+  {DELETE}/{sent.partition}/{sent.offset}  9 bytes  (.*)$", done.stdout, re.M
        )

    eventually(lambda: listed() is not None)
    letter = listed()
    assert letter is not None
    assert "ActivityDeleteRequest" in letter[2]
    done = manage(environment, "dead_letters", "--send-back", letter[1])
    assert (done.returncode, done.stdout.startswith(f"sent back to {DELETE}: {letter[1]}")) == (0, True)


def test_a_dead_letter_that_is_not_there_is_not_sent_back(environment: dict[str, str]) -> None:
    done = manage(environment, "dead_letters", "--send-back", "123456789")
    assert (done.returncode, done.stdout) == (2, "")
    assert "123456789" in done.stderr


def test_dead_letters_without_a_broker_are_one_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    done = manage(environment | {"KAFKA_BOOTSTRAP_SERVERS": address}, "dead_letters")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert address in line
