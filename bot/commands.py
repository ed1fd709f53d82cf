"""The bot's commands: a line in, replies out. Knows no Telegram and no terminal."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from itertools import chain
from typing import cast
from uuid import UUID, uuid4

from django.utils import translation
from django.utils.translation import gettext as _

from activities.domain import (
    LANGUAGES,
    LATEST_END_FIRST,
    MOST_PER_PAGE,
    ActivitiesError,
    Activity,
    ActivityExists,
    ActivityNotFound,
    ActivityPage,
    Broken,
    InvalidActivity,
    OutcomePending,
    Page,
    RateLimited,
    Reading,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    TooManyActivities,
    Violation,
    name_key,
    quantity_text,
    read_activity,
    read_changes,
    read_date,
    read_name,
    read_times_per_day,
)
from activities.ports import Activities, Call, Cancelled, Chats
from activities.streams import StreamSlots
from bot import texts
from bot.replies import Copy, Line, Reply, Text, fitting, isolated
from bot.words import is_relative, joined, read_amount, read_day, split

logger = logging.getLogger(__name__)

PAGE_SIZE = 20
"""Activities on a page of /list and /today, and in the first reply of /list_stream."""
MOST_COMPARED = MOST_PER_PAGE
"""How many of a chat's names are looked through for the one that an unknown name may have meant."""
KEEP = "_"
"""In /update, the word that keeps a field."""

_COMMAND = re.compile(r"\s*/(?P<command>[^\s@]+)(?:@\S*)?(?=\s|$)")
_WRITES = ("add", "update", "delete")


class _Refused(Exception):
    """A command that cannot be carried out; the lines say why, and what would be right."""

    def __init__(self, *lines: Line) -> None:
        super().__init__()
        self.lines = lines


@dataclass(frozen=True)
class _Asked:
    """One line, taken apart."""

    command: str
    words: tuple[str, ...]
    unclosed: bool
    chat_id: int
    call: Call
    chats: Chats
    clock: Callable[[], datetime]

    @cached_property
    def today(self) -> date:
        """The chat's own date."""
        return self.chats.get(self.chat_id, call=self.call).date_at(self.clock())

    def with_words(self, *words: str) -> str:
        """The line of the same command with these words."""
        return " ".join((f"/{self.command}", *([joined(words)] if words else [])))


@dataclass(frozen=True)
class _Fields:
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


