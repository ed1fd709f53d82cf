"""/export, /import and /forget_me: all that is kept of a chat, handed out, taken in, and erased."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_hex
from uuid import UUID, uuid5

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityExists,
    Chat,
    ChatChanges,
    Create,
    Outcome,
    OutcomePending,
    Page,
    RateLimited,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    TooManyActivities,
    read_order,
)
from activities.ports import Activities, Call, Chats
from activities.streams import StreamSlots
from bot import chat_files, texts
from bot.asked import Asked, Refused
from bot.chat_settings import LANGUAGE_NAMES
from bot.fields import update_line
from bot.recent import Recent
from bot.replies import Button, Copy, File, Line, Reply, Text

ASKING = timedelta(minutes=5)
"""For how long a question waits for its button or its file."""
BATCH = 100
"""How many activities are created in one access."""
ATTEMPTS = 5
"""How often in a row a batch may come to nothing."""
PAUSE_SECONDS = 0.5
"""Before the second attempt; each further pause is twice as long."""
TOLD_EVERY = timedelta(seconds=10)
"""How often is told that work goes on."""
MOST_SHOWN = 5
"""Of the activities that differ."""
_YES = ("yes", "да")
_MOST_ASKED = 10_000
_TRANSIENT = (StorageBusy, StorageTimeout, StorageUnavailable, OutcomePending, RateLimited)


@dataclass
class _Imported:
    """What became of a file's activities so far."""

    wanted: int
    added: int = 0
    same: int = 0
    different: list[tuple[Activity, Activity]] = field(default_factory=list)
    """What is there, and what the file has."""
    failed: ActivitiesError | None = None
    """What ended it early."""

    def compare(self, there: Activity, wish: Activity) -> None:
        if replace(wish, name=there.name) == there:
            self.same += 1
        else:
            self.different.append((there, wish))


