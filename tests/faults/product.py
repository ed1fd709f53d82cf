"""The product as it runs: `manage.py grpcserver` in a process of its own on these tests' servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from grpc_server.client import Remote
from tests.faults.services import ROOT, eventually

TOKEN = "service-secret-0123456789abcdefghij"
PATIENCE = 20.0
"""What a client of these tests waits at most, in seconds: longer than the product's own limit, which is to be seen."""


class Process:
    """One of the product's commands that stay, once it has said that it is up."""

    def __init__(self, environment: Mapping[str, str], log: Path, *command: str, up: str) -> None:
        self._log = log
        with log.open("wb") as errors, log.with_suffix(".out").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", *command],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=errors,
            )
        self.pid = self._process.pid
        eventually(lambda: self.said(up) is not None or self._process.poll() is not None)
        assert self.said(up) is not None, log.read_text()

    def log_since(self, position: int) -> list[str]:
        """The lines that it has logged after so many."""
        return self._log.read_text().splitlines()[position:]

    @property
    def logged(self) -> int:
        return len(self.log_since(0))

    def stop(self) -> int:
        """Its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=20)

    def pause(self) -> None:
        """It does nothing; the system still takes for it what comes."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    @property
    def connections(self) -> list[tuple[int, int]]:
        """Its own port and the other side's, for each of its connections."""
        return [
            (each.laddr.port, each.raddr.port)
            for each in psutil.Process(self._process.pid).net_connections("tcp")
            if each.status == psutil.CONN_ESTABLISHED
        ]

    def kill(self) -> None:
        """It gets to do nothing more."""
        self._process.kill()
        self._process.wait()

    def said(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self._log.with_suffix(".out").read_text())


class Product(Process):
    """A data service; `activities` and `chats` are what a client in another process has of it. Port 0 is a free one."""

    def __init__(self, environment: Mapping[str, str], log: Path, port: int = 0) -> None:
        up = r"gRPC \S+:(\d+)"
        super().__init__(environment, log, "grpcserver", "--address", f"127.0.0.1:{port}", up=up)
        said = self.said(up)
        assert said is not None
        self.port = int(said[1])
        self.target = f"127.0.0.1:{self.port}"
        self._remote = Remote(target=self.target, token=TOKEN, limit=PATIENCE)
        self.activities, self.chats = self._remote.activities, self._remote.chats

    def stop(self) -> int:
        self._remote.close()
        return super().stop()


class ConsumerProcess(Process):
    """The data service's consumer."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        super().__init__(environment, log, "consume_commands", up="consuming commands")


def manage(environment: Mapping[str, str], *arguments: str) -> None:
    """Another of the product's commands, which has to succeed."""
    subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        timeout=120,
        stdout=subprocess.DEVNULL,
    )
