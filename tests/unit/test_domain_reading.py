"""How raw input is read: what each field takes, and what it refuses with which words."""

from __future__ import annotations

import unicodedata
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.domain import (
    LATEST_END_FIRST,
    MESSAGES,
    ORDERS,
    Activity,
    ActivityChanges,
    ChatChanges,
    InvalidActivity,
    Order,
    Page,
    Reading,
    name_key,
    quantity_text,
    read_activity,
    read_changes,
    read_chat_changes,
    read_chat_id,
    read_date,
    read_language,
    read_limit,
    read_name,
    read_offset,
    read_order,
    read_page,
    read_quantity,
    read_request_id,
    read_times_per_day,
    read_timezone,
    real_date,
    shown,
)
from tests.examples import ODD_NAMES, broken, names, quantities

RAW: dict[str, object] = {
    "name": "vitamin C",
    "begin_date": "2026-07-20",
    "end_date": "2026-07-30",
    "times_per_day": 2,
    "quantity_per_time": 0.5,
}

# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_names(name):
    assert read_name(name) == name


def test_a_name_is_trimmed_and_composed():
    assert read_name("  \t Cafe\u0301 \n") == "Café"


def test_a_name_has_at_most_120_code_points_after_composition():
    assert len(read_name("e\u0301" * 120)) == 120
    violation = broken(read_name, "e\u0301" * 121)
    assert violation.code == "name_too_long"
    assert violation.message == "has 121 characters, at most 120 are allowed; for example vitamin C"


def test_a_name_is_measured_after_trimming():
    assert read_name(" " * 1000 + "x" * 120 + " " * 1000) == "x" * 120


def test_a_name_that_composition_lengthens_is_measured_as_it_is_stored():
    lengthened = "\u0958" * 61  # its composition is two code points
    assert broken(read_name, lengthened).params == {"length": "122"}


