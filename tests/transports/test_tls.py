"""HTTP and gRPC over TLS: what the certificates' files do, and whom they let in."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pytest_django import Settings

from activities.container import Container, on_repository, on_service
from activities.domain import Activity, Order, StorageUnavailable
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from activities.service import STREAM_BATCH
from activities.tls import ServerTls, client_tls
from activities_project.http import HttpServer
from grpc_server.server import GrpcServer
from proto.activities.v1 import activities_pb2 as pb
from proto.activities.v1 import activities_pb2_grpc
from tests.examples import ODD_NAMES, activity
from tests.transports.certificates import Authority, Pair, lock
from tests.transports.served import ACTIVITIES, SECONDS, SERVICE, VITAMIN, bearer, lines, url_of
from tests.transports.test_processes import Process, manage
from tests.transports.test_workers import KEY, until, workers_of


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.file))


@dataclass(frozen=True)
class Servers:
    """HTTP and gRPC on one container, and clients that trust `authority`."""

    container: Container
    http: HttpServer
    grpc_port: int
    authority: Authority

    @property
    def ports(self) -> tuple[int, int]:
        return self.http.port, self.grpc_port

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.http.port}",
            verify=trusting(self.authority),
            timeout=SECONDS,
            headers=bearer(self.container.access.issue(1)),
        )

    def channel(self, client: Pair | None = None) -> grpc.Channel:
        return grpc.secure_channel(f"127.0.0.1:{self.grpc_port}", credentials(self.authority, client))

    def serials(self) -> set[str]:
        """What new connections to either are shown."""
        return {serial(port, self.authority, name) for port in self.ports for name in ("localhost", "127.0.0.1")}


def credentials(authority: Authority, client: Pair | None = None) -> grpc.ChannelCredentials:
    key, chain = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.file.read_bytes(), key, chain)


def serial(port: int, authority: Authority, name: str = "localhost") -> str:
    """What a new connection is shown; an address for a name is not told to the server."""
    context = trusting(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        shown = connection.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


def is_well(channel: grpc.Channel) -> bool:
    """Whether it serves; raises `grpc.RpcError` when there is no connection."""
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def serving(
    authority: Authority, pair: Pair, *, client_ca: Path | None = None, repository: MemoryRepository | None = None
) -> Iterator[Servers]:
    tls = ServerTls(certificate=str(pair.certificate), key=str(pair.key), client_ca=str(client_ca or ""))
    container = on_repository(repository or MemoryRepository())
    http = HttpServer(container, "127.0.0.1:0", tls=tls)
    server = GrpcServer(container, "127.0.0.1:0", tls=tls)
    http.start()
    server.start()
    try:
        yield Servers(container, http, server.port, authority)
    finally:
        http.stop()
        server.stop(0)
        container.close()


@pytest.fixture(scope="module")
def shared(authority: Authority) -> Iterator[Servers]:
    with serving(authority, authority.issue()) as servers:
        yield servers


# ---------------------------------------------------------------------------------------- answers


def test_http_answers_over_tls(shared: Servers) -> None:
    with shared.client() as client:
        assert client.get("/api/v1/chat/").json()["chat_id"] == 1
        assert "Secure" in client.get("/api/login/").headers["set-cookie"]


def test_grpc_answers_over_tls(shared: Servers) -> None:
    with shared.channel() as channel:
        assert is_well(channel)


def test_a_name_is_decoded_once_over_tls(shared: Servers) -> None:
    with shared.client() as client:
        for name in ("a/b", "a%2Fb", *ODD_NAMES):
            client.post(ACTIVITIES, json={**VITAMIN, "name": name})
            assert client.get(url_of(name)).json()["name"] == name
            assert client.delete(url_of(name)).status_code == 204


def test_plain_text_on_a_tls_port_is_not_answered(shared: Servers, caplog: pytest.LogCaptureFixture) -> None:
    token = shared.container.access.issue(1)
    http1 = f"GET {ACTIVITIES} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    for port in shared.ports:
        for sent in (http1, http2):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
                plain.sendall(sent)
                received = b""
                with suppress(ConnectionResetError):
                    while chunk := plain.recv(65536):
                        received += chunk
            assert received == b"" or (received[0], len(received)) == (21, 7)  # an alert of TLS
    assert not caplog.records


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "good"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_tls_is_at_least_1_2(shared: Servers, version: ssl.TLSVersion, good: bool) -> None:
    context = trusting(shared.authority)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # otherwise it would be the client who refuses
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.minimum_version = context.maximum_version = version
    for port in shared.ports:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
            if good:
                context.wrap_socket(plain, server_hostname="localhost").close()
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(plain, server_hostname="localhost")


def test_a_handshake_is_not_waited_for(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.bounded_http.HEAD_SECONDS", 0.05)
    with (
        serving(authority, authority.issue()) as servers,
        socket.create_connection(("127.0.0.1", servers.http.port), SECONDS) as silent,
    ):
        assert silent.recv(1) == b""


def test_who_is_connected_and_idle_does_not_hold_up_the_end(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with serving(authority, authority.issue()) as servers, servers.client() as client:
        assert client.get("/healthz").status_code == 200
        began = time.monotonic()
        servers.http.stop()
        assert time.monotonic() - began < 5
    assert not caplog.records


# ---------------------------------------------------------------------------------------- renewal


class Gated(MemoryRepository):
    """A store whose streams stop behind the first batch until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def batch(self, chat_id: int, *, order: Order, after: Activity | None, size: int, call: Call) -> Sequence[Activity]:
        assert after is None or self.gate.wait(SECONDS)
        return super().batch(chat_id, order=order, after=after, size=size, call=call)


