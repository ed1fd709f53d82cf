"""Several gRPC workers on one port."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from activities.container import on_repository
from activities.repositories.memory import MemoryRepository
from grpc_server.server import GrpcServer
from tests.transports.test_processes import SECONDS, Process, manage, taken_port

KEY = "a-key-for-tests-only-0123456789abcdefghijklmnop"


@contextmanager
def two_workers() -> Iterator[Process]:
    """Two workers of an interface service; the data service is this process."""
    container = on_repository(MemoryRepository())
    data = GrpcServer(container, "127.0.0.1:0")
    data.start()
    process = Process(
        *("grpcserver", "--address", "127.0.0.1:0", "--workers", "2"),
        last_line="Activities ",
        ACTIVITIES_BACKEND="grpc",
        ACTIVITIES_GRPC_TARGET=f"127.0.0.1:{data.port}",
        DJANGO_SECRET_KEY=KEY,
    )
    try:
        yield process
    finally:
        process.stop(signal.SIGKILL)
        data.stop(0)
        container.close()


def workers_of(process: Process) -> dict[int, psutil.Process]:
    living = [each for each in psutil.Process(process.pid).children() if each.status() != psutil.STATUS_ZOMBIE]
    return {each.pid: each for each in living if "spawn_main" in " ".join(each.cmdline())}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end


def serves(target: str) -> bool:
    """Whether a new connection is answered."""
    with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=SECONDS, wait_for_ready=True
        )
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_workers_share_the_port_and_end_politely() -> None:
    with two_workers() as process:
        target = process.find(r"gRPC ([^,\s]+)")
        assert len(workers_of(process)) == 2
        port = int(target.rpartition(":")[2])
        for worker in workers_of(process).values():
            assert port in {each.laddr.port for each in worker.net_connections() if each.status == psutil.CONN_LISTEN}
        assert serves(target)
        assert process.stop() == (0, "")


def test_a_worker_that_dies_is_replaced() -> None:
    with two_workers() as process:
        before = workers_of(process)
        victim = next(iter(before))
        before[victim].kill()
        until(lambda: victim not in workers_of(process) and len(workers_of(process)) == 2)
        assert serves(process.find(r"gRPC ([^,\s]+)"))
        code, errors = process.stop()
        assert code == 0
        assert f"worker {victim} ended" in errors


def test_workers_do_not_outlive_their_parent() -> None:
    with two_workers() as process:
        workers = list(workers_of(process).values())
        psutil.Process(process.pid).kill()
        assert not psutil.wait_procs(workers, timeout=SECONDS)[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--local", "--workers", "2"], "--workers 2"),
        (["--workers", "0"], "--workers 0"),
        (["--workers", "many"], "--workers"),
        (["--workers", "2", "--address", "127.0.0.1:{taken}"], "--address 127.0.0.1:{taken}"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments: list[str], told: str) -> None:
    with taken_port() as port:
        given = [each.format(taken=port) for each in arguments]
        ended = manage("grpcserver", *given, ACTIVITIES_BACKEND="grpc", DJANGO_SECRET_KEY=KEY)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert told.format(taken=port) in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
