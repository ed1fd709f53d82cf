"""What each command does with real input, and what it says when something is wrong."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from django.utils import translation
from hypothesis import example, given
from hypothesis import strategies as st

from activities.domain import (
    LATEST_END_FIRST,
    MESSAGES,
    Activity,
    ChatChanges,
    Create,
    OutcomePending,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    quantity_text,
)
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from bot import commands, texts
from bot.replies import MOST_UNITS, Copy, plain, units
from bot.words import joined, quoted
from tests.bot.talking import NOON, Talk
from tests.examples import ODD_NAMES, names

EACH_LANGUAGE = pytest.mark.parametrize("language", ["en", "ru"])
REFUSAL = re.compile("Like this|Например, так|I know no|Не знаю|already have|уже есть|Sorry|Извините|no activities")
LONG = "x" * 100_000
EVERY_COMMAND = {usage.command for usage in texts.USAGES}


def stored(talk: Talk) -> list[Activity]:
    return list(talk.container.activities.stream(talk.chat_id, order=LATEST_END_FIRST, call=Call()))


# ------------------------------------------------------------------------------------------- names


@EACH_LANGUAGE
@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_name_can_be_added_read_changed_and_deleted(talk, language, name):
    talk.language = language
    talk.say(f"/add {quoted(name)} today +10d 2 0.5")
    talk.say(f"/update {quoted(name)} _ _ 3 _")
    assert stored(talk) == [Activity(name, date(2026, 11, 24), date(2026, 12, 4), 3, Decimal("0.5"))]
    assert name in talk.say(f"/get {quoted(name)}")
    assert name in talk.say("/today")
    assert name in talk.say("/list")
    assert name in talk.say("/list_stream")
    (again,) = talk.suggestions(f"/delete {quoted(name)}")
    assert stored(talk) == []
    talk.say(again)
    assert [activity.name for activity in stored(talk)] == [name]


@given(names)
def test_what_was_deleted_comes_back_by_its_suggestion(name):
    talk = Talk()
    talk.say(joined(["/add", name, "01.12.2026", "31.12.2999", "100", "0.125"]))
    before = stored(talk)
    (again,) = talk.suggestions(joined(["/delete", name]))
    talk.say(again)
    assert stored(talk) == before
    talk.container.close()


@pytest.mark.parametrize(("one", "other"), [("Café", "Cafe\u0301"), ("ПИЛЮЛЯ", "пилюля"), ("straße", "STRASSE")])
def test_one_name_has_many_spellings(talk, one, other):
    talk.say(f"/add {one} today +1d 1 1")
    assert unicodedata.normalize("NFC", one) in talk.say(f"/add {other} today +2d 1 1")
    assert len(stored(talk)) == 1


@pytest.mark.parametrize("form", ["/list@ActivitiesBot", "/LIST", "  /list", "/list@ActivitiesBot 1", "/list\n"])
def test_a_command_may_be_written_in_other_ways(talk, form):
    assert talk.say(form) == talk.say("/list")


# --------------------------------------------------------------------------------- refused input

REFUSED = {
    "name": ['""', "x" * 121, LONG, "..", '"a\tb"', '"a\0b"', '"\u200b"', '"a\u2028b"', '"\ud800"'],
    "begin_date": ['""', "29.02.2025", "31.04.2026", "31.12.1999", "_", "+99999999d", LONG],
    "end_date": ['""', "29.02.2025", "31.04.2026", "01.01.2020", "01.01.3000", "_", "+99999999d", LONG],
    "times_per_day": ['""', "0", "-1", "101", "1.5", "NaN", "Infinity", "1e3", "two", LONG],
    "quantity_per_time": ['""', "0", "-1", "NaN", "Infinity", "0.0005", "1000000.001", "1e3", "half", LONG],
}
GOOD = {
    "name": "drops",
    "begin_date": "today",
    "end_date": "+7d",
    "times_per_day": "3",
    "quantity_per_time": "2",
}


@EACH_LANGUAGE
@pytest.mark.parametrize(("field", "word"), [(field, word) for field, words in REFUSED.items() for word in words])
def test_a_wrong_word_is_refused_with_its_field_and_a_line_that_works(talk, language, field, word):
    talk.language = language
    line = "/add " + " ".join((GOOD | {field: word}).values())
    reply = talk.say(line)
    assert re.search(rf"^(\w[\w ]* \()?{field}\)?: ", reply, re.MULTILINE)
    assert units(reply) < 500
    assert stored(talk) == []
    (right,) = talk.suggestions(line)
    talk.say(right)
    (activity,) = stored(talk)
    expected = {
        "name": "drops",
        "begin_date": date(2026, 11, 24),
        "times_per_day": 3,
        "quantity_per_time": Decimal(2),
    }
    for other in expected.keys() - {field} - ({"begin_date"} if field == "end_date" else set()):
        assert getattr(activity, other) == expected[other]


def test_a_name_of_120_characters_is_kept_whole(talk):
    assert "Added" in talk.say(f"/add {'я' * 120} today +1d 1 1")


def test_every_wrong_word_is_named_with_what_was_read(talk):
    reply = talk.say('/add "" 29.02.2025 +99999999d NaN -1')
    assert reply.splitlines() == [
        "name: is empty.",
        "begin_date: 29.02.2025 is not a date (February 2025 has 28 days).",
        "end_date: +99999999d is not from 01.01.2000 to 31.12.2999.",
        "times_per_day: NaN is not a whole number like 2.",
        "quantity_per_time: -1 is not more than 0 and at most 1000000.",
        'Like this: /add "vitamin C" 28.02.2025 +7d 2 0.5',
    ]


def test_wrong_and_missing_words_are_told_together(talk):
    assert talk.say("/add drops 31.04.2027").splitlines() == [
        "begin_date: 31.04.2027 is not a date (April has 30 days).",
        "I need three more things: end date, times a day, how much each time.",
        "Like this: /add drops 30.04.2027 +7d 2 0.5",
    ]


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("/add drops 10.05.2027 30.04.2027 3 2", "/add drops 30.04.2027 10.05.2027 3 2"),
        ("/add drops tomorrow today 3 2", "/add drops today tomorrow 3 2"),
        ("/add drops +5d today 3 2", "/add drops today 29.11.2026 3 2"),
    ],
)
def test_dates_the_wrong_way_round_are_turned_and_mean_what_they_meant(talk, line, right):
    assert talk.suggestions(line) == [right]


WORDS = (
    "_ today tomorrow +5d +9999999d 31.12.2999 30.12.2999 01.01.2000 31.04.1999 31.04.2027 24.11.2026 "
    "1.5 101 3 0,5 -1 drops drop 💊"
)
words = st.sampled_from([*WORDS.split(), "", "x" * 121, "mom's pill", '"'])


@EACH_LANGUAGE
@pytest.mark.parametrize("command", ["/add", "/update", "/get", "/delete", "/list", "/today", "/list_stream"])
@given(given_words=st.lists(words, max_size=7), unclosed=st.booleans())
@example(given_words=["drops", "+5d", "today", "1", "1"], unclosed=False)
@example(given_words=["drops", "31.12.2999", "31.04.2027", "1", "1"], unclosed=False)
def test_every_suggested_line_works(command, language, given_words, unclosed):
    talk = Talk(language=language)
    talk.say("/add drops 01.12.2026 05.12.2026 3 2")
    refused, offered = heard(talk, f"{command} {joined(given_words)}" + (' "' if unclosed else ""))
    for _ in range(2):  # the second time when an /add is right, but there is such an activity
        if refused and offered:
            refused, offered = heard(talk, offered[0])
            assert not refused or offered or re.search("just like that|точно такое же", refused), refused
    assert not (refused and offered)
    talk.container.close()


def heard(talk: Talk, line: str) -> tuple[str, list[str]]:
    """The reply if it is a refusal, and the lines that it offers."""
    (reply,) = talk.replies(line)
    offered = [each.command for each in reply.lines if isinstance(each, Copy)]
    return plain(reply) if REFUSAL.search(plain(reply)) else "", offered


@pytest.mark.parametrize("command", ["/get", "/delete", "/update"])
def test_a_forgotten_name_is_shown_with_one_that_the_chat_has(talk, command):
    assert talk.suggestions(command) == ['/add "vitamin C" today +10d 2 0.5']
    talk.say("/add drops today +1d 1 1")
    (line,) = talk.suggestions(command)
    assert line.startswith(f"{command} drops")


def test_names_of_other_chats_are_not_suggested(talk):
    talk.say("/add push-up today +1d 1 1")
    talk.chat_id = 2
    talk.say("/add drops today +1d 1 1")
    assert talk.say("/get pushup") == "I know no pushup. /list shows what you have."


def test_several_near_names_are_all_suggested(talk):
    talk.say("/add pill1 today +1d 1 1")
    talk.say("/add pill2 today +1d 1 1")
    assert sorted(talk.suggestions("/get pill")) == ["/get pill1", "/get pill2"]


def test_an_update_of_an_unknown_name_suggests_no_line_that_would_be_refused(talk):
    talk.say("/add push-up 01.12.2026 31.12.2026 1 1")
    assert talk.suggestions("/update pushup _ 01.11.2026 _ _") == []
    assert "Did you mean push-up?" in talk.say("/update pushup _ 01.11.2026 _ _")


@pytest.mark.parametrize("line", ["", "  ", "hello", "add x", "/", "/ list", LONG])
def test_a_line_that_is_no_command_gets_a_short_hint(talk, line):
    assert talk.say(line) == "I understand commands. /help shows them all."


@pytest.mark.parametrize(("typed", "meant"), [("/timezon", "/timezone"), ("/lang", "/language"), ("/tokens", "/token")])
def test_an_unknown_command_suggests_a_near_one(talk, typed, meant):
    assert talk.say(typed).endswith(f"Did you mean {meant}?")


def test_an_unknown_command_of_any_length_gets_a_short_answer(talk):
    assert units(talk.say("/" + LONG)) < 200


@pytest.mark.parametrize("page", ["0", "-1", "x", "1.5", "1e3", "9" * 10_000])
def test_a_wrong_page_is_told(talk, page):
    assert talk.say(f"/list {page}").startswith("page: ")
    assert talk.suggestions(f"/today {page}") == ["/today 1"]


# ------------------------------------------------------------------------------------------- dates


def test_the_end_is_counted_from_the_begin(talk):
    assert "20.12.2026 – 30.12.2026" in talk.say("/add x 20.12.2026 +10d 1 1")


def test_a_new_end_is_counted_from_the_begin_that_is_kept(talk):
    talk.say("/add x 20.12.2026 +10d 1 1")
    assert "until 30.12.2026 → 25.12.2026" in talk.say("/update x _ +5d _ _")


def test_a_new_end_is_counted_from_the_new_begin(talk):
    talk.say("/add x 20.12.2026 +10d 1 1")
    assert talk.say("/update x 01.01.2027 +5d _ _").splitlines()[1:] == [
        "from 20.12.2026 → 01.01.2027",
        "until 30.12.2026 → 06.01.2027",
    ]


def test_a_new_begin_is_checked_against_the_end_that_is_kept(talk):
    talk.say("/add x 20.12.2026 +10d 1 1")
    assert talk.say("/update x 31.12.2026 _ _ _") == (
        "begin_date: 31.12.2026 is after the end date, 30.12.2026.\nLike this: /update x 31.12.2026 +7d _ _"
    )


def test_today_is_the_date_of_the_chat():
    talk = Talk(now=datetime(2026, 11, 24, 22, 0, tzinfo=UTC))
    talk.container.chats.update(1, changes=ChatChanges(timezone="Asia/Tokyo"), call=Call())
    assert "25.11.2026 – 26.11.2026" in talk.say("/add x today tomorrow 1 1")
    assert talk.say("/today").startswith("Today, Wed 25.11.2026")
    talk.container.close()


@pytest.mark.parametrize(
    ("begin", "end", "remark"),
    [
        ("24.11.2026", "24.11.2026", "last day"),
        ("25.11.2026", "25.11.2026", "starts tomorrow"),
        ("01.11.2026", "23.11.2026", "ended yesterday"),
    ],
)
def test_special_days_are_told(talk, begin, end, remark):
    talk.say(f"/add x {begin} {end} 1 1")
    assert talk.say("/get x").endswith(f"\n{remark}")
    assert talk.say("/list").endswith(f", {remark}")


@pytest.mark.parametrize(("begin", "end"), [("26.11.2026", "30.11.2026"), ("01.11.2026", "22.11.2026")])
def test_ordinary_days_are_not_remarked(talk, begin, end):
    talk.say(f"/add x {begin} {end} 1 1")
    assert talk.say("/list").endswith(f"{begin} – {end}")


def test_nothing_due_today_leads_to_what_there_is(talk):
    assert talk.say("/today").startswith("You have no activities yet.")
    talk.say("/add x tomorrow +1d 1 1")
    assert talk.say("/today") == "Nothing is due today, Tue 24.11.2026. /list shows all you have."


# ------------------------------------------------------------------------------------- much of it


@pytest.fixture(scope="module")
def full() -> Iterator[Talk]:
    """A chat with 1000 activities, of which 100 have names of 240 units."""
    talk = Talk()
    for number in range(1000):
        name = f"{number:04} " + "💊" * (115 if number % 10 == 0 else 0)
        activity = Activity(name.strip(), NOON.date(), NOON.date(), 1, Decimal(1))
        talk.container.activities.create(1, activity=activity, call=Call())
    yield talk
    talk.container.close()


@pytest.mark.parametrize("command", ["/list_stream", "/list", "/list 50", "/today", "/help", "/examples", "/start"])
@EACH_LANGUAGE
def test_no_reply_is_longer_than_a_message(full, language, command):
    full.language = language
    assert all(0 < units(plain(reply)) <= MOST_UNITS for reply in full.replies(command))


def test_a_stream_shows_everything_once(full):
    full.language = "en"
    shown = re.findall(r"^• (\d{4})", full.say("/list_stream"), re.MULTILINE)
    assert shown == [f"{number:04}" for number in range(1000)]


@pytest.mark.parametrize("command", ["/list", "/today"])
def test_pages_show_everything_once(full, command):
    full.language = "en"
    line, shown = command, []
    while line:
        shown += re.findall(r"^• (\d{4})", full.say(line), re.MULTILINE)
        line = next(iter(full.suggestions(line)), "")
    assert shown == [f"{number:04}" for number in range(1000)]


class Counting(MemoryRepository):
    """Counts the accesses of streams."""

    batches = 0

    def batch(self, *args, **kwargs):
        self.batches += 1
        return super().batch(*args, **kwargs)


def test_a_stream_is_shown_as_it_arrives_and_read_no_further_when_left(full):
    repository = Counting()
    talk = Talk(repository)
    for activity in stored(full):
        talk.container.activities.create(1, activity=activity, call=Call())
    with talk.container.streams.hold():
        pass
    replies = talk.commands.answer("/list_stream", chat_id=1)
    assert len(next(replies).lines) == commands.PAGE_SIZE
    assert repository.batches == 1
    replies.close()
    assert repository.batches == 1
    talk.container.close()


def test_a_stream_holds_its_place_as_long_as_it_is_read(full, settings):
    readers = [full.commands.answer("/list_stream", chat_id=1) for _ in range(settings.ACTIVITIES_MAX_STREAMS)]
    for reader in readers:
        next(reader)
    full.language = "en"
    assert "too much going on" in full.say("/list_stream")
    readers.pop().close()
    assert "too much going on" not in full.say("/list_stream")
    for reader in readers:
        reader.close()


def test_the_language_does_not_leak_to_the_reader(full):
    with translation.override("en"):
        replies = full.commands.answer("/list_stream", chat_id=1, speaks="ru")
        assert "Все ваши дела" in plain(next(replies))
        assert translation.get_language() == "en"
        replies.close()
        assert translation.get_language() == "en"


# --------------------------------------------------------------------------------------- repeating


@pytest.mark.parametrize("line", ["/add y today +1d 1 1", "/update x _ _ 2 _", "/delete x"])
def test_a_line_repeated_with_its_request_id_is_done_once(talk, line):
    talk.say("/add x today +1d 1 1")
    request_id = uuid4()
    first = [plain(each) for each in talk.commands.answer(line, chat_id=1, request_id=request_id)]
    after = stored(talk)
    second = [plain(each) for each in talk.commands.answer(line, chat_id=1, request_id=request_id)]
    assert stored(talk) == after
    assert "I know no" not in second[0]
    assert "already have" not in second[0]
    assert first


# -------------------------------------------------------------------------------------- our faults


class Failing(MemoryRepository):
    """A store that answers every access of an activity with the same error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def _fail(self, *args, **kwargs):
        raise self.error

    get = page = batch = today = _fail

    def apply(self, *args, **kwargs):
        raise self.error


