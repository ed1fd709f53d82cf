"""Certificates for tests, made by the `openssl` command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> str:
        """As the `ssl` module shows it."""
        return _openssl("x509", "-in", self.certificate, "-noout", "-serial").strip().removeprefix("serial=")

    def replace(self, other: Pair) -> None:
        """Renews the files by renaming, as certificate clients do. The key comes first: for a moment they differ."""
        for ours, new in ((self.key, other.key), (self.certificate, other.certificate)):
            draft = ours.with_suffix(".new")
            draft.write_bytes(new.read_bytes())
            draft.replace(ours)

    def rewrite(self, other: Pair) -> None:
        """Renews the files in place."""
        self.certificate.write_bytes(other.certificate.read_bytes())
        self.key.write_bytes(other.key.read_bytes())


class Authority:
    """A CA that lives in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._made = 0
        self._config = folder / "openssl.cnf"
        self._config.write_text("[req]\ndistinguished_name = dn\n[dn]\n")
        pair = self._make("ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
        self._by = ("-CA", pair.certificate, "-CAkey", pair.key)
        self.file = pair.certificate

    def issue(self, *, name: str = "DNS:localhost,IP:127.0.0.1") -> Pair:
        """A new certificate for a server or a client, in files of its own."""
        self._made += 1
        extensions = ("basicConstraints=critical,CA:FALSE", f"subjectAltName={name}")
        return self._make(f"leaf{self._made}", *extensions, by=self._by)

    def _make(self, stem: str, *extensions: str, by: tuple[str | Path, ...] = ()) -> Pair:
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        added = [word for each in extensions for word in ("-addext", each)]
        _openssl(
            *("req", "-x509", "-config", self._config, "-subj", f"/CN={self._folder.name} {stem}", "-days", "2"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", pair.key, "-out", pair.certificate, *added, *by),
        )
        return pair


def lock(key: Path, locked: Path) -> Path:
    """Writes a key anew, with a password."""
    _openssl("pkey", "-in", key, "-aes128", "-passout", "pass:secret", "-out", locked)
    return locked


def _openssl(*words: str | Path) -> str:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
