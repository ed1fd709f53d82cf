"""What a process without HTTP of its own shows of itself: its counters and whether it is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from activities.bounded_http import BoundedServer, Message, Receive, Send, ServerThread
from activities.cli import cannot_listen


class MonitoringServer(ServerThread):
    """Serves `/metrics` and `/healthz` at HOST:PORT. `ails` tells what is wrong with the process; None when nothing is.

    Raises `OSError` when the port is not to be had. What comes beside the path is not read.
    """

    def __init__(self, address: str, *, ails: Callable[[], str | None]) -> None:
        self._ails = ails
        super().__init__(BoundedServer(self._serve, stop_seconds=1), address, name="monitoring")

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        status, kind, body = self._answer(scope["path"])
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        status, text = 404, "there are /metrics and /healthz"
        if path == "/healthz":
            wrong = self._ails()
            status, text = (200, "ok") if wrong is None else (503, wrong)
        return status, "text/plain; charset=utf-8", f"{text}\n".encode()


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
