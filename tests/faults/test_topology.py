"""The whole topology as `make up` starts it: one user by chat, gateway, gRPC and API, each seen by the others."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import psutil
import pytest
from google.protobuf.json_format import MessageToDict

from activities.access import Access
from proto.activities.v1 import activities_pb2, activities_pb2_grpc
from tests.faults.product import TOKEN
from tests.faults.services import ROOT, SECONDS, Services, eventually

KEY = "a-key-of-these-tests-0123456789abcdefghijklmnopqrstuvwxyz"
NAME = "vitamin C / витамин %"


def free_offset() -> int:
    """By how much the ports have to be moved so that all are free, and none is one that connections go out from."""
    usual = [8000, 8080, 50051, 50061, 50062, *range(9101, 9108)]
    for offset in range(11000, 15000, 97):
        held = []
        try:
            held = [socket.create_server(("127.0.0.1", port + offset)) for port in usual]
        except OSError:
            continue
        else:
            return offset
        finally:
            for each in held:
                each.close()
    raise AssertionError("no free ports")


class Topology:
    """What `make up` runs."""

    def __init__(self, services: Services, folder: Path, offset: int) -> None:
        self.offset = offset
        ours = ("ACTIVITIES_BACKEND", "METRICS_ADDRESS", "DJANGO_SETTINGS_MODULE")
        self.environment: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if name not in ours},
            **services.environment,
            "SERVICES_FOLDER": str(services.folder),
            "DJANGO_SECRET_KEY": KEY,
            "ACTIVITIES_SERVICE_TOKENS": f"interface:{TOKEN}",
            "ACTIVITIES_GRPC_TOKEN": TOKEN,
            "LOG_LEVEL": "INFO",
        }
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "scripts/up.py", "--offset", str(offset)],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def at(self, port: int) -> str:
        return f"127.0.0.1:{port + self.offset}"

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SECONDS)


@contextmanager
def running(services: Services, folder: Path, offset: int) -> Iterator[Topology]:
    topology = Topology(services, folder, offset)
    try:
        yield topology
    finally:
        if topology.process.poll() is None:
            topology.stop()


def chat(topology: Topology, chat_id: int, line: str) -> str:
    """What the bot answers in a terminal of another process."""
    environment = {
        **topology.environment,
        "ACTIVITIES_BACKEND": "kafka",
        "ACTIVITIES_GRPC_TARGET": f"ipv4:{topology.at(50061)},{topology.at(50062)}",
    }
    command = [sys.executable, "manage.py", "chat", "--chat-id", str(chat_id), "--language", "en"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=line.encode(), capture_output=True, check=True, timeout=SECONDS
    )
    return done.stdout.decode()


def test_one_user_goes_through_every_door(services: Services, tmp_path: Path, chat_id: int) -> None:
    with running(services, tmp_path, free_offset()) as topology:
        eventually(lambda: "all of it runs" in topology.said() or topology.process.poll() is not None, seconds=60)
        assert topology.process.poll() is None, topology.said()
        everybody = psutil.Process(topology.process.pid).children(recursive=True)
        token = Access(keys=[KEY], valid_after=lambda *_: 0).issue(chat_id)
        headers = {"authorization": f"Bearer {token}"}
        gateway = httpx.Client(base_url=f"http://{topology.at(8080)}", headers=headers, timeout=SECONDS)
        api = httpx.Client(base_url=f"http://{topology.at(8000)}/api", headers=headers, timeout=SECONDS)
        channel = grpc.insecure_channel(topology.at(50051))
        get = activities_pb2_grpc.ActivityServiceStub(channel).ActivityGet
        url = f"/v1/activities/{quote(NAME, safe='')}"

        def by_grpc() -> dict[str, Any]:
            request = activities_pb2.ActivityGetRequest(name=NAME)
            answer = get(request, metadata=(("authorization", f"Bearer {token}"),), timeout=SECONDS)
            return MessageToDict(answer, preserving_proto_field_name=True)

        # A consumer that has just begun may not have its partitions yet: until then a write is not finished in time.
        eventually(lambda: "You already have" in chat(topology, chat_id, f'/add "{NAME}" today +10d 2 0.5'))
        before = by_grpc()
        assert gateway.get(url).json() == before
        assert api.get(f"{url}/").json() == before
        assert before["times_per_day"] == 2

        assert gateway.patch(url, json={"times_per_day": 3}).status_code == 200
        after = {**before, "times_per_day": 3}
        assert by_grpc() == after
        assert api.get(f"{url}/").json() == after
        assert "3 times a day" in chat(topology, chat_id, f'/get "{NAME}"')

        assert api.delete(f"{url}/").status_code == 204
        with pytest.raises(grpc.RpcError) as gone:
            by_grpc()
        assert gone.value.code() is grpc.StatusCode.NOT_FOUND
        assert gateway.get(url).status_code == 404
        assert "no activities" in chat(topology, chat_id, "/list")

        for number in range(4):  # the interface service has its own on HTTP
            assert "activities_" in httpx.get(f"http://{topology.at(9101 + number)}/metrics").text
        for client in (gateway, api, channel):
            client.close()
        assert topology.stop() == 0
        said = topology.said()
    for part in ("data-1", "data-2", "consumer-1", "consumer-2", "interface", "gateway"):
        assert re.search(rf"{part} +\| \S", said), part
        assert f"{part} stopped (rc=0)" in said
    assert not [each for each in everybody if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_a_part_that_cannot_start_is_named_with_its_reason(services: Services, tmp_path: Path) -> None:
    offset = free_offset()
    with socket.create_server(("127.0.0.1", 8080 + offset)), running(services, tmp_path, offset) as topology:
        assert topology.process.wait(SECONDS + 30) == 1
        last = topology.said().splitlines()[-1]
    assert last.startswith("up: gateway ended with 2: ")
    assert f"127.0.0.1:{8080 + offset}" in last
