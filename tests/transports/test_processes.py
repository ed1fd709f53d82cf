"""The processes themselves: how they start, what they print, how they end."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from activities.access import Access
from activities.ports import Call
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 60  # what a test waits at most for anything


def environment(**changes: str) -> dict[str, str]:
    """What a newcomer's shell has, none of the product's settings; these tests ask more often than people do."""
    ours = ("ACTIVITIES_", "DJANGO_", "LOG_", "DATABASE_", "REDIS_", "KAFKA_", "TLS_", "TELEGRAM_", "METRICS_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "ACTIVITIES_REQUESTS_PER_MINUTE": "0", **changes}


def manage(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


class Process:
    """A server in a process of its own."""

    def __init__(self, *arguments: str, last_line: str, **changes: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.printed = self._read_until(last_line)

    def _read_until(self, pattern: str) -> str:
        """What it prints up to a line that matches."""
        assert self._process.stdout is not None
        text, end = "", time.monotonic() + SECONDS
        while not re.search(rf"^{pattern}.*\n", text, re.MULTILINE):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                _, errors = self.stop()
                raise AssertionError(f"no line like {pattern!r} in:\n{text}\n{errors}")
            text += chunk.decode()
        return text

    def find(self, pattern: str) -> str:
        """The first group of a pattern in what it printed."""
        found = re.search(pattern, self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code and standard error after a signal."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            _, errors = self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        return self._process.returncode, errors


@contextmanager
def serve(*arguments: str, **changes: str) -> Iterator[Process]:
    ports = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    process = Process("serve", "--local", *ports, *arguments, last_line="grpcurl ", **changes)
    try:
        yield process
    finally:
        process.stop(signal.SIGKILL)


def test_serve_is_http_and_grpc_on_one_store() -> None:
    with serve() as process:
        url, target = process.find(r"^HTTP +(http://[^/]+)/"), process.find(r"^gRPC +(\S+)")
        token = process.find(r"^token: (act_\S+)$")
        for name in ("Swagger", "metrics"):
            assert httpx.get(process.find(rf"^{name} +(\S+)")).status_code == 200
        with grpc.insecure_channel(target) as channel:
            activities_pb2_grpc.ActivityServiceStub(channel).ActivityCreate(
                pb.ActivityCreateRequest(
                    name="pill", begin_date="2026-01-01", end_date="2026-12-31", times_per_day=2, quantity_per_time=0.5
                ),
                metadata=[("authorization", f"Bearer {token}")],
                timeout=SECONDS,
            )
        answer = httpx.get(f"{url}/api/v1/activities/pill/", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["quantity_per_time"] == 0.5
        assert process.stop()[0] == 0


def test_the_printed_lines_work_when_pasted() -> None:
    with serve() as process:
        curl = subprocess.run(
            process.find(r"^(curl .*)$") + " --silent --fail", shell=True, capture_output=True, check=True
        )
        assert b'"results"' in curl.stdout
        # grpcurl is no package of ours: its line is taken apart and sent as it would, names found by reflection.
        words = shlex.split(process.find(r"^(grpcurl .*)$"))
        assert words[1] == "-plaintext"
        header, body, target, method = words[3], words[5], words[6], words[7]
        assert call_by_reflection(target, method, header, body).startswith(b"\n")


def call_by_reflection(target: str, method: str, header: str, body: str) -> bytes:
    """What a client gets that knows nothing but the server's address."""
    from google.protobuf import descriptor_pool, json_format, message_factory
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    service_name, rpc = method.split("/")
    name, value = header.split(": ")
    with grpc.insecure_channel(target) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        rpc_type = pool.FindServiceByName(service_name).methods_by_name[rpc]
        request = message_factory.GetMessageClass(rpc_type.input_type)()
        json_format.Parse(body, request)
        answer: bytes = channel.unary_unary(f"/{method}", bytes, bytes)(
            request.SerializeToString(), metadata=((name, value),), timeout=SECONDS
        )
        return answer