@pytest.mark.parametrize("char", ["\u0301", "\u0344", "\u1f82", "é"])
def test_the_longest_decomposed_form_of_a_good_name_is_taken(char):
    name = unicodedata.normalize("NFC", "a" + char * (118 // len(unicodedata.normalize("NFC", char))))[:120]
    assert read_name(unicodedata.normalize("NFD", name)) == name


def test_a_megabyte_of_marks_is_refused_without_composing_it():
    marks = "a" + "\u0301\u0323" * 250_000  # composed, it would be shorter; that takes time quadratic in its length
    assert broken(read_name, marks).params == {"length": "500001"}


@pytest.mark.parametrize(
    ("char", "category"),
    [
        ("\x00", "Cc"),
        ("\n", "Cc"),
        ("\x7f", "Cc"),
        ("\ud800", "Cs"),
        ("\uffff", "Cn"),
        ("\u2028", "Zl"),
        ("\u2029", "Zp"),
    ],
)
def test_characters_that_are_no_text_are_refused_by_their_number(char, category):
    assert unicodedata.category(char) == category
    violation = broken(read_name, f"a{char}b")
    assert violation.code == "name_character"
    assert f"U+{ord(char):04X}" in violation.message


@pytest.mark.parametrize("name", ["\u200b", "\u200d\u2060", "\u0301", "\u00ad \u0301\u200b", "\ufe0f"])
def test_a_name_without_a_visible_character_is_refused(name):
    assert broken(read_name, name).code == "name_invisible"


@pytest.mark.parametrize("name", [".", "..", " . ", "\t..\n"])
def test_a_name_that_a_url_cannot_carry_is_refused(name):
    assert broken(read_name, name).code == "name_dots"


@pytest.mark.parametrize("raw", [None, "", " ", "\u00a0\u2003"])
def test_a_name_is_required(raw):
    assert broken(read_name, raw).code == "required"


@pytest.mark.parametrize("raw", [0, 1.5, True, [], {}, ["a"], b"a"])
def test_a_name_is_text(raw):
    assert broken(read_name, raw).code == "not_text"


@given(st.text())
def test_whatever_is_read_as_a_name_reads_as_itself_again(text):
    try:
        name = read_name(text)
    except Exception:
        assert broken(read_name, text).message
        return
    assert read_name(name) == name
    assert 1 <= len(name) <= 120
    assert name == unicodedata.normalize("NFC", name.strip())
    assert not {"Cc", "Cs", "Cn", "Zl", "Zp"} & set(map(unicodedata.category, name))
    assert name.encode()


# ------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "Cafe\u0301"),
        ("CAFÉ", "cafe\u0301"),
        ("ПИЛЮЛЯ", "пилюля"),
        ("straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("\u1fb3", "\u0391\u0345"),
        ("\u1fb3\u0316", "\u0391\u0316\u0399"),
        ("\u212b", "å"),
        ("\ufb01sh", "FISH"),
    ],
)
def test_names_that_differ_in_case_or_composition_alone_are_one(one, other):
    assert name_key(read_name(one)) == name_key(read_name(other))


@pytest.mark.parametrize(("one", "other"), [("e", "é"), ("а", "a"), ("x", "x x"), ("ı", "i"), ("²", "2")])
def test_other_names_are_others(one, other):
    assert name_key(one) != name_key(other)


@given(names)
def test_a_key_is_the_key_of_every_spelling(name):
    spellings = {name, unicodedata.normalize("NFD", name), name.casefold(), name_key(name)}
    assert {name_key(spelling) for spelling in spellings} == {name_key(name)}
    assert unicodedata.is_normalized("NFC", name_key(name))


# ------------------------------------------------------------------------------------------ dates


@pytest.mark.parametrize("text", ["2000-01-01", "2999-12-31", "2028-02-29", "2026-07-20"])
def test_dates_in_range_are_read(text):
    assert read_date(text) == date.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2025-02-29", "no_such_day"),
        ("2100-02-29", "no_such_day"),
        ("2026-04-31", "no_such_day"),
        ("2026-01-32", "no_such_day"),
        ("2026-13-01", "not_a_date"),
        ("2026-00-01", "not_a_date"),
        ("2026-01-00", "not_a_date"),
        ("0000-01-01", "not_a_date"),
        ("1999-12-31", "date_range"),
        ("3000-01-01", "date_range"),
        ("2026-7-20", "not_a_date"),
        ("20260720", "not_a_date"),
        ("2026-W30-1", "not_a_date"),
        ("2026-07-20T00:00", "not_a_date"),
        (" 2026-07-20", "not_a_date"),
        ("2026-07-20\n", "not_a_date"),
        ("٢٠٢٦-07-20", "not_a_date"),
        ("20.07.2026", "not_a_date"),
        ("x" * 100_000, "not_a_date"),
        ("", "required"),
        (None, "required"),
        (20260720, "not_text"),
        (datetime(2026, 7, 20), "not_text"),  # noqa: DTZ001 - a moment is no date
    ],
    ids=shown,
)
def test_what_is_no_date_is_refused(text, code):
    assert broken(read_date, text).code == code


def test_a_day_that_a_month_does_not_have_is_explained():
    assert broken(read_date, "2026-04-31").message == (
        "'2026-04-31' is not a date (April 2026 has 30 days); for example 2026-04-30"
    )


@pytest.mark.parametrize("text", ["1999-02-30", "9999-02-30", "2026-02-30"])
def test_the_example_for_a_missing_day_is_right(text):
    assert read_date(broken(read_date, text).params["example"])


@pytest.mark.parametrize(
    "numbers",
    [(10**30, 1, 1), (2026, 10**30, 1), (2026, 1, -1), (-1, 2, 30), (10_000, 2, 30)],
    ids=shown,
)
def test_numbers_beyond_any_calendar_are_no_date(numbers):
    assert broken(lambda raw: real_date(*raw, text="x"), numbers).code == "not_a_date"


