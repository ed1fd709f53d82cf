"""What is kept of a chat as files, and back: everything as JSON, its activities as CSV.

JSON: an object with `format`, `version`, the fields of the chat, and its `activities`, whose quantities are numbers
with their exact digits. CSV: RFC 4180 with a header of the fields' names, in UTF-8 with the mark by which spreadsheets
know it. What a spreadsheet makes of that is read as well: semicolons or tabs, UTF-16, 20.07.2026 and 0,5.
"""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from activities.domain import (
    ACTIVITY_FIELDS,
    Activity,
    Chat,
    ChatChanges,
    Reading,
    Violation,
    quantity_text,
    read_activity,
    read_chat_changes,
    shown,
)
from bot import texts
from bot.asked import Refused
from bot.replies import Copy, Line, Text

FORMAT, VERSION = "activities-chat", 1
COLUMNS = tuple(ACTIVITY_FIELDS)
MOST_BYTES = 8 << 20
"""The largest file that is read: ten thousand activities with the longest names fit in."""
MOST_ROWS = 50_000
"""The most activities that a file may have, so that reading it ends soon."""
MOST_FAULTS = 5
"""How many faults are shown; of the others it is told how many they are."""
_DELIMITERS = ",;\t"
_LONGEST_HEADER = 10_000
_MOST_PARTS = 8 * MOST_ROWS
"""Of a JSON file: an activity has six, which are five fields in one object."""
_LONGEST_WHOLE = 20
"""Digits of a whole number; with more it is no number of ours, and dear to convert."""

_reading = threading.Lock()
"""Files are read one after the other, since one takes many times its size while it is taken apart."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds."""

    activities: Sequence[Activity]
    settings: ChatChanges = ChatChanges()  # noqa: RUF009 - frozen


# ----------------------------------------------------------------------------------------- writing


def as_json(chat: Chat, activities: Iterable[Activity]) -> bytes:
    head = {"format": FORMAT, "version": VERSION, **asdict(chat)}
    rows = ",\n".join(f"    {_json(_json_row(activity))}" for activity in activities)
    fields = "".join(f"  {_json(name)}: {_json(value)},\n" for name, value in head.items())
    return f'{{\n{fields}  "activities": [\n{rows}\n  ]\n}}\n'.encode()


def as_csv(activities: Iterable[Activity]) -> bytes:
    file = io.StringIO(newline="")
    rows = csv.writer(file)
    rows.writerow(COLUMNS)
    rows.writerows(_texts(activity).values() for activity in activities)
    return file.getvalue().encode("utf-8-sig")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json_row(activity: Activity) -> Mapping[str, object]:
    quantity = activity.quantity_per_time  # ten digits at most, which a double carries, and JSON shows, exactly
    number = int(quantity) if quantity == quantity.to_integral_value() else float(quantity)
    return {**_texts(activity), "times_per_day": activity.times_per_day, "quantity_per_time": number}


def _texts(activity: Activity) -> dict[str, str]:
    """The fields in the form that every reader takes."""
    values = {name: str(getattr(activity, name)) for name in COLUMNS}  # str of a date is its ISO form
    return {**values, "quantity_per_time": quantity_text(activity.quantity_per_time)}


# ----------------------------------------------------------------------------------------- reading


def read(content: bytes) -> Contents:
    """What the file holds, all of it good. Raises `Refused`: what is wrong, where, and what would be right."""
    with _reading:
        if len(content) > MOST_BYTES:
            raise Refused(Text(texts.file_too_large(MOST_BYTES)))
        text = _decoded(content)
        return _from_json(text) if text.lstrip()[:1] in ("{", "[") else _from_csv(text)


def _decoded(content: bytes) -> str:
    is_utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        wrong = _("I cannot read that file: it is not UTF-8 text. In Excel, save it as “CSV UTF-8”.")
        raise Refused(Text(wrong)) from None


