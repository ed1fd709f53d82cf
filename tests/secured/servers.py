"""Real servers as docker-compose.yml and deploy/ set them up, natively, with TLS on top that asks for certificates."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from tests.faults.product import TOKEN
from tests.faults.services import NAMES, ROOT, Services
from tests.transports.certificates import Authority, Pair

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ADMIN_PASSWORD = "for-these-tests-alone"
VARIABLE = re.compile(r"\$\{(\w+):([?-])([^}]*)\}")


@dataclass(frozen=True)
class Certificates:
    """Of a CA, what the servers show and what their clients do."""

    ca: Path
    server: Pair
    client: Pair


class SecuredServices(Services):
    """The servers, and the environments of the processes of docker-compose.yml on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = Authority(folder / "ca")
        server, client = authority.issue(name="IP:127.0.0.1"), authority.issue(name="DNS:client")
        self.certificates = Certificates(authority.file, server, client)
        self.secrets = {name: secrets.token_urlsafe(36) for name in _required(COMPOSE)}
        self.secrets |= {"ACTIVITIES_SERVICE_TOKENS": f"tests:{TOKEN}", "LOG_LEVEL": "WARNING"}
        self._native = _native(folder)
        self._state = self._native.read_state() | {"superuser_password": self.secrets["POSTGRES_PASSWORD"]}
        (broker_port,) = self._native.free_ports(1)
        self._broker_port = broker_port
        self.ports = {name: int(self._state[f"{name}_port"]) for name in NAMES}
        self.superuser_url = self.database_url("postgres", self.secrets["POSTGRES_PASSWORD"], port="postgres")
        self._servers = [self._postgres(), self._pgbouncer(), self._redis(), self._kafka()]
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        for each in self._servers:
            each.start()

    def stop(self) -> None:
        for each in reversed(self._servers):
            each.stop()
        for process in self._native.STARTED:
            process.wait()

    # ------------------------------------------------------------------------- of the product

    def environment_of(self, process: str) -> dict[str, str]:
        """What docker-compose.yml gives to one of its processes, on these servers, with TLS."""
        given = {name: self._filled(text) for name, text in COMPOSE[process]["environment"].items()}
        ours = self.certificates.client
        if "DATABASE_URL" in given:
            given["DATABASE_URL"] = self._here(given["DATABASE_URL"], "pgbouncer:5432") + self.database_parameters()
        if "REDIS_URL" in given:
            given["REDIS_URL"] = self._here(given["REDIS_URL"], "redis:6379").replace("redis://", "rediss://")
            given |= {"REDIS_CA_FILE": str(self.certificates.ca)}
            given |= {"REDIS_CERTIFICATE_FILE": str(ours.certificate), "REDIS_KEY_FILE": str(ours.key)}
        if "KAFKA_BOOTSTRAP_SERVERS" in given:
            given["KAFKA_BOOTSTRAP_SERVERS"] = self._here(given["KAFKA_BOOTSTRAP_SERVERS"], "kafka:9092")
            given["KAFKA_SECURITY_PROTOCOL"] = given["KAFKA_SECURITY_PROTOCOL"].replace("plaintext", "ssl")
            given |= {"KAFKA_CA_FILE": str(self.certificates.ca)}
            given |= {"KAFKA_CERTIFICATE_FILE": str(ours.certificate), "KAFKA_KEY_FILE": str(ours.key)}
        return given | {"DJANGO_SETTINGS_MODULE": "activities_project.settings"}

    def database_url(self, user: str, password: str, *, port: str = "pgbouncer") -> str:
        return f"postgres://{user}:{password}@127.0.0.1:{self.ports[port]}/activities{self.database_parameters()}"

    def database_parameters(self, **others: object) -> str:
        ours = self.certificates.client
        tls = {"sslmode": "verify-full", "sslrootcert": self.certificates.ca, "sslcert": ours.certificate}
        tls |= {"sslkey": ours.key, **others}
        return "?" + "&".join(f"{name}={value}" for name, value in tls.items())

    def _here(self, text: str, address: str) -> str:
        """The text with the address of compose's network replaced by ours."""
        assert address in text
        return text.replace(address, f"127.0.0.1:{self.ports[address.partition(':')[0]]}")

    def _filled(self, text: str) -> str:
        return VARIABLE.sub(lambda found: self.secrets.get(found[1], found[3]), text)

    # ---------------------------------------------------------------------------- the servers

    def _own(self, name: str, *files: Path) -> tuple[Path, list[Path]]:
        """A folder of a server that runs as another user, with copies of these files."""
        folder: Path = self._native.own_folder(name)
        copies = [folder / each.name for each in files]
        for source, copy in zip(files, copies, strict=True):
            self._native.write_secret(copy, source.read_text())
            self._native.give_away(copy)
        return folder, copies

    def _script(self, name: str, path: Path, settings: dict[str, str], *arguments: str) -> list[str]:
        """A start script of deploy/ with what compose tells it, which an ordinary user's environment would lose."""
        given = {each: self._filled(text) for each, text in COMPOSE[name]["environment"].items()} | settings
        given["PATH"] = "/usr/local/bin:/usr/bin:/bin:/usr/sbin"
        return ["env", *(f"{each}={text}" for each, text in given.items()), "sh", str(path), *arguments]

    def _postgres(self) -> Any:
        plain = self._native.postgres(self._state)

        def command() -> list[str]:
            words: list[str] = plain.command()
            server = self.certificates.server
            folder, (chain, key, ca) = self._own("postgres", server.certificate, server.key, self.certificates.ca)
            (folder / "data" / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
            tls = {"ssl": "on", "ssl_cert_file": chain, "ssl_key_file": key, "ssl_ca_file": ca}
            return [*words, *(f"--{name}={value}" for name, value in tls.items())]

        def once_up() -> None:
            """As the image does it: the database, then the script."""
            psql = self._native.program("psql")
            passwords = {each: self._filled(text) for each, text in COMPOSE["postgres"]["environment"].items()}
            environment = {**os.environ, **passwords, "PGPASSWORD": self.secrets["POSTGRES_PASSWORD"]}
            address = ["-X", "-q", "-w", "-h", "127.0.0.1", "-p", str(self.ports["postgres"]), "-U", "postgres"]

            def run(*words: str) -> None:
                subprocess.run([psql, *address, *words], env=environment, check=True, timeout=60)

            if not (self.folder / "database").exists():
                run("-d", "postgres", "-c", "CREATE DATABASE activities")
                run("-d", "activities", "-f", str(DEPLOY / "postgres" / "roles.sql"))
                (self.folder / "database").touch()

        return replace(plain, command=command, once_up=once_up)

    def _pgbouncer(self) -> Any:
        port = self.ports["pgbouncer"]

        def command() -> list[str]:
            pair, ca, script = self.certificates.server, self.certificates.ca, DEPLOY / "pgbouncer" / "start.sh"
            folder, (chain, key, ca, script) = self._own("pgbouncer", pair.certificate, pair.key, ca, script)
            tls = ["client_tls_sslmode=verify-ca", f"client_tls_ca_file={ca}", f"client_tls_cert_file={chain}"]
            tls += [f"client_tls_key_file={key}", "server_tls_sslmode=verify-full", f"server_tls_ca_file={ca}"]
            place = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(self.ports["postgres"])}
            place["PGBOUNCER_FOLDER"] = str(folder)
            return self._script("pgbouncer", script, place, "listen_addr=127.0.0.1", f"listen_port={port}", *tls)

        return self._native.Service("pgbouncer", port, command, lambda: self._listens(port))

    def _redis(self) -> Any:
        port = self.ports["redis"]

        def command() -> list[str]:
            pair, ca, script = self.certificates.server, self.certificates.ca, DEPLOY / "redis" / "start.sh"
            folder, (chain, key, ca, script) = self._own("redis", pair.certificate, pair.key, ca, script)
            tls = {"tls-port": port, "tls-cert-file": chain, "tls-key-file": key, "tls-ca-cert-file": ca}
            words = [word for name, value in tls.items() for word in (f"--{name}", str(value))]
            given = {"REDIS_FOLDER": str(folder), "REDIS_ADMIN_PASSWORD": ADMIN_PASSWORD}
            return self._script("redis", script, given, "--bind", "127.0.0.1", "--port", "0", *words)

        return self._native.Service("redis", port, command, lambda: self._redis_answers(port))

    def _kafka(self) -> Any:
        port, controller = self.ports["kafka"], self._state["kafka_controller_port"]
        places = {"INSIDE://:9092": f"INSIDE://127.0.0.1:{port}", "kafka:9092": f"127.0.0.1:{port}"}
        places |= {"127.0.0.1:9093": f"127.0.0.1:{controller}", "127.0.0.1:9095": f"127.0.0.1:{self._broker_port}"}
        folder = self.folder / "kafka"
        settings = {}
        for name, text in COMPOSE["kafka"]["environment"].items():
            if name.startswith("KAFKA_") and name not in ("KAFKA_HEAP_OPTS", "KAFKA_LOG_DIRS"):
                filled = self._filled(text)
                for there, here in places.items():
                    filled = filled.replace(there, here)
                settings[name.removeprefix("KAFKA_").lower().replace("_", ".")] = filled
        settings["listener.security.protocol.map"] = settings["listener.security.protocol.map"].replace(
            "INSIDE:SASL_PLAINTEXT", "INSIDE:SASL_SSL"
        )
        tls = {"keystore.type": "PEM", "keystore.location": folder / "server.pem", "client.auth": "required"}
        tls |= {"truststore.type": "PEM", "truststore.location": folder / self.certificates.ca.name}
        settings |= {f"listener.name.inside.ssl.{name}": str(value) for name, value in tls.items()}
        settings["listener.name.inside.ssl.endpoint.identification.algorithm"] = ""
        plain = self._native.kafka(self._state, settings)

        def command() -> list[str]:
            pair, both = self.certificates.server, self.folder / "server.pem"
            both.write_text(pair.key.read_text() + pair.certificate.read_text())
            self._own("kafka", both, self.certificates.ca)
            words: list[str] = plain.command()
            return words

        answers = lambda: self._native.kafka_answers(self._broker_port) and self._listens(port)
        return replace(plain, command=command, answers=answers)

    def _listens(self, port: int) -> bool:
        return not self._native.is_free(port)

    def _redis_answers(self, port: int) -> bool:
        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.load_cert_chain(self.certificates.client.certificate, self.certificates.client.key)
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=3) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"-NOAUTH"
        return False


def _required(part: object) -> set[str]:
    """The variables that compose refuses to go without, anywhere in this part of its file."""
    return {name for name, kind, _ in VARIABLE.findall(str(part)) if kind == "?"}


def _native(folder: Path) -> Any:
    """scripts/services.py, at work in this folder."""
    name = "tests.secured.native"
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / "services.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with patch.dict(os.environ, SERVICES_FOLDER=str(folder)):
        spec.loader.exec_module(module)
    return module