@pytest.mark.parametrize("renew", [Pair.replace, Pair.rewrite])
def test_renewed_files_are_for_new_connections_while_streams_go_on(
    authority: Authority, renew: Callable[[Pair, Pair], None]
) -> None:
    pair, other, store = authority.issue(), authority.issue(), Gated()
    with serving(authority, pair, repository=store) as servers, servers.client() as client:
        names = [f"n{number:03}" for number in range(STREAM_BATCH + 5)]
        for name in names:
            servers.container.activities.create(1, activity=activity(name), call=Call())
        with (
            client.stream("GET", "/api/v1/stream/?order=name") as answer,
            servers.channel() as channel,
        ):
            over_http = answer.iter_lines()
            over_grpc = activities_pb2_grpc.ActivityServiceStub(channel).ActivityListStream(
                pb.ActivityListStreamRequest(order="name"),
                metadata=[("authorization", client.headers["authorization"])],
                timeout=SECONDS,
            )
            seen = [(lines(next(over_http))[0]["name"], next(over_grpc).name) for _ in range(STREAM_BATCH)]
            assert servers.serials() == {pair.serial}
            now = other.serial
            renew(pair, other)
            until(lambda: servers.serials() == {now})
            assert not store.gate.is_set()
            store.gate.set()
            seen += [(lines(one)[0]["name"], other.name) for one, other in zip(over_http, over_grpc, strict=True)]
        assert seen == [(name, name) for name in names]


def broken_key(pair: Pair, other: Pair) -> None:
    pair.key.write_text("no key")


def another_key(pair: Pair, other: Pair) -> None:
    pair.key.write_bytes(other.key.read_bytes())


def half_a_certificate(pair: Pair, other: Pair) -> None:
    pair.certificate.write_bytes(other.certificate.read_bytes()[:200])


def nothing(pair: Pair, other: Pair) -> None:
    pair.certificate.unlink()


@pytest.mark.parametrize("spoil", [broken_key, another_key, half_a_certificate, nothing])
def test_a_broken_renewal_is_logged_once_and_the_old_certificate_stays(
    authority: Authority, spoil: Callable[[Pair, Pair], None], caplog: pytest.LogCaptureFixture
) -> None:
    pair, other = authority.issue(), authority.issue()
    with serving(authority, pair) as servers, caplog.at_level(logging.WARNING):
        before, now = pair.serial, other.serial
        spoil(pair, other)
        for _ in range(3):
            assert servers.serials() == {before}
        [record] = caplog.records
        assert record.getMessage().startswith("TLS_")
        pair.replace(other)
        until(lambda: servers.serials() == {now})
    assert len(caplog.records) == 1


# ------------------------------------------------------------------------------------- mutual TLS


def test_with_a_ca_for_clients_grpc_lets_in_only_whom_it_vouches_for(authority: Authority, stranger: Authority) -> None:
    with serving(authority, authority.issue(), client_ca=authority.file) as servers:
        with servers.channel(authority.issue(name="DNS:interface")) as channel:
            assert is_well(channel)
        for client in (None, stranger.issue(name="DNS:interface")):
            with servers.channel(client) as channel, pytest.raises(grpc.RpcError) as caught:
                is_well(channel)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with servers.client() as browser:
            assert browser.get("/healthz").status_code == 200