class FailingWrites(Failing):
    """The same, but what there is can be read."""

    get = MemoryRepository.get
    page = MemoryRepository.page


@pytest.mark.parametrize("error", [StorageBusy(), StorageTimeout(), StorageUnavailable(), RuntimeError("secret")])
@pytest.mark.parametrize("line", ["/list", "/list_stream", "/today", "/get x", "/add x today +1d 1 1", "/delete x"])
def test_a_fault_of_ours_is_told_kindly_with_a_reference_that_the_log_has(caplog, error, line):
    talk = Talk(Failing(error))
    with caplog.at_level(logging.WARNING, logger="bot"):
        reply = talk.say(line)
    assert reply.startswith("Sorry, ")
    assert "secret" not in reply
    reference = reply.rpartition(" ")[2]
    assert reference in caplog.text
    assert len(reference) == 36
    talk.container.close()


@pytest.mark.parametrize("line", ["/add x today +1d 1 1", "/update x _ _ 2 _", "/delete x"])
def test_a_write_without_an_answer_says_how_to_look_again(line):
    repository = FailingWrites(StorageTimeout())
    there = Activity("x", NOON.date(), NOON.date(), 1, Decimal(1))
    MemoryRepository.apply(repository, [Create(chat_id=1, activity=there)], now=NOON, call=Call())
    talk = Talk(repository)
    assert "I don't know whether that was done" in talk.say(line)
    assert talk.suggestions(line) == ["/get x"]
    talk.container.close()


