"""What the bot says, in the language that is active: English here, the others in `locale/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext, pgettext

from activities.domain import Activity, Violation, quantity_text, shown
from bot.replies import Copy, Line, Row, Text, isolated
from bot.words import joined, quoted

FIELDS = ("name", "begin_date", "end_date", "times_per_day", "quantity_per_time")
"""What /add and /update take, in this order."""


@dataclass(frozen=True, slots=True)
class Usage:
    """A command as /help shows it."""

    command: str
    arguments: str
    meaning: str

    def translated(self) -> Usage:
        return Usage(self.command, _(self.arguments) if self.arguments else "", _(self.meaning))


USAGES = (
    Usage("today", gettext_noop("[page]"), gettext_noop("what is due today")),
    Usage("list", gettext_noop("[page]"), gettext_noop("your activities, page by page")),
    Usage("list_stream", "", gettext_noop("all of them at once")),
    Usage("get", gettext_noop("<name>"), gettext_noop("one activity")),
    Usage("add", gettext_noop("<name> <begin> <end> <times> <quantity>"), gettext_noop("a new activity")),
    Usage(
        "update",
        gettext_noop("<name> <begin> <end> <times> <quantity>"),
        gettext_noop("change an activity; _ keeps what is there"),
    ),
    Usage("delete", gettext_noop("<name>"), gettext_noop("delete an activity")),
    Usage("timezone", gettext_noop("[zone]"), gettext_noop("your time zone, which says what today is")),
    Usage("language", "[en|ru]", gettext_noop("the language I speak")),
    Usage("token", "[revoke]", gettext_noop("a key to your activities for other programs")),
    Usage("export", "", gettext_noop("all I keep of this chat, as files")),
    Usage("import", gettext_noop("[file]"), gettext_noop("read such a file back")),
    Usage("forget_me", "", gettext_noop("erase all I keep of this chat")),
    Usage("examples", "", gettext_noop("lines to copy")),
    Usage("help", "", gettext_noop("this list")),
    Usage("start", "", gettext_noop("what I am for")),
)
"""Every command, the most useful first."""


# ------------------------------------------------------------------------------ parts of sentences


def day(value: date) -> str:
    return f"{value:%d.%m.%Y}"


def days_later(days: int) -> str:
    """The word that means so many days later."""
    return _("+{days}d").format(days=days)


def days_more(days: int) -> str:
    return ngettext("+{days} day", "+{days} days", days).format(days=days)


def days_counted(days: int) -> str:
    return ngettext("{days} day", "{days} days", days).format(days=days)


def weekdays() -> tuple[str, ...]:
    return (
        pgettext("in a date", "Mon"),
        pgettext("in a date", "Tue"),
        pgettext("in a date", "Wed"),
        pgettext("in a date", "Thu"),
        pgettext("in a date", "Fri"),
        pgettext("in a date", "Sat"),
        pgettext("in a date", "Sun"),
    )


def day_with_weekday(value: date) -> str:
    return f"{weekdays()[value.weekday()]} {day(value)}"


def moment(value: datetime) -> str:
    return f"{day_with_weekday(value.date())}, {value:%H:%M}"


def times_a_day(times: int) -> str:
    return ngettext("once a day", "{times} times a day", times).format(times=times)


def activities_counted(count: int) -> str:
    return ngettext("{count} activity", "{count} activities", count).format(count=count)


def period(activity: Activity) -> str:
    return f"{day(activity.begin_date)} – {day(activity.end_date)}"


def remark(activity: Activity, today: date) -> str:
    """What makes today special for the activity; empty on most days."""
    one = timedelta(days=1)
    if activity.end_date == today:
        return _("last day")
    if activity.begin_date - one == today:
        return _("starts tomorrow")
    if activity.end_date + one == today:
        return _("ended yesterday")
    return ""


def described(activity: Activity) -> str:
    """All of an activity but its name, in one line."""
    days = (activity.end_date - activity.begin_date).days + 1
    return _("{quantity} each time, {times}, {period} ({days})").format(
        quantity=quantity_text(activity.quantity_per_time),
        times=times_a_day(activity.times_per_day),
        period=period(activity),
        days=days_counted(days),
    )


def today_row(activity: Activity, today: date) -> Row:
    amount = f"{quantity_text(activity.quantity_per_time)} × {activity.times_per_day}"
    until = _("until {end}").format(end=day(activity.end_date))
    return Row((isolated(activity.name), amount, remark(activity, today) or until))


def list_row(activity: Activity, today: date) -> Row:
    amount = _("{quantity} × {times} a day").format(
        quantity=quantity_text(activity.quantity_per_time), times=activity.times_per_day
    )
    special = remark(activity, today)
    return Row((isolated(activity.name), amount, f"{period(activity)}, {special}" if special else period(activity)))


def changes(before: Activity, after: Activity) -> list[str]:
    """A line for each field that differs."""
    lines = []
    if before.begin_date != after.begin_date:
        lines.append(_("from {before} → {after}").format(before=day(before.begin_date), after=day(after.begin_date)))
    if before.end_date != after.end_date:
        lines.append(_("until {before} → {after}").format(before=day(before.end_date), after=day(after.end_date)))
    if before.times_per_day != after.times_per_day:
        lines.append(
            ngettext("{before} → {after} time a day", "{before} → {after} times a day", after.times_per_day).format(
                before=before.times_per_day, after=after.times_per_day
            )
        )
    if before.quantity_per_time != after.quantity_per_time:
        old, new = quantity_text(before.quantity_per_time), quantity_text(after.quantity_per_time)
        lines.append(_("{before} → {after} each time").format(before=old, after=new))
    return lines


def as_read(word: str) -> str:
    """A word of the person's, fit to be shown in a sentence: short, nothing invisible in it that matters."""
    return isolated(shown(word)[1:-1])


