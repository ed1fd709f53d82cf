"""Reads settings from the environment, typed; what is wrong is told with its name and a right example."""

from __future__ import annotations

import os
import re
import secrets
import ssl
from collections.abc import Callable
from io import StringIO
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from dotenv.parser import parse_stream
from environs import Env, EnvError

from activities.cli import host_and_port
from activities.tls import client_context
from kafka_worker.security import MECHANISMS, PROTOCOLS, Security

T = TypeVar("T")

SECRETS = (
    "ACTIVITIES_GRPC_TOKEN",
    "ACTIVITIES_SERVICE_TOKENS",
    "DATABASE_URL",
    "DJANGO_SECRET_KEY",
    "DJANGO_SECRET_KEY_FALLBACKS",
    "KAFKA_PASSWORD",
    "REDIS_URL",
    "TELEGRAM_BOT_TOKEN",
)
"""What may stand in a file instead, named by the variable with `_FILE` behind it."""


def read_file(env: Env, path: Path) -> None:
    """Takes from a file of NAME=value lines, when it is there, what the environment does not have."""
    if not path.is_file():
        return
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise ImproperlyConfigured(f"{path.name}: it cannot be read as UTF-8 text") from wrong
    for line in parse_stream(StringIO(text)):
        if line.error:  # it would be left out, and something else be in force than what stands there
            raise ImproperlyConfigured(f"{path.name}: expected NAME=value in line {line.original.line}")
    env.read_env(str(path), recurse=False)


def value(env: Env, name: str) -> str:
    """The variable `name`, of a secret also by its file; without spaces and line ends round it. Empty is absent."""
    text: str = env.str(name, "").strip()
    path: str = env.str(f"{name}_FILE", "").strip() if name in SECRETS else ""
    if not path:
        return text
    if text:
        raise ImproperlyConfigured(f"{name}_FILE: expected nothing, since {name} is set")
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as wrong:
        why = getattr(wrong, "strerror", None) or "it is no text"
        raise ImproperlyConfigured(f"{name}_FILE: {path}: {why}") from wrong
    if not text:
        raise ImproperlyConfigured(f"{name}_FILE: {path}: it is empty")
    return text


def checked(env: Env, name: str, read: Callable[[str], T], *, default: str, expected: str) -> T:
    """The variable `name` read by `read`, which raises ValueError for what is not `expected`. Empty is absent."""
    text = value(env, name)
    try:
        return read(text or default)
    except (ValueError, EnvError) as wrong:
        raise ImproperlyConfigured(f"{name}: {expected}") from wrong


def file(env: Env, name: str, *needed: str) -> str:
    """The path in the variable `name`, which is of no use without the ones in `needed`; empty when there is none."""
    path: str = env.str(name, "").strip()
    for other in needed:
        if path and not env.str(other, "").strip():
            raise ImproperlyConfigured(f"{other}: expected a file, since {name} is set")
    return path