def test_what_is_accepted_but_not_finished_says_so():
    talk = Talk(FailingWrites(OutcomePending(request_id="1")))
    reply = talk.say("/add x today +1d 1 1")
    assert reply.startswith("Accepted, but not finished yet.\nLook again: /get x\n")
    assert "Sorry" not in reply
    talk.container.close()


def test_a_full_chat_is_told(settings):
    talk = Talk(MemoryRepository(max_activities=1))
    talk.say("/add x today +1d 1 1")
    assert talk.say("/add y today +1d 1 1").startswith("You have 1 activities, the most I can keep.")
    talk.container.close()


# ------------------------------------------------------------------------------------------- texts


@EACH_LANGUAGE
def test_the_examples_work_one_after_the_other(talk, language):
    talk.language = language
    for line in talk.suggestions("/examples"):
        assert not REFUSAL.search(talk.say(line)), line
    assert len(stored(talk)) == 1


@EACH_LANGUAGE
def test_help_shows_every_command(talk, language):
    talk.language = language
    shown = re.findall(r"^• /(\w+)", talk.say("/help"), re.MULTILINE)
    assert set(shown) == EVERY_COMMAND


def test_start_shows_a_line_that_works(talk):
    (line,) = talk.suggestions("/start")
    assert talk.say(line).startswith("Added")


@given(st.decimals(min_value="0.001", max_value=1_000_000, places=3))
def test_numbers_have_no_trailing_zeros(number):
    shown = quantity_text(number)
    assert Decimal(shown) == number
    assert not re.search(r"\.\d*0$|\.$|E", shown)


def test_every_rule_that_words_or_files_can_break_has_a_text_of_the_bot():
    unreachable = {"name_other", "unknown_order", "not_a_chat", "not_a_request_id", "other"}
    assert MESSAGES.keys() - texts.VIOLATIONS.keys() == unreachable