class Commands:
    """Carries out what people type.

    `clock` gives the present instant with its zone. All that one line needs of the storage comes within the limit
    of one call. Whatever happens, there is a reply.
    """

    def __init__(
        self, activities: Activities, chats: Chats, streams: StreamSlots, *, clock: Callable[[], datetime]
    ) -> None:
        self._activities = activities
        self._chats = chats
        self._streams = streams
        self._clock = clock
        self._handlers: Mapping[str, Callable[[_Asked], Iterable[Reply]]] = {
            "start": lambda _asked: fitting(texts.welcome()),
            "help": lambda _asked: fitting(texts.help_page()),
            "examples": lambda _asked: fitting(texts.examples()),
            "list": self._list,
            "list_stream": self._list_stream,
            "get": self._get,
            "today": self._today,
            "add": self._add,
            "delete": self._delete,
            "update": self._update,
        }

    def answer(
        self, line: str, *, chat_id: int, language: str = "en", request_id: UUID | None = None
    ) -> Generator[Reply, None, None]:
        """The replies to a line, each as soon as it is known. To be closed when it is not read to its end.

        `language` is a language code like `ru-RU`. With the same `request_id` a line is safe to repeat.
        """
        replies = self._answer(line, chat_id, Call(request_id=request_id or uuid4()))
        with closing(replies):
            while True:
                # Around each step, not around the loop: the language must not leak to whoever reads the replies.
                with translation.override(spoken(language)):
                    reply = next(replies, None)
                if reply is None:
                    return
                yield reply

    def names(self, chat_id: int) -> list[str]:
        """The names of the chat's activities, latest end first, at most `MOST_COMPARED`."""
        page = self._activities.list(chat_id, page=Page(limit=MOST_COMPARED), call=Call())
        return [activity.name for activity in page.activities]

    def _answer(self, line: str, chat_id: int, call: Call) -> Generator[Reply, None, None]:
        match = _COMMAND.match(line)
        if match is None:
            yield Reply((Text(_("I understand commands. /help shows them all.")),))
            return
        command = match["command"].lower()
        if command not in self._handlers:
            yield Reply((Text(_unknown_command(command, self._handlers)),))
            return
        words = split(line[match.end() :])
        asked = _Asked(command, words.words, words.unclosed, chat_id, call, self._chats, self._clock)
        try:
            yield from self._handlers[command](asked)
        except _Refused as refused:
            yield from fitting(refused.lines)
        except Cancelled:
            return
        except ActivitiesError as error:
            yield from fitting(_failure(error, asked))
        except Exception:
            logger.exception("/%s failed; reference %s", command, call.request_id)
            yield Reply((Text(_("Sorry, something went wrong on my side.")), texts.reference(call.request_id)))

    # ------------------------------------------------------------------------------------- reading

    def _list(self, asked: _Asked) -> Iterable[Reply]:
        number = _page_number(asked)
        page = _page(asked, number, self._activities.list)
        if not page.total:
            return _nothing_yet()
        first = (number - 1) * PAGE_SIZE + 1
        heading = _("Your activities, latest end first ({first}–{last} of {total})").format(
            first=first, last=first + len(page.activities) - 1, total=page.total
        )
        rows = [texts.list_row(activity, asked.today) for activity in page.activities]
        return fitting([Text(heading), *rows, *_more(asked, number, page.total)])

    def _today(self, asked: _Asked) -> Iterable[Reply]:
        number = _page_number(asked)
        page = _page(asked, number, self._activities.today)
        day = texts.day_with_weekday(asked.today)
        if not page.total:
            if not self._activities.list(asked.chat_id, page=Page(limit=1), call=asked.call).total:
                return _nothing_yet()
            return [Reply((Text(_("Nothing is due today, {day}. /list shows all you have.").format(day=day)),))]
        rows = [texts.today_row(activity, asked.today) for activity in page.activities]
        heading, footing = _("Today, {day}").format(day=day), texts.activities_counted(page.total)
        return fitting([Text(heading), *rows, Text(footing), *_more(asked, number, page.total)])

    def _list_stream(self, asked: _Asked) -> Iterator[Reply]:
        if asked.words or asked.unclosed:
            raise _Refused(_more_than_needed(asked, 0), texts.like_this(asked.with_words()))
        with self._streams.hold():
            activities = self._activities.stream(asked.chat_id, order=LATEST_END_FIRST, call=asked.call)
            first = next(activities, None)
            if first is None:
                yield from _nothing_yet()
            else:
                yield from fitting(_streamed(chain([first], activities), asked.today), first=PAGE_SIZE)

    def _get(self, asked: _Asked) -> Iterable[Reply]:
        name = self._only_name(asked)
        activity = self._found(asked, name)
        if activity is None:
            raise self._unknown_name(asked, name)
        lines = [isolated(activity.name), texts.described(activity), texts.remark(activity, asked.today)]
        return fitting(Text(line) for line in lines if line)

    # ------------------------------------------------------------------------------------- writing

    def _add(self, asked: _Asked) -> Iterable[Reply]:
        fields, _before = self._right_fields(asked)
        reading = Reading()
        wish = read_activity(reading, fields.values)
        reading.done()
        try:
            activity = self._activities.create(asked.chat_id, activity=wish, call=asked.call)
        except ActivityExists:
            there = self._activities.get(asked.chat_id, name=wish.name, call=asked.call)
            raise _exists(there, wish, fields) from None
        added = _("Added  {name}").format(name=isolated(activity.name))
        return [Reply((Text(added), Text(texts.described(activity))))]

    def _update(self, asked: _Asked) -> Iterable[Reply]:
        fields, before = self._right_fields(asked)
        name = str(fields.values["name"])
        if before is None:
            raise self._unknown_name(asked, name)
        reading = Reading()
        changes = read_changes(reading, fields.values)
        reading.done()
        after = self._activities.update(asked.chat_id, name=name, changes=changes, call=asked.call)
        differences = texts.changes(before, after)
        if not differences:
            same = _("{name} is like that already").format(name=isolated(after.name))
            return [Reply((Text(same), Text(texts.described(after))))]
        changed = _("Changed  {name}").format(name=isolated(after.name))
        return [Reply((Text(changed), *map(Text, differences)))]

    def _delete(self, asked: _Asked) -> Iterable[Reply]:
        name = self._only_name(asked)
        before = self._found(asked, name)
        try:
            # Even when it is not there: a line that is repeated gets the answer of the first time.
            self._activities.delete(asked.chat_id, name=name, call=asked.call)
        except ActivityNotFound:
            raise self._unknown_name(asked, name) from None
        deleted = _("Deleted  {name}").format(name=isolated(before.name if before else name))
        again = [Copy(texts.add_line(before), _("Add it again:"))] if before else []
        return fitting([Text(deleted), *again])

    # --------------------------------------------------------------------------------------- names

    def _found(self, asked: _Asked, name: str) -> Activity | None:
        try:
            return self._activities.get(asked.chat_id, name=name, call=asked.call)
        except ActivityNotFound:
            return None

    def _only_name(self, asked: _Asked) -> str:
        """The name that is all the command needs."""
        if not asked.words:
            raise _Refused(Text(texts.missing(["name"])), *self._with_some_name(asked))
        if asked.unclosed or len(asked.words) > 1:
            whole, first = _mended_name(" ".join(asked.words)), _mended_name(asked.words[0])
            meant = self._found(asked, whole) or self._found(asked, first)
            near = [meant] if meant else self._unknown(asked, whole)[1]
            lines = [texts.like_this(asked.with_words(near[0].name))] if near else self._with_some_name(asked)
            raise _Refused(_more_than_needed(asked, 1), *lines)
        try:
            return read_name(asked.words[0])
        except Broken as broken:
            violation = Violation("name", broken.code, broken.params)
            line_of_violation = Text(texts.violation_line(violation, asked.words[0]))
            raise _Refused(line_of_violation, *self._with_some_name(asked)) from None

    def _with_some_name(self, asked: _Asked) -> Iterable[Line]:
        """The command's line with a name that the chat has; where it has none, how to get one."""
        activity = self._some(asked)
        return [texts.like_this(asked.with_words(activity.name))] if activity else _nothing_yet()[0].lines

    def _some(self, asked: _Asked) -> Activity | None:
        """An activity of the chat, to make an example of."""
        page = self._activities.list(asked.chat_id, page=Page(limit=1), call=asked.call)
        return page.activities[0] if page.activities else None

    def _unknown_name(self, asked: _Asked, name: str) -> _Refused:
        """The refusal of a line that is right but for its name."""
        unknown, near = self._unknown(asked, name)
        if not near and self._some(asked) is None:
            return _Refused(Text(unknown), *_nothing_yet()[0].lines)
        lines = [
            Copy(asked.with_words(activity.name, *asked.words[1:]))
            for activity in near
            if asked.command != "update" or _read_fields(asked, asked.words, activity).are_right
        ]
        return _Refused(Text(unknown if near else f"{unknown} {_('/list shows what you have.')}"), *lines)

    def _unknown(self, asked: _Asked, name: str) -> tuple[str, list[Activity]]:
        """What to say of a name that the chat does not have, and the activities that it may have meant."""
        page = self._activities.list(asked.chat_id, page=Page(limit=MOST_COMPARED), call=asked.call)
        by_key = {activity.key: activity for activity in page.activities}
        near = [by_key[key] for key in difflib.get_close_matches(name_key(name), by_key, n=3)]
        unknown = _("I know no {name}.").format(name=isolated(name))
        if near:
            unknown += " " + texts.did_you_mean([isolated(activity.name) for activity in near])
        return unknown, near

    # ---------------------------------------------------------------------- the words of an activity

    def _right_fields(self, asked: _Asked) -> tuple[_Fields, Activity | None]:
        """The fields of /add or /update, and the activity that an /update is about, if there is one.

        The refusal names all that is wrong, and one line that is right.
        """
        most = len(texts.FIELDS)
        before = self._named(asked, asked.words)
        fields = _read_fields(asked, asked.words, before)
        if fields.are_right and not asked.unclosed and len(asked.words) <= most:
            return fields, before
        reasons: list[Line] = []
        if asked.unclosed or len(asked.words) > most:
            reasons.append(_more_than_needed(asked, most))
            # What is too many belongs to the name, more likely than not.
            words = (" ".join(asked.words[: 1 - most]), *asked.words[1 - most :])
            if len(asked.words) > most and not _read_fields(asked, words, None).violations:
                before = self._named(asked, words)
                fields = _read_fields(asked, words, before)
        reasons += [Text(texts.violation_line(each, fields.words.get(each.field, ""))) for each in fields.violations]
        if fields.missing:
            reasons.append(Text(texts.missing(fields.missing)))
        if asked.command == "add":
            name = str(fields.values.get("name") or _mended_name(fields.words.get("name", "")))
        else:
            if before is None:
                near: list[Activity] = []
                if "name" in fields.values:
                    unknown, near = self._unknown(asked, str(fields.values["name"]))
                    reasons.insert(0, Text(unknown))
                before = near[0] if near else self._some(asked)
            if before is None:
                raise _Refused(*reasons, *_nothing_yet()[0].lines)
            name = before.name
        line = asked.with_words(name, *_mended_fields(asked, fields, before))
        raise _Refused(*reasons, texts.like_this(line))

    def _named(self, asked: _Asked, words: Sequence[str]) -> Activity | None:
        """The activity that an /update is about, if there is one."""
        if asked.command != "update" or not words:
            return None
        try:
            return self._found(asked, read_name(words[0]))
        except Broken:
            return None


