"""Envoy as a child process: the configuration of `deploy/envoy/` with the addresses and the TLS of this machine."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

import yaml

from activities.cli import STOP_SECONDS

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "envoy"
START_SECONDS = 20.0
"""Within how long Envoy listens; it looks for the interface's health first, which takes 2 s when there is no answer."""
ENDING_SECONDS = 5.0

Config = dict[str, Any]
Address = tuple[str, int]

_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_PROTOCOLS = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}


class DidNotStart(Exception):
    """Envoy ended, or did not listen in time; it has told why on standard error."""


def configuration(listen: Address, upstreams: Sequence[Address]) -> Config:
    """That of the file, for these addresses; a listening host is numeric."""
    config: Config = yaml.safe_load((FOLDER / "envoy.yaml").read_text())
    _listener(config)["address"] = _address(listen)
    endpoints = [{"endpoint": {"address": _address(each)}} for each in upstreams]
    _cluster(config)["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    return config


def add_server_tls(config: Config, *, certificate: str, key: str) -> None:
    """Clients get TLS alone, by these files, which are read once."""
    common = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": _PROTOCOLS,
        "tls_certificates": [_pair(certificate, key)],
    }
    _listener(config)["filter_chains"][0]["transport_socket"] = _tls("Downstream", {"common_tls_context": common})


def add_client_tls(config: Config, *, ca: str, server_name: str, certificate: str = "", key: str = "") -> None:
    """The interface is reached over TLS, and must have a certificate of this CA for this name or address."""
    try:
        ipaddress.ip_address(server_name)
        kind, sni = "IP_ADDRESS", {}
    except ValueError:
        kind, sni = "DNS", {"sni": server_name}
    common = {
        "tls_params": _PROTOCOLS,
        "validation_context": {
            "trusted_ca": {"filename": ca},
            "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": server_name}}],
        },
        **({"tls_certificates": [_pair(certificate, key)]} if certificate else {}),
    }
    _cluster(config)["transport_socket"] = _tls("Upstream", {**sni, "common_tls_context": common})


def _listener(config: Config) -> Config:
    (listener,) = config["static_resources"]["listeners"]
    return listener  # type: ignore[no-any-return]


def _cluster(config: Config) -> Config:
    (cluster,) = config["static_resources"]["clusters"]
    return cluster  # type: ignore[no-any-return]


def _address(address: Address) -> Config:
    return {"socket_address": {"address": address[0], "port_value": address[1]}}


def _pair(certificate: str, key: str) -> Config:
    return {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}


def _tls(side: str, context: Config) -> Config:
    name = "envoy.transport_sockets.tls"
    return {"name": name, "typed_config": {"@type": f"{_TYPE}.{side}TlsContext", **context}}


class Envoy:
    """Runs a configuration. Its administration is on a socket in a folder that only this user can enter."""

    def __init__(self, program: Path, config: Config) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gateway-")
        self._admin = Path(self._folder.name) / "admin"
        admin = {"address": {"pipe": {"path": str(self._admin), "mode": 0o600}}}
        self._process = subprocess.Popen(  # noqa: S603 - of what the commands line and the settings say, checked
            [
                # It ends with its parent, however that ends, and hears of Ctrl-C from nobody else.
                *("setpriv", "--pdeathsig", "KILL", program),
                *("--config-yaml", json.dumps({**config, "admin": admin})),
                *("--disable-hot-restart", "--concurrency", "2", "--log-level", "error"),
            ],
            cwd=FOLDER,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_until_up(self) -> int:
        """The port on which it listens; raises `DidNotStart`."""
        end = time.monotonic() + START_SECONDS
        while self.is_running and time.monotonic() < end:
            if self._ask("GET", "/ready") == "LIVE\n":
                (listener,) = json.loads(self._ask("GET", "/listeners?format=json"))["listener_statuses"]
                port: int = listener["local_address"]["socket_address"]["port_value"]
                return port
            time.sleep(0.02)
        raise DidNotStart

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Takes no new connection, lets what is under way end for `STOP_SECONDS`, then cuts it off."""
        end = time.monotonic() + STOP_SECONDS
        self._ask("POST", "/drain_listeners")
        while self.is_running and time.monotonic() < end and self._active():
            time.sleep(0.05)
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _active(self) -> int:
        """How many requests are under way."""
        told = self._ask("GET", "/stats?filter=^http.gateway.downstream_rq_active$")
        return int(told.rpartition(":")[2] or 0)

    def _ask(self, method: str, path: str) -> str:
        """What its administration answers; nothing while there is none."""
        connection = _Local(self._admin)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        except (OSError, HTTPException):
            return ""
        finally:
            connection.close()


class _Local(HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))
