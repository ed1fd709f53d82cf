"""Places for streams."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from activities.domain import StorageBusy
from activities.streams import StreamSlots


def test_there_are_as_many_places_as_said():
    slots = StreamSlots(2)
    with ExitStack() as held:
        held.enter_context(slots.hold())
        held.enter_context(slots.hold())
        with pytest.raises(StorageBusy), slots.hold():
            pass
    with slots.hold(), slots.hold():
        pass


def test_a_stream_that_fails_gives_its_place_back():
    slots = StreamSlots(1)
    for _ in range(2):
        with pytest.raises(LookupError), slots.hold():
            raise LookupError
