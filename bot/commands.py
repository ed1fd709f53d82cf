"""The bot's commands: a line in, replies out. Knows no Telegram and no terminal."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import chain
from uuid import UUID, uuid4

from django.utils import translation
from django.utils.translation import gettext as _

from activities.access import Access
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
    Chat,
    ChatChanges,
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
    read_name,
)
from activities.fair_use import FairUse
from activities.ports import Activities, Call, Cancelled, Chats
from activities.requests import Request
from activities.streams import StreamSlots
from bot import dialogs, texts
from bot.asked import Asked, Refused
from bot.chat_data import ChatData
from bot.chat_settings import ChatSettings
from bot.dialogs import Dialog
from bot.fields import Fields, by_field, mended_fields, mended_name, read_fields, settled, update_line
from bot.recent import Recent
from bot.replies import NOWHERE, Button, Copy, Line, Reply, Text, fitting, isolated, pager
from bot.words import joined, split

logger = logging.getLogger(__name__)

PAGE_SIZE = 20
"""Activities on a page of /list and /today, and in the first reply of /list_stream."""
BUTTON_PAGE_SIZE = 10
"""The same where pages are turned by buttons: even the longest rows then fit into the one message that is edited."""
UNDO = timedelta(seconds=30)
"""For how long a deleted activity comes back at the press of a button."""
MOST_COMPARED = MOST_PER_PAGE
"""How many of a chat's names are looked through for the one that an unknown name may have meant."""

_COMMAND = re.compile(r"\s*/(?P<command>[^\s@]+)(?:@\S*)?(?=\s|$)")
_DIALOG_BUTTON = re.compile(r"([dimx]):([0-9a-f]+):([0-9]+):(.*)", re.DOTALL)
_WRITES = ("add", "update", "delete")
_USE_CASES = {"add": "create", "list_stream": "stream"}
"""What counters call a command, where that is not its own name."""
_CHANGES = (*_WRITES, "forget_me")
_REMEMBERED = timedelta(hours=1)
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Deleted:
    """An activity that can come back."""

    activity: Activity
    until: datetime
    is_back: bool = False


