"""The subject itself: activities and chats, their rules, and every error that a caller can get.

Standard library only. A value is frozen; a rule raises; a transport reads its raw input through the
`read_*` functions here, so that every transport refuses the same input with the same words.
"""

from __future__ import annotations

import calendar
import dataclasses
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache, cached_property
from typing import ClassVar, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

T = TypeVar("T")

NAME_LENGTH = 120
"""The longest name, in code points after NFC."""
FIRST_DATE = date(2000, 1, 1)
LAST_DATE = date(2999, 12, 31)
MOST_TIMES_PER_DAY = 100
MOST_QUANTITY = Decimal(1_000_000)
QUANTITY_STEP = Decimal("0.001")
MOST_PER_PAGE = 500
DEFAULT_PER_PAGE = 50
INT64 = 2**63
LANGUAGES = ("en", "ru")


# ---------------------------------------------------------------------------------------- errors


class ActivitiesError(Exception):
    """Anything that a use case answers instead of its result.

    `details` are short texts that travel with the error over every wire, so that the far side can raise the
    same error again; the message is made from them, or is the one that a newer peer gave with an error unknown here.
    """

    template: ClassVar[str] = "something went wrong"
    retry_after: ClassVar[int | None] = None
    """Seconds after which trying again can help; None where it cannot."""

    def __init__(self, **details: str) -> None:
        self.details = details
        super().__init__()

    def __str__(self) -> str:
        return self.details.get("message") or self.template.format_map(_Blank(self.details))

    @property
    def seconds_to_wait(self) -> str | None:
        """After how many seconds trying again can help, this time; None where it cannot."""
        return None if self.retry_after is None else self.details.get("retry_after", str(self.retry_after))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = Exception.__hash__


class _Blank(dict[str, str]):
    """Details that a message names but an older peer did not send are shown as nothing."""

    def __missing__(self, key: str) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: the field, the rule's code and what its message needs. A key of `MESSAGES` is a code."""

    field: str
    code: str
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def message(self) -> str:
        """The rule in English with a right example, without the field's name."""
        return MESSAGES[self.code].format_map(_Blank(self.params))


