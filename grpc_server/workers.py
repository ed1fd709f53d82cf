"""Several processes that serve one port: `grpcserver --workers N`.

Each worker is a process started afresh, not forked, so that none shares a connection, a thread or a lock with another.
The kernel spreads the connections over them (SO_REUSEPORT).
"""

from __future__ import annotations

import logging
import multiprocessing
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from activities.cli import STOP_SECONDS, family, host_and_port, until_signalled

logger = logging.getLogger(__name__)

REST_SECONDS = 1.0
"""Before a worker that died is replaced: one that dies at once must not keep the machine busy with its births."""

_spawning = multiprocessing.get_context("spawn")


@contextmanager
def reserved(address: str) -> Iterator[str]:
    """The address with its port known and kept for sockets that share it; `OSError` when anybody listens there."""
    host, port = host_and_port(address)
    kind = family(address)
    with socket.create_server((host, port), family=kind) as alone:
        port = alone.getsockname()[1]
    with socket.socket(kind, socket.SOCK_STREAM) as shared:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))
        yield f"{address.rpartition(':')[0]}:{port}"


class Workers:
    """So many workers at an address. One that dies is replaced."""

    def __init__(self, address: str, count: int, *, reflected: bool) -> None:
        self._arguments = (address, reflected)
        self._workers = [self._start() for _ in range(count)]

    def wait_until_up(self) -> bool:
        """Whether all of them serve; False when one ended instead."""
        return all(_says_up(up) for _, up in self._workers)

    def run(self, stopping: threading.Event) -> None:
        """Replaces workers that die until told to stop."""
        while not stopping.is_set():
            # A signal ends no wait in `wait`: it is asked again soon.
            if not wait([process.sentinel for process, _ in self._workers], timeout=0.2) or stopping.is_set():
                continue
            for number, (process, up) in enumerate(self._workers):
                if process.exitcode is not None:
                    logger.error("worker %s ended with %s; another takes its place", process.pid, process.exitcode)
                    up.close()
                    stopping.wait(REST_SECONDS)
                    self._workers[number] = self._start()
                    _says_up(self._workers[number][1])

    def stop(self) -> None:
        """Lets each finish what it has; ends those that do not."""
        for process, _ in self._workers:
            if process.exitcode is None:
                process.terminate()
        for process, up in self._workers:
            process.join(STOP_SECONDS + 5)
            if process.exitcode is None:
                process.kill()
                process.join()
            up.close()

    def _start(self) -> tuple[SpawnProcess, Connection]:
        up, tell = _spawning.Pipe(duplex=False)
        process = _spawning.Process(target=_work, args=(*self._arguments, tell), name="grpc-worker")
        process.start()
        tell.close()
        return process, up


def _says_up(up: Connection) -> bool:
    try:
        return bool(up.recv())
    except EOFError:
        return False


def _work(address: str, reflected: bool, tell: Connection) -> None:
    """A worker's life."""
    import django

    django.setup()
    from activities.container import container
    from activities.tls import server_tls
    from grpc_server.server import GrpcServer

    with until_signalled() as stopping:
        threading.Thread(target=_follow_parent, args=(stopping,), daemon=True).start()
        parts = container()
        server = GrpcServer(parts, address, tls=server_tls(), reflected=reflected, shared=True)
        server.start()
        tell.send(True)
        tell.close()
        stopping.wait()
        server.stop(STOP_SECONDS)
        parts.close()


def _follow_parent(stopping: threading.Event) -> None:
    """A worker does not outlive a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        stopping.set()
