"""All that is kept of a chat: handed out, taken in, erased."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.domain import (
    ActivitiesError,
    Activity,
    ChatChanges,
    NotAuthenticated,
    OutcomePending,
    RateLimited,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    read_order,
)
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from bot import chat_data
from bot.chat_data import ASKING, ATTEMPTS, MOST_SHOWN
from bot.chat_files import as_csv, as_json
from bot.commands import Commands
from bot.replies import MOST_CAPTION_UNITS, MOST_UNITS, plain, units
from tests.bot.talking import NOON, Talk
from tests.bot.test_chat_settings import access_anew, chat, token_of
from tests.examples import activities, activity

EACH_LANGUAGE = pytest.mark.parametrize("language", ["en", "ru"])


def stored(talk: Talk) -> list[Activity]:
    return list(talk.container.activities.stream(talk.chat_id, order=read_order("name"), call=Call()))


def keep(talk: Talk, *many: Activity) -> None:
    for each in many:
        talk.container.activities.create(talk.chat_id, activity=each, call=Call())


def pills(count: int, **changes: Any) -> list[Activity]:
    return [activity(f"pill {number:05}", **changes) for number in range(count)]


def csv_of(*many: Activity) -> bytes:
    return as_csv(many)


# -------------------------------------------------------------------------------------- /forget_me


def test_forgetting_says_what_will_be_lost_and_asks(tapping):
    keep(tapping, *pills(2))
    tapping.say("/timezone Europe/Moscow")
    assert tapping.say("/forget_me") == (
        "This erases all I keep of this chat: 2 activities, the settings (Europe/Moscow, English), all tokens.\n"
        "Nobody can bring it back. /export gives you a copy first.\n"
        "[Erase everything]\n[Cancel]"
    )
    assert len(stored(tapping)) == 2


def test_one_press_erases_everything_of_this_chat_and_of_no_other(tapping):
    keep(tapping, *pills(2))
    tapping.say("/timezone Europe/Moscow")
    token = token_of(tapping.replies("/token")[0])
    tapping.in_new_chat()
    keep(tapping, *pills(3))
    tapping.chat_id = 1
    tapping.now = datetime.now(UTC) + timedelta(seconds=2)  # tokens are issued by the real clock
    tapping.say("/forget_me")
    (reply,) = tapping.replies("[Erase everything]")
    assert (reply.replaces, reply.forgets) == (True, True)
    assert plain(reply).startswith("Everything I kept of this chat is erased, and its tokens have ended.\n")
    assert all(each in plain(reply) for each in ("24 hours", "7 days", "Telegram"))
    assert (stored(tapping), chat(tapping).timezone) == ([], "UTC")
    with pytest.raises(NotAuthenticated):
        access_anew(tapping).principal(token, call=Call())
    assert len(stored(tapping.in_new_chat())) == 3


def test_a_second_press_erases_nothing_that_came_after(tapping):
    tapping.say("/forget_me")
    yes = tapping.button("Erase everything").data
    tapping.pressed(yes)
    keep(tapping, activity())
    assert tapping.text(tapping.pressed(yes)[0]) == (
        "(That question is no longer open. Please send the command again.)"
    )
    assert len(stored(tapping)) == 1


def test_a_stale_question_erases_nothing(tapping):
    keep(tapping, activity())
    tapping.say("/forget_me")
    tapping.now += ASKING
    assert "no longer open" in tapping.say("[Erase everything]")
    tapping.say("/forget_me")
    tapping.restart()
    assert "no longer open" in tapping.say("[Erase everything]")
    assert len(stored(tapping)) == 1


def test_only_who_asked_may_answer(tapping):
    keep(tapping, activity())
    tapping.is_private = False
    assert "It is everybody's here, so ask the others." in tapping.say("/forget_me")
    tapping.user_id += 1
    assert tapping.say("[Erase everything]") == "(Only the person who asked can answer that.)"
    assert tapping.say("[Cancel]") == "(Only the person who asked can answer that.)"
    assert len(stored(tapping)) == 1
    tapping.user_id -= 1
    assert "is erased" in tapping.say("[Erase everything]")


def test_cancelling_leaves_everything_and_ends_the_question(tapping):
    keep(tapping, activity())
    tapping.say("/forget_me")
    yes = tapping.button("Erase everything").data
    assert tapping.say("[Cancel]") == "Cancelled, nothing has changed."
    assert "no longer open" in tapping.text(tapping.pressed(yes)[0])
    assert len(stored(tapping)) == 1


def test_another_chat_cannot_press_it(tapping):
    tapping.say("/forget_me")
    yes = tapping.button("Erase everything").data
    keep(tapping.in_new_chat(), activity())
    assert "no longer open" in tapping.text(tapping.pressed(yes)[0])
    assert len(stored(tapping)) == 1


@EACH_LANGUAGE
@pytest.mark.parametrize("word", ["yes", "YES", "да", "Да"])
def test_without_buttons_it_is_typed(talk, language, word):
    talk.language = language
    keep(talk, activity())
    (line,) = talk.suggestions("/forget_me")
    assert line == {"en": "/forget_me yes", "ru": "/forget_me да"}[language]
    assert talk.suggestions("/forget_me no") == talk.suggestions("/forget_me yes please") == [line]
    assert len(stored(talk)) == 1
    assert "Telegram" not in talk.say(f"/forget_me {word}")
    assert stored(talk) == []


def test_nothing_of_the_chat_is_left_in_mind(tapping):
    keep(tapping, activity("secret pill"), activity("other"))
    tapping.say('/delete "secret pill"')
    undo = tapping.button("Undo").data
    tapping.say("/import")
    tapping.say('/add "secret drops"')  # asks on
    tapping.user_id += 1
    tapping.say("/update other")
    remembered = repr([vars(each) for each in (tapping.commands._dialogs, tapping.commands._deleted)])
    assert all(each in remembered for each in ("secret pill", "secret drops", "other"))
    tapping.say("/forget_me")
    tapping.say("[Erase everything]")
    remembered = repr([vars(each) for each in (tapping.commands._dialogs, tapping.commands._deleted)])
    assert not any(each in remembered for each in ("secret pill", "secret drops", "other"))
    assert not any(tapping.commands.has_dialog(1, user) or tapping.commands.awaits_file(1, user) for user in (7, 8))
    assert "cannot undo" in tapping.text(tapping.pressed(undo)[0])
    assert stored(tapping) == []


def test_what_other_chats_have_in_mind_stays(tapping):
    tapping.say("/add drops")
    tapping.in_new_chat().say("/forget_me")
    tapping.say("[Erase everything]")
    assert tapping.commands.has_dialog(1, 7)


class Failing(MemoryRepository):
    """Fails with these errors first, and does all the same what it is asked where it `acts`."""

    def __init__(self, *errors: ActivitiesError, acts: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.errors = list(errors)
        self.acts = acts

    def forget(self, *args, **kwargs):
        if self.errors:
            raise self.errors.pop(0)
        return super().forget(*args, **kwargs)

    def apply(self, commands, **kwargs):
        if not self.errors:
            return super().apply(commands, **kwargs)
        if self.acts:
            super().apply(commands, **kwargs)
        raise self.errors.pop(0)


def test_a_storage_that_fails_leaves_the_question_open(talking):
    tapping = talking(Failing(StorageTimeout()), language=None, with_buttons=True)
    tapping.say("/forget_me")
    assert "I don't know whether that was done" in tapping.say("[Erase everything]")
    assert "is erased" in tapping.say("[Erase everything]")


def test_forgetting_in_russian(tapping_russian):
    keep(tapping_russian, *pills(5))
    said = tapping_russian.say("/forget_me")
    assert said.startswith("Будет стёрто всё, что я храню об этом чате: 5 дел, настройки (UTC, Русский), все ключи.")
    assert tapping_russian.say("[Стереть всё]").startswith("Всё, что я хранил об этом чате, стёрто")


# ------------------------------------------------------------------------------------------ /export


def test_the_export_has_everything(tapping):
    keep(tapping, *pills(450))
    tapping.say("/timezone Europe/Moscow")
    tapping.now += timedelta(hours=10)  # tomorrow, there
    tapping.container.chats.revoke_tokens(1, call=Call())
    as_whole, as_table = (reply for reply in tapping.replies("/export") if reply.file)
    assert (as_whole.file.name, as_table.file.name) == ("activities-2026-11-25.json", "activities-2026-11-25.csv")
    assert as_whole.file.content == as_json(chat(tapping), pills(450))
    assert json.loads(as_whole.file.content)["tokens_valid_after"] > 0
    assert as_table.file.content == as_csv(pills(450))
    assert plain(as_whole).startswith("All I keep of this chat: 450 activities, the settings,")
    assert "everybody here" not in plain(as_whole)
    assert units(plain(as_whole)) <= MOST_CAPTION_UNITS


def test_a_groups_export_says_that_all_can_read_it(tapping_russian):
    tapping_russian.is_private = False
    said = tapping_russian.say("/export")
    assert "Это данные группы, поэтому прочесть их здесь могут все." in said


def test_a_file_is_not_shown_by_accident(tapping):
    keep(tapping, activity("secret"))
    assert "secret" not in repr(tapping.replies("/export"))


@EACH_LANGUAGE
def test_an_export_needs_nothing_more(talk, language):
    talk.language = language
    assert talk.suggestions("/export everything") == ["/export"]


# ------------------------------------------------------------------------------------------ /import


@given(st.lists(activities(), max_size=30, unique_by=lambda each: each.key), st.sampled_from([0, 1]))
def test_export_forget_import_gives_the_same(many: Sequence[Activity], which: int) -> None:
    talk = Talk(language=None, with_buttons=True)
    keep(talk, *many)
    talk.container.chats.update(1, changes=ChatChanges("Asia/Tokyo", "ru"), call=Call())
    before, kept = chat(talk), stored(talk)
    file = talk.exported()[which]
    talk.say("/forget_me yes")
    assert stored(talk) == []
    talk.say("/import", file)
    assert stored(talk) == kept
    settings = ("Asia/Tokyo", "ru") if which == 0 else ("UTC", "en")
    assert (chat(talk).timezone, chat(talk).language) == settings
    assert chat(talk).tokens_valid_after > before.tokens_valid_after
    assert talk.exported()[1] == as_csv(kept)


def test_what_is_missing_comes_and_what_is_there_stays(tapping):
    there = [activity("same"), activity("Different"), activity("mine")]
    keep(tapping, *there)
    file = csv_of(activity("same"), activity("different", times_per_day=9), *pills(2))
    assert tapping.say("/import", file) == (
        "Imported 2 activities.\n"
        "1 was there already, just like that.\n"
        "1 is different here, and I have left it as it is. To change it:\n"
        "/update Different _ _ 9 _"
    )
    assert stored(tapping) == sorted([*there, *pills(2)], key=lambda each: each.key)
    tapping.say("/update Different _ _ 9 _")
    assert tapping.say("/import", file) == "4 were there already, just like that."


def test_again_the_same_file_changes_nothing(tapping):
    for _ in range(2):
        said = tapping.say("/import", csv_of(*pills(250)))
        assert stored(tapping) == pills(250)
    assert said == "250 were there already, just like that."


def test_of_many_that_differ_a_few_are_shown(tapping):
    keep(tapping, *pills(25))
    said = tapping.say("/import", csv_of(*pills(25, quantity_per_time=Decimal(7)))).splitlines()
    assert said[1] == "25 are different here, and I have left them as they are. To change them:"
    assert said[2] == '/update "pill 00000" _ _ _ 7'
    assert said[2 + MOST_SHOWN :] == ["and 20 more"]
    assert stored(tapping) == pills(25)


def test_settings_that_were_chosen_stay(tapping):
    file = as_json(replace(chat(tapping), timezone="Asia/Tokyo", language="ru"), [])
    tapping.say("/timezone Europe/Moscow")
    (*_, reply) = tapping.replies("/import", file)
    assert plain(reply) == "There are no activities in that file.\nI speak Русский from now on."
    assert reply.language == "ru"
    assert (chat(tapping).timezone, chat(tapping).language) == ("Europe/Moscow", "ru")


def test_tokens_and_the_chats_id_are_not_imported(tapping):
    file = as_json(replace(chat(tapping), chat_id=99, tokens_valid_after=2**40), [activity()])
    tapping.in_new_chat().say("/import", file)
    assert (chat(tapping).tokens_valid_after, len(stored(tapping))) == (0, 1)
    tapping.chat_id = 99
    assert stored(tapping) == []


def test_with_a_fault_nothing_is_imported(tapping):
    file = csv_of(*pills(300)) + b"x,2026-04-31,2026-12-31,2,1\r\n"
    assert "Row 302, begin_date: 2026-04-31 is not a date" in tapping.say("/import", file)
    assert stored(tapping) == []


def test_the_file_is_asked_for_and_taken_once(tapping):
    assert "at most 8 MB" in tapping.say("/import")
    assert tapping.commands.awaits_file(1, 7)
    assert not tapping.commands.awaits_file(1, 8)
    assert tapping.say("", csv_of(activity())) == "Imported 1 activity."
    assert not tapping.commands.awaits_file(1, 7)
    assert tapping.say("", csv_of(*pills(2))) == (
        "Is that a file that /export made? Then send it with the caption /import."
    )
    assert stored(tapping) == [activity()]


def test_a_file_that_was_refused_may_come_mended(tapping):
    tapping.say("/import")
    assert "is not a date" in tapping.say("", csv_of() + b"x,2026-04-31,2026-12-31,2,1\r\n")
    assert tapping.say("", csv_of(activity())) == "Imported 1 activity."


def test_a_zone_alone_does_not_change_what_the_terminal_speaks(russian):
    file = as_json(replace(chat(russian), timezone="Asia/Tokyo"), [])
    (*_, reply) = russian.replies("/import", file)
    assert (chat(russian).timezone, reply.language) == ("Asia/Tokyo", "")


def test_the_question_for_a_file_gets_old(tapping):
    tapping.say("/import")
    tapping.now += ASKING
    assert "Is that a file" in tapping.say("", csv_of(activity()))


def test_a_full_chat_says_how_many_were_imported(talking):
    tapping = talking(MemoryRepository(max_activities=130), language=None, with_buttons=True)
    keep(tapping, activity("before"))
    assert tapping.say("/import", csv_of(*pills(400))) == (
        "Imported 129 of 400 activities, and then I had to stop.\n"
        "You have 130 activities, the most I can keep. Delete one first, /list shows them."
    )
    assert len(stored(tapping)) == 130


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_data, "PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize("acts", [True, False])
def test_what_passes_is_waited_for_and_nothing_is_made_twice(talking, hurry, acts):
    errors = [StorageBusy(), StorageTimeout(), StorageUnavailable(), OutcomePending(request_id="x")]
    tapping = talking(Failing(*errors, acts=acts), language=None, with_buttons=True)
    assert tapping.say("/import", csv_of(*pills(250))) == "Imported 250 activities."
    assert stored(tapping) == pills(250)


def test_an_import_that_had_to_stop_says_so_and_goes_on(talking, hurry, caplog):
    tapping = talking(Failing(), language=None, with_buttons=True)
    replies = tapping.commands.answer(
        "/import", chat_id=1, user_id=7, has_buttons=True, attached=lambda: csv_of(*pills(350))
    )
    while len(stored(tapping)) < 200:
        next(replies)
    tapping.container.activities._repository._inner.errors = [StorageUnavailable()] * ATTEMPTS
    said = "\n".join(map(tapping.text, replies)).strip()
    assert said.startswith(
        "Imported 200 of 350 activities, and then I had to stop.\n"
        "Send the same file again, and I go on from there.\n"
        "Sorry, I cannot reach my storage just now."
    )
    assert tapping.say("/import", csv_of(*pills(350))) == (
        "Imported 150 activities.\n200 were there already, just like that."
    )
    assert "pill" not in caplog.text


def test_some_that_fail_alone_are_tried_alone(tapping, hurry):
    """As over gRPC, where each has an answer of its own."""
    inner = tapping.container.activities.apply
    left = {f"pill {number:05}" for number in range(0, 250, 3)}

    def apply(commands, *, call):
        outcomes: list[Any] = list(inner([each for each in commands if each.activity.name not in left], call=call))
        result = [RateLimited() if each.activity.name in left else outcomes.pop(0) for each in commands]
        left.difference_update(each.activity.name for each in commands)
        return result

    tapping.container.activities.apply = apply
    assert tapping.say("/import", csv_of(*pills(250))) == "Imported 250 activities."
    assert stored(tapping) == pills(250)


def test_what_came_in_between_is_compared(tapping):
    inner = tapping.container.activities.apply

    def apply(commands, *, call):
        tapping.container.activities.apply = inner
        keep(tapping, activity("pill 00000"), activity("pill 00001", times_per_day=50))
        return inner(commands, call=call)

    tapping.container.activities.apply = apply
    assert tapping.say("/import", csv_of(*pills(3))).splitlines() == [
        "Imported 1 activity.",
        "1 was there already, just like that.",
        "1 is different here, and I have left it as it is. To change it:",
        f'/update "pill 00001" _ _ {activity().times_per_day} _',
    ]


def test_the_same_update_after_a_crash_makes_nothing_twice(tapping):
    """Not even what was deleted in between."""
    asked: dict[str, Any] = {"chat_id": 1, "user_id": 7, "has_buttons": True, "request_id": UUID(int=5)}
    file = csv_of(*pills(150))
    replies = tapping.commands.answer("/import", attached=lambda: file, **asked)
    while not stored(tapping):
        next(replies)
    replies.close()
    assert len(stored(tapping)) == 100
    tapping.say('/delete "pill 00007"')
    list(tapping.commands.answer("/import", attached=lambda: file, **asked))
    assert [each.name for each in stored(tapping)] == [each.name for each in pills(150) if each.name != "pill 00007"]


def test_ten_thousand_are_imported_and_told_while_it_lasts(tapping):
    said = []
    for reply in tapping.commands.answer(
        "/import", chat_id=1, user_id=7, has_buttons=True, attached=lambda: csv_of(*pills(10_000))
    ):
        tapping.now += timedelta(seconds=1)
        said += [plain(reply)] if reply.lines else []
    assert stored(tapping) == pills(10_000)
    assert said[0] == "I am still at it: 1000 of 10000 so far."
    assert said[-1] == "Imported 10000 activities."
    assert 9 <= len(said) <= 12
    assert tapping.say("/import", csv_of(*pills(10_000))) == "10000 were there already, just like that."


def test_each_step_is_one_access_or_two(tapping):
    """So that each may take its time, however many there are."""
    accesses = 0
    inner = tapping.container.activities._repository._guard.run

    def run(access, call):
        nonlocal accesses
        accesses += 1
        return inner(access, call)

    tapping.container.activities._repository._guard.run = run
    imports = [csv_of(*many) for many in (pills(2000), pills(2000), [activity()] * 2000)]
    for line, file in (*(("/import", each) for each in imports), ("/export", None)):
        attached = None if file is None else lambda file=file: file
        replies = tapping.commands.answer(line, chat_id=1, user_id=7, has_buttons=True, attached=attached)
        before = accesses
        steps = []
        for _reply in replies:
            steps.append(accesses - before)
            before = accesses
        assert 0 < max(steps) <= 2


def test_the_longest_answer_is_one_message(tapping_russian):
    name = "💊 " + "\"\\'" * 39
    keep(tapping_russian, *(activity(f"{number}{name}") for number in range(9)))
    wish = activity(
        end_date=activity().end_date.replace(year=2999), times_per_day=100, quantity_per_time=Decimal("999999.999")
    )
    file = csv_of(*(replace(wish, name=f"{number}{name}") for number in range(9)))
    (*_, reply) = tapping_russian.replies("/import", file)
    assert 1000 < units(plain(reply)) <= MOST_UNITS


def test_neither_files_nor_names_are_logged(talking, hurry, caplog):
    caplog.set_level(logging.INFO)
    tapping = talking(Failing(*[StorageUnavailable()] * (ATTEMPTS + 1)), language=None, with_buttons=True)
    tapping.say("/import", csv_of(activity("secret pill")))
    tapping.say("/import", b'{"secret pill": NaN}')
    tapping.say("/import", b"secret pill\n\xff")
    tapping.say("/import", csv_of(activity("secret pill")) + b"secret pill,1\r\n")
    tapping.say("/forget_me yes")
    assert caplog.records
    assert "secret" not in caplog.text


def test_importing_in_russian(tapping_russian):
    keep(tapping_russian, *pills(1))
    said = tapping_russian.say("/import", csv_of(*pills(22)))
    assert said == "Загружено 21 дело.\n1 уже было таким же."


def test_the_terminal_names_its_file(talk):
    files = {"my file.csv": csv_of(activity())}
    talk.commands = Commands(
        talk.container.activities,
        talk.container.chats,
        talk.container.streams,
        access=talk.container.access,
        clock=lambda: NOON,
        read_file=files.__getitem__,
    )
    assert talk.suggestions("/import") == ["/import activities-2026-11-24.json"]
    assert talk.say('/import "my file.csv"') == "Imported 1 activity."
    assert talk.say("/import my file.csv") == "1 was there already, just like that."