# ---------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(("raw", "value"), [(1, 1), (100, 100), ("2", 2), ("+7", 7), ("007", 7), (" 5 ", 5)])
def test_times_are_whole_numbers_from_1_to_100(raw, value):
    assert read_times_per_day(raw) == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (0, "number_range"),
        (-1, "number_range"),
        (101, "number_range"),
        (2**32, "number_range"),
        (10**5000, "number_range"),
        ("1" * 31, "number_range"),
        ("0", "number_range"),
        (1.5, "not_whole"),
        (1.0, "not_whole"),
        ("1.5", "not_whole"),
        ("1e3", "not_whole"),
        ("1_0", "not_whole"),
        ("٣", "not_whole"),
        ("x" * 100_000, "not_whole"),
        ("1" * 100_000, "not_whole"),
        (True, "not_whole"),
        ([1], "not_whole"),
        (float("nan"), "not_whole"),
        (Decimal(2), "not_whole"),
        ("", "required"),
        (None, "required"),
    ],
    ids=shown,
)
def test_what_is_no_number_of_times_is_refused(raw, code):
    assert broken(read_times_per_day, raw).code == code


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (1, "1"),
        (1_000_000, "1000000"),
        (0.001, "0.001"),
        (0.1, "0.1"),
        (1e3, "1000"),
        (1e6, "1000000"),
        (999_999.999, "999999.999"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-3"), "0.001"),
        (Decimal("0.5" + "0" * 40), "0.5"),
        ("0.5", "0.5"),
        ("00.50", "0.5"),
        (" 2 ", "2"),
        ("0.5" + "0" * 40, "0.5"),
    ],
)
def test_quantities_are_exact_decimals(raw, value):
    assert read_quantity(raw) == Decimal(value)
    assert quantity_text(read_quantity(raw)) == value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (0, "quantity_range"),
        (0.0, "quantity_range"),
        (-0.0, "quantity_range"),
        (-1, "quantity_range"),
        (1_000_000.001, "quantity_range"),
        (Decimal("1000000." + "0" * 34 + "1"), "quantity_range"),
        (1e300, "quantity_range"),
        (10**5000, "quantity_range"),
        (Decimal("1E+999999"), "quantity_range"),
        (0.0005, "quantity_places"),
        (0.1 + 0.2, "quantity_places"),
        (5e-324, "quantity_places"),
        (Decimal("1E-999999"), "quantity_places"),
        (Decimal("0.5000000000000000000000000000000000001"), "quantity_places"),
        (Decimal("999999.99999999999999999999999999999"), "quantity_places"),
        ("0.0005", "quantity_places"),
        ("0." + "0" * 40 + "1", "quantity_places"),
        (float("nan"), "not_a_number"),
        (float("inf"), "not_a_number"),
        (float("-inf"), "not_a_number"),
        (Decimal("NaN"), "not_a_number"),
        (Decimal("sNaN"), "not_a_number"),
        (Decimal("Infinity"), "not_a_number"),
        ("NaN", "not_a_number"),
        ("Infinity", "not_a_number"),
        ("1e3", "not_a_number"),
        ("0,5", "not_a_number"),
        ("1_000", "not_a_number"),
        (".5", "not_a_number"),
        ("٣", "not_a_number"),
        ("x" * 100_000, "not_a_number"),
        (True, "not_a_number"),
        ([0.5], "not_a_number"),
        ({}, "not_a_number"),
        ("", "required"),
        (None, "required"),
    ],
    ids=shown,
)
def test_what_is_no_quantity_is_refused_and_never_rounded(raw, code):
    assert broken(read_quantity, raw).code == code


@given(quantities)
def test_a_quantity_survives_a_double_and_its_own_text(quantity):
    assert read_quantity(float(quantity)) == quantity
    assert read_quantity(quantity_text(quantity)) == quantity
    assert read_quantity(quantity) == quantity


@given(st.floats() | st.decimals() | st.integers() | st.text())
def test_a_quantity_is_in_range_with_three_places_or_refused(raw):
    try:
        quantity = read_quantity(raw)
    except Exception:
        assert broken(read_quantity, raw).message
        return
    assert 0 < quantity <= 1_000_000
    assert quantity * 1000 == int(quantity * 1000)
    assert not isinstance(raw, int | Decimal) or quantity == raw


# --------------------------------------------------------------------------- what comes with a request


