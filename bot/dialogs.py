"""What /add and /update ask for one by one, and the buttons that answer."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from secrets import token_hex

from django.utils.dates import MONTHS
from django.utils.translation import gettext as _

from activities.domain import FIRST_DATE, LAST_DATE, Activity, Broken
from bot import texts
from bot.fields import KEEP
from bot.replies import NOWHERE, Button, Buttons, Line, Reply, Text, isolated
from bot.words import read_day, split

MOST_NAMES = 8
_LONGEST_LABEL = 40
_QUANTITIES = (("0.5", "1", "1.5", "2"), ("3", "5", "10", "20"))


@dataclass(frozen=True)
class Dialog:
    """A command of which the next missing word is asked for."""

    command: str
    words: Mapping[str, str]
    """What is known, by field."""
    names: tuple[str, ...] = ()
    """What is offered where a name is asked for."""
    turn: int = 0
    """Which question it is. A button answers its own one alone."""
    id: str = field(default_factory=lambda: token_hex(4))

    @property
    def field(self) -> str:
        """What is asked for."""
        return next(name for name in texts.FIELDS if name not in self.words)

    def data(self, kind: str, value: object = "") -> str:
        return f"{kind}:{self.id}:{self.turn}:{value}"

    def button(self, label: str, word: str) -> Button:
        """The button that answers like this word."""
        return Button(label, self.data("d", word))


def answer_word(text: str) -> str:
    """The word that a message means; a name may be quoted as on a line, and need not be."""
    words = split(text)
    in_quotes = text.lstrip()[:1] in tuple("'\"“„«‘") and len(words.words) == 1 and not words.unclosed
    return words.words[0] if in_quotes else text.strip()


def question(
    dialog: Dialog, reasons: Iterable[Line] = (), *, before: Activity | None, today: date, month: date | None = None
) -> Reply:
    """Asks. `reasons` say why once more, `before` is what is to change, `month` a day of the month to show."""
    so_far = texts.so_far({name: word for name, word in dialog.words.items() if word != KEEP})
    keep = []
    if before is not None and dialog.field != "name":
        now = texts.word_of(getattr(before, dialog.field))
        keep = [dialog.button(_("Keep {value}").format(value=now), KEEP)]
    return Reply(
        (*reasons, *([Text(so_far)] if so_far else []), Text(texts.question(dialog.field, dialog.command))),
        buttons=(
            *_choices(dialog, before, today, month),
            (*keep, Button(_("Cancel"), dialog.data("x"))),
        ),
    )


def _choices(dialog: Dialog, before: Activity | None, today: date, month: date | None) -> Buttons:
    match dialog.field:
        case "name":
            return tuple((Button(_label(name), dialog.data("i", at)),) for at, name in enumerate(dialog.names))
        case "begin_date":
            start = before.begin_date if before else today
            return _days(dialog, ["today", "tomorrow", 7, 30], FIRST_DATE, today, today, month or start)
        case "end_date":
            word = dialog.words["begin_date"]
            begin = before.begin_date if before and word == KEEP else read_day(word, today=today, start=today)
            start = max(begin, before.end_date) if before else begin
            return _days(dialog, ["today", "tomorrow", 7, 14, 30], begin, begin, today, month or start)
        case "times_per_day":
            return (tuple(dialog.button(str(times), str(times)) for times in range(1, 7)),)
        case _:
            return tuple(tuple(dialog.button(word, word) for word in row) for row in _QUANTITIES)


def _label(name: str) -> str:
    return isolated(name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…")


def _days(dialog: Dialog, quick: Sequence[str | int], least: date, start: date, today: date, month: date) -> Buttons:
    """Quick choices and a month's calendar of the days from `least` on; `start` is what days are counted from."""
    choices = []
    for choice in quick:
        word = texts.days_later(choice) if isinstance(choice, int) else choice
        label = texts.days_more(choice) if isinstance(choice, int) else texts.day_word(choice)
        try:
            if read_day(word, today=today, start=start) >= least:
                choices.append(dialog.button(label, word))
        except Broken:
            pass
    rows = (tuple(choices), *_calendar(dialog, least, month.replace(day=1)))
    return tuple(row for row in rows if row)


def _calendar(dialog: Dialog, least: date, month: date) -> Buttons:
    blank = Button(" ", NOWHERE)

    def other(label: str, day: date) -> Button:
        inside = day >= least and day <= LAST_DATE
        return Button(label, dialog.data("m", f"{day:%Y-%m}")) if inside else blank

    def chosen(number: int) -> Button:
        if not number or month.replace(day=number) < least:
            return blank
        return dialog.button(str(number), texts.day(month.replace(day=number)))

    weeks = [tuple(map(chosen, week)) for week in calendar.Calendar().monthdayscalendar(month.year, month.month)]
    return (
        (
            other("‹", month - timedelta(days=1)),
            Button(f"{MONTHS[month.month]} {month.year}", NOWHERE),
            other("›", month + timedelta(days=31)),
        ),
        tuple(Button(weekday, NOWHERE) for weekday in texts.weekdays()),
        *(week for week in weeks if set(week) != {blank}),
    )


def read_month(text: str) -> date:
    """The first day of a month like 2026-12, if an activity can be in it; `ValueError` otherwise."""
    month = date.fromisoformat(f"{text}-01")
    if not FIRST_DATE <= month <= LAST_DATE:
        raise ValueError
    return month
