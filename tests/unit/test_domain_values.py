"""The values and their rules, the errors and what they say."""

from __future__ import annotations

import unicodedata
from dataclasses import FrozenInstanceError
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.domain import (
    ERRORS,
    ORDERS,
    ActivitiesError,
    ActivityChanges,
    ActivityExists,
    ActivityNotFound,
    Chat,
    ChatChanges,
    Command,
    Create,
    Delete,
    InvalidActivity,
    RateLimited,
    StorageBusy,
    Update,
    Violation,
    quantity_text,
    read_order,
)
from tests.examples import activities, activity


def test_an_activity_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        activity().times_per_day = 3  # type: ignore[misc]


def test_an_activity_does_not_end_before_it_begins():
    with pytest.raises(InvalidActivity) as raised:
        activity(begin_date=date(2026, 7, 31))
    assert raised.value.by_field == {
        "end_date": ["end_date 2026-07-30 is before begin_date 2026-07-31; for example 2026-07-31 or later"]
    }


def test_an_activity_is_active_on_its_first_and_its_last_day():
    vitamin = activity()
    assert [vitamin.is_active_on(date(2026, 7, day)) for day in (19, 20, 25, 30, 31)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_change_keeps_what_is_not_given():
    changed = ActivityChanges(times_per_day=5).applied_to(activity())
    assert changed == activity(times_per_day=5)
    assert ActivityChanges().applied_to(activity()) == activity()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (ActivityChanges(begin_date=date(2026, 8, 1)), "begin_date"),
        (ActivityChanges(end_date=date(2026, 7, 1)), "end_date"),
    ],
)
def test_a_change_is_checked_against_what_it_keeps_and_names_a_field_that_was_given(changes, field):
    with pytest.raises(InvalidActivity) as raised:
        changes.applied_to(activity())
    assert list(raised.value.by_field) == [field]


def test_two_dates_that_do_not_fit_each_other_fit_no_activity():
    with pytest.raises(InvalidActivity) as raised:
        ActivityChanges(begin_date=date(2026, 8, 2), end_date=date(2026, 8, 1))
    assert list(raised.value.by_field) == ["end_date"]


def test_both_dates_may_move_beyond_the_old_period():
    moved = ActivityChanges(begin_date=date(2027, 1, 1), end_date=date(2027, 1, 2)).applied_to(activity())
    assert (moved.begin_date, moved.end_date) == (date(2027, 1, 1), date(2027, 1, 2))


@given(st.lists(activities(), unique_by=lambda each: each.key, max_size=8), st.sampled_from(ORDERS))
def test_an_order_is_total_and_breaks_ties_by_name_key_ascending(several, text):
    order = read_order(text)
    ordered = sorted(several, key=order.sort_key)
    expected = sorted(several, key=lambda each: each.key)
    field = order.field if order.field != "name" else "key"
    expected.sort(key=lambda each: getattr(each, field), reverse=order.descending)  # stable
    assert ordered == expected


@given(activities())
def test_a_quantity_is_written_plainly(each):
    text = quantity_text(each.quantity_per_time)
    assert Decimal(text) == each.quantity_per_time
    assert "E" not in text
    assert not text.endswith((".", ".0"))


def test_a_chat_has_its_own_date():
    late = datetime(2026, 7, 20, 21, 30, tzinfo=UTC)
    assert Chat(1).date_at(late) == date(2026, 7, 20)
    assert Chat(1, "Europe/Moscow").date_at(late) == date(2026, 7, 21)
    assert Chat(1, "America/New_York").date_at(late.replace(hour=3)) == date(2026, 7, 19)


def test_a_change_of_a_chat_keeps_what_is_not_given():
    moscow = ChatChanges(timezone="Europe/Moscow").applied_to(Chat(1, language="ru", tokens_valid_after=5))
    assert moscow == Chat(1, "Europe/Moscow", "ru", 5)


# ---------------------------------------------------------------------------------- fingerprints


