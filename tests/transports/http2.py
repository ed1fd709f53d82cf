"""HTTP/2 by hand, for what no client does: frames by RFC 9113, sections 4.1 and 6, headers by RFC 7541, 6.2.2."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.transports.served import SECONDS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 1, 3, 4, 6, 7, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
REFUSED_STREAM, ENHANCE_YOUR_CALM = 7, 11
MOST_IN_A_FRAME = 16384


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Why a stream or a connection ends."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4])


class Connection:
    """A connection to a gRPC server of which it has not said a word yet."""

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain

    def send(self, kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> None:
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
        self._socket.sendall(head + payload)

    def begin(self) -> None:
        self._socket.sendall(PREFACE)
        self.send(SETTINGS)
        self.send(SETTINGS, flags=ACK)

    def ask(self, stream: int, path: str, **metadata: str) -> None:
        """Begins a call; says nothing more of it."""
        pseudo = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
        block = b"".join(
            b"\0" + _text(name) + _text(value)
            for name, value in {**pseudo, "te": "trailers", "content-type": "application/grpc", **metadata}.items()
        )
        parts = [block[at : at + MOST_IN_A_FRAME] for at in range(0, len(block), MOST_IN_A_FRAME)]
        for number, part in enumerate(parts):
            last = END_HEADERS if number == len(parts) - 1 else 0
            self.send(CONTINUATION if number else HEADERS, part, flags=last, stream=stream)

    def frames(self) -> Iterator[Frame]:
        """What the server says until it closes."""
        with self._socket.makefile("rb") as told:
            try:
                while head := told.read(9):
                    payload = told.read(int.from_bytes(head[:3]))
                    yield Frame(head[3], head[4], int.from_bytes(head[5:9]), payload)
            except ConnectionError:
                return

    def first(self, *kinds: int) -> Frame:
        """The next frame of one of these kinds."""
        return next(frame for frame in self.frames() if frame.kind in kinds)


def _text(value: str) -> bytes:
    raw = value.encode()
    length, head = len(raw), b""
    if length >= 127:
        head, length = b"\x7f", length - 127
        while length >= 128:
            head, length = head + bytes([length % 128 + 128]), length // 128
    return head + bytes([length]) + raw


@contextmanager
def connected(port: int) -> Iterator[Connection]:
    with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
        yield Connection(plain)
