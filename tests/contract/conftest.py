"""The backends, each started once for a module; every test has chats of its own in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.contract.backends import BACKENDS, Backend, starting
from tests.examples import NOON

MOST = 450
"""How many activities a chat may have: more than two batches of a stream."""

_chat_ids = count(1000, 10)


@pytest.fixture(scope="module", params=BACKENDS)
def started(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with starting(request, MOST) as backend:
        yield backend


@pytest.fixture
def backend(started: Backend) -> Iterator[Backend]:
    yield started
    started.store.error = None
    started.clock.now = NOON


@pytest.fixture
def new_chat() -> Callable[[], int]:
    """Gives ids of chats that no other test has."""
    return lambda: next(_chat_ids)


@pytest.fixture
def chat(new_chat: Callable[[], int]) -> int:
    return new_chat()