def test_a_token_issued_in_a_second_shell_opens_its_chat() -> None:
    with serve() as process:
        issued = manage("token", "issue", "--chat-id", "-1001234567890")
        assert issued.returncode == 0
        token = issued.stdout.removesuffix("\n")
        url = process.find(r"^HTTP +(http://[^/]+)/")
        answer = httpx.get(f"{url}/api/v1/chat/", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["chat_id"] == -1001234567890


@pytest.mark.parametrize("backend", ["memory", "grpc", "kafka", "postgres"])
def test_a_token_is_printed_and_nothing_else_whatever_is_out_of_reach(backend: str) -> None:
    away = {
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "ACTIVITIES_GRPC_TARGET": "127.0.0.1:1",
    }
    issued = manage("token", "issue", "--chat-id", "5", ACTIVITIES_BACKEND=backend, DJANGO_SECRET_KEY="k" * 50, **away)
    assert (issued.returncode, issued.stderr) == (0, "")
    assert re.fullmatch(r"act_[A-Za-z0-9_-]+:[A-Za-z0-9_-]{43}\n", issued.stdout)
    access = Access(keys=["a newer key", "k" * 50], valid_after=lambda *_: 0)
    assert access.principal(issued.stdout.strip(), call=Call()).chat_id == 5


def test_an_option_cut_short_is_none() -> None:
    # `--local` is read before the settings; as `--loc` it would pass, and the process run on another backend.
    ended = manage(
        "grpcserver", "--loc", "--address", "127.0.0.1:0", ACTIVITIES_BACKEND="grpc", DJANGO_SECRET_KEY="k" * 50
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--loc" in ended.stderr


def test_the_host_that_is_listened_on_is_answered_to() -> None:
    with serve(DJANGO_ALLOWED_HOSTS="activities.example") as process:
        url = process.find(r"^HTTP +(http://[^/]+)/")
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/healthz", headers={"host": "localhost"}).status_code == 400


def test_the_line_for_grpcurl_brings_the_services_where_reflection_is_off(tmp_path: Path) -> None:
    with serve(ACTIVITIES_GRPC_REFLECTION="off") as process:
        words = shlex.split(process.find(r"^(grpcurl .*)$"))
    roots = [words[at + 1] for at, word in enumerate(words) if word == "-import-path"]
    # protoc finds the imports as grpcurl does.
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_out={tmp_path / 'set'}"]
    subprocess.run([*compiler, *(f"-I{root}" for root in roots), words[words.index("-proto") + 1]], check=True)


def test_serve_does_its_work_when_nobody_reads_what_it_prints() -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--local", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    end = time.monotonic() + SECONDS
    try:
        while not (process.poll() is None and (ports := listening(process.pid)) and any(map(is_well, ports))):
            assert time.monotonic() < end, "it serves nothing"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def listening(pid: int) -> list[int]:
    """The ports on which a process listens."""
    return [each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.status == psutil.CONN_LISTEN]


def is_well(port: int) -> bool:
    """Whether there is HTTP on a port, and the process behind it well."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=SECONDS).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_politely(number: int) -> None:
    with serve() as process:
        code, errors = process.stop(number)
        assert (code, errors) == (0, "")


def test_grpcserver_serves_and_ends_politely() -> None:
    process = Process("grpcserver", "--local", "--address", "127.0.0.1:0", last_line="Activities ")
    with grpc.insecure_channel(process.find(r"gRPC (\S+)")) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            activities_pb2_grpc.ActivityServiceStub(channel).ActivityGet(pb.ActivityGetRequest(), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    code, (line,) = process.stop()[0], process.stop()[1].splitlines()
    assert code == 0
    assert "grpc get for nobody: NotAuthenticated in " in line


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--local", "--http", "127.0.0.1:{taken}", "--grpc", "127.0.0.1:0"], "--http 127.0.0.1:{taken}"),
        (["serve", "--local", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:{taken}"], "--grpc 127.0.0.1:{taken}"),
        (["grpcserver", "--local", "--address", "127.0.0.1:{taken}"], "--address 127.0.0.1:{taken}"),
        (["serve", "--local", "--http", "8000"], "--http 8000"),
        (["serve", "--local", "--http", "127.0.0.1:99999"], "--http 127.0.0.1:99999"),
        (["serve", "--local", "--http", "[::1:0"], "expected HOST:PORT"),
        (["serve", "--local", "--http", "::1:0"], "expected HOST:PORT"),
        (["serve", "--local", "--htp", "127.0.0.1:0"], "--htp"),
        (["serve", "--local", "--http", "0.0.0.0:0"], "--insecure"),
        (["serve", "--local", "--grpc", "[::]:0"], "--insecure"),
        (["grpcserver", "--local", "--address", "example.org:0"], "--insecure"),
        (["token", "issue", "--chat-id", "0"], "--chat-id"),
        (["token", "issue", "--chat-id", "me"], "--chat-id"),
        (["token", "issue"], "--chat-id"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: list[str], told: str) -> None:
    with taken_port() as port:
        ended = manage(*(each.format(taken=port) for each in arguments), DJANGO_SECRET_KEY="k" * 50)
        assert ended.returncode == 2
        assert ended.stdout == ""
        assert told.format(taken=port) in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACTIVITIES_STORAGE_SLOTS", "many"),
        ("ACTIVITIES_STORAGE_SECONDS", "-1"),
        ("ACTIVITIES_SERVICE_TOKENS", "interface:short"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_bad_setting_is_one_line_with_its_name(name: str, value: str) -> None:
    ended = manage("serve", "--local", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", **{name: value})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"manage.py: {name}: expected ")
    assert len(ended.stderr.splitlines()) == 1
    assert "short" not in ended.stderr


def test_a_missing_key_stops_the_start_except_in_memory() -> None:
    ended = manage("grpcserver", ACTIVITIES_BACKEND="grpc")
    assert ended.returncode == 2
    assert "DJANGO_SECRET_KEY" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_local_wins_over_the_environment_and_touches_no_database() -> None:
    with serve(ACTIVITIES_BACKEND="postgres", DATABASE_URL="postgres://nobody@127.0.0.1:1/none") as process:
        assert "backend memory" in process.printed
        assert httpx.get(process.find(r"^HTTP +(http://[^/]+)/") + "/readyz").status_code == 200


def test_memory_stays_bounded_while_a_slow_reader_reads_ten_thousand() -> None:
    with serve() as process:
        target, url = process.find(r"^gRPC +(\S+)"), process.find(r"^HTTP +(http://[^/]+)/")
        token = process.find(r"^token: (\S+)$")
        metadata = [("authorization", f"Bearer {token}")]
        with grpc.insecure_channel(target) as channel:
            stub = activities_pb2_grpc.ActivityServiceStub(channel)

            def create(number: int) -> None:
                request = pb.ActivityCreateRequest(
                    name=f"activity {number}",
                    begin_date="2026-01-01",
                    end_date="2026-12-31",
                    times_per_day=1,
                    quantity_per_time=1,
                )
                stub.ActivityCreate(request, metadata=metadata, timeout=SECONDS)

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(create, range(10_000)))
            resident = psutil.Process(process.pid).memory_info
            before = resident().rss
            request = pb.ActivityListStreamRequest(order="name")
            slow = stub.ActivityListStream(request, metadata=metadata, timeout=SECONDS)
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.stream("GET", f"{url}/api/v1/stream/", headers=headers, timeout=SECONDS) as answer:
                lines = answer.iter_lines()
                grown, seen = 0, 0
                for _ in slow:  # one of each at a time: the server has to wait for both
                    assert next(lines)
                    seen += 1
                    if seen % 500 == 0:
                        grown = max(grown, resident().rss - before)
                assert seen == 10_000
                assert next(lines, None) is None
            assert grown < 20 * 2**20