# ---------------------------------------------------------------------------------- whole replies


def welcome() -> list[Line]:
    return [
        Text(
            _(
                "I keep your daily activities (pills, push-ups, drops for the cat) and tell you what is due today. "
                "Tell me a name, the first and the last day, how many times a day, and how much each time."
            )
        ),
        Copy(example_add(), _("Try:")),
        Text(_("More: /examples · /help")),
    ]


def help_page() -> list[Line]:
    rows: list[Line] = []
    for usage in map(Usage.translated, USAGES):
        rows.append(Row((f"/{usage.command} {usage.arguments}".rstrip(), usage.meaning)))
    return [
        Text(_("What I understand:")),
        *rows,
        Text(
            _(
                "A name with spaces goes in quotes. Dates: 20.07.2026, 2026-07-20, today, tomorrow, or +10d "
                "(10 days after today; as an end, 10 days after the begin date). Numbers: 0.5 or 0,5."
            )
        ),
        Copy(example_add(), _("For example:")),
    ]


def examples() -> list[Line]:
    """Lines that work when sent one after the other."""
    name, drops = quoted(_("vitamin C")), quoted(_("drops for the cat"))
    today, tomorrow = _("today"), _("tomorrow")
    return [
        Text(_("Copy a line, change it, send it.")),
        Copy(example_add(), _("Half a pill twice a day, from today for ten more days:")),
        Copy(f"/add {drops} {tomorrow} {days_later(6)} 3 2", _("Two drops three times a day, for a week:")),
        Copy("/today", _("What is due today:")),
        Copy("/list", _("All there is:")),
        Copy(f"/get {name}", _("One of them:")),
        Copy(f"/update {name} _ {days_later(20)} 3 _", _("Until later and three times a day, the rest as it was:")),
        Copy(f"/update {drops} {today} _ _ _", _("Start today already:")),
        Copy(f"/delete {drops}", _("No longer needed:")),
    ]


def example_add() -> str:
    return f"/add {joined(example_words())}"


def example_words() -> tuple[str, ...]:
    """Words for the fields of /add that go together, in the person's language."""
    return (_("vitamin C"), _("today"), days_later(10), "2", "0.5")


def word_of(value: object) -> str:
    """The word that means a field's value."""
    if isinstance(value, date):
        return day(value)
    return quantity_text(value) if isinstance(value, Decimal) else str(value)