class Commands:
    """Carries out what people type and press.

    `clock` gives the present instant with its zone; `fair_use` bounds how much a chat may send, if anything does;
    `api_url` is where the API is, as people reach it. All that one line needs of the storage comes within the limit of
    one call, but for /export and /import. Whatever happens, there is a reply. Open questions and what was deleted
    lately are remembered in the process, for a while. `read_file` reads a file by its name, where people can name one.
    `transport` is what counters call where people are.
    """

    def __init__(
        self,
        activities: Activities,
        chats: Chats,
        streams: StreamSlots,
        *,
        access: Access,
        clock: Callable[[], datetime],
        fair_use: FairUse | None = None,
        api_url: str = "http://127.0.0.1:8000",
        read_file: Callable[[str], bytes] | None = None,
        transport: str = "console",
    ) -> None:
        self._activities = activities
        self._chats = chats
        self._streams = streams
        self._clock = clock
        self._fair_use = fair_use
        self._transport = transport
        self._settings = ChatSettings(chats, access, api_url=api_url)
        self._data = ChatData(
            activities, chats, streams, clock=clock, read_file=read_file, out_of_mind=self._out_of_mind
        )
        self._dialogs: Recent[tuple[int, int | None], Dialog] = Recent(
            most=_MOST_REMEMBERED, lifetime=_REMEMBERED, clock=clock
        )
        self._deleted: Recent[tuple[int, str], _Deleted] = Recent(
            most=_MOST_REMEMBERED, lifetime=_REMEMBERED, clock=clock
        )
        self._handlers: Mapping[str, Callable[[Asked], Iterable[Reply]]] = {
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
            "timezone": self._settings.timezone,
            "language": self._settings.language,
            "token": self._settings.token,
            "export": self._data.export,
            "import": self._data.import_,
            "forget_me": self._data.forget_me,
        }

    def answer(
        self,
        line: str,
        *,
        chat_id: int,
        language: str | None = None,
        speaks: str | None = None,
        request_id: UUID | None = None,
        user_id: int | None = None,
        is_private: bool = True,
        has_buttons: bool = False,
        attached: Callable[[], bytes] | None = None,
    ) -> Generator[Reply, None, None]:
        """The replies to a line, each as soon as it is known. To be closed when it is not read to its end.

        They are in the chat's language, or in the one that `speaks` names. `language` is what the person is believed
        to speak: /start makes it the chat's. Both are language codes like `ru-RU`. With the same `request_id` a line is
        safe to repeat. Where buttons can be shown, what is missing is asked for, of this user. `attached` fetches the
        file that came along; it may raise `Refused`.
        """
        call = Call(request_id=request_id or uuid4())
        match = _COMMAND.match(line)
        words = split(line[match.end() :] if match else "")
        asked = Asked(
            command=match["command"].lower() if match else "",
            words=words.words,
            unclosed=words.unclosed,
            text=line,
            chat_id=chat_id,
            user_id=user_id,
            is_private=is_private,
            has_buttons=has_buttons,
            attached=attached,
            call=call,
            read_chat=self._chat_reader(chat_id, call),
            now=self._clock(),
        )
        yield from self._admitted(asked, speaks, language, self._answer(asked))

    def press(
        self,
        data: str,
        *,
        chat_id: int,
        user_id: int,
        language: str | None = None,
        request_id: UUID | None = None,
        is_private: bool = True,
    ) -> Generator[Reply, None, None]:
        """The replies to the press of a button with this data, whoever made it; otherwise like `answer`."""
        call = Call(request_id=request_id or uuid4())
        asked = Asked(
            command="",
            chat_id=chat_id,
            user_id=user_id,
            is_private=is_private,
            has_buttons=True,
            is_press=True,
            call=call,
            read_chat=self._chat_reader(chat_id, call),
            now=self._clock(),
        )
        yield from self._admitted(asked, None, language, self._press(asked, data))

    def has_dialog(self, chat_id: int, user_id: int) -> bool:
        """Whether plain text of this person is the answer to an open question."""
        return self._dialogs.get((chat_id, user_id)) is not None

    def awaits_file(self, chat_id: int, user_id: int) -> bool:
        """Whether a file of this person's is the answer to an open question."""
        return self._data.awaits_file(chat_id, user_id)

    def names(self, chat_id: int) -> list[str]:
        """The names of the chat's activities, latest end first, at most `MOST_COMPARED`."""
        page = self._activities.list(chat_id, page=Page(limit=MOST_COMPARED), call=Call())
        return [activity.name for activity in page.activities]

    def _admitted(
        self, asked: Asked, speaks: str | None, guess: str | None, replies: Generator[Reply, None, None]
    ) -> Generator[Reply, None, None]:
        """The replies in the chat's language; when it sends too much, the storage is not asked even for that."""
        try:
            if self._fair_use is not None:
                self._fair_use.in_bot(asked.chat_id)
        except RateLimited as error:
            self._served(asked).failed(error)
            yield from _in_language(spoken(speaks or guess or ""), _too_often(asked, error))
        else:
            yield from _in_language(self._language(asked, speaks, guess), replies)

    def _chat_reader(self, chat_id: int, call: Call) -> Callable[[], Chat]:
        """Reads the chat once, when it is needed."""
        return cache(lambda: self._chats.get(chat_id, call=call))

    def _language(self, asked: Asked, speaks: str | None, guess: str | None) -> str:
        """What to speak. At /start, a chat that has chosen nothing gets what its person is believed to speak."""
        if speaks is not None:
            return spoken(speaks)
        guessed = spoken(guess or "")
        try:
            chat = asked.chat
            # In a group, one member's language is not everybody's.
            if asked.command == "start" and asked.is_private and chat.language == "en" != guessed:
                chat = self._chats.update(asked.chat_id, changes=ChatChanges(language=guessed), call=asked.call)
        except Exception:  # the command itself will tell, if it needs the storage
            logger.warning("language not known; reference %s", asked.call.request_id, exc_info=True)
            return guessed
        return spoken(chat.language)

    def _answer(self, asked: Asked) -> Generator[Reply, None, None]:
        if not asked.command and asked.attached:
            yield from self._carried_out(replace(asked, command="import"), self._data.received)
            return
        if not asked.command:
            dialog = self._dialogs.get(_owner(asked))
            if dialog is None:
                yield Reply((Text(_("I understand commands. /help shows them all.")),))
            else:
                word = dialogs.answer_word(asked.text)
                yield from self._carried_out(asked, lambda asked: self._answered(asked, dialog, word))
            return
        self._dialogs.take(_owner(asked))
        if asked.command in self._handlers:
            yield from self._carried_out(asked, self._handlers[asked.command])
        else:
            self._served(asked).failed(Refused(), is_ours=False)
            yield Reply((Text(_unknown_command(asked.command, self._handlers)),))

    def _press(self, asked: Asked, data: str) -> Generator[Reply, None, None]:
        if match := _DIALOG_BUTTON.fullmatch(data):
            yield from self._carried_out(asked, lambda asked: self._dialog_button(asked, *match.groups()))
            return
        match data.split(":"):
            case ["p", ("list" | "today") as command, page]:
                yield from self._carried_out(replace(asked, command=command, words=(page,)), self._handlers[command])
            case ["u", token]:
                yield from self._undo(asked, token)
            case ["z", *place]:
                yield from self._carried_out(asked, lambda _asked: [self._settings.choice(*place)])
            case ["Z", zone]:
                yield from self._carried_out(replace(asked, command="timezone", words=(zone,)), self._settings.timezone)
            case ["l", code]:
                yield from self._carried_out(replace(asked, command="language", words=(code,)), self._settings.language)
            case ["f", token, answer]:
                asked = replace(asked, command="forget_me")
                yield from self._carried_out(asked, lambda asked: self._data.answered(asked, token, answer))
            case _:
                yield Reply(()) if data == NOWHERE else _unknown_button()

    def _carried_out(self, asked: Asked, handler: Callable[[Asked], Iterable[Reply]]) -> Generator[Reply, None, None]:
        """The handler's replies, the first one in the place of a pressed button; or what is said instead."""
        served = self._served(asked)
        try:
            for number, reply in enumerate(handler(asked)):
                yield replace(reply, replaces=asked.is_press and number == 0 and bool(reply.lines))
        except Refused as refused:
            served.failed(refused, is_ours=False)
            yield from fitting(refused.lines)
        except Cancelled as gone:
            served.failed(gone)
        except GeneratorExit:  # nobody reads on
            served.failed(Cancelled())
            raise
        except ActivitiesError as error:
            served.failed(error)
            yield from fitting(_failure(error, asked))
        except Exception as error:
            served.failed(error)
            logger.exception("/%s failed; reference %s", asked.command, asked.call.request_id)
            yield Reply((Text(_("Sorry, something went wrong on my side.")), texts.reference(asked.call.request_id)))
        else:
            served.succeeded()

    def _served(self, asked: Asked) -> Request:
        """Begins to count, to time and to tell of what is asked for."""
        use_case = asked.command if asked.command in self._handlers else "unknown" if asked.command else "dialog"
        return Request(
            self._transport, _USE_CASES.get(use_case, use_case), who="chat", request_id=str(asked.call.request_id)
        )

    def _out_of_mind(self, chat_id: int) -> None:
        """Drops what the process remembers of a chat."""
        self._dialogs.drop(lambda owner: owner[0] == chat_id)
        self._deleted.drop(lambda place: place[0] == chat_id)

    # ------------------------------------------------------------------------------------- reading

    def _list(self, asked: Asked) -> Iterable[Reply]:
        number, page, notice = _page(asked, self._activities.list)
        if not page.total:
            return _nothing_yet()
        first = (number - 1) * _page_size(asked) + 1
        heading = _("Your activities, latest end first ({first}–{last} of {total})").format(
            first=first, last=first + len(page.activities) - 1, total=page.total
        )
        rows = [texts.list_row(activity, asked.today) for activity in page.activities]
        return _paged(asked, [Text(heading), *rows], number, page.total, notice)

    def _today(self, asked: Asked) -> Iterable[Reply]:
        number, page, notice = _page(asked, self._activities.today)
        day = texts.day_with_weekday(asked.today)
        if not page.total:
            if not self._activities.list(asked.chat_id, page=Page(limit=1), call=asked.call).total:
                return _nothing_yet()
            return [Reply((Text(_("Nothing is due today, {day}. /list shows all you have.").format(day=day)),))]
        rows = [texts.today_row(activity, asked.today) for activity in page.activities]
        heading, footing = _("Today, {day}").format(day=day), texts.activities_counted(page.total)
        return _paged(asked, [Text(heading), *rows, Text(footing)], number, page.total, notice)

    def _list_stream(self, asked: Asked) -> Iterator[Reply]:
        if asked.words or asked.unclosed:
            raise Refused(_more_than_needed(asked, 0), texts.like_this(asked.with_words()))
        with self._streams.hold():
            activities = self._activities.stream(asked.chat_id, order=LATEST_END_FIRST, call=asked.call)
            first = next(activities, None)
            if first is None:
                yield from _nothing_yet()
            else:
                yield from fitting(_streamed(chain([first], activities), asked.today), first=PAGE_SIZE)

    def _get(self, asked: Asked) -> Iterable[Reply]:
        name = self._only_name(asked)
        activity = self._found(asked, name)
        if activity is None:
            raise self._unknown_name(asked, name)
        lines = [isolated(activity.name), texts.described(activity), texts.remark(activity, asked.today)]
        return fitting(Text(line) for line in lines if line)

    # ------------------------------------------------------------------------------------- writing

    def _add(self, asked: Asked) -> Iterable[Reply]:
        if _can_ask(asked):
            return self._asking(asked, Dialog("add", by_field(asked.words)))
        fields, _before = self._right_fields(asked)
        reading = Reading()
        wish = read_activity(reading, fields.values)
        reading.done()
        try:
            activity = self._activities.create(asked.chat_id, activity=wish, call=asked.call)
        except ActivityExists:
            there = self._activities.get(asked.chat_id, name=wish.name, call=asked.call)
            raise _exists(there, wish, fields.words) from None
        added = _("Added  {name}").format(name=isolated(activity.name))
        return [Reply((Text(added), Text(texts.described(activity))))]

    def _update(self, asked: Asked) -> Iterable[Reply]:
        if _can_ask(asked):
            return self._asking(asked, Dialog("update", by_field(asked.words)))
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

    def _delete(self, asked: Asked) -> Iterable[Reply]:
        name = self._only_name(asked)
        before = self._found(asked, name)
        try:
            # Even when it is not there: a line that is repeated gets the answer of the first time.
            self._activities.delete(asked.chat_id, name=name, call=asked.call)
        except ActivityNotFound:
            raise self._unknown_name(asked, name) from None
        deleted = _("Deleted  {name}").format(name=isolated(before.name if before else name))
        if before is None:
            return [Reply((Text(deleted),))]
        token = uuid4().hex
        self._deleted.put((asked.chat_id, token), _Deleted(before, until=asked.now + UNDO))
        undo = ((Button(_("Undo"), f"u:{token}"),),) if asked.has_buttons else ()
        return [Reply((Text(deleted), _add_again(before)), buttons=undo)]

    def _undo(self, asked: Asked, token: str) -> Iterable[Reply]:
        deleted = self._deleted.take((asked.chat_id, token))
        if deleted is None:  # after a restart the message has more to go by than the process
            return [Reply((), notice=_("I cannot undo that any more, but the line in that message adds it again."))]
        name = deleted.activity.name
        # One request, however often it is pressed.
        asked = replace(asked, command="add", words=(name,), call=replace(asked.call, request_id=UUID(token)))
        return self._carried_out(asked, lambda asked: self._brought_back(asked, token, deleted))

    def _brought_back(self, asked: Asked, token: str, deleted: _Deleted) -> Iterable[Reply]:
        wish = deleted.activity
        try:
            if deleted.is_back:
                return [Reply((), notice=_("It is back already."))]
            if asked.now >= deleted.until:
                raise Refused(Text(_("It is too late to undo that.")), _add_again(wish))
            activity = self._activities.create(asked.chat_id, activity=wish, call=asked.call)
            deleted = replace(deleted, is_back=True)
        except ActivityExists:
            there = self._activities.get(asked.chat_id, name=wish.name, call=asked.call)
            raise _exists(there, wish, texts.words_of(wish)) from None
        finally:
            self._deleted.put((asked.chat_id, token), deleted)
        back = _("Here again  {name}").format(name=isolated(activity.name))
        return [Reply((Text(back), Text(texts.described(activity))))]

    # ------------------------------------------------------------------------------------- dialogs

    def _asking(self, asked: Asked, dialog: Dialog) -> Iterable[Reply]:
        """Asks for the first word that is missing or wrong. When there is none, carries the command out."""
        given = dict(dialog.words)
        before = self._named(asked, [given["name"]] if "name" in given else [])
        fields = read_fields(asked, given, before)
        reasons: list[Line] = []
        names: list[str] = []
        for violation in fields.violations:
            wrong = violation.field
            if violation.code == "begin_after_end":  # the end that is there; another one can be given
                wrong = "end_date"
                if wrong not in given:
                    continue
            reasons.append(Text(texts.violation_line(violation, fields.words.get(violation.field, ""))))
            given.pop(wrong, None)
        if dialog.command == "update" and before is None:
            if name := given.pop("name", ""):
                unknown, near = self._unknown(asked, name)
                reasons.append(Text(unknown))
                names = [activity.name for activity in near]
            page = self._activities.list(asked.chat_id, page=Page(limit=dialogs.MOST_NAMES), call=asked.call)
            if not page.total:
                return _nothing_yet()
            names = list(dict.fromkeys([*names, *(each.name for each in page.activities)]))[: dialogs.MOST_NAMES]
        words = settled(given, fields)
        if len(words) == len(texts.FIELDS):
            whole = replace(asked, words=tuple(words[field] for field in texts.FIELDS), is_dialog=True)
            return self._carried_out(whole, self._handlers[dialog.command])
        dialog = replace(dialog, words=words, names=tuple(names), turn=dialog.turn + 1)
        self._dialogs.put(_owner(asked), dialog)
        return [dialogs.question(dialog, reasons, before=before, today=asked.today)]

    def _answered(self, asked: Asked, dialog: Dialog, word: str) -> Iterable[Reply]:
        """Goes on with this word for what the dialog asked."""
        if self._dialogs.take(_owner(asked)) is not dialog:  # of two taps at once, one has it
            return [_no_longer_open()]
        asked = replace(asked, command=dialog.command)
        try:
            return self._asking(asked, replace(dialog, words={**dialog.words, dialog.field: word}))
        except ActivitiesError:
            self._dialogs.put(_owner(asked), dialog)
            raise

    def _dialog_button(self, asked: Asked, kind: str, dialog_id: str, turn: str, value: str) -> Iterable[Reply]:
        dialog = self._dialogs.get(_owner(asked))
        if dialog is None or dialog.id != dialog_id:
            return [_no_longer_open()]
        if str(dialog.turn) != turn:
            return [Reply((), notice=_("That question is answered already."))]
        if kind == "x":
            self._dialogs.take(_owner(asked))
            return [Reply((Text(_("Cancelled, nothing has changed.")),))]
        try:
            if kind == "m":
                asked = replace(asked, command=dialog.command)
                before = self._named(asked, [dialog.words.get("name", "")])
                if dialog.command == "update" and before is None:  # it was deleted meanwhile
                    self._dialogs.take(_owner(asked))
                    return [_no_longer_open()]
                month = dialogs.read_month(value)
                return [dialogs.question(dialog, before=before, today=asked.today, month=month)]
            word = dialog.names[int(value)] if kind == "i" else value
        except (ValueError, IndexError):
            return [_unknown_button()]
        return self._answered(asked, dialog, word)

    # --------------------------------------------------------------------------------------- names

    def _found(self, asked: Asked, name: str) -> Activity | None:
        try:
            return self._activities.get(asked.chat_id, name=name, call=asked.call)
        except ActivityNotFound:
            return None

    def _only_name(self, asked: Asked) -> str:
        """The name that is all the command needs."""
        if not asked.words:
            raise Refused(Text(texts.missing(["name"])), *self._with_some_name(asked))
        if asked.unclosed or len(asked.words) > 1:
            whole, first = mended_name(" ".join(asked.words)), mended_name(asked.words[0])
            meant = self._found(asked, whole) or self._found(asked, first)
            near = [meant] if meant else self._unknown(asked, whole)[1]
            lines = [texts.like_this(asked.with_words(near[0].name))] if near else self._with_some_name(asked)
            raise Refused(_more_than_needed(asked, 1), *lines)
        try:
            return read_name(asked.words[0])
        except Broken as broken:
            violation = Violation("name", broken.code, broken.params)
            line_of_violation = Text(texts.violation_line(violation, asked.words[0]))
            raise Refused(line_of_violation, *self._with_some_name(asked)) from None

    def _with_some_name(self, asked: Asked) -> Iterable[Line]:
        """The command's line with a name that the chat has; where it has none, how to get one."""
        activity = self._some(asked)
        return [texts.like_this(asked.with_words(activity.name))] if activity else _nothing_yet()[0].lines

    def _some(self, asked: Asked) -> Activity | None:
        """An activity of the chat, to make an example of."""
        page = self._activities.list(asked.chat_id, page=Page(limit=1), call=asked.call)
        return page.activities[0] if page.activities else None

    def _unknown_name(self, asked: Asked, name: str) -> Refused:
        """The refusal of a line that is right but for its name."""
        unknown, near = self._unknown(asked, name)
        if not near and self._some(asked) is None:
            return Refused(Text(unknown), *_nothing_yet()[0].lines)
        lines = [
            Copy(asked.with_words(activity.name, *asked.words[1:]))
            for activity in near
            if asked.command != "update" or read_fields(asked, by_field(asked.words), activity).are_right
        ]
        return Refused(Text(unknown if near else f"{unknown} {_('/list shows what you have.')}"), *lines)

    def _unknown(self, asked: Asked, name: str) -> tuple[str, list[Activity]]:
        """What to say of a name that the chat does not have, and the activities that it may have meant."""
        page = self._activities.list(asked.chat_id, page=Page(limit=MOST_COMPARED), call=asked.call)
        by_key = {activity.key: activity for activity in page.activities}
        near = [by_key[key] for key in difflib.get_close_matches(name_key(name), by_key, n=3)]
        unknown = _("I know no {name}.").format(name=isolated(name))
        if near:
            unknown += " " + texts.did_you_mean([isolated(activity.name) for activity in near])
        return unknown, near

    # ---------------------------------------------------------------------- the words of an activity

    def _right_fields(self, asked: Asked) -> tuple[Fields, Activity | None]:
        """The fields of /add or /update, and the activity that an /update is about, if there is one.

        The refusal names all that is wrong, and one line that is right.
        """
        most = len(texts.FIELDS)
        before = self._named(asked, asked.words)
        fields = read_fields(asked, by_field(asked.words), before)
        if fields.are_right and not asked.unclosed and len(asked.words) <= most:
            return fields, before
        reasons: list[Line] = []
        if asked.unclosed or len(asked.words) > most:
            reasons.append(_more_than_needed(asked, most))
            # What is too many belongs to the name, more likely than not.
            words = (" ".join(asked.words[: 1 - most]), *asked.words[1 - most :])
            if len(asked.words) > most and not read_fields(asked, by_field(words), None).violations:
                before = self._named(asked, words)
                fields = read_fields(asked, by_field(words), before)
        reasons += [Text(texts.violation_line(each, fields.words.get(each.field, ""))) for each in fields.violations]
        if fields.missing:
            reasons.append(Text(texts.missing(fields.missing)))
        if asked.command == "add":
            name = str(fields.values.get("name") or mended_name(fields.words.get("name", "")))
        else:
            if before is None:
                near: list[Activity] = []
                if "name" in fields.values:
                    unknown, near = self._unknown(asked, str(fields.values["name"]))
                    reasons.insert(0, Text(unknown))
                before = near[0] if near else self._some(asked)
            if before is None:
                raise Refused(*reasons, *_nothing_yet()[0].lines)
            name = before.name
        line = asked.with_words(name, *mended_fields(asked, fields, before))
        raise Refused(*reasons, texts.like_this(line))

    def _named(self, asked: Asked, words: Sequence[str]) -> Activity | None:
        """The activity that an /update is about, if there is one."""
        if asked.command != "update" or not words:
            return None
        try:
            return self._found(asked, read_name(words[0]))
        except Broken:
            return None


