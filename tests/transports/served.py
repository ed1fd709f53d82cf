"""The HTTP interface on a real socket, for the tests that ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from activities.container import Container, on_repository
from activities.repositories.memory import MemoryRepository
from activities_project.http import HttpServer

SECONDS = 30  # what a test waits at most for anything
SERVICE = "service-secret-0123456789abcdefghij"
READER = "reading-secret-0123456789abcdefghij"
ACTIVITIES = "/api/v1/activities/"
VITAMIN = {
    "name": "vitamin C",
    "begin_date": "2026-07-20",
    "end_date": "2026-07-30",
    "times_per_day": 2,
    "quantity_per_time": 0.5,
}


def url_of(name: str) -> str:
    return f"{ACTIVITIES}{quote(name, safe='')}/"


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Served:
    """A running server, and a client that shows the token of chat 1."""

    container: Container
    base_url: str
    client: httpx.Client

    def anonymous(self) -> httpx.Client:
        """A client like a browser: no token, cookies kept."""
        return httpx.Client(base_url=self.base_url, timeout=SECONDS)

    def send_json(self, method: str, url: str, text: str | bytes, **headers: str) -> httpx.Response:
        """Sends a body as it stands, which need not be JSON."""
        return self.client.request(method, url, content=text, headers={"content-type": "application/json", **headers})


@contextmanager
def serving(repository: Any = None, *, container: Container | None = None) -> Iterator[Served]:
    """A server on this container, or on one round this repository; in memory by default."""
    parts = container or on_repository(repository or MemoryRepository())
    server = HttpServer(parts, "127.0.0.1:0")
    server.start()
    base_url = f"http://127.0.0.1:{server.port}"
    try:
        with httpx.Client(base_url=base_url, timeout=SECONDS, headers=bearer(parts.access.issue(1))) as client:
            yield Served(parts, base_url, client)
    finally:
        server.stop()
        parts.close()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