class InvalidActivity(ActivitiesError):
    """A request breaks rules; all of them are named at once."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        super().__init__()
        self.violations = tuple(violations)

    def __str__(self) -> str:
        return "; ".join(f"{each.field}: {each.message}" for each in self.violations)

    @property
    def by_field(self) -> dict[str, list[str]]:
        """The messages of each offending field."""
        result: dict[str, list[str]] = {}
        for each in self.violations:
            result.setdefault(each.field, []).append(each.message)
        return result


class RequestIdReused(ActivitiesError):
    template = "this request id came before with another request; use a new UUID for each new request"


class ActivityNotFound(ActivitiesError):
    template = "there is no activity {name}"


class ActivityExists(ActivitiesError):
    template = "there is an activity {name} already"


class TooManyActivities(ActivitiesError):
    template = "this chat has {limit} activities, the most there may be; delete one first"


class RateLimited(ActivitiesError):
    template = "too many requests; try again in {retry_after} s"
    retry_after = 60

    def __init__(self, **details: str) -> None:
        super().__init__(**{"retry_after": str(self.retry_after), **details})


class StorageBusy(ActivitiesError):
    template = "the storage is busy; try again in a second"
    retry_after = 1


class StorageTimeout(ActivitiesError):
    template = "the storage did not answer in time; whether a write was done, its request id tells"


class StorageUnavailable(ActivitiesError):
    template = "the storage cannot be reached; try again in a few seconds"
    retry_after = 2


class OutcomePending(ActivitiesError):
    template = "accepted, but not known to be done yet; ask again with the request id {request_id}"
    retry_after = 1


class NotAuthenticated(ActivitiesError):
    template = (
        "a valid token is needed, as in 'Authorization: Bearer act_...'; "
        "the bot's /token and 'manage.py token issue' give one"
    )


class PermissionDenied(ActivitiesError):
    template = "this token may not do that: {reason}"


ERRORS: Mapping[str, type[ActivitiesError]] = {
    error.__name__: error
    for error in (
        InvalidActivity,
        RequestIdReused,
        ActivityNotFound,
        ActivityExists,
        TooManyActivities,
        RateLimited,
        StorageBusy,
        StorageTimeout,
        StorageUnavailable,
        OutcomePending,
        NotAuthenticated,
        PermissionDenied,
    )
}
"""Every error by the name under which it travels."""


# ------------------------------------------------------------------------------- reading raw input

MESSAGES: Mapping[str, str] = {
    "required": "is required, for example {example}",
    "not_text": "must be text, for example {example}",
    "name_too_long": "has {length} characters, at most 120 are allowed; for example vitamin C",
    "name_character": "may not contain {character}; for example vitamin C",
    "name_invisible": "needs a visible character; for example vitamin C",
    "name_dots": "may not be {value}, which a URL cannot carry; for example vitamin C",
    "name_other": "{value} is not the activity named in the URL; leave it out or repeat that name",
    "not_a_date": "{value} is not a date like {example}",
    "no_such_day": "{value} is not a date ({month} {year} has {days} days); for example {example}",
    "date_range": "{value} is not from 2000-01-01 to 2999-12-31; for example {example}",
    "end_before_begin": "end_date {end_date} is before begin_date {begin_date}; for example {begin_date} or later",
    "begin_after_end": "begin_date {begin_date} is after end_date {end_date}; for example {end_date} or earlier",
    "not_whole": "{value} is not a whole number like {example}",
    "number_range": "{value} is not from {least} to {most}; for example {example}",
    "not_a_number": "{value} is not a number like {example}",
    "quantity_range": "{value} is not greater than 0 and at most 1000000; for example 0.5",
    "quantity_places": "{value} has more than 3 decimal places; for example 0.125",
    "unknown_order": (
        "{value} is not an order; it is one of name, begin_date, end_date, times_per_day, quantity_per_time, "
        "with - in front for descending, for example -end_date"
    ),
    "unknown_timezone": "{value} is not an IANA time zone like Europe/Moscow",
    "unknown_language": "{value} is not a language here; it is one of en, ru",
    "not_a_chat": "{value} is not a chat id: a whole number but 0, from -2^63 to 2^63-1, for example 42",
    "not_a_request_id": "{value} is not a UUID like 3f2b8c1e-9d4a-4b6f-8a57-0c1d2e3f4a5b",
    "other": "{message}",
}
"""Every rule's message, by its code, with a right example. `other` is a rule that only a newer peer knows."""


class Broken(Exception):
    """A rule that a raw value breaks; `Reading.take` adds the field."""

    def __init__(self, code: str, **params: str) -> None:
        super().__init__(code)
        self.code = code
        self.params = params


class Reading:
    """Reads the fields of one request and collects every broken rule, so that all are reported together.

    What `take` returns for a broken field must not be used: `done` raises before anybody can.
    """

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def take(self, name: str, read: Callable[[object], T], raw: object) -> T:
        """The value of the field `name`."""
        try:
            return read(raw)
        except Broken as broken:
            self.violations.append(Violation(name, broken.code, broken.params))
            return cast("T", None)

    def optional(self, name: str, read: Callable[[object], T], raw: Mapping[str, object]) -> T | None:
        """The value of the field `name`, or None when `raw` does not have it."""
        return self.take(name, read, raw[name]) if name in raw else None

    def done(self) -> None:
        """Raises `InvalidActivity` when anything was broken."""
        if self.violations:
            raise InvalidActivity(self.violations)


def shown(value: object) -> str:
    """What was read, short and printable, to be quoted in a message: at most 40 characters, controls escaped."""
    text = _as_text(value)
    cut = text if len(text) <= 40 else text[:40] + "…"
    safe = "".join(char if _is_printable(char) else char.encode("unicode_escape").decode() for char in cut)
    return f"'{safe}'"


def _as_text(value: object) -> str:
    if isinstance(value, str | Decimal):
        return str(value)
    try:
        return json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # nested too deeply, or an integer of thousands of digits
        return type(value).__name__