def _read_fields(asked: _Asked, words: Sequence[str], before: Activity | None) -> _Fields:
    """Reads the words of /add or /update. `before` is the activity to change, as far as it is known."""
    given = dict(zip(texts.FIELDS, words, strict=False))
    changed = {
        name: word for name, word in given.items() if name == "name" or asked.command != "update" or word != KEEP
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
    return _Fields(
        words=changed,
        values=values,
        violations=sorted(reading.violations, key=lambda each: texts.FIELDS.index(each.field)),
        missing=[name for name in texts.FIELDS if name not in given],
    )


def _reader(name: str, *, today: date, begin: date) -> Callable[[object], object]:
    readers: Mapping[str, Callable[[object], object]] = {
        "name": read_name,
        "begin_date": lambda word: read_day(str(word), today=today, start=today),
        "end_date": lambda word: read_day(str(word), today=today, start=begin),
        "times_per_day": read_times_per_day,
        "quantity_per_time": lambda word: read_amount(str(word)),
    }
    return readers[name]


def _mended_fields(asked: _Asked, fields: _Fields, before: Activity | None) -> list[str]:
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


def _mended_name(text: str) -> str:
    """The nearest thing to this text that can be a name."""
    visible = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text[:1000])
    for candidate in (text, visible, visible[:40]):
        try:
            return read_name(candidate)
        except Broken:
            continue
    return texts.example_words()[0]


