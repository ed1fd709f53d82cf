"""The bot in real chats, against a strict Bot API server."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from activities.container import Container, durable_repository, on_repository
from activities.domain import Page, StorageUnavailable
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from bot import texts
from bot.commands import Commands
from bot.replies import Button, Reply, Text, plain
from bot.sending import Place, Sender, Undeliverable
from bot.telegram import Account, TelegramBot
from tests.bot.api import ANNA, BORIS, GROUP, ME, NAME, TOKEN, Api, Fault, Sent, private
from tests.bot.talking import NOON

LINES = (
    "/start",
    "/help",
    "/examples",
    "/list",
    '/add "vitamin C" 20.11.2026 +10d 2 0,5',
    "/add drops 31.04.2027 10.05.2027 3 2",
    '/update "vitamin C" _ 31.12.2026 3 _',
    "/get VITAMIN",
    "/get “vitamin C”",
    "/today",
    "/list",
    "/list_stream",
    '/delete "vitamin C"',
    "/timezone Europe/Moscow",
    "/timezone Evrope/Moskow",
    "/language",
    "/language en",
    "/language русский",
    "/tody",
    "hello",
)
"""Every command, in an order that makes sense, and what is none."""


def commands_of(parts: Container) -> Commands:
    return Commands(parts.activities, parts.chats, parts.streams, access=parts.access, clock=lambda: NOON)


@contextmanager
def talking(
    api: Api, *, container: Container | None = None, commands: Any = None, **options: Any
) -> Iterator[Container]:
    """A bot on this server and these parts, in memory unless told otherwise."""
    parts = container or on_repository(MemoryRepository(), clock=lambda: NOON)
    account = Account(TOKEN, api.base_url)
    bot = TelegramBot(account, commands or commands_of(parts), parts.chats, second=api.second, **options)
    bot.start()
    try:
        yield parts
    finally:
        bot.close()
        parts.close()


def names(parts: Container, chat_id: int) -> list[str]:
    return [each.name for each in parts.activities.list(chat_id, page=Page(), call=Call()).activities]


def add(parts: Container, chat_id: int, name: str) -> None:
    list(commands_of(parts).answer(f'/add "{name}" today +10d 1 1', chat_id=chat_id))


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(second=0.02).serving() as api:
        yield api


class Script:
    """Commands that say what a test tells them to, and remember what they were asked."""

    def __init__(self, answer: Any = None, press: Any = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._answer, self._press = answer or (lambda line: [Reply((Text(f"you said {line}"),))]), press

    def answer(self, line: str, **details: Any) -> Generator[Reply, None, None]:
        self.asked.append((line, details))
        yield from self._answer(line)

    def press(self, data: str, **details: Any) -> Generator[Reply, None, None]:
        self.asked.append((data, details))
        yield from self._press(data)

    def has_dialog(self, chat_id: int, user_id: int) -> bool:
        return bool(user_id == BORIS["id"])


@pytest.mark.parametrize("user", [ANNA, BORIS], ids=["English", "Russian"])
def test_each_command_reads_as_the_commands_say_it(api: Api, user: dict[str, Any]) -> None:
    twin = commands_of(on_repository(MemoryRepository(), clock=lambda: NOON))
    expected: list[str] = []
    with talking(api):
        for line in LINES:
            replies = twin.answer(
                line,
                chat_id=user["id"],
                user_id=user["id"],
                language=user["language_code"],
                has_buttons=True,
            )
            expected += map(plain, replies)
            api.say(line, user=user)
        assert api.answers(user["id"], len(expected)) == expected


@pytest.mark.parametrize("user", [ANNA, BORIS], ids=["English", "Russian"])
def test_the_buttons_of_the_commands_work(api: Api, user: dict[str, Any]) -> None:
    chat_id = user["id"]

    def pressed(label: str, message: Sent, count: int) -> Sent:
        """The message that comes of the press of a button, `count` in all."""
        api.press(message.buttons[label], message.message_id, user=user)
        api.answers(chat_id, count)
        return api.messages[-1]

    with talking(api) as parts:
        api.say("/start", user=user)
        for number in range(25):
            add(parts, chat_id, f"pill {number:02}")
        api.say("/list", user=user)
        api.answers(chat_id, 2)
        first = api.messages[-1]
        onward = next(label for label, data in first.buttons.items() if data == "p:list:2")
        second = pressed(onward, first, 3)
        assert ("pill 03" in first.text, "pill 13" in second.text, second.edits) == (True, True, True)
        api.say('/delete "pill 07"', user=user)
        api.answers(chat_id, 4)
        deleted = api.messages[-1]
        assert "pill 07" not in names(parts, chat_id)
        (undo,) = deleted.buttons
        pressed(undo, deleted, 5)
        assert "pill 07" in names(parts, chat_id)
        api.press(deleted.buttons[undo], deleted.message_id, user=user)
        api.wait(lambda: len(api.notices) == 3)
        api.say("/add", user=user)  # asked for the name
        api.answers(chat_id, 6)
        api.say("drops", user=user)
        question = len(api.answers(chat_id, 7))
        while "drops" not in names(parts, chat_id):
            message = api.messages[-1]
            label = next(each for each, data in message.buttons.items() if data.startswith("d:"))
            question += 1
            pressed(label, message, question)
            assert question < 15
        assert [each.language for each in [parts.chats.get(chat_id, call=Call())]] == [user["language_code"][:2]]


def test_a_token_is_given_out_in_private_alone(api: Api) -> None:
    with talking(api):
        api.say("/token")
        api.say("/token", chat=GROUP)
        private_answer, group_answer = "\n".join(api.answers(ANNA["id"])), api.answers(GROUP["id"])[0]
        (token,) = [word for each in api.messages for word in each.copies if word.startswith("act_")]
    assert token in private_answer
    assert "act_" not in group_answer


def test_on_postgresql(api: Api, database: None) -> None:
    parts = on_repository(durable_repository(), clock=lambda: NOON)
    with talking(api, container=parts):
        for user in (ANNA, BORIS):
            api.say("/add pill today +10d 1 1", user=user)
            api.say("/list", user=user)
        assert ["• pill" in api.answers(user["id"], 2)[1] for user in (ANNA, BORIS)] == [True, True]


def test_all_commands_are_in_the_menu_in_both_languages(api: Api) -> None:
    with talking(api):
        api.wait(lambda: len(api.commands) == 2)
    assert set(api.commands[None]) == set(api.commands["ru"]) == {each.command for each in texts.USAGES}
    assert api.commands[None]["today"] == "what is due today"
    assert api.commands["ru"]["today"] != "what is due today"


def test_two_people_know_nothing_of_each_other(api: Api) -> None:
    with talking(api) as parts:
        api.say("/add pill today +10d 1 1")
        api.say("/add капли today +10d 1 1", user=BORIS)
        api.say("/list")
        api.say("/list", user=BORIS)
        api.say("/delete pill", user=BORIS)
        anna, boris = api.answers(ANNA["id"], 2), api.answers(BORIS["id"], 3)
        assert "капли" not in " ".join(anna)
        assert "капли" in boris[1]
        assert "• pill" in anna[1]
        assert "pill" not in boris[1]
        assert (names(parts, ANNA["id"]), names(parts, BORIS["id"])) == (["pill"], ["капли"])


@pytest.mark.parametrize(
    "name", ["אקמול", "فيتامين د", "👨‍👩‍👧 walk", "*bold* _it_ `x` <b>&amp;</b> [a](b)", "a\u202eb c"]
)
def test_no_name_breaks_a_message_or_its_commands_to_copy(api: Api, name: str) -> None:
    with talking(api) as parts:
        api.say(f'/add "{name}" today +10d 1 1')
        api.answers(ANNA["id"], 1)
        assert names(parts, ANNA["id"]) == [name]
        api.say(f'/add "{name}" today +20d 1 1')
        api.say("/list")
        api.answers(ANNA["id"], 3)
        (copied,) = api.messages[1].copies
        assert copied.startswith("/update ")
        api.say(copied)
        api.say(f'/get "{name}"')
        assert "14.12.2026" in api.answers(ANNA["id"], 5)[4]


def test_a_list_of_40_kb_comes_whole_and_in_order(api: Api) -> None:
    parts = on_repository(MemoryRepository(), clock=lambda: NOON)
    for number in range(300):
        add(parts, ANNA["id"], f"{number:03} {'ж' * 100}")
    with talking(api, container=parts):
        api.say("/list_stream")
        api.say("/get nothing")
        api.wait(lambda: "nothing" in (api.texts()[-1:] or [""])[0])
        listed = "\n".join(api.texts()[:-1])
    assert len(listed.encode()) > 40_000
    assert [line[2:5] for line in listed.splitlines() if "ж" in line] == [f"{number:03}" for number in range(300)]


# ------------------------------------------------------------------------------------------- groups


def test_a_group_has_what_is_its_own_and_only_what_is_for_the_bot_is_answered(api: Api) -> None:
    script = Script()
    with talking(api, commands=script):
        api.say("/list@Other", chat=GROUP)
        api.say("/list@thisbot", chat=GROUP)
        api.say("good morning", chat=GROUP)
        api.say("an answer to a question", chat=GROUP, user=BORIS)
        to_us = {"message_id": 5, "date": 1, "chat": GROUP, "from": ME, "text": "?"}
        api.say("thanks", chat=GROUP, reply_to_message=to_us)
        api.say("thanks", chat=GROUP, reply_to_message={**to_us, "from": ANNA})
        api.say("/today", chat=GROUP)
        api.answers(GROUP["id"], 4)
        api.confirmed()
    assert [line for line, _ in script.asked] == ["/list@thisbot", "an answer to a question", "thanks", "/today"]
    details = script.asked[0][1]
    assert (details["chat_id"], details["user_id"], details["is_private"]) == (GROUP["id"], ANNA["id"], False)
    assert all(each.answers for each in api.messages)


def test_a_reply_stays_in_its_topic(api: Api) -> None:
    with talking(api):
        forum: dict[str, Any] = {"id": -1002001, "type": "supergroup", "title": "Forum", "is_forum": True}
        api.say("/help", chat=forum, message_thread_id=77, is_topic_message=True)
        api.answers(forum["id"])
    assert api.messages[0].thread_id == 77


def test_what_is_no_message_of_a_person_is_left_alone(api: Api) -> None:
    script = Script()
    channel = {"id": -1009, "type": "channel", "title": "News"}
    with talking(api, commands=script):
        api.deliver({"channel_post": {"message_id": 1, "date": 1, "chat": channel, "text": "/list"}})
        api.say("/list", chat=GROUP, sender_chat=channel, is_automatic_forward=True)
        api.say("/list", chat=GROUP, user={**ANNA, "id": 77, "is_bot": True})
        api.say(None, chat=GROUP, new_chat_members=[ME])
        api.say(None, pinned_message={"message_id": 5, "date": 1, "chat": private(ANNA), "text": "x"})
        api.deliver({"message": {"message_id": 1}})  # cannot be read
        api.deliver({"a_kind_of_the_future": {"id": 1}})
        api.say("/list")
        assert api.answers(ANNA["id"]) == ["you said /list"]
        api.confirmed()
    assert len(script.asked) == 1


def test_a_picture_is_answered_politely_and_an_edited_line_again(api: Api) -> None:
    picture = [{"file_id": "1", "file_unique_id": "1", "width": 1, "height": 1}]
    with talking(api) as parts:
        api.say(None, photo=picture, caption="/list")
        api.say(None, checklist={"title": "today", "tasks": [{"id": 1, "text": "pill"}]})
        api.say("/add pill today +10d 1")
        api.say("/add pill today +10d 1 1", kind="edited_message")
        api.say(None, kind="edited_message", location={"latitude": 1.0, "longitude": 2.0, "live_period": 60})
        api.say("/list")
        said = api.answers(ANNA["id"], 5)
        assert "/help" in said[0]
        assert said[1] == said[0]
        assert "Added  pill" in said[3]
        assert "• pill" in said[4]
        assert names(parts, ANNA["id"]) == ["pill"]


def test_a_group_that_becomes_a_supergroup_takes_what_it_has_along(api: Api) -> None:
    new: dict[str, Any] = {"id": -1002002, "type": "supergroup", "title": "Family"}
    with talking(api) as parts:
        api.say("/add pill today +10d 1 1", chat=GROUP)
        api.say(None, chat=GROUP, migrate_to_chat_id=new["id"])
        api.say(None, chat=new, migrate_from_chat_id=GROUP["id"])
        api.say("/list", chat=new)
        assert "pill" in api.answers(new["id"])[0]
        assert (names(parts, GROUP["id"]), names(parts, new["id"])) == ([], ["pill"])


def test_telling_of_the_move_at_a_message_is_enough_and_the_message_gets_there(api: Api) -> None:
    with talking(api) as parts:
        api.say("/add pill today +10d 1 1", chat=GROUP)
        api.answers(GROUP["id"])
        api.fail(
            "sendMessage", Fault(400, "Bad Request: group chat was upgraded", parameters={"migrate_to_chat_id": -7})
        )
        api.say("/list", chat=GROUP)
        assert "pill" in api.answers(-7)[0]
        assert names(parts, -7) == ["pill"]


def test_a_move_is_tried_again_while_the_storage_is_away(api: Api) -> None:
    parts = on_repository(MemoryRepository(), clock=lambda: NOON)
    chats = Failing(parts.chats, times=3)
    with talking(api, container=replace(parts, chats=chats)):
        api.say("/add pill today +10d 1 1", chat=GROUP)
        api.answers(GROUP["id"])
        api.say(None, chat=GROUP, migrate_to_chat_id=-8)
        api.confirmed()
        assert names(parts, -8) == ["pill"]


class Failing:
    """Chats that cannot be moved the first times."""

    def __init__(self, inner: Any, times: int) -> None:
        self._inner, self._times = inner, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def move(self, *args: Any, **kwargs: Any) -> Any:
        self._times -= 1
        if self._times >= 0:
            raise StorageUnavailable
        return self._inner.move(*args, **kwargs)


def test_strangers_get_one_sentence_and_nothing_else(api: Api) -> None:
    with talking(api, allowed=frozenset({ANNA["id"]})) as parts:
        api.say("/add pill today +10d 1 1", user=BORIS)
        api.press("t:1", 5, user=BORIS)
        api.say("good morning", chat=GROUP)
        api.say("/list")
        api.answers(ANNA["id"])
        api.confirmed()
        assert names(parts, BORIS["id"]) == []
    assert len(api.texts(BORIS["id"])) == len(api.notices) == 1
    assert str(BORIS["id"]) in api.notices[0][1]
    assert api.texts(GROUP["id"]) == []


# ------------------------------------------------------------------------------------------ buttons


def test_a_button_replaces_its_message_and_a_double_tap_is_one_press(api: Api) -> None:
    pages = {"1": "page one", "2": "page two"}

    def press(data: str) -> Iterator[Reply]:
        yield Reply((Text(pages[data]),), buttons=((Button("other", data),),), replaces=True, notice=f"at {data}")

    script = Script(lambda _: [Reply((Text("page one"),), buttons=((Button("next", "2"),),))], press)
    with talking(api, commands=script):
        api.say("/list")
        api.answers(ANNA["id"])
        shown = api.messages[0]
        assert shown.buttons == {"next": "2"}
        presses = [api.press(data, shown.message_id) for data in ("2", "2", "1", "2")]
        api.old_queries.add(presses[2])
        api.wait(lambda: len(api.notices) == 4)
        api.confirmed()
    assert api.notices == list(zip(presses, ["at 2", "at 2", "at 1", "at 2"], strict=True))
    assert [(each.text, each.message_id) for each in api.messages[1:]] == [
        ("page two", shown.message_id),
        ("page one", shown.message_id),
        ("page two", shown.message_id),
    ]
    assert all(each.edits for each in api.messages[1:])
    assert [asked for asked, _ in script.asked] == ["/list", "2", "1", "2"]


def test_a_press_is_answered_whatever_comes_of_it(api: Api) -> None:
    def press(data: str) -> Iterator[Reply]:
        if data == "fails":
            raise RuntimeError
        if data == "silent":
            return
        yield Reply((Text("the same"),), replaces=True, notice="ok" * 200)

    with talking(api, commands=Script(press=press)):
        api.say("/list")
        api.answers(ANNA["id"])
        message_id = api.messages[0].message_id
        for data in ("fails", "silent", "gone"):
            api.press(data, message_id if data != "gone" else 99_999)
        api.press("same", message_id)
        api.press("same again", message_id)
        api.wait(lambda: len(api.notices) == 5)
        api.confirmed()
    assert [len(text) for _, text in api.notices] == [0, 0, 200, 200, 200]


# --------------------------------------------------------------------------------- trouble with Telegram


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(429, "Too Many Requests: retry after 3", parameters={"retry_after": 3})],
        [Fault(500, "Internal Server Error"), Fault(502, "Bad Gateway"), Fault(503)],
    ],
    ids=["429", "5xx"],
)
def test_a_message_that_fails_is_tried_again(api: Api, faults: list[Fault]) -> None:
    with talking(api):
        api.fail("sendMessage", *faults)
        begun = time.monotonic()
        api.say("/add pill today +10d 1 1")
        api.say("/today")
        said = api.answers(ANNA["id"], 2)
        assert "Added  pill" in said[0]
        assert "pill" in said[1]
        if faults[0].status == 429:
            assert time.monotonic() - begun >= 3 * api.second


def test_what_telegram_wants_one_chat_to_wait_all_wait(api: Api) -> None:
    api.second = 0.1
    with talking(api):
        api.fail("sendMessage", Fault(429, "Too Many Requests", parameters={"retry_after": 10}))
        api.say("/help")
        api.wait(lambda: not api._faults["sendMessage"])
        begun = time.monotonic()
        api.say("/help", user=BORIS)
        api.answers(BORIS["id"])
        assert time.monotonic() - begun >= 0.8


def test_what_telegram_wants_one_group_to_wait_only_that_group_waits(api: Api) -> None:
    with talking(api):
        api.fail("sendMessage", Fault(429, "Too Many Requests", parameters={"retry_after": 1000}))
        api.say("/help", chat=GROUP)
        api.wait(lambda: not api._faults["sendMessage"])
        api.say("/help", user=BORIS)
        api.answers(BORIS["id"])
        assert api.texts(GROUP["id"]) == []


def test_whoever_sends_without_end_is_told_so_and_keeps_nobody_waiting(api: Api) -> None:
    with talking(api, commands=Script(lambda line: [Reply((Text(line),))])):
        for number in range(300):
            api.say(f"/get {number}")
        api.say("/list", user=BORIS)
        api.answers(BORIS["id"])
        said = api.texts(ANNA["id"])
    assert len(said) < 150
    assert said[:20] == [f"/get {number}" for number in range(20)]
    assert "a lot at once" in said[20]


def test_a_telegram_that_says_nothing_is_asked_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.sending.CALL_SECONDS", 0.3)
    with talking(api):
        api.fail("sendMessage", Fault(), Fault(seconds=0.5))
        api.say("/help")
        assert len(api.answers(ANNA["id"], seconds=10)) == 1


def test_a_message_that_cannot_be_sent_is_given_up_and_logged_without_its_words(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with talking(api):
        api.fail("sendMessage", *[Fault(500)] * 6)
        api.say("/add secret today +10d 1 1")
        api.say("/help")
        assert "What I understand" in api.answers(ANNA["id"])[0]
    (line,) = [each.getMessage() for each in caplog.records if "could not be sent" in each.getMessage()]
    assert "reference" in line
    assert "secret" not in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "fault", [Fault(403, "Forbidden: bot was blocked by the user"), Fault(400, "Bad Request: chat not found")]
)
def test_who_has_blocked_the_bot_is_left_alone_until_they_write_again(api: Api, fault: Fault) -> None:
    with talking(api, commands=Script(lambda line: [Reply((Text(f"{line} {n}"),)) for n in range(3)])):
        api.fail("sendMessage", fault)
        api.say("one")
        api.say("two", user=BORIS)
        api.answers(BORIS["id"], 3)
        api.confirmed()
        assert api.count("sendMessage") == 3
        api.say("three")
        assert api.answers(ANNA["id"], 3) == ["three 0", "three 1", "three 2"]


def test_polling_goes_on_after_any_trouble_told_once(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with talking(api):
        api.wait(lambda: api.count("getUpdates"))
        trouble = (
            [Fault(502)] * 4
            + [Fault(409, "Conflict")]
            + [Fault(429, "Too Many Requests", parameters={"retry_after": 1})]
        )
        api.fail("getUpdates", *trouble)
        api.say("/help")
        api.say("/help")
        assert len(api.answers(ANNA["id"], 2)) == 2
        api.wait(lambda: not api._faults["getUpdates"])
        api.say("/help")
        api.answers(ANNA["id"], 3)
    lines = [each.getMessage() for each in caplog.records]
    assert sum("out of reach" in line for line in lines) == 1
    assert sum("another process" in line for line in lines) == 1
    assert lines[-1] == "Telegram: back again"


def test_the_bot_comes_up_when_telegram_does(api: Api) -> None:
    api.fail("getMe", Fault(500), Fault(500))
    api.fail("deleteWebhook", Fault(500))
    with talking(api):
        api.say("/help")
        api.answers(ANNA["id"])


# -------------------------------------------------------------------------------- nothing lost, nothing twice


def test_an_update_that_comes_twice_is_acted_on_once(api: Api) -> None:
    script = Script()
    with talking(api, commands=script):
        first = api.say("/help")
        api.answers(ANNA["id"])
        api.confirmed()
        api.deliver({**api.message_of("/help"), "update_id": first})
        api.say("/list")
        assert api.answers(ANNA["id"], 2) == ["you said /help", "you said /list"]
        api.confirmed()


def test_the_request_id_follows_from_bot_and_update(api: Api) -> None:
    script = Script()
    for _ in range(2):
        with talking(api, commands=script):
            api.deliver({**api.message_of("/add"), "update_id": 5})
            api.confirmed()
    ids = {details["request_id"] for _, details in script.asked}
    assert len(script.asked) == 2
    assert len(ids) == 1
    assert isinstance(ids.pop(), UUID)


def test_while_one_is_slow_others_are_served_none_is_confirmed_and_telegram_is_not_flooded(api: Api) -> None:
    slow = threading.Event()

    def answer(line: str) -> Iterator[Reply]:
        if line == "slow":
            slow.wait(20)
        yield Reply((Text(line),))

    with talking(api, commands=Script(answer)):
        first = api.say("slow")
        api.say("behind it")
        for number in range(5):
            api.say(f"{number}", user=BORIS)
        api.answers(BORIS["id"], 5)
        begun, before = time.monotonic(), api.count("getUpdates")
        api.wait(lambda: api.count("sendChatAction"))
        polls = api.count("getUpdates") - before
        assert polls <= (time.monotonic() - begun) / 0.25 + 2
        assert api.texts(ANNA["id"]) == []
        assert api.unconfirmed[0]["update_id"] == first
        slow.set()
        assert api.answers(ANNA["id"], 2) == ["slow", "behind it"]
        api.confirmed()


def test_a_handler_that_hangs_or_fails_says_sorry_with_a_reference_and_the_next_is_served(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bot.telegram.STEP_SECONDS", 0.2)
    over = threading.Event()

    def answer(line: str) -> Iterator[Reply]:
        if line == "fails":
            raise RuntimeError
        if line == "hangs":
            over.wait(20)
        yield Reply((Text(line),))

    script = Script(answer)
    with talking(api, commands=script):
        api.say("fails")
        api.say("hangs", user=BORIS)
        api.say("next")
        api.say("next", user=BORIS)
        anna, boris = api.answers(ANNA["id"], 2), api.answers(BORIS["id"], 2)
        over.set()
    assert anna[0].startswith("Sorry, something went wrong on my side.")
    assert boris[0].startswith("Извините")
    references = [str(details["request_id"]) for line, details in script.asked if line in ("fails", "hangs")]
    assert references[0] in anna[0]
    assert references[1] in boris[0]
    assert all(each in caplog.text for each in references)
    assert (anna[1], boris[1]) == ("next", "next")


def test_a_burst_is_answered_whole_in_order_within_the_limits(api: Api) -> None:
    """5000 updates of 500 chats; Telegram's clock runs fifty times as fast."""
    people = [{**ANNA, "id": 5000 + number} for number in range(500)]
    for number in range(10):
        for person in people:
            api.say(f"/get {number}-{person['id']}", user=person)
    with talking(api, commands=Script(lambda line: [Reply((Text(line),))])):
        api.wait(lambda: len(api.messages) >= 5000, seconds=90)
        api.confirmed()
    assert len(api.messages) == 5000
    for person in people:
        assert api.texts(person["id"]) == [f"/get {number}-{person['id']}" for number in range(10)]


