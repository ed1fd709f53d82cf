"""TLS from PEM files. A server looks at them for each new connection, so that a renewal needs no restart."""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pems:
    """What the files have: who we are, and who vouches for the other side. Empty where there is no file."""

    chain: bytes
    key: bytes = field(repr=False)
    ca: bytes


@dataclass(frozen=True)
class _File:
    """A file by the setting that names it; without a path there is none."""

    setting: str
    path: str

    def read(self) -> bytes:
        try:
            return Path(self.path).read_bytes() if self.path else b""
        except OSError as failed:
            raise self.wrong(failed.strerror or str(failed)) from failed

    def check_certificates(self, pem: bytes) -> None:
        try:
            if self.path:
                text = pem.decode("ascii", "ignore")  # there may be words in any language between certificates
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError) as failed:
            raise self.wrong("expected certificates in PEM") from failed

    def wrong(self, reason: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"{self.setting}: {self.path}: {reason}")


@dataclass(frozen=True)
class _Files:
    chain: _File
    key: _File
    ca: _File

    def read(self) -> Pems:
        return Pems(self.chain.read(), self.key.read(), self.ca.read())

    def load(self) -> tuple[Pems, ssl.SSLContext]:
        """What they have, and a server's context of it. Raises `ImproperlyConfigured` for what is of no use."""
        pems = self.read()
        self.chain.check_certificates(pems.chain)
        self.ca.check_certificates(pems.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.show(context)
        if self.read() != pems:  # `ssl` takes paths, so it may have read other contents
            raise self.chain.wrong("it changed while it was read")
        return pems, context

    def show(self, context: ssl.SSLContext) -> None:
        """Has the context say who we are."""
        try:
            if self.chain.path:
                no_password = ""  # without it OpenSSL would ask at the terminal
                context.load_cert_chain(self.chain.path, self.key.path, no_password)
        except OSError as failed:
            reason = getattr(failed, "reason", None) or "unreadable"
            raise self.key.wrong(f"expected the private key of {self.chain.path}, no password ({reason})") from failed


class ServerTls:
    """What a server shows, and whom it demands of gRPC's clients, as the files say now.

    Raises `ImproperlyConfigured` when they say nothing of use at the start.
    """

    def __init__(self, *, certificate: str, key: str, client_ca: str = "") -> None:
        self._files = _Files(
            _File("TLS_CERTIFICATE_FILE", certificate),
            _File("TLS_KEY_FILE", key),
            _File("TLS_CLIENT_CA_FILE", client_ca),
        )
        self._lock = threading.Lock()
        self._told = ""
        self._pems, self._context = self._files.load()

    def pems(self) -> Pems:
        """The files' contents; while there is something wrong with them, which is logged once, the former ones."""
        with self._lock:
            self._look()
            return self._pems

    def context(self) -> ssl.SSLContext:
        """For a server to listen with: each connection gets the certificate as it is by then."""

        def renew(connection: ssl.SSLObject, *_: object) -> None:
            with self._lock:
                self._look()
                connection.context = self._context

        self._context.sni_callback = renew  # called whether or not the client names a server
        return self._context

    def _look(self) -> None:
        try:
            if self._files.read() != self._pems:
                self._pems, self._context = self._files.load()
                logger.info("TLS_CERTIFICATE_FILE: renewed")
            self._told = ""
        except ImproperlyConfigured as wrong:
            if str(wrong) != self._told:
                logger.error("%s; new connections get the former certificate", wrong)
            self._told = str(wrong)


def server_tls() -> ServerTls | None:
    """How this process serves, by its settings; None: in plain text."""
    if not settings.TLS_CERTIFICATE_FILE:
        return None
    return ServerTls(
        certificate=settings.TLS_CERTIFICATE_FILE,
        key=settings.TLS_KEY_FILE,
        client_ca=settings.TLS_CLIENT_CA_FILE,
    )


def client_context(prefix: str, *, certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """How a client verifies whom it talks to, by name, and what it shows itself. Without a CA the system's count.

    The files are read once; `prefix` begins the names of their settings. Raises `ImproperlyConfigured`.
    """
    files = _Files(
        _File(f"{prefix}_CERTIFICATE_FILE", certificate),
        _File(f"{prefix}_KEY_FILE", key),
        _File(f"{prefix}_CA_FILE", ca),
    )
    pems = files.read()
    files.ca.check_certificates(pems.ca)
    context = ssl.create_default_context(cadata=pems.ca.decode("ascii", "ignore") or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    files.show(context)
    return context


@dataclass(frozen=True)
class ClientTls:
    """How a client proves who is there. `server_name`: what the server's certificate must say; else by the target."""

    pems: Pems
    server_name: str = ""


def client_tls() -> ClientTls | None:
    """How this process reaches its data service, by its settings; None: in plain text."""
    if not settings.ACTIVITIES_GRPC_CA_FILE:
        return None
    files = _Files(
        _File("ACTIVITIES_GRPC_CERTIFICATE_FILE", settings.ACTIVITIES_GRPC_CERTIFICATE_FILE),
        _File("ACTIVITIES_GRPC_KEY_FILE", settings.ACTIVITIES_GRPC_KEY_FILE),
        _File("ACTIVITIES_GRPC_CA_FILE", settings.ACTIVITIES_GRPC_CA_FILE),
    )
    pems, _ = files.load()
    return ClientTls(pems, settings.ACTIVITIES_GRPC_SERVER_NAME)
