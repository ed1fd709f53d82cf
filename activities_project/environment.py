"""Reads settings from the environment, typed; what is wrong is told with its name and a right example."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from dotenv.parser import parse_stream
from environs import Env, EnvError

from activities.cli import host_and_port

T = TypeVar("T")


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


def checked(env: Env, name: str, read: Callable[[str], T], *, default: str, expected: str) -> T:
    """The variable `name` read by `read`, which raises ValueError for what is not `expected`. Empty is absent."""
    try:
        text: str = env.str(name, "").strip()
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
    """Reads the URL of a Redis."""
    parts = urlsplit(text)
    if text and (parts.scheme not in ("redis", "rediss") or not parts.hostname):
        raise ValueError(text)
    return text


def durable_database(url: str) -> dict[str, object]:
    """Django's settings of PostgreSQL behind pgbouncer, from its URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql") or not (parts.hostname and parts.path.strip("/")):
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
        "OPTIONS": {"connect_timeout": 2},
    }


def redis_cache(url: str) -> dict[str, object]:
    """Django's settings of the cache in Redis, from its URL. An exchange that takes longer costs more than it saves."""
    from activities.repositories.timed_redis import TimedConnection  # only where there is a Redis

    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": required(redis_url)(url),
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": 0.025,
            "SOCKET_TIMEOUT": 0.025,
            "CONNECTION_POOL_KWARGS": {"connection_class": TimedConnection},
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