# ------------------------------------------------------------------------------------------ pages


def _page_number(asked: _Asked) -> int:
    """The page asked for, from 1; the first one when the line does not say."""
    if asked.unclosed or len(asked.words) > 1:
        raise _Refused(_more_than_needed(asked, 1), texts.like_this(asked.with_words("1")))
    if not asked.words:
        return 1
    if _PAGE_NUMBER.fullmatch(asked.words[0]) and int(asked.words[0]) > 0:
        return int(asked.words[0])
    line = texts.violation_line(Violation("page", "not_a_page"), asked.words[0])
    raise _Refused(Text(line), texts.like_this(asked.with_words("1")))


_PAGE_NUMBER = re.compile("[0-9]{1,9}")


def _page(asked: _Asked, number: int, read: Callable[..., ActivityPage]) -> ActivityPage:
    page = read(asked.chat_id, page=Page(limit=PAGE_SIZE, offset=(number - 1) * PAGE_SIZE), call=asked.call)
    last = max(1, -(-page.total // PAGE_SIZE))
    if number > last:
        violation = Violation("page", "no_such_page", {"most": str(last)})
        line = texts.violation_line(violation, asked.words[0])
        raise _Refused(Text(line), texts.like_this(asked.with_words(str(last))))
    return page


def _more(asked: _Asked, number: int, total: int) -> list[Line]:
    """How to see the next page, when there is one."""
    return [Copy(asked.with_words(str(number + 1)), _("More:"))] if number * PAGE_SIZE < total else []


def _streamed(activities: Iterable[Activity], today: date) -> Iterator[Line]:
    yield Text(_("All your activities, latest end first"))
    count = 0
    for activity in activities:
        count += 1
        yield texts.list_row(activity, today)
    yield Text(texts.activities_counted(count))


def _nothing_yet() -> list[Reply]:
    return [Reply((Text(_("You have no activities yet.")), Copy(texts.example_add(), _("Add one:"))))]


# --------------------------------------------------------------------------------- what goes wrong


def _unknown_command(command: str, known: Iterable[str]) -> str:
    unknown = _("I don't know {command}.").format(command=texts.as_read(f"/{command}"))
    near = difflib.get_close_matches(command[:40], known, n=1)
    return f"{unknown} {texts.did_you_mean([f'/{near[0]}']) if near else _('/help shows what I know.')}"


def _more_than_needed(asked: _Asked, most: int) -> Text:
    if asked.unclosed:
        return Text(_("A quote is opened there and never closed."))
    if most == 0:
        return Text(_("/{command} needs nothing after it.").format(command=asked.command))
    counted = _("That is more than I need ({count} instead of {most}).").format(count=len(asked.words), most=most)
    hint = _("A name with spaces goes in quotes.")
    return Text(counted if asked.command in ("list", "today") else f"{counted} {hint}")


def _exists(there: Activity, wish: Activity, fields: _Fields) -> _Refused:
    """The refusal that shows what there is, and how to make it what was wished."""
    name = isolated(there.name)
    if replace(wish, name=there.name) == there:
        return _Refused(Text(_("You already have {name}, just like that.").format(name=name)))
    words = [
        KEEP if getattr(there, field) == getattr(wish, field) else fields.words[field] for field in texts.FIELDS[1:]
    ]
    exists = _("You already have {name}: {quantity}, {times}, until {end}.").format(
        name=name,
        quantity=quantity_text(there.quantity_per_time),
        times=texts.times_a_day(there.times_per_day),
        end=texts.day(there.end_date),
    )
    return _Refused(Text(exists), Copy(f"/update {joined([there.name, *words])}", _("Change it:")))


def _failure(error: ActivitiesError, asked: _Asked) -> list[Line]:
    """What is said when it was not the person's words that were wrong."""
    if isinstance(error, TooManyActivities):
        full = _("You have {limit} activities, the most I can keep. Delete one first, /list shows them.")
        return [Text(full.format(limit=error.details.get("limit", "")))]
    if isinstance(error, RateLimited):
        seconds = error.details.get("retry_after", error.retry_after)
        return [Text(_("That was a lot at once. Please try again in {seconds} s.").format(seconds=seconds))]
    if isinstance(error, InvalidActivity | ActivityNotFound | ActivityExists):  # it was right a moment ago
        return [Text(_("That activity changed while I was at it. Please send your line again."))]
    logger.warning("/%s: %r; reference %s", asked.command, error, asked.call.request_id)
    return [Text(_apology(error, asked)), *_how_to_look(error, asked), texts.reference(asked.call.request_id)]


def _apology(error: ActivitiesError, asked: _Asked) -> str:
    if isinstance(error, OutcomePending):
        return _("Accepted, but not finished yet.")
    if isinstance(error, StorageBusy):
        return _("Sorry, there is too much going on just now. Please try again in a few seconds.")
    if isinstance(error, StorageTimeout) and asked.command in _WRITES:
        return _("Sorry, my storage did not answer in time, so I don't know whether that was done.")
    if isinstance(error, StorageTimeout):
        return _("Sorry, my storage did not answer in time. Please try again.")
    if isinstance(error, StorageUnavailable):
        return _("Sorry, I cannot reach my storage just now. Please try again in a few seconds.")
    return _("Sorry, something went wrong on my side.")


def _how_to_look(error: ActivitiesError, asked: _Asked) -> list[Line]:
    """How to see whether a write was done that has no answer."""
    if not isinstance(error, OutcomePending | StorageTimeout) or asked.command not in _WRITES or not asked.words:
        return []
    return [Copy(f"/get {joined(asked.words[:1])}", _("Look again:"))]


def spoken(language: str) -> str:
    """The language that the bot speaks to whoever has this language code: `ru` for `ru-RU`, English otherwise."""
    short = re.split("[-_]", language.lower(), maxsplit=1)[0]
    return short if short in LANGUAGES else "en"