def words_of(activity: Activity) -> dict[str, str]:
    """The words that mean this activity, by field."""
    return {name: word_of(getattr(activity, name)) for name in FIELDS}


def add_line(activity: Activity) -> str:
    """The command that makes this activity."""
    return f"/add {joined(words_of(activity).values())}"


def question(field: str, command: str) -> str:
    questions = {
        "name": _("Which one is to change? Choose, or write its name.")
        if command == "update"
        else _("What is it called?"),
        "begin_date": _("From which day? Choose, or write a date like 20.07.2026 or +10d."),
        "end_date": _(
            "Until which day? Choose, or write a date like 20.07.2026, or +10d for 10 days after the begin date."
        ),
        "times_per_day": _("How many times a day? Choose, or write a number up to 100."),
        "quantity_per_time": _("How much each time? Choose, or write a number like 0.25."),
    }
    return questions[field]


def so_far(words: Mapping[str, str]) -> str:
    """What is known of an activity that is being asked for."""
    parts = {
        "name": isolated(words.get("name", "")),
        "begin_date": _("from {begin}").format(begin=words.get("begin_date")),
        "end_date": _("until {end}").format(end=words.get("end_date")),
        "times_per_day": times_a_day(int(words.get("times_per_day", 1))),
        "quantity_per_time": _("{quantity} each time").format(quantity=words.get("quantity_per_time")),
    }
    return ", ".join(part for field, part in parts.items() if field in words)


def day_word(word: str) -> str:
    """The label of a button that means `today` or `tomorrow`."""
    return pgettext("button", "Today") if word == "today" else pgettext("button", "Tomorrow")


def region(name: str) -> str:
    """A region of the time zone database, in the person's language."""
    regions = {
        "Africa": _("Africa"),
        "America": _("America"),
        "Antarctica": _("Antarctica"),
        "Arctic": _("Arctic"),
        "Asia": _("Asia"),
        "Atlantic": _("Atlantic Ocean"),
        "Australia": _("Australia"),
        "Europe": _("Europe"),
        "Indian": _("Indian Ocean"),
        "Pacific": _("Pacific Ocean"),
    }
    return regions.get(name, name)


# ---------------------------------------------------------------------------------- what is wrong


def missing(fields: Sequence[str]) -> str:
    labels = {
        "name": _("name"),
        "begin_date": _("begin date"),
        "end_date": _("end date"),
        "times_per_day": _("times a day"),
        "quantity_per_time": _("how much each time"),
    }
    sentences = (
        _("I need one more thing: {things}."),
        _("I need two more things: {things}."),
        _("I need three more things: {things}."),
        _("I need four more things: {things}."),
        _("I need five things: {things}."),
    )
    return sentences[len(fields) - 1].format(things=", ".join(labels[field] for field in fields))


def _label(field: str) -> str:
    labels = {
        "name": pgettext("field", "name"),
        "begin_date": pgettext("field", "begin_date"),
        "end_date": pgettext("field", "end_date"),
        "times_per_day": pgettext("field", "times_per_day"),
        "quantity_per_time": pgettext("field", "quantity_per_time"),
        "page": pgettext("field", "page"),
    }
    return labels.get(field, field)


