"""The HTTP server: uvicorn in front, Django's WSGI application in threads behind.

The front reads a request whole before a thread is given to it, so that slow clients hold no thread; it bounds the
body, keeps a name one path segment, and tells the application when the client has gone.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from a2wsgi import WSGIMiddleware
from django.conf import settings
from django.urls import get_resolver

from activities.bounded_http import App, BoundedServer, Message, Receive, Send, ServerThread, guards
from activities.cli import STOP_SECONDS
from activities.container import Container
from activities.fair_use import HOLD_SECONDS
from activities.ports import MAX_REQUEST_BYTES, Cancellation
from activities.tls import ServerTls

THREADS = 32
"""Handler threads; more than there can be streams, so that other requests always find one."""
BODY_SECONDS = 10.0
"""How long a client may take to send its body."""
MOST_DRAINED = 32 << 20
"""A body that is too large is read up to here before it is refused, since most clients listen only when they have
sent; beyond, the connection is closed on them."""
TOO_MANY_REQUESTS = 429


class _Refused(Exception):
    """The request does not get to the application."""

    def __init__(self, status: int, name: str, detail: str) -> None:
        super().__init__(name)
        self.status = status
        self.body = json.dumps({"error": name, "detail": detail}).encode()


class Front:
    """An ASGI application round another one, `app`, which gets whole bodies and the keys of `environ`."""

    def __init__(self, app: App, container: Container) -> None:
        self._app = app
        self._container = container

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        asked_at = time.monotonic()
        cancellation = Cancellation()
        try:
            path = _path(scope["raw_path"])
            body = await asyncio.wait_for(_body(scope["headers"], receive), BODY_SECONDS)
        except _Refused as refused:
            await _answer(scope, send, refused)
            return
        except TimeoutError:
            await _answer(
                scope, send, _Refused(408, "RequestTimeout", f"the body must arrive within {BODY_SECONDS:g} s")
            )
            return
        except asyncio.CancelledError:
            await _answer(scope, send, _Refused(503, "Stopping", "this process ends; send the request again"))
            return
        except _Gone:
            return
        headers = [pair for pair in scope["headers"] if _is_passed_on(pair[0])]
        inner = {
            **scope,
            "path": path,
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
            "activities": {
                "activities.container": self._container,
                "activities.asked_at": asked_at,
                "activities.cancellation": cancellation,
            },
        }
        watch = asyncio.create_task(_watch(receive, cancellation))
        try:
            await self._app(inner, _replay(body), partial(_send, send))
        except asyncio.CancelledError:
            cancellation.cancel()  # the process ends; that requests are cut off has been logged
        finally:
            watch.cancel()


def _is_passed_on(name: bytes) -> bool:
    # WSGI writes `X_Chat_Id` like `X-Chat-Id`: it would pass whatever a proxy does about the latter.
    return name not in (b"content-length", b"transfer-encoding") and b"_" not in name


class _Gone(Exception):
    """The client went before it had sent its request."""


_KEPT = re.compile(rb"%(2[Ff]|25)")


def _path(raw: bytes) -> str:
    """The path decoded, but for `%2F` and `%25`: the routes decode these, so that a name stays one segment."""
    kept = _KEPT.sub(rb"%25\1", raw)
    try:
        return unquote_to_bytes(kept).decode()
    except UnicodeDecodeError:
        raise _Refused(400, "BadRequest", "the path must be percent-encoded UTF-8, like /vitamin%20C/") from None


async def _body(headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> bytes:
    declared = int(dict(headers).get(b"content-length", b"0"))
    too_large = _Refused(413, "RequestTooLarge", f"a request has at most {MAX_REQUEST_BYTES} bytes")
    if declared > MOST_DRAINED:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_REQUEST_BYTES:
            chunks.clear()
            if size > MOST_DRAINED:
                raise too_large
        else:
            chunks.append(chunk)
        if not message.get("more_body", False):
            break
    if size > MAX_REQUEST_BYTES:
        raise too_large
    return b"".join(chunks)


async def _watch(receive: Receive, cancellation: Cancellation) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancellation.cancel()


async def _send(send: Send, message: Message) -> None:
    """Sends, but keeps back what tells that somebody asks too often: they may ask again at once, whatever they hear."""
    if message.get("status") == TOO_MANY_REQUESTS:
        await asyncio.sleep(HOLD_SECONDS)
    await send(message)


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _answer(scope: Message, send: Send, refused: _Refused) -> None:
    length = str(len(refused.body)).encode()
    headers = [*guards(scope["scheme"]), (b"content-type", b"application/json"), (b"content-length", length)]
    if refused.status in (408, 413, 503):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": refused.body})


def _wsgi_application() -> Callable[..., Iterable[bytes]]:
    """Django's application, with the front's keys in its environ."""
    from activities_project.wsgi import application

    def with_keys(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ.update(environ["asgi.scope"]["activities"])
        return cast("Iterable[bytes]", application(environ, start_response))

    return with_keys


class HttpServer(ServerThread):
    """Serves a container at HOST:PORT, which is taken at once; port 0 means any free one.

    Raises `OSError` when the port is not to be had.
    """

    def __init__(self, container: Container, address: str, *, tls: ServerTls | None = None) -> None:
        get_resolver().url_patterns  # noqa: B018 - views are loaded now: a server that cannot serve does not start
        self._bridge = WSGIMiddleware(_wsgi_application(), workers=THREADS)
        server = BoundedServer(
            Front(self._bridge, container),  # type: ignore[arg-type]
            tls=tls,
            guarded=True,
            proxies=settings.HTTP_TRUSTED_PROXIES,
            stop_seconds=STOP_SECONDS,
        )
        super().__init__(server, address, name="http")

    def stop(self) -> None:
        super().stop()
        self._bridge.executor.shutdown()

    async def serve(self) -> None:
        await super().serve()
        # Threads that were cut off still hand over what they have: the loop stays until they have seen that it is
        # for nobody, which a cancelled hand-over tells them.
        ended = asyncio.get_running_loop().run_in_executor(None, self._bridge.executor.shutdown)
        while not ended.done():
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.wait([ended], timeout=0.05)
