"""A set of real servers of these tests' own, to be killed, paused and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("postgres", "pgbouncer", "redis", "kafka")
SECONDS = 30.0  # what a test waits at most for anything
STILL = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
"""Of a paused process; the latter of one that was just ending, since whoever would bury it is paused as well."""
ANSWER_SECONDS = 4.0
"""Within this a caller has its answer. Its limit is 2 s; the rest is for a machine that does other things as well."""


def eventually(condition: Callable[[], bool], *, seconds: float = SECONDS) -> None:
    """Returns when the condition holds; fails when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come about in time"
        time.sleep(0.01)


class Services:
    """PostgreSQL, pgbouncer, Redis and Kafka under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.start()
        except subprocess.CalledProcessError:
            self.stop()
            raise
        self.environment = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines())
        state = json.loads((folder / "state.json").read_text())
        self.ports = {name: int(state[f"{name}_port"]) for name in NAMES}
        self.superuser_url = f"postgres://postgres:{state['superuser_password']}@127.0.0.1:{state['postgres_port']}/"

    def start(self) -> None:
        """Starts what does not run."""
        self._control("start")

    def stop(self) -> None:
        self._control("stop")

    def mend(self) -> None:
        """Everything runs and answers again."""
        for name in NAMES:
            with suppress(psutil.NoSuchProcess):
                self.resume(name)
        self.start()

    def kill(self, name: str) -> None:
        """As a machine that loses its power would: nothing of it gets to say anything."""
        everyone = self._everyone(name)
        everyone[0].suspend()  # it might react to the death of its children
        for each in reversed(everyone):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        _, alive = psutil.wait_procs(everyone, timeout=SECONDS)
        assert not [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]

    def pause(self, name: str) -> None:
        """It keeps its port and its connections, and takes bytes as far as the system does that for it."""
        for each in self._everyone(name):
            with suppress(psutil.NoSuchProcess):
                each.suspend()
                eventually(lambda each=each: each.status() in STILL)  # type: ignore[misc]

    def resume(self, name: str) -> None:
        for each in self._everyone(name):
            with suppress(psutil.NoSuchProcess):
                each.resume()

    def terminate(self, name: str) -> None:
        """As its administrator would; returns when it has ended."""
        server = self._everyone(name)[0]
        server.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)

    def _everyone(self, name: str) -> list[psutil.Process]:
        """A server's process, and those that it has started."""
        server = psutil.Process(int((self.folder / f"{name}.pid").read_text().split()[0]))
        return [server, *server.children(recursive=True)]

    def _control(self, command: str) -> None:
        subprocess.run(
            [sys.executable, "scripts/services.py", command],
            cwd=ROOT,
            env={**os.environ, "SERVICES_FOLDER": str(self.folder)},
            check=True,
            timeout=120,
            stdout=subprocess.DEVNULL,
        )
