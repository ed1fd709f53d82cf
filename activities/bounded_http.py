"""uvicorn for clients that mean no good: what each may send, take and hold is bounded, and every answer is guarded.

A connection that is cut off has to come back; a request that was read whole is never cut off for another's sake.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

import uvicorn
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from activities.cli import STOP_SECONDS, family, host_and_port
from activities.tls import ServerTls

MOST_HEAD_BYTES = 64 << 10
"""How long the part of a request before its body may be, give or take what one read from the socket brings."""
HEAD_SECONDS = 10.0
"""How long a client may take to send that part, from the connection, the last answer or the first of its bytes on; and
for TLS's handshake before."""
KEEP_ALIVE_SECONDS = 5
"""How long a connection may be idle between requests."""
MOST_CONNECTIONS = 512
"""Of one server; gRPC's beside them, the stores' and some files stay below 1024, which a process may have open by
default. One more takes the place of the client that has owed the rest of its request the longest."""
MOST_PIPELINED = 32
"""How many requests a client may send before the first one is answered; those that do it at all send fewer."""
LOOK_SECONDS = 10.0
"""How often it is looked whether a client takes what is there for it."""
MOST_LOOKS = 12
"""How often in a row it may have taken nothing."""
GOODBYE_SECONDS = 1.0
"""How long the end of the process waits for an idle TLS client to say goodbye: one in a client's pool never does."""

GUARDS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # URLs have names of activities in them
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Headers that every answer has."""
NO_PAGE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The content security policy of what is no page: should a browser take it for one, it does nothing."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def guards(scheme: object) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is no page, and that nobody keeps."""
    headers = {**GUARDS, "Content-Security-Policy": NO_PAGE, "Cache-Control": "no-store"}
    if scheme == "https" and settings.SECURE_HSTS_SECONDS:
        headers["Strict-Transport-Security"] = f"max-age={settings.SECURE_HSTS_SECONDS}"
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class _Bounded(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits and collects without end."""

    _reading_head = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _look_timer: asyncio.TimerHandle | None = None
    _answering: RequestResponseCycle | None = None
    _unsent = 0
    _was_taken = False
    _looks = 0

    def __init__(self, *arguments: Any, owing: dict[_Bounded, None]) -> None:
        super().__init__(*arguments)
        self._owing = owing
        """The connections whose clients owe a request or its rest, the longest first."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._owing[self] = None
        self._wait_for_head()
        self._look_timer = self.loop.call_later(LOOK_SECONDS, self._look)
        if len(self.connections) > MOST_CONNECTIONS:
            next(iter(self._owing))._cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owing.pop(self, None)
        self._stop_waiting()
        if self._look_timer is not None:
            self._look_timer.cancel()
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reading_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._reading_head and self._head_bytes > MOST_HEAD_BYTES:
            self._refuse("431 Request Header Fields Too Large")

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", msg)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading_head, self._head_bytes = True, 0
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._reading_head = False
        self._stop_waiting()
        if self.transport.is_closing():  # what came with the one that was too much
            return
        super().on_headers_complete()
        if len(self.pipeline) > MOST_PIPELINED:
            self._cut_off()

    def on_body(self, body: bytes) -> None:
        # uvicorn puts pieces together as bytes: of a million pieces of one byte each copies all before it.
        cycle: Any = self.cycle
        if cycle is not None and isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        cycle.send = partial(_send, cycle)  # type: ignore[method-assign]
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        self._owing.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()  # uvicorn reads on, and collects more than is answered meanwhile
        elif not self.transport.is_closing():
            self._owing[self] = None
            self._wait_for_head()

    def resume_writing(self) -> None:
        self._was_taken = True
        super().resume_writing()

    def shutdown(self) -> None:
        super().shutdown()
        if self.scheme == "https":
            self.loop.call_later(GOODBYE_SECONDS, self._part)

    def _part(self) -> None:
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def _look(self) -> None:
        """Cuts off a client that takes nothing of what is there for it, which would hold a stream's place for ever."""
        unsent = self.transport.get_write_buffer_size()
        takes = self._was_taken or not self._unsent or unsent < self._unsent
        self._looks = 0 if takes else self._looks + 1
        self._unsent, self._was_taken = unsent, False
        if self._looks == MOST_LOOKS:
            self._cut_off()
        else:
            self._look_timer = self.loop.call_later(LOOK_SECONDS, self._look)

    def _cut_off(self) -> None:
        self._disconnect()  # else it might still write, before it hears of it
        self.transport.abort()

    def _disconnect(self) -> None:
        """Tells the request that is being answered; uvicorn tells the last one that came, and answers those between."""
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def _refuse(self, status: str, text: str = "") -> None:
        headers = [*guards(self.scheme), (b"content-length", str(len(text)).encode()), (b"connection", b"close")]
        head = [f"HTTP/1.1 {status}".encode(), *(b"%s: %s" % pair for pair in headers)]
        self.transport.write(b"\r\n".join([*head, b"", text.encode()]))
        self.transport.close()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._owes_too_long)

    def _owes_too_long(self) -> None:
        if self._answering is None or self._answering.response_complete:  # else it is waited for after that again
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


async def _send(cycle: RequestResponseCycle, message: Any) -> None:
    """uvicorn's own, which would write to a connection that is being closed, as when garbage came behind the request,
    and log that as a failure."""
    if cycle.transport.is_closing():
        cycle.disconnected = True
        cycle.message_event.set()
    await RequestResponseCycle.send(cycle, message)


class BoundedServer(uvicorn.Server):
    """Serves an ASGI application; tells when it has started. `guarded`: the application sets the guards itself.

    `proxies`: addresses and networks, separated by commas, that are believed whom they speak for and how they were
    reached. `stop_seconds`: how long requests may go on when it is told to stop.
    """

    def __init__(
        self,
        app: App,
        *,
        tls: ServerTls | None = None,
        guarded: bool = False,
        proxies: str = "",
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=_Bounded,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=[] if guarded else [(name.decode(), value.decode()) for name, value in guards("")],
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(stop_seconds),
            ssl_context_factory=(lambda *_: tls.context()) if tls else None,
        )
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # In place of uvicorn's own, which leaves a handshake the event loop's minute.
        config = self.config
        protocol = partial(_Bounded, config, self.server_state, {}, owing={})
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


class ServerThread:
    """A server in a thread of its own, at HOST:PORT, which is taken at once; port 0 means any free one.

    Raises `OSError` when the port is not to be had.
    """

    def __init__(self, server: BoundedServer, address: str, *, name: str) -> None:
        self._socket = socket.create_server(host_and_port(address), family=family(address), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._server = server
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()
        self._server.up.wait()

    def stop(self) -> None:
        """Takes no new request, lets those under way end for the server's time, then cuts them off."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    async def serve(self) -> None:
        await self._server.serve([self._socket])

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
            runner.run(self.serve())