def _is_printable(char: str) -> bool:
    return unicodedata.category(char) not in _REFUSED_CATEGORIES


def name_key(name: str) -> str:
    """What makes a name unique in its chat, and what names are ordered by: NFC(casefold(NFD(name)))."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Cn", "Zl", "Zp"})
_INVISIBLE_CATEGORIES = frozenset({"Zs", "Cf", "Mn"})
# A canonical decomposition is at most 4 code points for each composed one, and text is never longer than its
# decomposition: what is longer than this is too long whatever it composes to, and is not worth normalising
# (which takes time quadratic in the length of a run of marks).
_HOPELESS_LENGTH = 4 * NAME_LENGTH


def read_name(raw: object) -> str:
    """A name, trimmed and in NFC, of 1 to 120 code points."""
    text = _read_text(raw, example="vitamin C").strip()
    name = text if len(text) > _HOPELESS_LENGTH else unicodedata.normalize("NFC", text)
    if len(name) > NAME_LENGTH:
        raise Broken("name_too_long", length=str(len(name)))
    if name in (".", ".."):
        raise Broken("name_dots", value=shown(name))
    categories = [unicodedata.category(char) for char in name]
    for char, category in zip(name, categories, strict=True):
        if category in _REFUSED_CATEGORIES:
            raise Broken("name_character", character=f"U+{ord(char):04X}")
    if not name:
        raise Broken("required", example="vitamin C")
    if _INVISIBLE_CATEGORIES.issuperset(categories):
        raise Broken("name_invisible")
    return name


_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_WHOLE = re.compile(r"[+-]?[0-9]{1,1000}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,1000}(\.[0-9]{1,1000})?")


def read_date(raw: object) -> date:
    """A date from exactly `YYYY-MM-DD`, 2000-01-01 to 2999-12-31."""
    if isinstance(raw, date) and not isinstance(raw, datetime):
        value = raw
    else:
        text = _read_text(raw, example="2026-07-20")
        match = _DATE.fullmatch(text)
        if match is None:
            raise Broken("not_a_date", value=shown(text), example="2026-07-20")
        value = real_date(*map(int, match.groups()), text=text)
    if not FIRST_DATE <= value <= LAST_DATE:
        raise Broken("date_range", value=shown(value.isoformat()), example="2026-07-20")
    return value


def real_date(year: int, month: int, day: int, *, text: str) -> date:
    """The date of these numbers, which were read from `text`; broken when the calendar has none."""
    try:
        return date(year, month, day)
    except (ValueError, OverflowError):
        if not (1 <= month <= 12 and 1 <= year <= 9999 and day > 0):
            raise Broken("not_a_date", value=shown(text), example="2026-07-20") from None
        days = calendar.monthrange(year, month)[1]
        raise Broken(
            "no_such_day",
            value=shown(text),
            month=calendar.month_name[month],
            month_number=str(month),
            year=f"{year:04}",
            days=str(days),
            example=min(max(date(year, month, days), FIRST_DATE), LAST_DATE).isoformat(),
        ) from None


def read_times_per_day(raw: object) -> int:
    """A whole number, 1 to 100."""
    return _read_whole(raw, least=1, most=MOST_TIMES_PER_DAY, example="2")


def read_quantity(raw: object) -> Decimal:
    """A decimal greater than 0, at most 1 000 000, with at most 3 decimal places.

    A float means its shortest decimal form. Text is plain: no exponent, no NaN.
    """
    if isinstance(raw, float):
        number = Decimal(repr(raw))
    elif isinstance(raw, int | Decimal) and not isinstance(raw, bool):
        number = Decimal(raw)
    elif isinstance(raw, str) and _NUMBER.fullmatch(raw.strip()):
        number = Decimal(raw.strip())
    elif raw is None or raw == "":
        raise Broken("required", example="0.5")
    else:
        raise Broken("not_a_number", value=shown(raw), example="0.5")
    if not number.is_finite():
        raise Broken("not_a_number", value=shown(raw), example="0.5")
    if not 0 < number <= MOST_QUANTITY:
        raise Broken("quantity_range", value=shown(raw))
    try:
        return number.quantize(QUANTITY_STEP, context=_EXACT)
    except (Inexact, InvalidOperation):
        raise Broken("quantity_places", value=shown(raw)) from None


_EXACT = Context(prec=10, traps=[Inexact, InvalidOperation])


def quantity_text(quantity: Decimal) -> str:
    """The shortest plain decimal form: 0.5, 1000, never 1E+3."""
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_limit(raw: object) -> int:
    """How many to a page: 1 to 500, 50 when 0 or absent."""
    if raw is None or raw == "":
        return DEFAULT_PER_PAGE
    return _read_whole(raw, least=0, most=MOST_PER_PAGE, example="50") or DEFAULT_PER_PAGE


def read_offset(raw: object) -> int:
    """How many to leave out before the page: 0 when absent."""
    return 0 if raw is None or raw == "" else _read_whole(raw, least=0, most=INT64 - 1, example="100")


def read_chat_id(raw: object) -> int:
    """A Telegram chat id: a non-zero signed 64-bit integer."""
    number = int(raw) if isinstance(raw, str) and _WHOLE.fullmatch(raw.strip()) else raw
    if isinstance(number, bool) or not isinstance(number, int) or number == 0 or not -INT64 <= number < INT64:
        raise Broken("not_a_chat", value=shown(raw))
    return number


def read_request_id(raw: object) -> UUID:
    """A UUID, with or without its hyphens."""
    if isinstance(raw, str) and _UUID.fullmatch(raw):
        return UUID(raw)
    raise Broken("not_a_request_id", value=shown(raw))


_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")


def read_timezone(raw: object) -> str:
    """An IANA time zone's name."""
    text = _read_text(raw, example="Europe/Moscow")
    if text not in timezones():
        raise Broken("unknown_timezone", value=shown(text))
    return text