def test_the_ca_for_clients_is_renewed_too(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    client_ca = tmp_path / "clients.pem"
    client_ca.write_bytes(stranger.file.read_bytes())
    client = authority.issue(name="DNS:interface")
    with serving(authority, authority.issue(), client_ca=client_ca) as servers:
        with servers.channel(client) as channel, pytest.raises(grpc.RpcError):
            is_well(channel)
        client_ca.write_bytes(authority.file.read_bytes())
        with servers.channel(client) as channel:
            assert is_well(channel)


# ------------------------------------------------------------------------------ interface services


def set_client(settings: Settings, ca: Path, client: Pair | None = None, server_name: str = "") -> None:
    settings.ACTIVITIES_GRPC_CA_FILE = str(ca)
    settings.ACTIVITIES_GRPC_CERTIFICATE_FILE = str(client.certificate) if client else ""
    settings.ACTIVITIES_GRPC_KEY_FILE = str(client.key) if client else ""
    settings.ACTIVITIES_GRPC_SERVER_NAME = server_name


def reach(target: str) -> None:
    """An interface service asks its data service whether it is there."""
    container = on_service(target=target, token=SERVICE, tls=client_tls())
    try:
        container.ready(Call())
    finally:
        container.close()


def test_an_interface_service_proves_who_it_is_and_verifies_the_data_service(
    authority: Authority, stranger: Authority, settings: Settings
) -> None:
    settings.ACTIVITIES_STORAGE_SECONDS = float(SECONDS)
    client = authority.issue(name="DNS:interface")
    with serving(authority, authority.issue(), client_ca=authority.file) as servers:
        target = f"127.0.0.1:{servers.grpc_port}"
        set_client(settings, authority.file, client)
        reach(target)
        for refused in ((authority.file, None), (stranger.file, client), (authority.file, client, "elsewhere.example")):
            set_client(settings, *refused)
            with pytest.raises(StorageUnavailable):
                reach(target)
        set_client(settings, authority.file, client, "localhost")
        reach(f"ipv4:{target},{target}")  # gRPC would look for both in the certificate


def test_workers_serve_and_reach_their_data_service_over_tls(authority: Authority) -> None:
    pair, other, client = authority.issue(), authority.issue(), authority.issue(name="DNS:interface")
    before, now = pair.serial, other.serial
    with serving(authority, authority.issue(), client_ca=authority.file) as data:
        process = Process(
            *("grpcserver", "--address", "0.0.0.0:0", "--workers", "2"),
            last_line="Activities ",
            ACTIVITIES_BACKEND="grpc",
            ACTIVITIES_GRPC_TARGET=f"127.0.0.1:{data.grpc_port}",
            ACTIVITIES_GRPC_TOKEN=SERVICE,
            ACTIVITIES_GRPC_CA_FILE=str(authority.file),
            ACTIVITIES_GRPC_CERTIFICATE_FILE=str(client.certificate),
            ACTIVITIES_GRPC_KEY_FILE=str(client.key),
            DJANGO_SECRET_KEY=KEY,
            ACTIVITIES_SERVICE_TOKENS=f"tests:{SERVICE}",
            TLS_CERTIFICATE_FILE=str(pair.certificate),
            TLS_KEY_FILE=str(pair.key),
        )
        try:
            port = int(process.find(r"gRPC [^,\s]+:(\d+)"))
            assert len(workers_of(process)) == 2
            assert {serial(port, authority) for _ in range(10)} == {before}
            with grpc.secure_channel(f"127.0.0.1:{port}", credentials(authority)) as channel:
                answer = activities_pb2_grpc.ActivityServiceStub(channel).ActivityList(
                    pb.ActivityListRequest(chat_id=7),
                    metadata=[("authorization", f"Bearer {SERVICE}")],
                    timeout=SECONDS,
                )
                assert answer.total == 0
            pair.replace(other)
            until(lambda: {serial(port, authority) for _ in range(10)} == {now})  # whichever worker it was
        finally:
            code, _ = process.stop()
        assert code == 0


# --------------------------------------------------------------------------------------- settings


def test_with_tls_serve_listens_beyond_this_machine(authority: Authority) -> None:
    pair = authority.issue()
    process = Process(
        *("serve", "--local", "--http", "0.0.0.0:0", "--grpc", "0.0.0.0:0"),
        last_line="grpcurl ",
        TLS_CERTIFICATE_FILE=str(pair.certificate),
        TLS_KEY_FILE=str(pair.key),
    )
    try:
        url = process.find(r"^HTTP +(https://[^/]+)/")
        assert httpx.get(f"{url}/healthz", verify=trusting(authority), timeout=SECONDS).status_code == 200
        assert "-plaintext" not in process.printed
        with grpc.secure_channel(process.find(r"^gRPC +(\S+)"), credentials(authority)) as channel:
            assert is_well(channel)
    finally:
        ended = process.stop()
    assert ended == (0, "")


SERVE = ("serve", "--local", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
GRPC = ("grpcserver", "--local", "--address", "127.0.0.1:0")
WORKERS = ("grpcserver", "--address", "127.0.0.1:0", "--workers", "2")


@pytest.mark.parametrize(
    ("command", "given", "named"),
    [
        (SERVE, {"TLS_CERTIFICATE_FILE": "{good}"}, "TLS_KEY_FILE"),
        (GRPC, {"TLS_KEY_FILE": "{key}"}, "TLS_CERTIFICATE_FILE"),
        (GRPC, {"TLS_CLIENT_CA_FILE": "{good}"}, "TLS_CERTIFICATE_FILE"),
        (SERVE, {"TLS_CERTIFICATE_FILE": "{missing}", "TLS_KEY_FILE": "{key}"}, "TLS_CERTIFICATE_FILE"),
        (GRPC, {"TLS_CERTIFICATE_FILE": "{good}", "TLS_KEY_FILE": "{folder}"}, "TLS_KEY_FILE"),
        (SERVE, {"TLS_CERTIFICATE_FILE": "{key}", "TLS_KEY_FILE": "{key}"}, "TLS_CERTIFICATE_FILE"),
        (GRPC, {"TLS_CERTIFICATE_FILE": "{good}", "TLS_KEY_FILE": "{good}"}, "TLS_KEY_FILE"),
        (SERVE, {"TLS_CERTIFICATE_FILE": "{good}", "TLS_KEY_FILE": "{other}"}, "TLS_KEY_FILE"),
        (WORKERS, {"TLS_CERTIFICATE_FILE": "{good}", "TLS_KEY_FILE": "{other}"}, "TLS_KEY_FILE"),
        (
            SERVE,
            {"TLS_CERTIFICATE_FILE": "{good}", "TLS_KEY_FILE": "{key}", "TLS_CLIENT_CA_FILE": "{key}"},
            "TLS_CLIENT_CA_FILE",
        ),
        (WORKERS, {"ACTIVITIES_GRPC_CA_FILE": "{missing}"}, "ACTIVITIES_GRPC_CA_FILE"),
        (WORKERS[:-2], {"ACTIVITIES_GRPC_CA_FILE": "{key}"}, "ACTIVITIES_GRPC_CA_FILE"),
        (
            WORKERS,
            {"ACTIVITIES_GRPC_CERTIFICATE_FILE": "{good}", "ACTIVITIES_GRPC_KEY_FILE": "{key}"},
            "ACTIVITIES_GRPC_CA_FILE",
        ),
        (
            WORKERS,
            {"ACTIVITIES_GRPC_CA_FILE": "{good}", "ACTIVITIES_GRPC_CERTIFICATE_FILE": "{good}"},
            "ACTIVITIES_GRPC_KEY_FILE",
        ),
        (
            WORKERS,
            {
                "ACTIVITIES_GRPC_CA_FILE": "{good}",
                "ACTIVITIES_GRPC_CERTIFICATE_FILE": "{good}",
                "ACTIVITIES_GRPC_KEY_FILE": "{other}",
            },
            "ACTIVITIES_GRPC_KEY_FILE",
        ),
    ],
)
def test_a_bad_file_is_one_line_with_the_name_of_its_setting(
    command: tuple[str, ...], given: dict[str, str], named: str, authority: Authority, tmp_path: Path
) -> None:
    pair, other = authority.issue(), authority.issue()
    files = {"good": pair.certificate, "key": pair.key, "other": other.key, "folder": tmp_path}
    changes = {name: path.format(**files, missing=tmp_path / "missing") for name, path in given.items()}
    ended = manage(*command, ACTIVITIES_BACKEND="grpc", DJANGO_SECRET_KEY=KEY, **changes)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"manage.py: {named}: ")
    assert len(ended.stderr.splitlines()) == 1
    assert "PRIVATE KEY" not in ended.stderr


def test_a_key_with_a_password_is_refused_without_a_question(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue()
    locked = lock(pair.key, tmp_path / "locked.key")
    ended = manage(*GRPC, TLS_CERTIFICATE_FILE=str(pair.certificate), TLS_KEY_FILE=str(locked))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"manage.py: TLS_KEY_FILE: {locked}: ")
    assert len(ended.stderr.splitlines()) == 1
