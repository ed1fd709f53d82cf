"""Sockets that are shut at their time."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from activities.repositories.database import Watchdog

SECONDS = 30.0  # what a test waits at most for anything


class Pair:
    """The two ends of a connection; ours is watched."""

    def __init__(self, opened: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.ours = opened.enter_context(socket.create_connection(listener.getsockname()))
            self.theirs = opened.enter_context(listener.accept()[0])
        self.ours.settimeout(SECONDS)
        self.theirs.settimeout(SECONDS)

    def reset(self) -> None:
        """The other end goes without a good-bye; returns when ours knows."""
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.theirs.close()
        with pytest.raises(ConnectionResetError):
            self.ours.recv(1)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_a_wait_on_a_silent_end_is_over_at_its_time(opened: ExitStack) -> None:
    pair = Pair(opened)
    until = time.monotonic() + 0.1
    with Watchdog().watching(pair.ours.fileno(), until):
        assert pair.ours.recv(1) == b""
    assert time.monotonic() >= until


def test_a_block_that_ended_in_time_keeps_its_connection(opened: ExitStack) -> None:
    watchdog, early, late = Watchdog(), Pair(opened), Pair(opened)
    with watchdog.watching(early.ours.fileno(), time.monotonic() + 0.1):
        pass
    with watchdog.watching(late.ours.fileno(), time.monotonic() + 0.2):
        assert late.ours.recv(1) == b""
    early.theirs.sendall(b"x")
    assert early.ours.recv(1) == b"x"


def test_one_that_the_other_end_has_shut_first_does_not_stop_the_watch(opened: ExitStack) -> None:
    watchdog, gone, silent = Watchdog(), Pair(opened), Pair(opened)
    gone.reset()
    now = time.monotonic()
    with watchdog.watching(gone.ours.fileno(), now), watchdog.watching(silent.ours.fileno(), now + 0.1):
        assert silent.ours.recv(1) == b""