@cache
def timezones() -> frozenset[str]:
    """Every time zone that a chat can have."""
    # `localtime` and the like depend on the machine: they are no names that another machine knows.
    return frozenset(zone for zone in available_timezones() if zone not in ("localtime", "Factory"))


def read_language(raw: object) -> str:
    """A language that the product speaks."""
    text = _read_text(raw, example="en")
    if text not in LANGUAGES:
        raise Broken("unknown_language", value=shown(text))
    return text


def _read_text(raw: object, *, example: str) -> str:
    if raw is None or raw == "":
        raise Broken("required", example=example)
    if not isinstance(raw, str):
        raise Broken("not_text", example=example)
    return raw


def _read_whole(raw: object, *, least: int, most: int, example: str) -> int:
    if raw is None or raw == "":
        raise Broken("required", example=example)
    if isinstance(raw, int) and not isinstance(raw, bool):
        number = raw
    elif isinstance(raw, str) and _WHOLE.fullmatch(raw.strip()):
        number = int(raw)
    else:
        raise Broken("not_whole", value=shown(raw), example=example)
    if not least <= number <= most:
        raise Broken("number_range", value=shown(raw), least=str(least), most=str(most), example=example)
    return number


# ----------------------------------------------------------------------------------------- values


@dataclass(frozen=True)
class Activity:
    """Something a chat does `times_per_day` times on each day from `begin_date` to `end_date`, both inclusive."""

    name: str
    begin_date: date
    end_date: date
    times_per_day: int
    quantity_per_time: Decimal

    def __post_init__(self) -> None:
        _check_period(self.begin_date, self.end_date)

    @cached_property
    def key(self) -> str:
        """What makes the name unique in its chat."""
        return name_key(self.name)

    def is_active_on(self, day: date) -> bool:
        return self.begin_date <= day <= self.end_date


def _check_period(begin: date, end: date) -> None:
    if begin > end:
        dates = {"begin_date": begin.isoformat(), "end_date": end.isoformat()}
        raise InvalidActivity([Violation("end_date", "end_before_begin", dates)])