@pytest.mark.parametrize(("raw", "value"), [(None, 50), ("", 50), (0, 50), ("0", 50), (1, 1), ("500", 500)])
def test_a_limit_is_1_to_500_and_50_when_0_or_absent(raw, value):
    assert read_limit(raw) == value


@pytest.mark.parametrize("raw", [-1, 501, "501", "-1", "ten", 1.0, True, 2**31])
def test_other_limits_are_refused(raw):
    assert broken(read_limit, raw).code in ("number_range", "not_whole")


@pytest.mark.parametrize(("raw", "value"), [(None, 0), ("", 0), (0, 0), ("7", 7), (2**63 - 1, 2**63 - 1)])
def test_an_offset_is_a_natural_number(raw, value):
    assert read_offset(raw) == value


@pytest.mark.parametrize("raw", [-1, "-1", 2**63, "x", 0.5])
def test_other_offsets_are_refused(raw):
    assert broken(read_offset, raw).code in ("number_range", "not_whole")


@pytest.mark.parametrize("raw", [None, "", "-end_date"])
def test_the_latest_end_comes_first_unless_said(raw):
    assert read_order(raw) == LATEST_END_FIRST == Order("end_date", descending=True)


@pytest.mark.parametrize("text", ORDERS)
def test_every_order_is_read_from_its_own_text(text):
    assert str(read_order(text)) == text


@pytest.mark.parametrize("raw", ["--name", "+name", "Name", "name ", "chat_id", "-", "name,end_date", 1, ["name"]])
def test_other_orders_are_refused(raw):
    assert broken(read_order, raw).code == "unknown_order"


@pytest.mark.parametrize(
    ("raw", "value"), [(1, 1), (-1, -1), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), ("42", 42), ("-100123", -100123)]
)
def test_a_chat_id_is_a_signed_64_bit_number(raw, value):
    assert read_chat_id(raw) == value


@pytest.mark.parametrize(
    "raw",
    [0, "0", 2**63, -(2**63) - 1, "9" * 5000, 10**5000, 1.0, True, None, "", "x", "1e3", "４２", []],
    ids=shown,
)
def test_other_chat_ids_are_refused(raw):
    assert broken(read_chat_id, raw).code == "not_a_chat"


def test_a_request_id_is_a_uuid():
    text = "3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b"
    assert (
        read_request_id(text) == read_request_id(text.upper()) == read_request_id(text.replace("-", "")) == UUID(text)
    )


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "x",
        "3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5",
        "{3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b}",
        "urn:uuid:3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b",
        "3f2b8c1e9d4a-4b6f-8a57-0c1d2e3f4a5b",
        " 3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b",
        "３f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b",
        None,
        5,
    ],
)
def test_what_is_no_uuid_is_refused(raw):
    assert broken(read_request_id, raw).code == "not_a_request_id"


@pytest.mark.parametrize("zone", ["UTC", "Europe/Moscow", "America/Argentina/Buenos_Aires", "Pacific/Kiritimati"])
def test_zones_of_the_iana_list_are_known(zone):
    assert read_timezone(zone) == zone


@pytest.mark.parametrize(
    "raw",
    ["Mars/Base", "utc+3", "europe/moscow", "../etc/passwd", "/etc/localtime", "localtime", "Factory", "\0", "Europe"],
)
def test_other_zones_are_refused(raw):
    assert broken(read_timezone, raw).code == "unknown_timezone"


def test_languages_are_english_and_russian():
    assert [read_language("en"), read_language("ru")] == ["en", "ru"]
    assert broken(read_language, "de").code == "unknown_language"
    assert broken(read_language, None).code == "required"
    assert broken(read_language, 1).code == "not_text"


# -------------------------------------------------------------------------------- whole requests


def test_an_activity_is_read_from_its_fields():
    reading = Reading()
    activity = read_activity(reading, RAW)
    reading.done()
    assert activity == Activity("vitamin C", date(2026, 7, 20), date(2026, 7, 30), 2, Decimal("0.5"))