def test_the_same_request_has_the_same_fingerprint_whatever_its_id_and_wire():
    create = Create(chat_id=1, activity=activity(quantity_per_time=Decimal("0.500")))
    assert create.fingerprint == Create(chat_id=1, activity=activity(), request_id=uuid4()).fingerprint
    update = Update(chat_id=1, name="Pill", changes=ActivityChanges(quantity_per_time=Decimal("2.000")))
    again = Update(
        chat_id=1, name="pill", changes=ActivityChanges(quantity_per_time=Decimal("2.0")), request_id=uuid4()
    )
    assert update.fingerprint == again.fingerprint
    assert Delete(chat_id=1, name="Pill").fingerprint == Delete(chat_id=1, name="PILL").fingerprint


def test_other_requests_have_other_fingerprints():
    commands: list[Command] = [
        Create(chat_id=1, activity=activity()),
        Create(chat_id=1, activity=activity("vitamin D")),
        Create(chat_id=1, activity=activity("Vitamin C")),  # it would be shown otherwise
        Create(chat_id=1, activity=activity(times_per_day=3)),
        Update(chat_id=1, name="vitamin C", changes=ActivityChanges()),
        Update(chat_id=1, name="vitamin D", changes=ActivityChanges()),
        Update(chat_id=1, name="vitamin C", changes=ActivityChanges(begin_date=date(2026, 7, 20))),
        Update(chat_id=1, name="vitamin C", changes=ActivityChanges(end_date=date(2026, 7, 20))),
        Update(chat_id=1, name="vitamin C", changes=ActivityChanges(times_per_day=2)),
        Update(chat_id=1, name="vitamin C", changes=ActivityChanges(quantity_per_time=Decimal(2))),
        Delete(chat_id=1, name="vitamin C"),
        Delete(chat_id=1, name="vitamin D"),
    ]
    assert len({command.fingerprint for command in commands}) == len(commands)


# ---------------------------------------------------------------------------------------- errors


def test_an_error_says_what_it_knows():
    assert str(ActivityNotFound(name="pill")) == "there is no activity pill"
    assert str(ActivityExists(name="{name} %s")) == "there is an activity {name} %s already"


@pytest.mark.parametrize("error", [error for error in ERRORS.values() if error is not InvalidActivity])
def test_an_error_of_a_peer_that_sends_no_details_has_a_message_all_the_same(error):
    assert str(error())


def test_errors_are_equal_by_kind_and_content():
    assert ActivityNotFound(name="a") == ActivityNotFound(name="a")
    assert ActivityNotFound(name="a") != ActivityNotFound(name="b")
    assert ActivityNotFound(name="a") != ActivityExists(name="a")
    assert InvalidActivity([Violation("name", "required")]) != InvalidActivity([Violation("end_date", "required")])


def test_an_error_is_named_as_it_travels():
    assert {name: error.__name__ for name, error in ERRORS.items()} == {name: name for name in ERRORS}
    assert set(ERRORS.values()) == set(ActivitiesError.__subclasses__())


def test_errors_tell_when_trying_again_can_help():
    assert StorageBusy.retry_after == 1
    assert ActivityNotFound.retry_after is None


def test_who_asks_too_much_is_told_how_long_to_wait():
    assert str(RateLimited()) == "too many requests; try again in 60 s"
    assert str(RateLimited(retry_after="7")) == "too many requests; try again in 7 s"


def test_several_messages_of_one_field_stay_together():
    invalid = InvalidActivity(
        [
            Violation("name", "required", {"example": "x"}),
            Violation("limit", "not_text"),
            Violation("name", "name_dots"),
        ]
    )
    assert [len(messages) for messages in invalid.by_field.values()] == [2, 1]


@given(st.text())
def test_a_message_does_not_interpret_what_it_quotes(text):
    violation = Violation("order", "unknown_order", {"value": text})
    assert violation.message.startswith(text + " is not an order")
    assert unicodedata.normalize("NFC", violation.message)