class _Faults:
    """What is wrong with a file: the first faults to be shown, the others counted."""

    def __init__(self, example: Copy) -> None:
        self._example = example
        self._shown: list[Line] = []
        self._count = 0

    def add(self, place: str, violation: Violation, raw: object) -> None:
        """`place` is where it is, with a `{problem}` to fill in."""
        self._count += 1
        if self._count <= MOST_FAULTS:
            code = "not_a_date_in_file" if violation.code == "not_a_date" else violation.code
            word = raw if isinstance(raw, str) else shown(raw)[1:-1]
            field = texts.as_read(violation.field)
            problem = texts.violation_line(replace(violation, code=code, field=field), word)
            self._shown.append(Text(place.replace("{problem}", problem)))

    def done(self) -> None:
        """Raises `Refused` when there were any."""
        if not self._count:
            return
        more = self._count - len(self._shown)
        counted = [ngettext("and {count} more", "and {count} more", more).format(count=more)] if more else []
        nothing = _("There is something wrong in that file, so I have imported nothing:")
        raise Refused(Text(nothing), *self._shown, *map(Text, counted), self._example)


def _activities(
    rows: Iterable[tuple[int, Mapping[str, object], Mapping[str, object]]], place: str, faults: _Faults
) -> Iterator[Activity]:
    """The activities of numbered rows, each as it is to be read and as it stands in the file.

    Those with faults are left out. One that is there twice may be so where it is the same in everything.
    """
    first_of: dict[str, Activity] = {}
    for number, row, written in rows:
        reading = Reading()
        activity = read_activity(reading, row)
        if not reading.violations:
            first = first_of.setdefault(activity.key, activity)
            if replace(activity, name=first.name) == first:
                yield activity
                continue
            reading.violations.append(Violation("name", "name_twice"))
        for violation in reading.violations:
            faults.add(place.replace("{number}", str(number)), violation, written.get(violation.field))


def _too_many() -> Refused:
    return Refused(Text(_("That file has more than {most} rows, the most that I read.").format(most=MOST_ROWS)))


def _example() -> dict[str, str]:
    values = (texts.example_words()[0], "2026-07-20", "2026-12-31", "2", "0.5")
    return dict(zip(COLUMNS, values, strict=True))


# -------------------------------------------------------------------------------------------- JSON


class _Twice(Exception):
    """An object has the same key twice."""


def _from_json(text: str) -> Contents:
    document = _parsed(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _not_ours(
            _("That JSON is not a file that /export makes: it has no {format}.").format(format=_our_format())
        )
    if (version := document.get("version")) != VERSION or isinstance(version, bool):
        newer = _("I read version {version} of such a file, and that one is another.").format(version=VERSION)
        raise Refused(Text(newer))
    rows = document.get("activities")
    if not isinstance(rows, list):
        raise _not_ours(_("There is no list of activities in that file."))
    if len(rows) > MOST_ROWS:
        raise _too_many()
    example = {**_example(), "times_per_day": 2, "quantity_per_time": 0.5}
    faults = _Faults(Copy(_json(example), _("Like this:")))
    known = {"format", "version", "activities", *Chat.__dataclass_fields__}
    _refuse_unknown(document, known, "{problem}", faults)
    reading = Reading()
    settings = read_chat_changes(reading, document)
    for violation in reading.violations:
        faults.add("{problem}", violation, document[violation.field])
    activities = list(_activities(_json_rows(rows, faults), _("Activity {number}, {problem}"), faults))
    faults.done()
    return Contents(activities, settings)


def _json_rows(
    rows: Sequence[object], faults: _Faults
) -> Iterator[tuple[int, Mapping[str, object], Mapping[str, object]]]:
    place = _("Activity {number}, {problem}")
    for number, row in enumerate(rows, 1):
        fields = row if isinstance(row, dict) else {}
        _refuse_unknown(fields, COLUMNS, place.replace("{number}", str(number)), faults)
        yield number, fields, fields


def _refuse_unknown(fields: Mapping[str, object], known: Container[str], place: str, faults: _Faults) -> None:
    for name in fields:
        if name not in known:
            faults.add(place, Violation(name, "unknown_field"), "")


_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)