VIOLATIONS: Mapping[str, str] = MappingProxyType(
    {
        "required": gettext_noop("is empty"),
        "name_too_long": gettext_noop("{value} is too long ({length} characters, where 120 is the most)"),
        "name_character": gettext_noop("{value} has the character {character} in it, which a name may not have"),
        "name_invisible": gettext_noop("a name needs at least one character that can be seen"),
        "name_dots": gettext_noop("{value} cannot be a name"),
        "not_a_date": gettext_noop("{value} is not a date like 20.07.2026, today or +10d"),
        "no_such_day": gettext_noop("{value} is not a date ({month_has_days})"),
        "date_range": gettext_noop("{value} is not from 01.01.2000 to 31.12.2999"),
        "end_before_begin": gettext_noop("{end_date} is before the begin date, {begin_date}"),
        "begin_after_end": gettext_noop("{begin_date} is after the end date, {end_date}"),
        "not_whole": gettext_noop("{value} is not a whole number like 2"),
        "number_range": gettext_noop("{value} is not from {least} to {most}"),
        "not_a_number": gettext_noop("{value} is not a number like 0.5"),
        "quantity_range": gettext_noop("{value} is not more than 0 and at most 1000000"),
        "quantity_places": gettext_noop("{value} has more than 3 decimal places"),
        "not_text": gettext_noop("{value} is not text in quotes"),
        "not_a_date_in_file": gettext_noop("{value} is not a date like 2026-07-20"),
        "unknown_timezone": gettext_noop("{value} is not a time zone like Europe/Moscow"),
        "unknown_language": gettext_noop("{value} is not a language of mine; en and ru are"),
        "name_twice": gettext_noop("{value} is there twice, with different values"),
        "unknown_field": gettext_noop("I know no such field"),
        "beyond_columns": gettext_noop("is beyond the last column; what has the separator in it needs quotes"),
        "not_a_page": gettext_noop("{value} is not a page number like 2"),
        "no_such_page": gettext_noop("{value} is not there, {most} is the last"),
    }
)
"""What the rules say in chat, by their codes: those that a command's words or a file can break."""


def violation_line(violation: Violation, word: str) -> str:
    """A broken rule with the field's name, what was read (`word`), and why it is wrong."""
    params = dict(violation.params)
    for name in ("begin_date", "end_date"):
        if name in params:
            params[name] = day(date.fromisoformat(params[name]))
    if violation.code == "no_such_day":
        params["month_has_days"] = month_has_days(
            month=int(params["month_number"]), year=params["year"], days=params["days"]
        )
    template = VIOLATIONS.get(violation.code)
    text = violation.message if template is None else _(template).format(**{**params, "value": as_read(word)})
    return f"{_label(violation.field)}: {text}."


def month_has_days(*, month: int, year: str, days: str) -> str:
    sentences = (
        _("January has {days} days"),
        _("February {year} has {days} days"),
        _("March has {days} days"),
        _("April has {days} days"),
        _("May has {days} days"),
        _("June has {days} days"),
        _("July has {days} days"),
        _("August has {days} days"),
        _("September has {days} days"),
        _("October has {days} days"),
        _("November has {days} days"),
        _("December has {days} days"),
    )
    return sentences[month - 1].format(days=days, year=year)


def not_utf8() -> str:
    return _("I cannot read that line: it is not UTF-8 text.")


def file_not_found(name: str) -> str:
    return _("I find no file {name}.").format(name=as_read(name))


def no_file(name: str) -> str:
    return _("{name} is not a file.").format(name=as_read(name))


def file_unreadable(name: str, reason: str) -> str:
    return _("I cannot read {name} ({reason}).").format(name=as_read(name), reason=reason)


def file_not_to_be_had() -> str:
    return _("I could not get that file from Telegram. Please send it once more.")


def file_not_sent() -> str:
    return _("I may not send files here. Whoever runs this group can allow it.")


def saved_as(path: str) -> str:
    return _("Saved as {path}").format(path=path)


def not_saved(name: str, reason: str) -> str:
    return _("I could not save {name} ({reason}).").format(name=name, reason=reason)


def file_too_large(most: int) -> str:
    return _("That file is too large: I read at most {size} MB.").format(size=most >> 20)


def did_you_mean(names: Sequence[str]) -> str:
    if len(names) == 1:
        return _("Did you mean {name}?").format(name=names[0])
    last = _("{names} or {last}").format(names=", ".join(names[:-1]), last=names[-1])
    return _("Did you mean {name}?").format(name=last)


def like_this(command: str) -> Copy:
    return Copy(command, _("Like this:"))


def reference(request_id: object) -> Text:
    return Text(_("If it stays like this, tell whoever runs this bot: {reference}").format(reference=request_id))


def not_for_this_chat(chat_id: int) -> str:
    return _("Sorry, I serve a few chats only, and this one ({chat_id}) is not among them.").format(chat_id=chat_id)
