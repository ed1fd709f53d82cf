"""A chat's files: exact, and read back only when they are right in everything."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from activities.domain import Activity, Chat, ChatChanges
from bot import chat_files
from bot.asked import Refused
from bot.chat_files import COLUMNS, MOST_BYTES, MOST_FAULTS, MOST_ROWS, as_csv, as_json
from bot.replies import Reply, plain
from tests.examples import ODD_NAMES, activities, activity

CHAT = Chat(-1001234567890, "Europe/Moscow", "ru", 1_790_000_000)
HEADER = ",".join(COLUMNS)
ROW = "pill,2026-07-20,2026-12-31,2,0.5"
FIELDS: dict[str, Any] = dict(zip(COLUMNS, ["pill", "2026-07-20", "2026-12-31", 2, 0.5], strict=True))

distinct = st.lists(activities(), max_size=20, unique_by=lambda each: each.key)
odd = [activity(name) for name in [*ODD_NAMES, "=1+1", "+7", "@x", "a;b", "a\ttab".replace("\t", " "), "'", '"', ","]]


def document(*rows: object, **changes: object) -> bytes:
    return json.dumps({"format": "activities-chat", "version": 1, "activities": rows, **changes}).encode()


def table(*rows: str, header: str = HEADER) -> bytes:
    return "\r\n".join([header, *rows, ""]).encode()


def read(content: bytes) -> list[Activity]:
    return list(chat_files.read(content).activities)


def refusal(content: bytes) -> str:
    with pytest.raises(Refused) as refused:
        chat_files.read(content)
    return plain(Reply(refused.value.lines))


# ----------------------------------------------------------------------------------------- and back


@given(distinct, st.sampled_from([as_csv, lambda each: as_json(CHAT, each)]))
def test_what_is_written_is_read_back(many: list[Activity], write: Callable[[list[Activity]], bytes]) -> None:
    assert read(write(many)) == many


@pytest.mark.parametrize("content", [as_csv(odd), as_json(CHAT, odd)])
def test_odd_names_are_read_back(content: bytes) -> None:
    assert read(content) == odd


def test_json_is_what_any_reader_makes_of_it() -> None:
    (found,) = [json.loads(as_json(CHAT, [activity(quantity_per_time=Decimal("999999.999"))]), parse_float=Decimal)]
    assert found == {
        "format": "activities-chat",
        "version": 1,
        "chat_id": CHAT.chat_id,
        "timezone": "Europe/Moscow",
        "language": "ru",
        "tokens_valid_after": CHAT.tokens_valid_after,
        "activities": [
            {
                "name": "vitamin C",
                "begin_date": activity().begin_date.isoformat(),
                "end_date": activity().end_date.isoformat(),
                "times_per_day": activity().times_per_day,
                "quantity_per_time": Decimal("999999.999"),
            }
        ],
    }


@given(st.integers(1, 10**9).map(lambda thousandths: Decimal(thousandths).scaleb(-3)))
def test_a_quantity_keeps_its_digits(quantity: Decimal) -> None:
    (row,) = json.loads(as_json(CHAT, [activity(quantity_per_time=quantity)]), parse_float=Decimal)["activities"]
    assert row["quantity_per_time"] == quantity


def test_a_chat_without_activities_has_files_too() -> None:
    assert json.loads(as_json(CHAT, []))["activities"] == read(as_csv([])) == read(as_json(CHAT, [])) == []


def test_csv_is_that_of_rfc_4180_with_the_mark_that_spreadsheets_want() -> None:
    content = as_csv([activity('a "b", c')])
    assert content.startswith(b"\xef\xbb\xbf" + HEADER.encode() + b'\r\n"a ""b"", c",')
    assert content.endswith(b"\r\n")
    assert len(list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))) == 2


def test_the_settings_come_along_and_the_chats_id_does_not_matter() -> None:
    assert chat_files.read(as_json(CHAT, [])).settings == ChatChanges("Europe/Moscow", "ru")
    assert chat_files.read(document(chat_id="x", tokens_valid_after=None)).settings == ChatChanges()


# ------------------------------------------------------------------------------------- spreadsheets


@pytest.mark.parametrize(
    "content",
    [
        table(ROW),
        table(ROW, "", ",,,,", ""),
        ("\ufeff" + HEADER + "\n" + ROW).encode(),
        ("\ufeff" + HEADER + "\n" + ROW).encode("utf-16-le"),
        ("\ufeff" + HEADER + "\n" + ROW).encode("utf-16-be"),
        table(ROW.replace(",", ";"), header=HEADER.replace(",", ";")),
        table(ROW.replace(",", "\t"), header=HEADER.replace(",", "\t")),
        table("pill;20.07.2026;31.12.2026;2;0,5", header=HEADER.replace(",", ";")),
        table('"pill";"20.7.2026";"31.12.2026"; 2 ;"0,500"', header=re.sub(",", '";"', f'"{HEADER}"')),
        table("0.5,2,2026-12-31,2026-07-20,pill", header=",".join(reversed(COLUMNS))),
        document(FIELDS),
        document({**FIELDS, "quantity_per_time": "0.5", "times_per_day": "2"}),
        b"\n\n " + document(FIELDS),
    ],
)
def test_what_people_and_programs_make_of_it_is_read(content: bytes) -> None:
    expected = Activity("pill", date(2026, 7, 20), date(2026, 12, 31), 2, Decimal("0.5"))
    assert read(content) == [expected]


# ------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (table(ROW, "x,2026-04-31,2026-12-31,2,1"), "Row 3, begin_date: 2026-04-31 is not a date (April has 30 days)."),
        (table("x,31.04.2026,2026-12-31,2,1"), "Row 2, begin_date: 31.04.2026 is not a date (April has 30 days)."),
        (table("x,today,2026-12-31,2,1"), "Row 2, begin_date: today is not a date like 2026-07-20."),
        (table("x,2026-07-20,2026-07-19,2,1"), "Row 2, end_date: 19.07.2026 is before the begin date, 20.07.2026."),
        (table("x,2026-07-20,2026-07-20,0,1"), "Row 2, times_per_day: 0 is not from 1 to 100."),
        (table("x,2026-07-20,2026-07-20,1.5,1"), "Row 2, times_per_day: 1.5 is not a whole number like 2."),
        (table("x,2026-07-20,2026-07-20,1,1e3"), "Row 2, quantity_per_time: 1e3 is not a number like 0.5."),
        (table("x,2026-07-20,2026-07-20,1,0.0001"), "Row 2, quantity_per_time: 0.0001 has more than 3 decimal places."),
        (table("x,2026-07-20,2026-07-20,1"), "Row 2, quantity_per_time: is empty."),
        (table("x,2026-07-20,2026-07-20,1,0,5"), "Row 2, 5: is beyond the last column"),
        (table("a\0b,2026-07-20,2026-07-20,1,1"), "Row 2, name: a\\x00b has the character U+0000 in it"),
        (table(ROW, ROW.replace("pill", "PILL").replace("0.5", "1")), "Row 3, name: PILL is there twice"),
        (document({**FIELDS, "name": 5}), "Activity 1, name: 5 is not text in quotes."),
        (document(FIELDS, {**FIELDS, "name": "x", "end_date": 20261231}), "Activity 2, end_date: 20261231 is not text"),
        (document({**FIELDS, "times": 3}), "Activity 1, times: I know no such field."),
        (document({**FIELDS, "name": "\ud800"}), "Activity 1, name: \\ud800 has the character U+D800 in it"),
        (document([]), "Activity 1, name: is empty."),
        (document({**FIELDS, "quantity_per_time": True}), "quantity_per_time: true is not a number like 0.5."),
        (document({**FIELDS, "times_per_day": 10**19}), "times_per_day: 10000000000000000000 is not from 1 to 100."),
        (document(timezone="Moscow"), "timezone: Moscow is not a time zone like Europe/Moscow."),
        (document(language="de"), "language: de is not a language of mine; en and ru are."),
        (document(secret=1), "secret: I know no such field."),
        (document({**FIELDS, **{f"x{number}": 1 for number in range(300_000)}}), "and 299995 more"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_a_right_example(content: bytes, told: str) -> None:
    said = refusal(content)
    assert said.startswith("There is something wrong in that file, so I have imported nothing:\n")
    assert told in said
    example = said.partition("Like this: ")[2].encode()
    assert len(read(document(json.loads(example)) if example.startswith(b"{") else example)) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the first row does not name the columns"),
        (b"hello\n", "the first row does not name the columns"),
        (b"\x89PNG\r\n\x1a\n", "it is not UTF-8 text"),
        ((HEADER + "\nпилюля").encode("cp1251"), "it is not UTF-8 text"),
        (b"\xff\xfea", "it is not UTF-8 text"),
        (table(ROW, header=HEADER.replace("name,", "")), "These columns are missing: name."),
        (table(ROW, header=HEADER + ",colour"), "I know no such columns: colour."),
        (table(ROW, header=HEADER + ",name"), "These columns are there twice: name."),
        (table('"pill', ROW), "I cannot read row 3. Is there a quote missing?"),
        (table("x" * 200_000), "I cannot read row 2."),
        (b"{}", 'it has no "format": "activities-chat"'),
        (b"[]", 'it has no "format": "activities-chat"'),
        (b'{"a": 1,\n"b": }', "line 2 cannot be read"),
        (document(version=2), "I read version 1 of such a file"),
        (document(version=None), "I read version 1 of such a file"),
        (document(activities={}), "There is no list of activities"),
        (document()[:-1] + b', "activities": []}', "activities is there twice"),
        (b'{"a": NaN}', "not JSON as I know it"),
        (b'{"a": -Infinity}', "not JSON as I know it"),
        (b'{"a": 1e99999999999999999999}', "not JSON as I know it"),
        (b"[" * 5_000_000, f"more than {MOST_ROWS} rows"),
        (b'{"a":' * 1_000_000, f"more than {MOST_ROWS} rows"),
        (b"[" * 100_000, "not JSON as I know it"),
        (b'{"a":' * 100_000, "not JSON as I know it"),
        (b'{"' + b'\\"' * 3_000_000, "line 1 cannot be read"),
        (HEADER.encode() + b",x" * 3_000_000, "the first row does not name the columns"),
        (b" " * (MOST_BYTES + 1), "I read at most 8 MB"),
        (table(*["a,b,c,d"] * 900_000), f"more than {MOST_ROWS} rows"),
        (document().replace(b"[]", b"[" + b"0," * 2_000_000 + b"0]"), f"more than {MOST_ROWS} rows"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_our_file_is_refused_in_a_sentence(content: bytes, told: str) -> None:
    said = refusal(content)
    assert told in said
    assert len(said) < 300


@pytest.mark.parametrize(
    ("field", "told"), [("times_per_day", "not a whole number"), ("quantity_per_time", "not more than 0")]
)
def test_a_number_of_any_length_is_only_wrong(field: str, told: str) -> None:
    said = refusal(document({**FIELDS, field: 777}).replace(b"777", b"9" * 5_000_000))
    assert re.search(rf"{field}: 9{{40}}… is {told}", said)


def test_a_few_faults_are_shown_and_the_others_counted() -> None:
    said = refusal(table(*["x,a,b,c,d"] * 1000)).splitlines()
    assert len(said) == 1 + MOST_FAULTS + 1 + 2
    assert said[MOST_FAULTS + 1] == "and 3995 more"


def test_the_same_twice_is_no_fault() -> None:
    assert read(table(ROW, ROW.replace("pill", "Pill"))) == [
        *read(table(ROW)),
        *read(table(ROW.replace("pill", "Pill"))),
    ]


def test_faults_are_told_in_russian() -> None:
    with translation.override("ru"):
        said = refusal(table("x,2026-04-31,2026-12-31,2,1", *[ROW] * 3, "y,,,,"))
    assert said.splitlines()[1:3] == [
        "Строка 2, начало (begin_date): 2026-04-31 — не дата (в апреле 30 дней).",
        "Строка 6, начало (begin_date): пусто.",
    ]


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    _read_or_refused(content)


@given(st.data(), st.sampled_from([as_csv(odd[:4]), as_json(CHAT, odd[:4])]))
def test_a_damaged_file_is_read_or_refused(data: st.DataObject, whole: bytes) -> None:
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole)))
    _read_or_refused(whole[:begin] + data.draw(st.binary(max_size=10)) + whole[end:])


any_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*COLUMNS, "x"]), inner),
    max_leaves=20,
)


@given(any_json)
def test_any_json_in_the_place_of_activities_is_read_or_refused(value: object) -> None:
    for content in (
        document(activities=value),
        document(value),
        document({**FIELDS, "name": value}),
        document(language=value),
    ):
        _read_or_refused(content)


def _read_or_refused(content: bytes) -> None:
    try:
        found = chat_files.read(content).activities
    except Refused:
        assert 0 < len(refusal(content)) < 4096
    else:
        assert read(as_csv(found)) == found
