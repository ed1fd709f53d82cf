"""What a process without HTTP of its own shows of itself: its counters and whether it is well."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from django.conf import settings
from prometheus_client import make_wsgi_app

from activities.cli import cannot_listen, family, host_and_port


class MonitoringServer:
    """Serves `/metrics` and `/healthz` at HOST:PORT. `ails` tells what is wrong with the process; None when nothing is.

    Raises `OSError` when the port is not to be had.
    """

    def __init__(self, address: str, *, ails: Callable[[], str | None]) -> None:
        self._ails = ails
        self._metrics = make_wsgi_app()
        listening = _Server6 if family(address) is socket.AF_INET6 else _Server
        self._server: WSGIServer = make_server(*host_and_port(address), self._answer, listening, _Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            return cast("Iterable[bytes]", self._metrics(environ, start_response))
        status, text = "404 Not Found", "there are /metrics and /healthz"
        if environ["PATH_INFO"] == "/healthz":
            wrong = self._ails()
            status, text = ("200 OK", "ok") if wrong is None else ("503 Service Unavailable", wrong)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]


@contextmanager
def monitored(ails: Callable[[], str | None]) -> Iterator[list[str]]:
    """Serves them at `METRICS_ADDRESS`, where that is set; where, for people. Ends a command that cannot."""
    address = settings.METRICS_ADDRESS
    if not address:
        yield []
        return
    try:
        server = MonitoringServer(address, ails=ails)
    except OSError as failed:
        raise cannot_listen("METRICS_ADDRESS", address, failed) from None
    server.start()
    try:
        yield [f"metrics {address.rpartition(':')[0]}:{server.port}"]
    finally:
        server.stop()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = False


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 5  # seconds in which a client must have sent its request

    def log_message(self, *args: object) -> None:
        """Nobody reads a line for each look at the counters."""
