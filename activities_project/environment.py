"""Reads settings from the environment, typed; what is wrong is told with its name and a right example."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured
from environs import Env, EnvError

T = TypeVar("T")


def checked(env: Env, name: str, read: Callable[[str], T], *, default: str, expected: str) -> T:
    """The variable `name` read by `read`, which raises ValueError for what is not `expected`."""
    try:
        text: str = env.str(name, default)
        return read(text.strip())
    except (ValueError, EnvError) as wrong:
        raise ImproperlyConfigured(f"{name}: {expected}") from wrong


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


def made_once(path: Path) -> str:
    """The secret in `path`, made by the first process that asks; only its owner can read it."""
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
    return path.read_text()