# ------------------------------------------------------------------------------------------ pages


def _page_number(asked: Asked) -> int:
    """The page asked for, from 1; the first one when the line does not say."""
    if asked.unclosed or len(asked.words) > 1:
        raise Refused(_more_than_needed(asked, 1), texts.like_this(asked.with_words("1")))
    if not asked.words:
        return 1
    if _PAGE_NUMBER.fullmatch(asked.words[0]) and int(asked.words[0]) > 0:
        return int(asked.words[0])
    line = texts.violation_line(Violation("page", "not_a_page"), asked.words[0])
    raise Refused(Text(line), texts.like_this(asked.with_words("1")))


_PAGE_NUMBER = re.compile("[0-9]{1,9}")


def _page_size(asked: Asked) -> int:
    return BUTTON_PAGE_SIZE if asked.has_buttons else PAGE_SIZE


def _page(asked: Asked, read: Callable[..., ActivityPage]) -> tuple[int, ActivityPage, str]:
    """The number of the page asked for, and the page. A button whose page is gone gets the last one and a notice."""
    number, size = _page_number(asked), _page_size(asked)

    def at(number: int) -> ActivityPage:
        return read(asked.chat_id, page=Page(limit=size, offset=(number - 1) * size), call=asked.call)

    page = at(number)
    last = max(1, -(-page.total // size))
    if number <= last:
        return number, page, ""
    if asked.is_press:
        return last, at(last), _("That page is gone, this is the last one.")
    line = texts.violation_line(Violation("page", "no_such_page", {"most": str(last)}), asked.words[0])
    raise Refused(Text(line), texts.like_this(asked.with_words(str(last))))


def _paged(asked: Asked, lines: Sequence[Line], number: int, total: int, notice: str) -> Iterable[Reply]:
    """A page with the way to the others."""
    size = _page_size(asked)
    if asked.has_buttons:
        return [Reply(tuple(lines), buttons=pager(f"p:{asked.command}:", number, -(-total // size)), notice=notice)]
    more = [Copy(asked.with_words(str(number + 1)), _("More:"))] if number * size < total else []
    return fitting([*lines, *more])


def _streamed(activities: Iterable[Activity], today: date) -> Iterator[Line]:
    yield Text(_("All your activities, latest end first"))
    count = 0
    for activity in activities:
        count += 1
        yield texts.list_row(activity, today)
    yield Text(texts.activities_counted(count))


def _nothing_yet() -> list[Reply]:
    return [Reply((Text(_("You have no activities yet.")), Copy(texts.example_add(), _("Add one:"))))]


def _add_again(activity: Activity) -> Copy:
    return Copy(texts.add_line(activity), _("Add it again:"))


# ----------------------------------------------------------------------------------------- dialogs


def _can_ask(asked: Asked) -> bool:
    """Whether words are missing that can be asked for."""
    is_known = asked.has_buttons and asked.user_id is not None
    return is_known and not asked.unclosed and len(asked.words) < len(texts.FIELDS)


def _owner(asked: Asked) -> tuple[int, int | None]:
    """Whose dialog it is."""
    return asked.chat_id, asked.user_id


def _no_longer_open() -> Reply:
    return Reply((), notice=_("That question is no longer open. Please send the command again."))


def _unknown_button() -> Reply:
    return Reply((), notice=_("I don't know that button any more."))


# --------------------------------------------------------------------------------- what goes wrong


def _unknown_command(command: str, known: Iterable[str]) -> str:
    unknown = _("I don't know {command}.").format(command=texts.as_read(f"/{command}"))
    near = difflib.get_close_matches(command[:40], known, n=1)
    return f"{unknown} {texts.did_you_mean([f'/{near[0]}']) if near else _('/help shows what I know.')}"


def _more_than_needed(asked: Asked, most: int) -> Text:
    if asked.unclosed:
        return Text(_("A quote is opened there and never closed."))
    if most == 0:
        return Text(_("/{command} needs nothing after it.").format(command=asked.command))
    counted = _("That is more than I need ({count} instead of {most}).").format(count=len(asked.words), most=most)
    hint = _("A name with spaces goes in quotes.")
    return Text(counted if asked.command in ("list", "today") else f"{counted} {hint}")


def _exists(there: Activity, wish: Activity, words: Mapping[str, str]) -> Refused:
    """The refusal that shows what there is, and how to make it what was wished."""
    name = isolated(there.name)
    if replace(wish, name=there.name) == there:
        return Refused(Text(_("You already have {name}, just like that.").format(name=name)))
    exists = _("You already have {name}: {quantity}, {times}, until {end}.").format(
        name=name,
        quantity=quantity_text(there.quantity_per_time),
        times=texts.times_a_day(there.times_per_day),
        end=texts.day(there.end_date),
    )
    return Refused(Text(exists), Copy(update_line(there, wish, words), _("Change it:")))


def _failure(error: ActivitiesError, asked: Asked) -> list[Line]:
    """What is said when it was not the person's words that were wrong."""
    if isinstance(error, TooManyActivities):
        full = _("You have {limit} activities, the most I can keep. Delete one first, /list shows them.")
        return [Text(full.format(limit=error.details.get("limit", "")))]
    if isinstance(error, RateLimited):
        return [_wait(error)]
    if isinstance(error, InvalidActivity | ActivityNotFound | ActivityExists):  # it was right a moment ago
        return [Text(_("That activity changed while I was at it. Please send your line again."))]
    logger.warning("/%s: %r; reference %s", asked.command, error, asked.call.request_id)
    nobody_typed_it = asked.is_dialog and not isinstance(error, OutcomePending)
    again = [Copy(asked.with_words(*asked.words), _("To try again:"))] if nobody_typed_it else []
    return [Text(_apology(error, asked)), *_how_to_look(error, asked), *again, texts.reference(asked.call.request_id)]


def _wait(error: RateLimited) -> Text:
    seconds = error.seconds_to_wait
    return Text(_("That was a lot at once. Please try again in {seconds} s.").format(seconds=seconds))


def _too_often(asked: Asked, error: RateLimited) -> Generator[Reply, None, None]:
    text = _wait(error)
    yield Reply((), notice=text.text) if asked.is_press else Reply((text,))


def _apology(error: ActivitiesError, asked: Asked) -> str:
    if isinstance(error, OutcomePending):
        return _("Accepted, but not finished yet.")
    if isinstance(error, StorageBusy):
        return _("Sorry, there is too much going on just now. Please try again in a few seconds.")
    if isinstance(error, StorageTimeout) and asked.command in _CHANGES:
        return _("Sorry, my storage did not answer in time, so I don't know whether that was done.")
    if isinstance(error, StorageTimeout):
        return _("Sorry, my storage did not answer in time. Please try again.")
    if isinstance(error, StorageUnavailable):
        return _("Sorry, I cannot reach my storage just now. Please try again in a few seconds.")
    return _("Sorry, something went wrong on my side.")


def _how_to_look(error: ActivitiesError, asked: Asked) -> list[Line]:
    """How to see whether a write was done that has no answer."""
    if not isinstance(error, OutcomePending | StorageTimeout) or asked.command not in _WRITES or not asked.words:
        return []
    return [Copy(f"/get {joined(asked.words[:1])}", _("Look again:"))]


def _in_language(language: str, replies: Generator[Reply, None, None]) -> Generator[Reply, None, None]:
    with closing(replies):
        while True:
            # Around each step, not around the loop: the language must not leak to whoever reads the replies.
            with translation.override(language):
                reply = next(replies, None)
            if reply is None:
                return
            yield reply


def spoken(language: str) -> str:
    """The language that the bot speaks to whoever has this language code: `ru` for `ru-RU`, English otherwise."""
    short = re.split("[-_]", language.lower(), maxsplit=1)[0]
    return short if short in LANGUAGES else "en"
