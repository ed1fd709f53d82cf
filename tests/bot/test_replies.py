"""A reply fits into a message wherever it is shown, and foreign names do not turn what stands beside them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.console import aligned
from bot.replies import MOST_UNITS, Copy, Reply, Row, Text, fitting, isolated, plain, units
from bot.texts import list_row
from tests.bot.talking import NOON
from tests.examples import activities


@given(st.lists(activities(st.sampled_from(["a", "💊" * 120, "я" * 32, "\u05d0" * 120])), max_size=150))
def test_rows_are_split_between_activities_and_never_lost(many):
    rows = [list_row(each, NOON.date()) for each in many]
    replies = list(fitting(rows))
    assert [line for reply in replies for line in reply.lines] == rows
    assert all(units(layout(reply)) <= MOST_UNITS for reply in replies for layout in (plain, aligned))


def test_a_reply_is_filled_before_the_next_one_begins():
    replies = list(fitting([Row(("x" * 20, "y"))] * 200))
    assert [len(reply.lines) for reply in replies[:-1]] == [len(replies[0].lines)] * (len(replies) - 1)
    assert len(replies[0].lines) > 40


def test_lines_go_out_early_when_asked():
    sizes = [len(reply.lines) for reply in fitting([Text("x")] * 50, first=20)]
    assert sizes == [20, 30]


def test_units_are_those_of_utf_16():
    assert [units(text) for text in ("a", "я", "💊", "\ud800")] == [1, 1, 2, 1]


def test_a_proportional_font_gets_no_columns():
    reply = Reply((Text("Today"), Row(("vitamin C", "0.5 × 3", "last day")), Copy("/list", "More:")))
    assert plain(reply) == "Today\n• vitamin C: 0.5 × 3, last day\nMore: /list"


def test_a_terminal_gets_columns_by_the_width_that_is_seen():
    reply = Reply((Row(("Витамин D₃ 💊", "1")), Row(("👨‍👩‍👧", "2")), Row((isolated("שלום"), "3"))))
    assert aligned(reply).splitlines() == [
        "  Витамин D₃ 💊   1",
        "  👨‍👩‍👧              2",
        "  \u2068שלום\u2069            3",
    ]


def test_a_name_too_wide_for_its_column_stands_alone():
    reply = Reply((Row(("x" * 120, "1", "a")), Row(("short", "20", "b"))))
    assert aligned(reply).splitlines() == ["  " + "x" * 120, "          1    a", "  short   20   b"]


def test_a_name_from_right_to_left_is_isolated():
    assert isolated("שלום") == "\u2068שלום\u2069"
    assert isolated("vitamin C") == "vitamin C"


def test_a_name_cannot_leave_its_isolation():
    assert isolated("a\u2069\u202eb") == "\u2068ab\u2069"
