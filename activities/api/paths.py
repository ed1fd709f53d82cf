"""Paths as links need them."""

from __future__ import annotations

from urllib.parse import quote


def encoded_path(path: str) -> str:
    """A path for a link. The server in front has decoded all of it but `%2F` and `%25`, which stay as they are."""
    return quote(path, safe="/%")