class ChatData:
    """`read_file` reads a file by its name where people can name files; `out_of_mind` drops what the process remembers
    of a chat."""

    def __init__(
        self,
        activities: Activities,
        chats: Chats,
        streams: StreamSlots,
        *,
        clock: Callable[[], datetime],
        read_file: Callable[[str], bytes] | None,
        out_of_mind: Callable[[int], None],
    ) -> None:
        self._activities = activities
        self._chats = chats
        self._streams = streams
        self._clock = clock
        self._read_file = read_file
        self._out_of_mind = out_of_mind
        self._forgetting: Recent[tuple[int, str], int | None] = Recent(most=_MOST_ASKED, lifetime=ASKING, clock=clock)
        self._awaited: Recent[tuple[int, int | None], bool] = Recent(most=_MOST_ASKED, lifetime=ASKING, clock=clock)

    # ------------------------------------------------------------------------------------- /forget_me

    def forget_me(self, asked: Asked) -> Iterable[Reply]:
        """Asks before it erases anything, unless the line says yes."""
        words = [word.casefold() for word in asked.words]
        if len(words) == 1 and words[0] in _YES:
            return [self._forget(asked)]
        if words:
            raise Refused(Text(_("/forget_me erases everything, so it asks for one word to be sure.")), _sure(asked))
        token = token_hex(8)
        self._forgetting.put((asked.chat_id, token), asked.user_id)
        chat, total = asked.chat, self._activities.list(asked.chat_id, page=Page(limit=1), call=asked.call).total
        lost = _("This erases all I keep of this chat: {activities}, the settings ({zone}, {language}), all tokens.")
        lines = [
            lost.format(
                activities=texts.activities_counted(total),
                zone=chat.timezone,
                language=LANGUAGE_NAMES.get(chat.language, chat.language),
            ),
            _("Nobody can bring it back. /export gives you a copy first."),
            *([] if asked.is_private else [_("It is everybody's here, so ask the others.")]),
        ]
        buttons = (
            (Button(_("Erase everything"), f"f:{token}:yes"),),
            (Button(_("Cancel"), f"f:{token}:no"),),
        )
        return [Reply(tuple(map(Text, lines)), buttons=buttons, typed=(_sure(asked),))]

    def answered(self, asked: Asked, token: str, answer: str) -> Iterable[Reply]:
        """The press of a button below the question. It is for whoever asked, and good once."""
        question = asked.chat_id, token
        asker = self._forgetting.get(question)
        if asker is not None and asker != asked.user_id:
            return [Reply((), notice=_("Only the person who asked can answer that."))]
        if self._forgetting.take(question) is None:
            return [Reply((), notice=_("That question is no longer open. Please send the command again."))]
        if answer != "yes":
            return [Reply((Text(_("Cancelled, nothing has changed.")),))]
        try:
            return [self._forget(asked)]
        except ActivitiesError:
            self._forgetting.put(question, asker)
            raise

    def _forget(self, asked: Asked) -> Reply:
        self._chats.forget(asked.chat_id, call=asked.call)
        self._out_of_mind(asked.chat_id)
        self._forgetting.drop(lambda question: question[0] == asked.chat_id)
        self._awaited.drop(lambda owner: owner[0] == asked.chat_id)
        lines = [
            _("Everything I kept of this chat is erased, and its tokens have ended."),
            _("What is left is the chat's number, when it was erased, and since when its tokens are void."),
            _(
                "Where commands go through a queue, copies of old ones leave it within 24 hours, and those that could "
                "not be carried out within 7 days."
            ),
            *([_("The conversation itself is with Telegram: I cannot delete it there, you can.")] * asked.has_buttons),
            _("/start begins anew."),
        ]
        return Reply(tuple(map(Text, lines)), forgets=True)

    # ---------------------------------------------------------------------------------------- /export

    def export(self, asked: Asked) -> Iterator[Reply]:
        """Everything as one file, and the activities as another."""
        if asked.words or asked.unclosed:
            raise Refused(
                Text(_("/{command} needs nothing after it.").format(command=asked.command)),
                texts.like_this(asked.with_words()),
            )
        chat, name = asked.chat, f"activities-{asked.today}"
        activities = yield from self._all(asked.chat_id)
        everything = [
            _("All I keep of this chat: {activities}, the settings, since when its tokens are good.").format(
                activities=texts.activities_counted(len(activities))
            ),
            _("/import reads it back, here or in another chat."),
            *([] if asked.is_private else [_("It is this group's, so everybody here can read it.")]),
        ]
        table = _("The activities once more, for a spreadsheet.")
        for lines, file in (
            (everything, File(f"{name}.json", chat_files.as_json(chat, activities))),
            ([table], File(f"{name}.csv", chat_files.as_csv(activities))),
        ):
            yield Reply(tuple(map(Text, lines)), file=file, instead_of_file=texts.file_not_sent())

    def _all(self, chat_id: int) -> Generator[Reply, None, list[Activity]]:
        """The chat's activities by name, with replies that tell that work goes on."""
        activities: list[Activity] = []
        going_on = self._going_on()
        with self._streams.hold(), closing(self._activities.stream(chat_id, order=_BY_NAME, call=Call())) as stream:
            for activity in stream:
                activities.append(activity)
                if len(activities) % BATCH == 0:
                    yield going_on(texts.activities_counted(len(activities)))
        return activities

    def _going_on(self) -> Callable[[str], Reply]:
        """Makes replies that tell how far it is, those that came too soon after one empty."""
        told_at = self._clock()

        def going_on(how_far: str) -> Reply:
            nonlocal told_at
            if self._clock() - told_at < TOLD_EVERY:
                return Reply(())
            told_at = self._clock()
            return Reply((Text(_("I am still at it: {how_far} so far.").format(how_far=how_far)),))

        return going_on

    # ---------------------------------------------------------------------------------------- /import

    def awaits_file(self, chat_id: int, user_id: int) -> bool:
        return self._awaited.get((chat_id, user_id)) is not None

    def received(self, asked: Asked) -> Iterable[Reply]:
        """A file that came without a command."""
        if self._awaited.get((asked.chat_id, asked.user_id)):
            return self.import_(asked)
        return [Reply((Text(_("Is that a file that /export made? Then send it with the caption /import.")),))]

    def import_(self, asked: Asked) -> Iterator[Reply]:
        """Takes in what a file has and the chat has not. What the chat has stays as it is."""
        fetch = self._fetch(asked)
        if fetch is None:
            self._awaited.put((asked.chat_id, asked.user_id), True)
            size = chat_files.MOST_BYTES >> 20
            question = _(
                "Send me the file that /export made, JSON or CSV, at most {size} MB: as a reply to this message, or "
                "with the caption /import."
            )
            yield Reply((Text(question.format(size=size)),))
            return
        content = fetch()
        yield Reply(())
        contents = chat_files.read(content)
        del content
        self._awaited.take((asked.chat_id, asked.user_id))  # not before: a file that was refused may come mended
        yield Reply(())
        before = self._chats.get(asked.chat_id, call=Call())
        there = yield from self._all(asked.chat_id)
        imported = yield from self._create(asked, contents.activities, {each.key: each for each in there})
        after = before if imported.failed else self._settled(before, contents.settings)
        yield Reply(
            tuple(_told(imported, before, after)), language=after.language if after.language != before.language else ""
        )
        if isinstance(imported.failed, ActivitiesError) and not isinstance(imported.failed, TooManyActivities):
            raise imported.failed

    def _fetch(self, asked: Asked) -> Callable[[], bytes] | None:
        """How to get the file that is meant; None when there is none."""
        if asked.attached is not None:
            return asked.attached
        if self._read_file is None:
            return None
        read_file, name = self._read_file, " ".join(asked.words)
        if not name:
            line = asked.with_words(f"activities-{asked.today}.json")
            raise Refused(Text(_("I need one more thing: the file.")), texts.like_this(line))
        return lambda: read_file(name)

    def _create(
        self, asked: Asked, wishes: Sequence[Activity], there: dict[str, Activity]
    ) -> Generator[Reply, None, _Imported]:
        """Creates what is not there, some at a time, until all is done or nothing helps."""
        imported = _Imported(len(wishes))
        waiting: deque[Create] = deque()
        for number, wish in enumerate(wishes):
            if wish.key in there:
                imported.compare(there[wish.key], wish)
                continue
            there[wish.key] = wish
            request_id = uuid5(asked.call.request_id or UUID(int=0), f"import {number}")
            waiting.append(Create(chat_id=asked.chat_id, activity=wish, request_id=request_id))
        going_on, size, failures = self._going_on(), BATCH, 0
        while waiting and imported.failed is None:
            yield going_on(_("{done} of {total}").format(done=len(wishes) - len(waiting), total=len(wishes)))
            batch = [waiting.popleft() for _number in range(min(size, len(waiting)))]
            again: list[Create] = []
            for command, outcome in zip(batch, self._outcomes(batch), strict=True):
                end = self._there(command) if isinstance(outcome, ActivityExists) else outcome
                if isinstance(end, _TRANSIENT):
                    again.append(command)
                    last = end
                elif isinstance(end, ActivitiesError):
                    imported.failed = end
                elif isinstance(outcome, Activity):
                    imported.added += 1
                elif end is not None:
                    imported.compare(end, command.activity)
            waiting.extendleft(reversed(again))
            failures = failures + 1 if len(again) == len(batch) else 0
            size = max(1, size // 2) if failures else size
            if failures == ATTEMPTS:
                imported.failed = last
            elif failures:
                time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
        return imported

    def _outcomes(self, batch: Sequence[Create]) -> Sequence[Outcome]:
        try:
            return self._activities.apply(batch, call=Call())
        except ActivitiesError as error:
            return [error] * len(batch)

    def _there(self, command: Create) -> Outcome:
        """The activity that came in between."""
        try:
            return self._activities.get(command.chat_id, name=command.activity.name, call=Call())
        except ActivitiesError as error:
            return error

    def _settled(self, chat: Chat, settings: ChatChanges) -> Chat:
        """The chat with those settings that it had not chosen itself."""
        wish = chat.joined_by(settings.applied_to(Chat(chat.chat_id)))
        if wish == chat:
            return chat
        return self._chats.update(chat.chat_id, changes=ChatChanges(wish.timezone, wish.language), call=Call())


_BY_NAME = read_order("name")


def _sure(asked: Asked) -> Copy:
    return Copy(asked.with_words(_("yes")), _("To erase everything:"))


def _told(imported: _Imported, before: Chat, after: Chat) -> Iterator[Line]:
    """What became of a file."""
    if not imported.wanted:
        yield Text(_("There are no activities in that file."))
    elif imported.failed:
        so_far = _("Imported {added} of {wanted} activities, and then I had to stop.")
        yield Text(so_far.format(added=imported.added, wanted=imported.wanted))
    elif imported.added or not imported.same:
        added = ngettext("Imported {count} activity.", "Imported {count} activities.", imported.added)
        yield Text(added.format(count=imported.added))
    if imported.same:
        same = ngettext(
            "{count} was there already, just like that.", "{count} were there already, just like that.", imported.same
        )
        yield Text(same.format(count=imported.same))
    if after.timezone != before.timezone:
        yield Text(_("Your time zone is {zone} now.").format(zone=after.timezone))
    if after.language != before.language:
        yield Text(_("I speak {language} from now on.").format(language=LANGUAGE_NAMES[after.language]))
    if isinstance(imported.failed, TooManyActivities):
        full = _("You have {limit} activities, the most I can keep. Delete one first, /list shows them.")
        yield Text(full.format(limit=imported.failed.details.get("limit", "")))
    elif imported.failed:
        yield Text(_("Send the same file again, and I go on from there."))
    yield from _differing(imported.different)


def _differing(different: Sequence[tuple[Activity, Activity]]) -> Iterator[Line]:
    count = len(different)
    if not count:
        return
    kept = ngettext(
        "{count} is different here, and I have left it as it is. To change it:",
        "{count} are different here, and I have left them as they are. To change them:",
        count,
    )
    yield Text(kept.format(count=count))
    for there, wish in different[:MOST_SHOWN]:
        yield Copy(update_line(there, wish, texts.words_of(wish)))
    if count > MOST_SHOWN:
        more = count - MOST_SHOWN
        yield Text(ngettext("and {count} more", "and {count} more", more).format(count=more))
