"""The words of /add and /update: read, and mended where they are wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

from activities.domain import (
    Activity,
    Broken,
    InvalidActivity,
    Reading,
    Violation,
    read_changes,
    read_date,
    read_name,
    read_times_per_day,
)
from bot import texts
from bot.asked import Asked
from bot.words import is_relative, joined, read_amount, read_day

KEEP = "_"
"""In /update, the word that keeps a field."""


@dataclass(frozen=True)
class Fields:
    """What became of a command's words for the fields of an activity."""

    words: Mapping[str, str]
    """What was given, without the fields that `_` keeps."""
    values: Mapping[str, object]
    """What of it could be read."""
    violations: Sequence[Violation]
    missing: Sequence[str]

    @property
    def are_right(self) -> bool:
        return not self.violations and not self.missing


def by_field(words: Sequence[str]) -> dict[str, str]:
    """The words by the fields that they are for."""
    return dict(zip(texts.FIELDS, words, strict=False))


def read_fields(asked: Asked, given: Mapping[str, str], before: Activity | None) -> Fields:
    """Reads the words of /add or /update. `before` is the activity to change, as far as it is known."""
    changed = {
        name: given[name]
        for name in texts.FIELDS  # the end is counted from the begin
        if name in given and (name == "name" or asked.command != "update" or given[name] != KEEP)
    }
    reading = Reading()
    values: dict[str, object] = {}
    for name, word in changed.items():
        begin = values.get("begin_date") or (before.begin_date if before else asked.today)
        value = reading.take(name, _reader(name, today=asked.today, begin=cast("date", begin)), word)
        if value is not None:
            values[name] = value
    changes = read_changes(reading, values)
    dates_are_good = all(each.field not in ("begin_date", "end_date") for each in reading.violations)
    if before is not None and dates_are_good:
        try:
            changes.applied_to(before)
        except InvalidActivity as invalid:
            reading.violations.extend(invalid.violations)
    return Fields(
        words=changed,
        values=values,
        violations=sorted(reading.violations, key=lambda each: texts.FIELDS.index(each.field)),
        missing=[name for name in texts.FIELDS if name not in given],
    )


def settled(given: Mapping[str, str], fields: Fields) -> dict[str, str]:
    """The words that mean the same at any time: dates in full where they can be."""
    return {
        name: texts.word_of(fields.values[name]) if name in fields.values and not _hangs(name, given, fields) else word
        for name, word in given.items()
    }


def _hangs(name: str, given: Mapping[str, str], fields: Fields) -> bool:
    """Whether the word is an end that is counted from a begin which is not known yet."""
    begin_is_known = "begin_date" in fields.values or given.get("begin_date") == KEEP
    return name == "end_date" and is_relative(given[name]) and not begin_is_known


def _reader(name: str, *, today: date, begin: date) -> Callable[[object], object]:
    readers: Mapping[str, Callable[[object], object]] = {
        "name": read_name,
        "begin_date": lambda word: read_day(str(word), today=today, start=today),
        "end_date": lambda word: read_day(str(word), today=today, start=begin),
        "times_per_day": read_times_per_day,
        "quantity_per_time": lambda word: read_amount(str(word)),
    }
    return readers[name]


def update_line(there: Activity, wish: Activity, words: Mapping[str, str]) -> str:
    """The command that makes what is there like this wish; `words` say what the wish's fields are."""
    changes = [KEEP if getattr(there, field) == getattr(wish, field) else words[field] for field in texts.FIELDS[1:]]
    return f"/update {joined([there.name, *changes])}"


def mended_fields(asked: Asked, fields: Fields, before: Activity | None) -> list[str]:
    """Four words after the name that are right together: the person's own wherever they can stay."""
    example = dict(zip(texts.FIELDS, texts.example_words(), strict=True)) | {"end_date": texts.days_later(7)}
    for each in fields.violations:
        if each.code == "no_such_day":
            example[each.field] = _last_of_month(each) or example[each.field]

    def mended(name: str) -> str:
        if name in fields.values:
            return fields.words[name]
        return KEEP if asked.command == "update" and name not in fields.words else example[name]

    begin, end, times, quantity = map(mended, texts.FIELDS[1:])
    start = before.begin_date if before else asked.today
    if begin != KEEP:
        start = read_day(begin, today=asked.today, start=asked.today)
    if end == KEEP:
        nothing_changes = begin == times == quantity == KEEP
        fits = not nothing_changes and (before is None or before.end_date >= start)
    else:
        fits = _is_day_from(start, end, asked.today)
    if fits:
        return [begin, end, times, quantity]
    if {"begin_date", "end_date"} <= fields.values.keys():  # the wrong way round
        return [end, texts.day(start) if is_relative(begin) else begin, times, quantity]
    end = next(word for days in (7, 0) if _is_day_from(start, word := texts.days_later(days), asked.today))
    return [begin, end, times, quantity]


def _last_of_month(no_such_day: Violation) -> str | None:
    """The day that was meant, more likely than not, when it is one that an activity may have."""
    try:
        return texts.day(read_date(no_such_day.params["example"]))
    except Broken:
        return None


def _is_day_from(start: date, word: str, today: date) -> bool:
    try:
        return read_day(word, today=today, start=start) >= start
    except Broken:
        return False


def mended_name(text: str) -> str:
    """The nearest thing to this text that can be a name."""
    visible = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text[:1000])
    for candidate in (text, visible, visible[:40]):
        try:
            return read_name(candidate)
        except Broken:
            continue
    return texts.example_words()[0]
