"""A stretch of network in front of a server, which can be made bad."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Wire:
    """Carries bytes between clients and a server on 127.0.0.1.

    `delay` seconds pass before an answer is carried. `cut_before` and `cut_after` are bytes in a request: the
    connection ends before the server gets them, or when it has answered them, without the answer. `down` refuses
    everybody.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.delay = 0.0
        self.cut_before: bytes | None = None
        self.cut_after: bytes | None = None
        self.down = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def take_down(self) -> None:
        """Ends all connections, and those to come."""
        self.down = True
        for each in self._ends:
            _end(each)

    def close(self) -> None:
        self.take_down()
        _end(self._listener)
        for each in self._ends:
            each.close()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.down:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._ends += [client, server]
                lossy = threading.Event()
                for carry in (self._requests, self._answers):
                    threading.Thread(target=carry, args=[client, server, lossy], daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, lossy: threading.Event) -> None:
        def pass_on(data: bytes) -> bool:
            if self.cut_before is not None and self.cut_before in data:
                self.cuts += 1
                return False
            if self.cut_after is not None and self.cut_after in data:
                lossy.set()
            server.sendall(data)
            return True

        _carry(client, server, pass_on)

    def _answers(self, client: socket.socket, server: socket.socket, lossy: threading.Event) -> None:
        def pass_on(data: bytes) -> bool:
            if lossy.is_set():
                self.cuts += 1
                return False
            time.sleep(self.delay)
            client.sendall(data)
            return True

        _carry(server, client, pass_on)


def _carry(source: socket.socket, target: socket.socket, pass_on: Callable[[bytes], bool]) -> None:
    with suppress(OSError):
        while (data := source.recv(65536)) and pass_on(data):
            pass
    _end(source)
    _end(target)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_to(server_port: int) -> Iterator[Wire]:
    wire = Wire(server_port)
    try:
        yield wire
    finally:
        wire.close()
