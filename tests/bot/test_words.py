"""Lines become words as in a shell, words become lines again, and dates are read as people write them."""

from __future__ import annotations

import shlex
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.domain import Broken
from bot.words import joined, quoted, read_amount, read_day, split
from tests.examples import ODD_NAMES, names

TODAY = date(2026, 11, 24)
START = date(2027, 1, 31)
any_word = st.text() | st.text(alphabet=" \\'\"“”„«»‘’a_/\n")


@given(st.lists(any_word, max_size=5))
def test_a_joined_line_splits_into_the_same_words(words):
    assert split(joined(words)).words == tuple(words)
    assert not split(joined(words)).unclosed


@given(names)
def test_every_name_can_be_quoted(name):
    assert split(f"x {quoted(name)} y").words == ("x", name, "y")


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if not set(name) & set(" '\"\\")])
def test_a_name_that_needs_no_quotes_is_shown_without(name):
    assert quoted(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("vitamin C", '"vitamin C"'),
        ("it's", '"it\'s"'),
        ('"quoted" name', "'\"quoted\" name'"),
        ("back\\slash", "'back\\slash'"),
        ("both ' and \"", '"both \' and \\""'),
        ("«ёлка»", '"«ёлка»"'),
        ("", '""'),
    ],
)
def test_quotes_are_those_that_need_the_least_escaping(name, shown):
    assert quoted(name) == shown


@given(st.text(alphabet="ab \t'\"\\"))
def test_balanced_lines_split_as_in_a_shell(line):
    try:
        expected = tuple(shlex.split(line))
    except ValueError:
        return
    assert split(line).words == expected
    assert not split(line).unclosed


@pytest.mark.parametrize("line", ["“vitamin C” 2", "„vitamin C“ 2", "”vitamin C” 2", "«vitamin C» 2", "‘vitamin C’ 2"])
def test_typographic_quotes_are_quotes(line):
    assert split(line).words == ("vitamin C", "2")


@pytest.mark.parametrize("word", ["mom’s", "O«K»", "5”"])
def test_typographic_marks_within_a_word_belong_to_it(word):
    assert split(word) == split(quoted(word))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('"vitamin C 2', ("vitamin", "C", "2")),
        ("mom's pill", ("mom's", "pill")),
        ("“vitamin C 2", ("vitamin", "C", "2")),
        ('x "', ("x",)),
    ],
)
def test_an_unclosed_quote_is_told_with_the_best_guess(line, words):
    assert split(line).words == words
    assert split(line).unclosed


def test_an_empty_word_can_be_given():
    assert split("\"\" '' x").words == ("", "", "x")


@pytest.mark.parametrize(
    ("word", "day"),
    [
        ("20.07.2026", date(2026, 7, 20)),
        ("1.7.2026", date(2026, 7, 1)),
        ("2026-07-20", date(2026, 7, 20)),
        ("today", TODAY),
        ("Сегодня", TODAY),
        ("TOMORROW", date(2026, 11, 25)),
        ("завтра", date(2026, 11, 25)),
        ("+0d", START),
        ("+10d", date(2027, 2, 10)),
        ("+10д", date(2027, 2, 10)),
        ("+010D", date(2027, 2, 10)),
    ],
)
def test_dates_are_read_as_people_write_them(word, day):
    assert read_day(word, today=TODAY, start=START) == day


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("29.02.2025", "no_such_day"),
        ("31.04.2026", "no_such_day"),
        ("32.01.2026", "no_such_day"),
        ("00.01.2026", "not_a_date"),
        ("01.13.2026", "not_a_date"),
        ("31.12.1999", "date_range"),
        ("01.01.3000", "date_range"),
        ("+400000d", "date_range"),
        ("+9999999d", "date_range"),
        ("+" + "9" * 100_000 + "d", "date_range"),
        ("-1d", "not_a_date"),
        ("+d", "not_a_date"),
        ("+1e3d", "not_a_date"),
        ("20.07.26", "not_a_date"),
        ("٢٠.٠٧.٢٠٢٦", "not_a_date"),
        ("yesterday", "not_a_date"),
        ("", "required"),
    ],
)
def test_what_is_no_date_is_refused(word, code):
    with pytest.raises(Broken) as broken:
        read_day(word, today=TODAY, start=START)
    assert broken.value.code == code


@pytest.mark.parametrize(("word", "amount"), [("0,5", "0.5"), ("0.5", "0.5"), ("1000000", "1000000")])
def test_amounts_have_a_point_or_a_comma(word, amount):
    assert read_amount(word) == Decimal(amount)


@pytest.mark.parametrize("word", ["1e3", "NaN", "1,000,000", "1,000.5", ",5", "5,", "½", "Infinity"])
def test_what_is_no_plain_number_is_refused(word):
    with pytest.raises(Broken) as broken:
        read_amount(word)
    assert broken.value.code == "not_a_number"