@dataclass(frozen=True, slots=True)
class ActivityChanges:
    """What an update sets; None keeps."""

    begin_date: date | None = None
    end_date: date | None = None
    times_per_day: int | None = None
    quantity_per_time: Decimal | None = None

    def __post_init__(self) -> None:
        if self.begin_date is not None and self.end_date is not None:
            _check_period(self.begin_date, self.end_date)

    @property
    def given(self) -> dict[str, object]:
        """The fields that are set, by name."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}

    def applied_to(self, activity: Activity) -> Activity:
        """The activity after the change, checked as a whole; the error names a field that was given."""
        try:
            return replace(activity, **self.given)  # type: ignore[arg-type]
        except InvalidActivity as invalid:
            if self.end_date is not None:
                raise
            params = invalid.violations[0].params
            raise InvalidActivity([Violation("begin_date", "begin_after_end", params)]) from None


ACTIVITY_FIELDS: Mapping[str, Callable[[object], object]] = {
    "name": read_name,
    "begin_date": read_date,
    "end_date": read_date,
    "times_per_day": read_times_per_day,
    "quantity_per_time": read_quantity,
}
"""Each field of an activity and how its raw form is read."""


def read_activity(reading: Reading, raw: Mapping[str, object]) -> Activity:
    """An activity from raw fields; like `Reading.take`, unusable when something was broken."""
    values = {name: reading.take(name, read, raw.get(name)) for name, read in ACTIVITY_FIELDS.items()}
    return _checked_together(reading, lambda: Activity(**values), values)  # type: ignore[arg-type]


def read_changes(reading: Reading, raw: Mapping[str, object]) -> ActivityChanges:
    """The changes of an update from those raw fields that are there."""
    values = {
        name: reading.take(name, read, raw[name])
        for name, read in ACTIVITY_FIELDS.items()
        if name != "name" and name in raw
    }
    return _checked_together(reading, lambda: ActivityChanges(**values), values)  # type: ignore[arg-type]


def _checked_together(reading: Reading, build: Callable[[], T], values: Mapping[str, object]) -> T:
    """Builds from values of which some may be broken; a rule between two good ones is reported all the same."""
    begin, end = values.get("begin_date"), values.get("end_date")
    try:
        if None not in values.values():
            return build()
        if isinstance(begin, date) and isinstance(end, date):
            _check_period(begin, end)
    except InvalidActivity as invalid:
        reading.violations.extend(invalid.violations)
    return cast("T", None)


class _Descending:
    """A sort key that orders against the value's own order."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __lt__(self, other: _Descending) -> bool:
        return other.value < self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self.value == other.value

    __hash__ = None  # type: ignore[assignment]


ORDER_FIELDS = ("name", "begin_date", "end_date", "times_per_day", "quantity_per_time")


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is ordered: by one field, ties by name key, ascending."""

    field: str
    descending: bool = False

    def sort_key(self, activity: Activity) -> tuple[object, ...]:
        """A key that no two activities of a chat share."""
        if self.field == "name":
            return (_Descending(activity.key) if self.descending else activity.key,)
        value = getattr(activity, self.field)
        number = value.toordinal() if isinstance(value, date) else value
        return (-number if self.descending else number, activity.key)

    def __str__(self) -> str:
        return f"-{self.field}" if self.descending else self.field


LATEST_END_FIRST = Order("end_date", descending=True)
ORDERS = tuple(str(Order(name, descending)) for name in ORDER_FIELDS for descending in (False, True))
"""Every order by the text that means it."""


def read_order(raw: object) -> Order:
    """A field's name, with `-` in front for descending; `-end_date` when absent."""
    if raw is None or raw == "":
        return LATEST_END_FIRST
    if not isinstance(raw, str) or raw not in ORDERS:
        raise Broken("unknown_order", value=shown(raw))
    return Order(raw.removeprefix("-"), raw.startswith("-"))


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for."""

    limit: int = DEFAULT_PER_PAGE
    offset: int = 0
    order: Order = LATEST_END_FIRST


def read_page(reading: Reading, raw: Mapping[str, object]) -> Page:
    """`limit`, `offset` and `order` from their raw forms."""
    return Page(
        reading.take("limit", read_limit, raw.get("limit")),
        reading.take("offset", read_offset, raw.get("offset")),
        reading.take("order", read_order, raw.get("order")),
    )


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """One page, and how many there are on all pages together."""

    activities: tuple[Activity, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Chat:
    """A Telegram chat, which owns activities and has a day of its own."""

    chat_id: int
    timezone: str = "UTC"
    language: str = "en"
    tokens_valid_after: int = 0
    """Unix seconds: tokens issued before are revoked. May be up to a second ahead, or more after several revocations in
    one second; a token issued meanwhile bears this time."""

    def date_at(self, instant: datetime) -> date:
        """The chat's own date at an instant that knows its zone."""
        return instant.astimezone(ZoneInfo(self.timezone)).date()

    def with_tokens_revoked(self, now: datetime) -> Chat:
        """The chat after the tokens issued so far have been revoked.

        The next whole second, since they bear fractions of this one; and later than what tokens bear that were issued
        after a revocation in this same second.
        """
        return replace(self, tokens_valid_after=max(revoked_at(now), self.tokens_valid_after + 1))

    def joined_by(self, other: Chat) -> Chat:
        """The chat after another one has moved into it: a setting that it does not have yet is the other's."""
        nothing = Chat(self.chat_id)
        return replace(
            self,
            timezone=other.timezone if self.timezone == nothing.timezone else self.timezone,
            language=other.language if self.language == nothing.language else self.language,
        )