def test_every_broken_rule_is_reported_at_once():
    reading = Reading()
    reading.take("chat_id", read_chat_id, 0)
    read_activity(reading, dict.fromkeys(RAW, ""))
    reading.take("x-request-id", read_request_id, "x")
    with pytest.raises(InvalidActivity) as raised:
        reading.done()
    assert list(raised.value.by_field) == [
        "chat_id",
        "name",
        "begin_date",
        "end_date",
        "times_per_day",
        "quantity_per_time",
        "x-request-id",
    ]
    assert str(raised.value).count("; ") >= 6


def test_missing_fields_are_named():
    reading = Reading()
    read_activity(reading, {})
    assert [(each.field, each.code) for each in reading.violations] == [(name, "required") for name in RAW]


def test_dates_in_the_wrong_order_are_reported_beside_other_broken_fields():
    reading = Reading()
    read_activity(reading, RAW | {"end_date": "2026-07-19", "times_per_day": 0})
    assert [(each.field, each.code) for each in reading.violations] == [
        ("times_per_day", "number_range"),
        ("end_date", "end_before_begin"),
    ]


def test_one_day_is_a_period():
    reading = Reading()
    assert read_activity(reading, RAW | {"end_date": "2026-07-20"}).end_date == date(2026, 7, 20)
    assert not reading.violations


def test_changes_are_what_is_given():
    reading = Reading()
    assert read_changes(reading, {}) == ActivityChanges()
    assert read_changes(reading, {"name": "x", "times_per_day": "3"}) == ActivityChanges(times_per_day=3)
    reading.done()


def test_a_field_given_as_nothing_is_no_change_but_a_broken_rule():
    reading = Reading()
    read_changes(reading, {"begin_date": None, "quantity_per_time": ""})
    assert [(each.field, each.code) for each in reading.violations] == [
        ("begin_date", "required"),
        ("quantity_per_time", "required"),
    ]


@pytest.mark.parametrize("other", [{}, {"times_per_day": 0}])
def test_two_changed_dates_in_the_wrong_order_are_refused_before_the_store_is_asked(other):
    reading = Reading()
    read_changes(reading, {"begin_date": "2026-07-21", "end_date": "2026-07-20", **other})
    assert ("end_date", "end_before_begin") in [(each.field, each.code) for each in reading.violations]


def test_a_page_has_defaults_and_reports_all_that_is_wrong():
    reading = Reading()
    assert read_page(reading, {}) == Page(50, 0, LATEST_END_FIRST)
    read_page(reading, {"limit": "x", "offset": -1, "order": "size"})
    assert [each.field for each in reading.violations] == ["limit", "offset", "order"]


def test_changes_of_a_chat_are_read_together():
    reading = Reading()
    assert read_chat_changes(reading, {"timezone": "Asia/Tokyo"}) == ChatChanges("Asia/Tokyo", None)
    read_chat_changes(reading, {"timezone": None, "language": "xx"})
    assert [each.field for each in reading.violations] == ["timezone", "language"]


# ----------------------------------------------------------------------------------------- words

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_was_read_is_shown_short_printable_and_encodable(value):
    text = shown(value)
    assert text.startswith("'")
    assert text.endswith("'")
    assert len(text) <= 2 + 41 * len("\\U0010ffff")
    assert not {"Cc", "Cs", "Cn", "Zl", "Zp"} & set(map(unicodedata.category, text))
    assert text.encode()


def test_long_input_is_cut():
    assert shown("x" * 100_000) == f"'{'x' * 40}…'"


def test_input_that_cannot_be_written_out_is_shown_by_its_kind():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "'list'"
    assert shown(10**5000) == "'int'"
    assert shown({(1, 2): 3}) == "'dict'"


def test_the_input_is_quoted_as_it_came():
    assert [shown(raw) for raw in ("a\nb", 0.0005, Decimal("1E+3"), True, None)] == [
        "'a\\nb'",
        "'0.0005'",
        "'1E+3'",
        "'true'",
        "'null'",
    ]


def test_every_message_shows_a_right_example():
    for code, message in MESSAGES.items():
        assert code == "other" or any(word in message for word in ("example", "like ", "one of", "repeat that name"))
