"""What tests are made of: an ordinary activity to vary, names that break careless code, strategies for good values."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from hypothesis import strategies as st

from activities.domain import FIRST_DATE, LAST_DATE, Activity, Broken, Violation, read_name

NOON = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
"""The present of the tests; 2026-07-20 in most of the world."""

ODD_NAMES = (
    "Витамин D₃ 💊",
    "pill 1/2",
    "/lead",
    "trail/",
    "a//b",
    "a?b#c",
    '"quoted" name',
    "it's",
    "today",
    "stream",
    "%2F",
    "%252f",
    "100%",
    "_",
    "-",
    "...",
    "./x",
    "a/../b",
    "a/./b",
    "back\\slash",
    "a+b&c=d;e",
    "{name}",
    ":stream",
    "👨‍👩‍👧",
    "<b>&amp;</b>",
    "null",
    "0",
    "x" * 120,
    "💊" * 120,
)


def activity(name: str = "vitamin C", **changes: object) -> Activity:
    """An ordinary activity, active at `NOON`."""
    fields: dict[str, object] = {
        "begin_date": date(2026, 7, 20),
        "end_date": date(2026, 7, 30),
        "times_per_day": 2,
        "quantity_per_time": Decimal("0.5"),
    }
    return Activity(name=name, **(fields | changes))  # type: ignore[arg-type]


def broken(read: object, raw: object) -> Violation:
    """The rule that `raw` breaks when it is read; fails when it breaks none."""
    try:
        value = read(raw)  # type: ignore[operator]
    except Broken as wrong:
        return Violation("field", wrong.code, wrong.params)
    raise AssertionError(f"read {raw!r} as {value!r}")


def _is_name(text: str) -> bool:
    try:
        return read_name(text) == text
    except Broken:
        return False


names = st.text(min_size=1, max_size=120).filter(_is_name)
quantities = st.integers(1, 1_000_000_000).map(lambda thousandths: Decimal(thousandths).scaleb(-3))
dates = st.dates(FIRST_DATE, LAST_DATE)


@st.composite
def activities(draw: st.DrawFn, name: st.SearchStrategy[str] = names) -> Activity:
    """Any activity that keeps every rule."""
    begin, end = sorted([draw(dates), draw(dates)])
    return Activity(draw(name), begin, end, draw(st.integers(1, 100)), draw(quantities))