def revoked_at(now: datetime) -> int:
    """The least `tokens_valid_after` of a chat whose tokens are revoked now."""
    return int(now.timestamp()) + 1


@dataclass(frozen=True, slots=True)
class ChatChanges:
    """What an update of a chat sets; None keeps."""

    timezone: str | None = None
    language: str | None = None

    def applied_to(self, chat: Chat) -> Chat:
        return replace(chat, timezone=self.timezone or chat.timezone, language=self.language or chat.language)


def read_chat_changes(reading: Reading, raw: Mapping[str, object]) -> ChatChanges:
    """`timezone` and `language`, where they are there."""
    return ChatChanges(
        reading.optional("timezone", read_timezone, raw), reading.optional("language", read_language, raw)
    )


# --------------------------------------------------------------------------------------- commands


# What comes again under the same `request_id` gets the first one's answer, if that was final. What is delivered again
# under the same `delivery_id` gets the first delivery's answer, whatever it was. What lay in a queue, since
# `accepted_at`, has no effect on a chat that was forgotten meanwhile.


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """The wish for a new activity."""

    chat_id: int
    activity: Activity
    request_id: UUID | None = None
    delivery_id: UUID | None = None
    accepted_at: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """What tells this request from another under the same request id."""
        activity = self.activity
        return _fingerprint("create", [getattr(activity, name) for name in ACTIVITY_FIELDS])


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """The wish to change an activity."""

    chat_id: int
    name: str
    changes: ActivityChanges
    request_id: UUID | None = None
    delivery_id: UUID | None = None
    accepted_at: datetime | None = None

    @property
    def fingerprint(self) -> str:
        return _fingerprint("update", [name_key(self.name), self.changes.given])


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """The wish that an activity be gone."""

    chat_id: int
    name: str
    request_id: UUID | None = None
    delivery_id: UUID | None = None
    accepted_at: datetime | None = None

    @property
    def fingerprint(self) -> str:
        return _fingerprint("delete", [name_key(self.name)])


def _fingerprint(kind: str, content: Sequence[object]) -> str:
    canonical = json.dumps([kind, *content], sort_keys=True, default=_canonical)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(value: date | Decimal) -> str:
    # 0.5 and 0.500 are one quantity, whichever wire it came over.
    return quantity_text(value) if isinstance(value, Decimal) else value.isoformat()


Command = Create | Update | Delete
Outcome = Activity | ActivitiesError | None
"""A command's end: the activity as it is now, None after a delete, or why nothing happened."""


def is_final(outcome: Outcome) -> bool:
    """Whether the same request would get the same answer for good reasons, so that its id is used up."""
    return not isinstance(outcome, ActivitiesError) or isinstance(outcome, ActivityExists | ActivityNotFound)