def _parsed(text: str) -> Any:
    # The parser lets no other thread run meanwhile, and cannot be told when to stop.
    parts = _STRING.sub("", text)
    if sum(map(parts.count, "[{,")) > _MOST_PARTS:
        raise _too_many()
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_float=_decimal,
            parse_int=lambda digits: int(digits) if len(digits) <= _LONGEST_WHOLE else _decimal(digits),
            parse_constant=_no_number,
        )
    except _Twice as twice:
        raise _not_ours(_("{field} is there twice in one object.").format(field=texts.as_read(str(twice)))) from None
    except json.JSONDecodeError as wrong:
        raise _not_ours(_("That is not JSON: line {number} cannot be read.").format(number=wrong.lineno)) from None
    except (ValueError, RecursionError):
        raise _not_ours(_("That is not JSON as I know it.")) from None


def _not_ours(reason: str) -> Refused:
    return Refused(Text(reason), Copy("/export", _("A file that I can read:")))


def _our_format() -> str:
    return f'"format": "{FORMAT}"'


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(name for name, _value in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return fields


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        raise ValueError from None


def _no_number(_text: str) -> NoReturn:
    raise ValueError  # NaN and Infinity are not JSON


# --------------------------------------------------------------------------------------------- CSV


def _from_csv(text: str) -> Contents:
    header = next(io.StringIO(text, newline=""), "")
    if len(header) > _LONGEST_HEADER:
        raise _no_header()
    delimiter = _delimiter(header)
    faults = _Faults(Copy("\n".join([delimiter.join(COLUMNS), delimiter.join(_example().values())]), _("Like this:")))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(rows, [])]
        _check_header(columns)
        activities = list(_activities(_csv_rows(rows, columns, faults), _row_place(), faults))
    except csv.Error:
        broken = _("I cannot read row {number}. Is there a quote missing?").format(number=rows.line_num)
        raise Refused(Text(broken)) from None
    faults.done()
    return Contents(activities)


def _delimiter(header: str) -> str:
    """What the columns are separated by, as far as the header tells."""
    return max(_DELIMITERS, key=lambda each: len({name.strip(' "\r\n') for name in header.split(each)} & {*COLUMNS}))


def _check_header(columns: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    extra = [name for name in columns if name not in COLUMNS][:MOST_FAULTS]
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    reasons = [
        (missing, _("These columns are missing: {names}.")),
        (map(texts.as_read, extra), _("I know no such columns: {names}.")),
        (twice, _("These columns are there twice: {names}.")),
    ]
    if len(missing) == len(COLUMNS):
        raise _no_header()
    if missing or extra or twice:
        lines = [Text(reason.format(names=joined)) for names, reason in reasons if (joined := ", ".join(names))]
        raise Refused(*lines, Copy(",".join(COLUMNS), _("The first row should be:")))


def _no_header() -> Refused:
    return _not_ours(_("That is no file that /export makes: the first row does not name the columns."))


def _csv_rows(
    rows: Any, columns: Sequence[str], faults: _Faults
) -> Iterator[tuple[int, Mapping[str, object], Mapping[str, object]]]:
    count = 0
    for cells in rows:
        if not any(cells):
            continue
        count += 1
        if count > MOST_ROWS:
            raise _too_many()
        written = dict(zip(columns, cells, strict=False))
        if any(cells[len(columns) :]):
            faults.add(
                _row_place().replace("{number}", str(rows.line_num)),
                Violation(next(filter(None, cells[len(columns) :])), "beyond_columns"),
                "",
            )
        yield rows.line_num, {name: _plain(name, cell) for name, cell in written.items()}, written


def _row_place() -> str:
    return _("Row {number}, {problem}")


_DAY_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})")


def _plain(name: str, cell: str) -> str:
    """A cell that a spreadsheet may have written anew, as the domain reads it."""
    if name == "name":
        return cell
    text = cell.strip()
    if name == "quantity_per_time":
        return re.sub("(?<=[0-9]),(?=[0-9])", ".", text, count=1)
    if match := _DAY_FIRST.fullmatch(text):
        day, month, year = match.groups()
        return f"{year}-{month:0>2}-{day:0>2}"
    return text
