"""An interface service on two data services that share a database, in processes of their own, while one is harmed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from activities.domain import StorageUnavailable
from activities.ports import Call
from tests.examples import activity
from tests.faults.load import Load, load
from tests.faults.product import TOKEN, Product
from tests.faults.services import Services, eventually

LIMIT = 10
"""Seconds, instead of two: how fast this machine is must not decide whether something is refused."""


class Topology:
    """Two data services and an interface service on both, which knows their ports from the start."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = {**environment, "ACTIVITIES_STORAGE_SECONDS": str(LIMIT)}
        self._folder = folder
        self._numbers = count()
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self._ports = [each.getsockname()[1] for each in (one, other)]
        self.data: dict[int, Product] = {}
        addresses = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        self.interface = self._started(
            ACTIVITIES_BACKEND="grpc",
            ACTIVITIES_GRPC_TARGET=f"ipv4:{addresses}",
            ACTIVITIES_GRPC_TOKEN=TOKEN,
            DJANGO_SECRET_KEY=os.environ["DJANGO_SECRET_KEY"],
        )

    def _started(self, port: int = 0, **changes: str) -> Product:
        return Product({**self._environment, **changes}, self._folder / f"log-{next(self._numbers)}", port)

    def start(self, number: int) -> None:
        """The data service of that number; returns when the interface service has found it."""
        if number not in self.data:
            self.data[number] = self._started(self._ports[number])
        self.is_used(number)

    def is_used(self, number: int) -> None:
        eventually(lambda: any(mine == self._ports[number] for mine, _ in self.data[number].connections))

    def end(self) -> None:
        for each in (self.interface, *self.data.values()):
            each.stop()


@pytest.fixture(scope="module")
def started(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Topology]:
    topology = Topology(environment, tmp_path_factory.mktemp("topology"))
    yield topology
    topology.end()


@pytest.fixture
def topology(services: Services, started: Topology) -> Topology:
    """The same interface service through all faults: none of them may make a restart necessary.

    Without Redis: to a slow machine it seems away now and then, and processes that share it may see the past then.
    """
    services.kill("redis")
    if not started.data:
        with pytest.raises(StorageUnavailable):
            started.interface.activities.get(1, name="pill", call=Call())
    for number in (0, 1):
        started.start(number)
    return started


def rows(direct: psycopg.Connection, chat_id: int) -> list[str]:
    """The names that a chat has, as they are in the database."""
    found = direct.execute("SELECT name FROM activities_activity WHERE chat_id = %s ORDER BY name", [chat_id])
    return [str(name) for (name,) in found.fetchall()]


@contextmanager
def under_load(topology: Topology, chat_id: int, direct: psycopg.Connection) -> Iterator[Load]:
    """Callers of the interface service; when they have ended, the database has what they were told, once each."""
    with load(topology.interface.activities, chat_id) as at_work:
        eventually(at_work.everyone_has_more())
        yield at_work
        eventually(at_work.everyone_has_more())
    for caller in at_work.callers:
        assert set(rows(direct, caller.chat_id)) - {"pill"} == caller.kept


def test_one_that_is_killed_costs_nobody_an_answer(
    topology: Topology, chat_id: int, direct: psycopg.Connection
) -> None:
    with under_load(topology, chat_id, direct) as at_work:
        for number in (0, 1):
            topology.data.pop(number).kill()
            eventually(at_work.everyone_has_more())
            topology.start(number)
            eventually(at_work.everyone_has_more())
    assert at_work.refusals == 0


def test_a_rolling_restart_costs_nobody_an_answer(topology: Topology, chat_id: int, direct: psycopg.Connection) -> None:
    with under_load(topology, chat_id, direct) as at_work:
        for number in (0, 1):
            assert topology.data.pop(number).stop() == 0
            topology.start(number)
            eventually(at_work.everyone_has_more())
    assert at_work.refusals == 0


def test_one_that_stands_still_is_left_alone_until_it_goes_on(
    topology: Topology, chat_id: int, direct: psycopg.Connection
) -> None:
    with under_load(topology, chat_id, direct) as at_work:
        topology.data[0].pause()
        try:
            # What waits for it is repeated by the other one, as soon as it is known to be dead.
            eventually(at_work.everyone_has_more())
            eventually(at_work.everyone_has_more())
        finally:
            topology.data[0].resume()
        topology.is_used(0)
        eventually(at_work.everyone_has_more())
    assert at_work.refusals == 0
    assert max(caller.slowest for caller in at_work.callers) < LIMIT


def test_those_that_come_after_the_interface_service_are_found(topology: Topology, chat_id: int) -> None:
    for number in (0, 1):
        topology.data.pop(number).kill()
    with pytest.raises(StorageUnavailable):
        topology.interface.activities.get(chat_id, name="pill", call=Call())
    topology.start(1)
    wanted = activity("pill")
    assert topology.interface.activities.create(chat_id, activity=wanted, call=Call()) == wanted
