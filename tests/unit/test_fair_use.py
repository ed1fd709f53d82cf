"""How much each caller may ask for: counted by the minute, each for itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.access import Access, ServiceToken
from activities.domain import NotAuthenticated, RateLimited
from activities.fair_use import MOST_REFUSED, REFUSED_SECONDS, FairUse
from activities.ports import Call
from activities.repositories.windows import MemoryWindows

SECRET = "s" * 32


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bounded(clock: Callable[[], float], *, per_chat: int = 3, per_service: int = 0) -> FairUse:
    return FairUse(MemoryWindows(clock=clock), per_chat=per_chat, per_service=per_service, clock=clock)


def seconds_to_wait(ask: Callable[[], object]) -> int:
    with pytest.raises(RateLimited) as raised:
        ask()
    return int(raised.value.details["retry_after"])


def test_a_chat_may_ask_so_often_within_any_minute(clock):
    fair_use = bounded(clock)
    for seconds in (0, 10, 20):
        clock.now = 1000.0 + seconds
        fair_use.by_token(1)
    clock.now = 1059.0
    assert seconds_to_wait(lambda: fair_use.by_token(1)) == 1
    clock.now = 1060.0
    fair_use.by_token(1)
    assert seconds_to_wait(lambda: fair_use.by_token(1)) == 10


def test_what_was_refused_does_not_count(clock):
    fair_use = bounded(clock, per_chat=1)
    fair_use.by_token(1)
    for _ in range(50):
        assert seconds_to_wait(lambda: fair_use.by_token(1)) == 60
    clock.now += 60
    fair_use.by_token(1)


def test_each_chat_has_its_own_bound_and_another_one_in_the_bot(clock):
    fair_use = bounded(clock, per_chat=1, per_service=1)
    fair_use.by_token(1)
    fair_use.by_token(-1)
    fair_use.in_bot(1)
    fair_use.by_service("1")
    for ask in (
        lambda: fair_use.by_token(1),
        lambda: fair_use.by_token(-1),
        lambda: fair_use.in_bot(1),
        lambda: fair_use.by_service("1"),
    ):
        assert seconds_to_wait(ask) == 60


def test_a_bound_of_zero_is_none(clock):
    fair_use = bounded(clock, per_chat=0)
    for _ in range(10_000):
        fair_use.by_token(1)
        fair_use.by_service("backup")


def test_when_the_bound_is_lowered_the_wait_is_until_there_are_few_enough(clock):
    windows = MemoryWindows(clock=clock)
    for seconds in range(5):
        clock.now = 1000.0 + seconds
        windows.take("chat:1", limit=5)
    assert windows.take("chat:1", limit=2) == pytest.approx(59.0)


@given(st.lists(st.floats(0.001, 30), min_size=1, max_size=60), st.integers(1, 5))
def test_no_minute_ever_holds_more_and_none_is_refused_that_would_fit(pauses: list[float], limit: int) -> None:
    clock = Clock()
    windows = MemoryWindows(clock=clock)
    counted: list[float] = []
    for pause in pauses:
        clock.now += pause
        recent = [moment for moment in counted if moment > clock.now - 60]
        wait = windows.take("chat:1", limit=limit)
        assert (wait == 0) == (len(recent) < limit)
        if wait == 0:
            counted.append(clock.now)
        else:
            assert wait == pytest.approx(recent[-limit] + 60 - clock.now)


def test_whoever_has_not_asked_for_a_minute_is_forgotten(clock):
    windows = MemoryWindows(clock=clock)
    for chat_id in range(1000):
        windows.take(f"chat:{chat_id}", limit=3)
    clock.now += 61
    windows.take("chat:1", limit=3)
    assert list(windows._taken) == ["chat:1"]


def access(clock: Clock, fair_use: FairUse, valid_after: Callable[[int, Call], int] = lambda *_: 0) -> Access:
    return Access(
        keys=["key"],
        services=[ServiceToken("backup", SECRET)],
        valid_after=valid_after,
        fair_use=fair_use,
        clock=clock,
    )


def test_all_tokens_of_a_chat_share_its_bound(clock):
    doors = access(clock, bounded(clock, per_chat=2))
    first = doors.issue(1)
    clock.now += 1
    second = doors.issue(1)
    doors.principal(first, call=Call())
    doors.principal(second, call=Call())
    assert seconds_to_wait(lambda: doors.principal(first, call=Call())) == 60


def test_a_worthless_token_does_not_wear_out_the_chat(clock):
    revoked_at = 1_000_000
    doors = access(clock, bounded(clock, per_chat=1), lambda *_: revoked_at)
    for token in (doors.issue(1), doors.issue(1) + "x"):
        with pytest.raises(NotAuthenticated):
            doors.principal(token, call=Call())
    doors.principal(doors.issue(1, valid_after=revoked_at), call=Call())


def test_services_are_bounded_only_where_a_setting_says_so(clock):
    unbounded = access(clock, bounded(clock, per_chat=1))
    for _ in range(100):
        unbounded.principal(SECRET, call=Call())
    doors = access(clock, bounded(clock, per_service=1))
    doors.principal(SECRET, call=Call())
    assert seconds_to_wait(lambda: doors.principal(SECRET, call=Call())) == 60


def test_refused_credentials_need_not_be_looked_at_until_their_time_has_come(clock):
    doors = access(clock, bounded(clock, per_chat=1))
    authorization = f"Bearer {doors.issue(1)}"
    assert doors.refusal(authorization) is None
    doors.authenticate(authorization, call=Call())
    assert doors.refusal(authorization) is None
    with pytest.raises(RateLimited):
        doors.authenticate(authorization, call=Call())
    for spelling in (authorization, authorization.replace("Bearer ", "BEARER    "), f"{authorization} "):
        refused = doors.refusal(spelling)
        assert refused is not None
        assert refused.details == {"retry_after": "60"}
    assert doors.refusal("Basic x") is None
    clock.now += 59.5
    with pytest.raises(RateLimited):
        doors.authenticate(authorization, call=Call())
    clock.now += 1  # as it was told
    assert doors.refusal(authorization) is None
    doors.authenticate(authorization, call=Call())


def test_a_worn_out_token_that_is_revoked_is_soon_told_so(clock):
    revoked_at = 0
    doors = access(clock, bounded(clock, per_chat=1), lambda *_: revoked_at)
    authorization = f"Bearer {doors.issue(1)}"
    doors.authenticate(authorization, call=Call())
    with pytest.raises(RateLimited):
        doors.authenticate(authorization, call=Call())
    revoked_at = int(clock.now) + 1
    clock.now += REFUSED_SECONDS
    assert doors.refusal(authorization) is None
    with pytest.raises(NotAuthenticated):
        doors.authenticate(authorization, call=Call())


def test_few_refused_credentials_are_remembered(clock):
    fair_use = bounded(clock)
    for number in range(MOST_REFUSED + 5):
        fair_use.remember(str(number), RateLimited(retry_after="60"))
    assert fair_use.refusal("4") is None
    assert fair_use.refusal("5") is not None
