"""The HTTP server: uvicorn in front, Django's WSGI application in threads behind.

The front reads a request whole before a thread is given to it, so that slow clients hold no thread; it bounds the
head and the body, keeps a name one path segment, and tells the application when the client has gone.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any, cast
from urllib.parse import unquote_to_bytes
from weakref import WeakSet

import uvicorn
from a2wsgi import WSGIMiddleware
from django.urls import get_resolver
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from activities.cli import STOP_SECONDS, family, host_and_port
from activities.container import Container
from activities.fair_use import HOLD_SECONDS
from activities.ports import MAX_REQUEST_BYTES, Cancellation
from activities.tls import ServerTls

THREADS = 32
"""Handler threads; more than there can be streams, so that other requests always find one."""
MOST_HEAD_BYTES = 64 << 10
"""How long the part of a request before its body may be, give or take what one read from the socket brings."""
HEAD_SECONDS = 10.0
"""How long a client may take to send that part, from the connection or the first of its bytes on; and for TLS's
handshake before."""
BODY_SECONDS = 10.0
"""How long a client may take to send its body."""
GOODBYE_SECONDS = 1.0
"""How long the end of the process waits for an idle TLS client to say goodbye: one in a client's pool never does."""
MOST_DRAINED = 32 << 20
"""A body that is too large is read up to here before it is refused, since most clients listen only when they have
sent; beyond, the connection is closed on them."""
TOO_MANY_REQUESTS = 429

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


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
            await _answer(send, refused)
            return
        except TimeoutError:
            await _answer(send, _Refused(408, "RequestTimeout", f"the body must arrive within {BODY_SECONDS:g} s"))
            return
        except asyncio.CancelledError:
            await _answer(send, _Refused(503, "Stopping", "this process ends; send the request again"))
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


async def _answer(send: Send, refused: _Refused) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(refused.body)).encode())]
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


class _Bounded(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for a head, and collects it, without end."""

    _reading_head = False
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._cycles: WeakSet[RequestResponseCycle] = WeakSet()
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reading_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._reading_head and self._head_bytes > MOST_HEAD_BYTES:
            self._let_go()
            self.transport.write(_TOO_LONG_HEAD)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading_head, self._head_bytes = True, 0
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._reading_head = False
        self._stop_waiting()
        super().on_headers_complete()
        self._cycles.add(self.cycle)

    def send_400_response(self, msg: str) -> None:
        self._let_go()
        super().send_400_response(msg)

    def _let_go(self) -> None:
        # The connection is about to be closed, with answers to what came before on their way: uvicorn would write them
        # to it, and log that as its own failure.
        for cycle in self._cycles:
            cycle.disconnected = True
            cycle.message_event.set()

    def shutdown(self) -> None:
        super().shutdown()
        if self.scheme == "https":
            self.loop.call_later(GOODBYE_SECONDS, self._part)

    def _part(self) -> None:
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_TOO_LONG_HEAD = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class _Uvicorn(uvicorn.Server):
    """Tells when it has started, and waits for a handshake no longer than for a head."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # In place of uvicorn's own, which leaves a handshake the event loop's minute.
        config = self.config
        protocol = partial(_Bounded, config, self.server_state, {})
        self.servers = [
            await asyncio.get_running_loop().create_server(
                protocol,
                sock=each,
                ssl=config.ssl,
                ssl_handshake_timeout=HEAD_SECONDS if config.ssl else None,
                backlog=config.backlog,
            )
            for each in sockets or []
        ]
        self.started = True
        self.up.set()


class HttpServer:
    """Serves a container at HOST:PORT, which is taken at once; port 0 means any free one.

    Raises `OSError` when the port is not to be had.
    """

    def __init__(self, container: Container, address: str, *, tls: ServerTls | None = None) -> None:
        get_resolver().url_patterns  # noqa: B018 - views are loaded now: a server that cannot serve does not start
        self._socket = socket.create_server(host_and_port(address), family=family(address), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._bridge = WSGIMiddleware(_wsgi_application(), workers=THREADS)
        self._server = _Uvicorn(
            uvicorn.Config(
                Front(self._bridge, container),  # type: ignore[arg-type]
                interface="asgi3",
                http=_Bounded,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=int(STOP_SECONDS),
                ssl_context_factory=(lambda *_: tls.context()) if tls else None,
            )
        )
        self._thread = threading.Thread(target=self._run, name="http")

    def start(self) -> None:
        self._thread.start()
        self._server.up.wait()

    def stop(self) -> None:
        """Takes no new request, lets those under way end for `STOP_SECONDS`, then cuts them off."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        self._bridge.executor.shutdown()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        await self._server.serve([self._socket])
        # Threads that were cut off still hand over what they have: the loop stays until they have seen that it is
        # for nobody, which a cancelled hand-over tells them.
        ended = asyncio.get_running_loop().run_in_executor(None, self._bridge.executor.shutdown)
        while not ended.done():
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.wait([ended], timeout=0.05)
