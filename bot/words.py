"""From a typed line to words and back, and what people write for dates and numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from activities.domain import Broken, read_date, read_quantity, real_date, shown

_PIECE = re.compile(
    r"""
      (?P<space>   \s+ )
    | \\ (?P<escaped> . )
    | '  (?P<single>  [^']* ) '
    | "  (?P<double>  [^"\\]* (?: \\. [^"\\]* )* ) "
    | (?P<plain>   [^\s\\'"“”„«‘]+ )
    | (?P<mark>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
# What phones make of straight quotes. They count at the start of a word only: `mom’s` and `O«K»` are plain words.
_TYPOGRAPHIC = {"“": "“”", "”": "“”", "„": "“”", "«": "»", "‘": "’"}
_NEEDS_QUOTES = re.compile(r"""[\s\\'"“”„«‘]""")


@dataclass(frozen=True, slots=True)
class Words:
    """A line's words. When a quote was left `unclosed`, they are the best guess, made without that quote."""

    words: tuple[str, ...]
    unclosed: bool = False


def split(line: str) -> Words:
    """Splits as a POSIX shell does (quotes and backslashes, nothing else); typographic quotes are quotes too."""
    words: list[str] = []
    word: list[str] = []
    inside = unclosed = False
    position = 0
    while position < len(line):
        match = _PIECE.match(line, position)
        assert match is not None  # the last alternative takes any character
        position = match.end()
        kind = match.lastgroup
        text = match[kind or 0]
        if kind == "space":
            if inside:
                words.append("".join(word))
            word, inside = [], False
            continue
        if kind == "double":
            text = re.sub(r'\\(["\\])', r"\1", text)
        elif text in _TYPOGRAPHIC and kind == "mark" and not inside and not unclosed:
            end = next((at for at in range(position, len(line)) if line[at] in _TYPOGRAPHIC[text]), None)
            unclosed = end is None
            text, position = ("", position) if end is None else (line[position:end], end + 1)
        elif kind == "mark" and text in "'\"":
            unclosed = True
            text = "'" if text == "'" and inside else ""  # within a word it is an apostrophe, more likely than not
        word.append(text)
        inside = True
    if inside:
        words.append("".join(word))
    return Words(tuple(word for word in words if word or not unclosed), unclosed)


def quoted(word: str) -> str:
    """The word as it has to be typed for `split` to give it back."""
    if word and not _NEEDS_QUOTES.search(word):
        return word
    if '"' not in word and "\\" not in word:
        return f'"{word}"'
    if "'" not in word:
        return f"'{word}'"
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def joined(words: Iterable[str]) -> str:
    """The line that `split` makes these words of."""
    return " ".join(map(quoted, words))


_NUMBERS_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})")
_DAYS_LATER = re.compile(r"\+0*([0-9]+)[dд]")
_LONGEST_DAYS = 7
"""Digits of a number of days; more of them leave the calendar, whatever they are."""
_DAY_WORDS = {"today": 0, "сегодня": 0, "tomorrow": 1, "завтра": 1}


def read_day(word: str, *, today: date, start: date) -> date:
    """A date as people write it: 20.07.2026, 2026-07-20, `today`, `tomorrow`, or `+10d`, counted from `start`."""
    low = word.strip().lower()
    if low in _DAY_WORDS:
        return _days_after(today, _DAY_WORDS[low], word)
    if match := _DAYS_LATER.fullmatch(low):
        return _days_after(start, int(match[1]) if len(match[1]) <= _LONGEST_DAYS else None, word)
    if match := _NUMBERS_FIRST.fullmatch(low):
        day, month, year = map(int, match.groups())
        return read_date(real_date(year, month, day, text=word))
    return read_date(low)


def is_relative(word: str) -> bool:
    """Whether the date that the word means depends on another one."""
    return _DAYS_LATER.fullmatch(word.strip().lower()) is not None


def _days_after(start: date, days: int | None, word: str) -> date:
    try:
        if days is not None:
            return read_date(start + timedelta(days=days))
    except OverflowError:
        pass
    raise Broken("date_range", value=shown(word))


def read_amount(word: str) -> Decimal:
    """A quantity with a point or a comma."""
    return read_quantity(re.sub(r"(?<=[0-9]),(?=[0-9])", ".", word, count=1))
