"""Addresses as the commands take and print them."""

from __future__ import annotations

import re

import pytest

from activities.cli import host_and_port, reached_at


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_an_address_is_a_host_and_a_port(address, host, port):
    assert host_and_port(address) == (host, port)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8000",
        ":8000",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:８０",
        "::1:8000",
        "[::1:8000",
        "::1]:8000",
        "[]:8000",
        "a b:80",
        " 127.0.0.1:80",
        "127.0.0.1:80\n",
    ],
)
def test_anything_else_is_refused(address):
    with pytest.raises(ValueError, match=f"^{re.escape(address)}$"):
        host_and_port(address)


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("::1", "[::1]"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_what_listens_everywhere_is_reached_from_here(host, reached):
    assert reached_at(host) == reached
