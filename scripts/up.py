"""Starts the whole product natively on the services of `make services`, as docker-compose.yml does with containers.

    python scripts/up.py [--offset N]

Two data services and two consumers on PostgreSQL, the interface service that writes through Kafka, the gateway, and the
bot when there is a token. Their lines come together, each with its part's name in front; Ctrl-C ends all of them. The
services stay, with their data, until `make services-stop`. `--offset` adds N to every port.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import honcho.manager
from dotenv import dotenv_values
from honcho.manager import Manager
from honcho.printer import Printer

ROOT = Path(__file__).resolve().parent.parent
SERVICES = Path(os.environ.get("SERVICES_FOLDER", ROOT / ".services")) / "env"
SECRETS = ROOT / ".local" / "up.env"
"""Made once, so that tokens stay good over a restart."""
READY_SECONDS = 60.0
STOP_SECONDS = 15
"""A process takes at most 10 to finish what it has."""
SIGNALLED = (130, 143)
"""The manager's code after Ctrl-C and after SIGTERM."""


@dataclass(frozen=True)
class Ports:
    """Where everything is, `offset` ports above the usual ones."""

    offset: int

    def at(self, port: int) -> str:
        return f"127.0.0.1:{port + self.offset}"

    @property
    def http(self) -> str:
        return self.at(8000)

    @property
    def grpc(self) -> str:
        return self.at(50051)

    @property
    def gateway(self) -> str:
        return self.at(8080)

    @property
    def data(self) -> tuple[str, str]:
        return self.at(50061), self.at(50062)

    def metrics(self, number: int) -> str:
        return self.at(9101 + number)


@dataclass(frozen=True)
class Part:
    """One process of the topology, which listens at `address` once it serves."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    address: str


class Labelled(Printer):  # type: ignore[misc] # it has no types
    """Prints each line with its part's name, and remembers who ended first and what it said last."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.first_ended: tuple[str, int] | None = None
        self.last_lines: dict[str, str] = {}

    def write(self, message: Any) -> None:
        text = message.data.decode(errors="replace") if isinstance(message.data, bytes) else message.data
        if message.name == honcho.manager.SYSTEM_PRINTER_NAME:
            ended = re.match(r"(\S+) stopped \(rc=(-?\d+)\)", text)
            if ended and self.first_ended is None:
                self.first_ended = ended[1], int(ended[2])
        elif text.strip():
            self.last_lines[message.name] = text.strip()
        super().write(message)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offset", type=int, default=0, metavar="N")
    ports = Ports(parser.parse_args().offset)
    if not SERVICES.exists():
        print("up: the services are not there: make services", file=sys.stderr)
        return 2
    given = {name: value or "" for name, value in dotenv_values(ROOT / ".env").items()} | dict(os.environ)
    environment = {**made_once(), **given, **read(SERVICES), "PYTHONUNBUFFERED": "1"}
    for command in (["migrate", "--no-input", "--verbosity", "0"], ["kafka_topics"]):
        done = subprocess.run([*manage(), *command], cwd=ROOT, env=environment, check=False)
        if done.returncode:
            print(f"up: manage.py {command[0]} failed: see above", file=sys.stderr)
            return 1
    return run(topology(environment, ports), ports)


def topology(environment: Mapping[str, str], ports: Ports) -> list[Part]:
    """What runs. `environment` has the services, the secrets and whatever the caller set."""
    data = {**environment, "ACTIVITIES_BACKEND": "postgres", "TELEGRAM_BOT_TOKEN": ""}
    interface = {
        **environment,
        "ACTIVITIES_BACKEND": "kafka",
        "ACTIVITIES_GRPC_TARGET": f"ipv4:{','.join(ports.data)}",
        "ACTIVITIES_GATEWAY_URL": f"http://{ports.gateway}",
        "ACTIVITIES_PUBLIC_URL": f"http://{ports.http}",
        "TELEGRAM_BOT_TOKEN": "",  # the bot is a process of its own
    }
    wanted = [
        *(
            (f"data-{number}", ["grpcserver", "--address", address], data, address)
            for number, address in enumerate(ports.data, 1)
        ),
        *((f"consumer-{number}", ["consume_commands"], data, "") for number in (1, 2)),
        ("interface", ["serve", "--http", ports.http, "--grpc", ports.grpc], interface, ports.http),
        ("gateway", ["gateway", "--address", ports.gateway, "--upstream", ports.grpc], interface, ports.gateway),
    ]
    if environment.get("TELEGRAM_BOT_TOKEN"):
        wanted.append(("bot", ["runbot"], {**interface, "TELEGRAM_BOT_TOKEN": environment["TELEGRAM_BOT_TOKEN"]}, ""))
    parts = []
    for number, (name, command, given, address) in enumerate(wanted):
        metrics = ports.metrics(number)
        parts.append(Part(name, [*manage(), *command], {**given, "METRICS_ADDRESS": metrics}, address or metrics))
    return parts


def run(parts: Sequence[Part], ports: Ports) -> int:
    """Runs them until one ends or a signal comes. 0 after a signal when all ended well."""
    printer = Labelled()
    honcho.manager.KILL_WAIT = STOP_SECONDS
    manager = Manager(printer)
    for part in parts:
        manager.add_process(part.name, f"exec {shlex.join(part.command)}", env=dict(part.environment), cwd=ROOT)
    threading.Thread(target=tell_when_up, args=[parts, ports], daemon=True).start()
    manager.loop()
    if manager.returncode in SIGNALLED:
        print("up: stopped; the services go on: make services-stop ends them and removes their data")
        return 0
    assert printer.first_ended is not None
    name, code = printer.first_ended
    print(f"up: {name} ended with {code}: {printer.last_lines.get(name, 'it said nothing')}", file=sys.stderr)
    return 1


def tell_when_up(parts: Sequence[Part], ports: Ports) -> None:
    """Says so once everything listens, or what does not."""
    end = time.monotonic() + READY_SECONDS
    for part in parts:
        while not listens(part.address):
            if time.monotonic() > end:
                print(f"up: {part.name} does not listen at {part.address} after {READY_SECONDS:.0f} s", file=sys.stderr)
                return
            time.sleep(0.1)
    print(
        f"up: all of it runs. HTTP http://{ports.http}/api/docs/  gRPC {ports.grpc}  gateway http://{ports.gateway}/v1/today\n"
        "up: a token: set -a; . .services/env; . .local/up.env; .venv/bin/python manage.py token issue --chat-id 1",
        flush=True,
    )


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def manage() -> list[str]:
    return [sys.executable, "manage.py"]


def made_once() -> dict[str, str]:
    """The secrets of this machine's topology."""
    if not SECRETS.exists():
        SECRETS.parent.mkdir(mode=0o700, exist_ok=True)
        token = secrets.token_urlsafe(32)
        SECRETS.touch(mode=0o600)
        SECRETS.write_text(
            f"DJANGO_SECRET_KEY={secrets.token_urlsafe(48)}\n"
            f"ACTIVITIES_SERVICE_TOKENS=interface:{token}\n"
            f"ACTIVITIES_GRPC_TOKEN={token}\n"
        )
    return read(SECRETS)


def read(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


if __name__ == "__main__":
    sys.exit(main())
