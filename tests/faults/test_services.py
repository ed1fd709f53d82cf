"""`make services` itself, without an engine: what it keeps, and that it leaves nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient

from kafka_worker.topics import TOPICS, ensure_topics
from tests.faults.services import NAMES, Services

SECONDS = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Closed to everybody else, so that servers that drop root have to be let through."""
    return tmp_path / "services"


@pytest.fixture
def own(folder: Path) -> Iterator[Services]:
    """A set of this test's own."""
    services = Services(folder)
    yield services
    services.stop()


def state(folder: Path) -> dict[str, str]:
    return dict(json.loads((folder / "state.json").read_text()))


def process_ids(folder: Path) -> dict[str, int]:
    return {name: int((folder / f"{name}.pid").read_text().split()[0]) for name in NAMES}


def test_a_lost_port_is_replaced_what_is_stored_stays_and_the_end_leaves_nothing(own: Services, folder: Path) -> None:
    before = own.environment["KAFKA_BOOTSTRAP_SERVERS"]
    ensure_topics(before, timeout=SECONDS)
    own.kill("kafka")
    with socket.create_server(("127.0.0.1", int(state(folder)["kafka_controller_port"]))):
        after = Services(folder).environment["KAFKA_BOOTSTRAP_SERVERS"]
    assert after != before
    with KafkaAdminClient(bootstrap_servers=after) as admin:
        assert set(admin.list_topics()) == set(TOPICS)

    processes = [psutil.Process(number) for number in process_ids(folder).values()]
    ports = [int(port) for name, port in state(folder).items() if name.endswith("_port")]
    assert len(ports) == 5
    own.stop()
    assert not folder.exists()
    assert not [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_a_service_that_is_new_joins_those_that_an_earlier_version_started(own: Services, folder: Path) -> None:
    before = process_ids(folder)
    own.terminate("kafka")
    known = {name: value for name, value in state(folder).items() if not name.startswith("kafka")}
    (folder / "state.json").write_text(json.dumps(known))
    (folder / "kafka.pid").unlink()
    servers = Services(folder).environment["KAFKA_BOOTSTRAP_SERVERS"]
    ensure_topics(servers, timeout=SECONDS)
    assert {**process_ids(folder), "kafka": 0} == {**before, "kafka": 0}