def test_many_chats_together_get_thirty_messages_a_second_and_a_group_twenty_a_minute(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shortened less than elsewhere, so that this machine could send more than that."""
    monkeypatch.setattr("bot.telegram.MOST_OPEN", 100)
    api.second = 0.3
    people = [{**ANNA, "id": 6000 + number} for number in range(80)]
    with talking(api, commands=Script()):
        for person in people:
            api.say("/list", user=person)
        api.wait(lambda: len(api.messages) == 80)
    api.second = 0.05
    with talking(api, commands=Script()):
        for _ in range(25):
            api.say("/list", chat=GROUP)
        api.answers(GROUP["id"], 25)


def test_a_group_that_is_allowed_is_so_under_its_new_id(api: Api) -> None:
    new: dict[str, Any] = {"id": -1003003, "type": "supergroup", "title": "Family"}
    with talking(api, allowed=frozenset({GROUP["id"]})):
        api.say("/add pill today +10d 1 1", chat=GROUP)
        api.say(None, chat=GROUP, migrate_to_chat_id=new["id"])
        api.say(None, chat=new, migrate_from_chat_id=GROUP["id"])
        api.say("/list", chat=new)
        assert "pill" in api.answers(new["id"])[0]


def test_a_chat_that_is_gone_is_not_written_to_until_it_is_back(api: Api) -> None:
    reply, to = Reply((Text("due"),)), Place(ANNA["id"], reference="a reminder")

    async def tell() -> None:
        async with Account(TOKEN, api.base_url).bot() as bot:
            sender = Sender(bot, move=lambda *_: asyncio.sleep(0), second=api.second)
            for _ in range(2):
                with pytest.raises(Undeliverable):
                    await sender.send(reply, to)
            assert sender.is_gone(ANNA["id"])
            sender.is_back(ANNA["id"])
            await sender.send(reply, to)

    api.fail("sendMessage", Fault(403, "Forbidden: user is deactivated"))
    asyncio.run(tell())
    assert api.texts() == ["due"]


# ------------------------------------------------------------------------------------------ the end


def test_closing_finishes_what_is_in_hand_and_confirms_it(api: Api) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(line: str) -> Iterator[Reply]:
        begun.set()
        go_on.wait(20)
        yield Reply((Text(line),))

    with talking(api, commands=Script(answer)):
        api.say("in hand")
        begun.wait(20)
        threading.Timer(0.3, go_on.set).start()
    assert api.texts() == ["in hand"]
    assert api.unconfirmed == []


def test_a_group_commands_own_name_is_the_bots(api: Api) -> None:
    with talking(api):
        api.say(f"/help@{NAME}", chat=GROUP)
        assert "/today" in api.answers(GROUP["id"])[0]
