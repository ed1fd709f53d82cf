"""Where Telegram brings updates, when it is told to. Knows nothing of what is in them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from activities.bounded_http import BoundedServer, Message, Receive, Send
from activities.cli import family, host_and_port
from activities.ports import MAX_REQUEST_BYTES
from activities.tls import ServerTls

BODY_SECONDS = 10.0
"""How long the sender may take to send an update."""

Take = Callable[[dict[str, Any]], asyncio.Task[None]]


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class Webhook:
    """Listens at `address`, HOST:PORT, which is taken at once, for what Telegram sends to `public_url`.

    Path and secret follow from the bot's token and our key: nobody can guess them, and they are the same after a
    restart and in every process. Raises `OSError` when the port is not to be had.
    """

    def __init__(self, public_url: str, address: str, *, token: str, key: str, tls: ServerTls | None = None) -> None:
        def derived(purpose: str) -> str:
            return hmac.new(key.encode(), f"telegram webhook {purpose} {token}".encode(), hashlib.sha256).hexdigest()

        path = f"/{derived('path')}"
        self.url = public_url.rstrip("/") + path
        self.secret = derived("secret")
        # A proxy may pass the public URL's path on or take it away.
        self._paths = {path.encode(), urlsplit(self.url).path.encode()}
        self._tls = tls
        self._socket = socket.create_server(host_and_port(address), family=family(address), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._is_open = True

    @asynccontextmanager
    async def listening(self, take: Take) -> AsyncIterator[None]:
        """Gives each update to `take`, and answers it when its task has ended."""
        server = BoundedServer(
            lambda scope, receive, send: self._serve(take, scope, receive, send), tls=self._tls, stop_seconds=1
        )
        serving = asyncio.create_task(server.serve([self._socket]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving

    def refuse(self) -> None:
        """From now on updates have to come again later."""
        self._is_open = False

    def close(self) -> None:
        self._socket.close()

    async def _serve(self, take: Take, scope: Message, receive: Receive, send: Send) -> None:
        try:
            status = await self._answer(take, scope, receive)
        except _Refused as refused:
            status = refused.status
        headers = [(b"content-length", b"0")]
        if status != 200:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body"})

    async def _answer(self, take: Take, scope: Message, receive: Receive) -> int:
        headers = dict(scope["headers"])
        if scope["method"] != "POST" or scope["raw_path"] not in self._paths:
            return 404
        if not hmac.compare_digest(headers.get(b"x-telegram-bot-api-secret-token", b""), self.secret.encode()):
            return 403
        try:
            body = await asyncio.wait_for(_body(receive), BODY_SECONDS)
        except TimeoutError:
            return 408
        if not self._is_open:
            return 503
        try:
            task = take(json.loads(body))
        except (ValueError, KeyError, TypeError):
            return 400
        await asyncio.wait([task])
        return 503 if task.cancelled() else 200


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refused(400)
        body += bytes(message.get("body", b""))
        if len(body) > MAX_REQUEST_BYTES:
            raise _Refused(413)
        if not message.get("more_body", False):
            return body