def number(least: float, most: float) -> Callable[[str], float]:
    """Reads a number within bounds."""

    def read(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(text)
        return value

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """Reads one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return read


def words(text: str) -> list[str]:
    """Reads a list separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def address(text: str) -> str:
    """Reads one HOST:PORT, or nothing."""
    if text:
        host_and_port(text)
    return text


_PLACEHOLDER = re.compile(
    "djangoinsecure.*|.*(change|replace)(me|this|it).*"
    "|(django|my|your|the)?(secret|password|insecure|default|example|placeholder)+(key|here)*"
)


def secret(text: str) -> str:
    """Reads a secret, or nothing; what an example shows in the place of one is none."""
    if _PLACEHOLDER.fullmatch(re.sub("[^a-z]", "", text.lower())):
        raise ValueError("a placeholder")
    return text


def secrets_of(text: str) -> list[str]:
    """Reads secrets separated by commas."""
    return [secret(word) for word in words(text)]


def networks(text: str) -> str:
    """Reads addresses and networks separated by commas."""
    for each in words(text):
        ip_network(each)
    return text


def url_path(text: str) -> str:
    """Reads the path of a URL below its root, such as `staff/`, with its slash at the end or without."""
    path = text.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", path) or path.split("/")[0] in _TAKEN:
        raise ValueError(text)
    return f"{path}/"


_TAKEN = ("api", "healthz", "metrics", "readyz", "static")


def bot_token(text: str) -> str:
    """Reads a token of Telegram's, or nothing; it becomes part of URLs."""
    if not re.fullmatch(r"[A-Za-z0-9:_-]*", text):
        raise ValueError("a token")
    return text


def web_url(*schemes: str) -> Callable[[str], str]:
    """Reads a URL of one of these schemes, or nothing."""

    def read(text: str) -> str:
        parts = urlsplit(text)
        if text and (parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment):
            raise ValueError(text)
        return text

    return read


def servers(text: str) -> str:
    """Reads HOST:PORT addresses separated by commas."""
    for each in words(text):
        host_and_port(each)
    return text


def required(read: Callable[[str], T]) -> Callable[[str], T]:
    """Reads what must be there."""

    def read_something(text: str) -> T:
        if not text:
            raise ValueError(text)
        return read(text)

    return read_something


def redis_url(text: str) -> str:
    """Reads the URL of a Redis. Its parameters would reach into the driver, and end the verification of TLS."""
    parts = urlsplit(text)
    well = text.startswith(("redis://", "rediss://")) and parts.hostname and not (parts.query or parts.fragment)
    if text and (not well or parts.port == 0):
        raise ValueError(text)
    return text


def server_tls_of(env: Env, prefix: str, *, used: bool, instead: str) -> ssl.SSLContext | None:
    """How this process verifies a server, and what it shows to it, by the three files whose variables begin with
    `prefix`; None where TLS is not `used`. `instead` says what turns it on."""
    ca = file(env, f"{prefix}_CA_FILE")
    certificate = file(env, f"{prefix}_CERTIFICATE_FILE", f"{prefix}_KEY_FILE")
    key = file(env, f"{prefix}_KEY_FILE", f"{prefix}_CERTIFICATE_FILE")
    if used:
        return client_context(prefix, certificate=certificate, key=key, ca=ca)
    if ca or certificate:
        raise ImproperlyConfigured(f"{prefix}_{'CA' if ca else 'CERTIFICATE'}_FILE: of no use without {instead}")
    return None


def kafka_security(env: Env) -> Security:
    """How connections to Kafka are protected, and who this process is there."""
    protocol = checked(
        env,
        "KAFKA_SECURITY_PROTOCOL",
        lambda text: one_of(*PROTOCOLS)(text.lower()),
        default="plaintext",
        expected=f"expected one of {', '.join(PROTOCOLS)}",
    )
    asked = protocol.startswith("sasl_")
    given = {name: value(env, f"KAFKA_{name}") for name in ("USERNAME", "PASSWORD", "SASL_MECHANISM")}
    for name, text in given.items():
        if text and not asked:
            raise ImproperlyConfigured(f"KAFKA_{name}: of no use without KAFKA_SECURITY_PROTOCOL=sasl_ssl")
        if asked and not text and name != "SASL_MECHANISM":
            raise ImproperlyConfigured(f"KAFKA_{name}: expected one, since KAFKA_SECURITY_PROTOCOL is {protocol}")
    mechanism = checked(
        env,
        "KAFKA_SASL_MECHANISM",
        one_of(*MECHANISMS),
        default=MECHANISMS[0],
        expected=f"expected one of {', '.join(MECHANISMS)}",
    )
    instead = "KAFKA_SECURITY_PROTOCOL=sasl_ssl or ssl"
    return Security(
        protocol=protocol,
        tls=server_tls_of(env, "KAFKA", used=protocol.endswith("ssl"), instead=instead),
        mechanism=mechanism if asked else "",
        username=given["USERNAME"],
        password=given["PASSWORD"],
    )


DATABASE_FILES = ("sslrootcert", "sslcert", "sslkey")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def database_tls(query: str) -> dict[str, object]:
    """libpq's parameters of TLS, from a URL's query. What is wrong is told without what it says, which may be a part
    of a password that was not percent-encoded."""

    def wrong(what: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"DATABASE_URL: {what}")

    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if len(pairs) != len(given) or given.keys() - {"sslmode", *DATABASE_FILES}:
        raise wrong(f"expected no parameters but sslmode, {', '.join(DATABASE_FILES)}, each once")
    if not given:
        return {}
    if given.get("sslmode") not in SSL_MODES:
        raise wrong(f"sslmode: expected one of {', '.join(SSL_MODES)}")
    if given["sslmode"].startswith("verify") and "sslrootcert" not in given:
        raise wrong(f"sslrootcert: expected the file of a CA, since sslmode is {given['sslmode']}")
    if ("sslcert" in given) != ("sslkey" in given):
        raise wrong("expected both of sslcert and sslkey, or neither")
    for name in DATABASE_FILES:
        if name in given and not os.access(given[name], os.R_OK):
            raise wrong(f"{name}: there is no such file, or it cannot be read")
    # Where there is a Kerberos ticket libpq would do without TLS, whatever `sslmode` says.
    return {**given, "gssencmode": "disable"}


def durable_database(url: str) -> dict[str, object]:
    """Django's settings of PostgreSQL behind pgbouncer, from its URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql") or not (parts.hostname and parts.path.strip("/")):
        raise ValueError(url)
    if parts.port == 0 or parts.fragment:
        raise ValueError(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": parts.port or 5432,
        # Of the admin alone, whose threads are few; the store has a pool of its own.
        "CONN_MAX_AGE": None,
        # They are used now and then, and may have been closed at the other end meanwhile.
        "CONN_HEALTH_CHECKS": True,
        # pgbouncer's transaction pooling gives each transaction another session.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"connect_timeout": 2, **database_tls(parts.query)},
    }


def redis_cache(url: str, tls: ssl.SSLContext | None = None) -> dict[str, object]:
    """Django's settings of the cache in Redis, from its URL. An exchange that takes longer costs more than it saves."""
    from activities.repositories.timed_redis import connections_to  # only where there is a Redis

    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": required(redis_url)(url),
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": 0.025,
            "SOCKET_TIMEOUT": 0.025,
            "CONNECTION_POOL_KWARGS": connections_to(url, tls=tls),
        },
    }


def made_once(path: Path) -> str:
    """The secret in `path`, made by the first process that asks; only its owner can read it."""
    try:
        if not path.exists():
            _make(path)
        secret = path.read_text()
    except (OSError, UnicodeDecodeError) as wrong:
        raise ImproperlyConfigured(f"{path}: the key cannot be kept there ({wrong})") from wrong
    if not secret:
        raise ImproperlyConfigured(f"{path}: it is empty; delete it, and a new key is made")
    return secret


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    try:
        draft.write_text(secrets.token_urlsafe(48))
        os.link(draft, path)  # fails when another process was first: its key counts
    except FileExistsError:
        pass
    finally:
        draft.unlink()
