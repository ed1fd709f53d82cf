"""Files to Telegram and from there, and a chat that is forgotten."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from activities.container import Container, on_repository
from activities.domain import Activity, read_order
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from bot.chat_files import MOST_BYTES, as_csv
from bot.telegram import MOST_FILES
from tests.bot.api import ANNA, BORIS, GROUP, ME, TOKEN, Api, Fault, Sent
from tests.bot.test_telegram import add, names, talking
from tests.examples import activity

CSV = as_csv([activity("pill"), activity("капли")])


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(second=0.02).serving() as api:
        yield api


def stored(parts: Container, chat_id: int) -> list[Activity]:
    return list(parts.activities.stream(chat_id, order=read_order("name"), call=Call()))


def files(api: Api, chat_id: int) -> list[tuple[str, bytes]]:
    return [each.file for each in list(api.messages) if each.file and each.chat_id == chat_id]


def press(api: Api, label: str, message: Sent, **more: Any) -> None:
    api.press(message.buttons[label], message.message_id, **more)


# ---------------------------------------------------------------------------------- what goes out


def test_an_export_comes_as_two_documents_that_another_chat_can_import(api: Api) -> None:
    with talking(api) as parts:
        for number in range(250):
            add(parts, ANNA["id"], f"pill {number:03}")
        api.say("/timezone Europe/Moscow")
        api.say("/export")
        assert api.answers(ANNA["id"], 3)[1].startswith("All I keep of this chat: 250 activities")
        whole, table = files(api, ANNA["id"])
        assert (whole[0], table[0]) == ("activities-2026-11-24.json", "activities-2026-11-24.csv")
        assert json.loads(whole[1])["chat_id"] == ANNA["id"]
        assert table[1] == as_csv(stored(parts, ANNA["id"]))
        api.upload(whole[1], caption="/import", user=BORIS)
        assert api.answers(BORIS["id"]) == ["Imported 250 activities.\nYour time zone is Europe/Moscow now."]
        assert stored(parts, BORIS["id"]) == stored(parts, ANNA["id"])


def test_a_groups_export_goes_to_the_group_as_an_answer_in_its_topic(api: Api) -> None:
    forum: dict[str, Any] = {"id": -1002001, "type": "supergroup", "title": "Forum", "is_forum": True}
    with talking(api) as parts:
        add(parts, forum["id"], "pill")
        add(parts, ANNA["id"], "secret")
        api.say("/export", chat=forum, message_thread_id=77, is_topic_message=True)
        assert "everybody here can read it" in api.answers(forum["id"], 2)[0]
    assert all(b"secret" not in content for _, content in files(api, forum["id"]))
    assert [(each.thread_id, bool(each.answers)) for each in api.messages] == [(77, True)] * 2


def test_a_document_keeps_to_the_limits_and_is_tried_again(api: Api) -> None:
    with talking(api) as parts:
        add(parts, ANNA["id"], "pill")
        limit = Fault(429, "Too Many Requests: retry after 3", parameters={"retry_after": 3})
        api.fail("sendDocument", limit, Fault(502, "Bad Gateway"))
        for _ in range(3):
            api.say("/export")
        api.answers(ANNA["id"], 6)
    assert not api._faults["sendDocument"]
    assert len(files(api, ANNA["id"])) == 6


def test_where_files_are_not_allowed_it_is_said(api: Api) -> None:
    with talking(api):
        api.fail("sendDocument", Fault(400, "Bad Request: not enough rights to send documents to the chat"))
        api.say("/language ru", chat=GROUP)
        api.say("/export", chat=GROUP)
        api.say("/help", chat=GROUP)
        assert api.answers(GROUP["id"], 3)[1].startswith("Здесь мне нельзя присылать файлы.")
    assert files(api, GROUP["id"]) == []


# ----------------------------------------------------------------------------------- what comes in


def test_a_file_is_taken_with_a_caption_or_as_the_answer_to_the_question(api: Api) -> None:
    with talking(api) as parts:
        api.upload(CSV, caption="/import")
        api.say("/import", user=BORIS)
        assert "at most 8 MB" in api.answers(BORIS["id"])[0]
        api.upload(CSV, user=BORIS)
        api.answers(ANNA["id"])
        api.answers(BORIS["id"], 2)
        assert stored(parts, ANNA["id"]) == stored(parts, BORIS["id"]) == [activity("pill"), activity("капли")]


def test_a_command_may_answer_a_file_and_a_caption_may_come_later(api: Api) -> None:
    with talking(api) as parts:
        sent = {"message_id": 5, "date": 1, "chat": GROUP, "from": BORIS, "document": api.document(CSV)}
        api.say("/import", chat=GROUP, reply_to_message=sent)
        api.answers(GROUP["id"])
        api.upload(CSV, caption="/import", kind="edited_message")
        api.answers(ANNA["id"])
        assert stored(parts, GROUP["id"]) == stored(parts, ANNA["id"]) == [activity("pill"), activity("капли")]


def test_a_file_that_nobody_wants_imported_is_not_fetched(api: Api) -> None:
    with talking(api) as parts:
        api.upload(CSV)
        api.upload(CSV, caption="my list")
        api.upload(CSV, caption="/imports")
        api.upload(CSV, chat=GROUP)
        api.upload(CSV, chat=GROUP, caption="/import@OtherBot")
        api.say("/list")
        said = api.answers(ANNA["id"], 4)
        api.confirmed()
        assert names(parts, ANNA["id"]) == names(parts, GROUP["id"]) == []
    assert said[:3] == ["Is that a file that /export made? Then send it with the caption /import."] * 3
    assert api.texts(GROUP["id"]) == []
    assert api.count("getFile") == 0


def test_in_a_group_the_file_of_whoever_asked_is_taken(api: Api) -> None:
    with talking(api) as parts:
        api.say("/import", chat=GROUP)
        api.answers(GROUP["id"])
        api.upload(CSV, chat=GROUP, user=BORIS)
        api.upload(as_csv([activity("drops")]), chat=GROUP)
        api.answers(GROUP["id"], 2)
        assert names(parts, GROUP["id"]) == ["drops"]
        ours = {"message_id": 5, "date": 1, "chat": GROUP, "from": ME, "text": "?"}
        api.upload(CSV, chat=GROUP, caption="/import", reply_to_message=ours)
        api.answers(GROUP["id"], 3)
        assert len(names(parts, GROUP["id"])) == 3


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 21 << 20])
@pytest.mark.parametrize("tells", [True, False])
def test_a_large_file_is_not_fetched(api: Api, size: int, tells: bool) -> None:
    document = api.document(bytes(size))
    if not tells:
        del document["file_size"]
    with talking(api):
        api.say(None, document=document, caption="/import")
        (said,) = api.answers(ANNA["id"])
    assert said in (
        "That file is too large: I read at most 8 MB.",
        "I could not get that file from Telegram. Please send it once more.",
    )
    assert api.given == []
    assert api.count("getFile") == 0 or not tells


@pytest.mark.parametrize("method", ["getFile", "file"])
@pytest.mark.parametrize("fault", [Fault(), Fault(404, "Not Found"), Fault(429, "Too Many Requests"), Fault(502)])
def test_a_file_that_is_not_to_be_had_is_said(
    api: Api, method: str, fault: Fault, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bot.telegram.FETCH_SECONDS", 0.3)
    with talking(api):
        api.fail(method, fault)
        api.upload(CSV, caption="/import")
        assert api.answers(ANNA["id"]) == ["I could not get that file from Telegram. Please send it once more."]
        api.upload(CSV, caption="/import")
        assert api.answers(ANNA["id"], 2)[1] == "Imported 2 activities."
    assert TOKEN not in caplog.text


def test_files_that_take_long_keep_nobody_else_waiting(api: Api) -> None:
    people = [{**ANNA, "id": 5000 + number} for number in range(3 * MOST_FILES)]
    with talking(api):
        with api.holding_files():
            for person in people:
                api.upload(CSV, caption="/import", user=person)
            api.wait(lambda: api.count("getFile") == MOST_FILES)
            api.say("/list", user=BORIS)
            api.answers(BORIS["id"])
            assert api.count("getFile") == MOST_FILES
        for person in people:
            assert api.answers(person["id"]) == ["Imported 2 activities."]


@pytest.mark.parametrize(
    "content", [b"[" * 5_000_000, b"\0" * 5_000_000, b"a,b\n" * 2_000_000, b'{"a": ' + b"9" * 7_000_000 + b"}"]
)
def test_hostile_files_are_refused_and_the_bot_goes_on(
    api: Api, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with talking(api):
        api.upload(content, caption="/import")
        api.say("/list")
        api.answers(ANNA["id"], 2)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_the_same_update_after_a_crash_imports_nothing_twice(api: Api) -> None:
    parts = on_repository(MemoryRepository())
    document = api.document(as_csv([activity(f"pill {number}") for number in range(150)]))
    message: dict[str, Any] = {**api.message_of("")["message"], "document": document, "caption": "/import"}
    del message["text"]
    for _ in range(2):
        with talking(api, container=replace(parts, close=lambda: None)):
            api.deliver({"message": message, "update_id": 5})
            api.confirmed()
            if _ == 0:
                parts.activities.delete(ANNA["id"], name="pill 7", call=Call())
    assert len(stored(parts, ANNA["id"])) == 149


# --------------------------------------------------------------------------------- what is forgotten


def test_a_press_forgets_the_chat_once(api: Api) -> None:
    with talking(api) as parts:
        add(parts, ANNA["id"], "pill")
        add(parts, BORIS["id"], "капли")
        api.say("/forget_me")
        api.answers(ANNA["id"])
        question = api.messages[-1]
        for _ in range(2):
            press(api, "Erase everything", question)
        api.wait(lambda: len(api.notices) == 2)
        api.answers(ANNA["id"], 2)
        assert (api.messages[-1].edits, api.messages[-1].message_id) == (True, question.message_id)
        assert "is erased" in api.texts()[-1]
        assert (names(parts, ANNA["id"]), names(parts, BORIS["id"])) == ([], ["капли"])
        api.confirmed()
    assert len(api.texts(ANNA["id"])) == 2


def test_in_a_group_only_who_asked_can_answer(api: Api) -> None:
    with talking(api) as parts:
        add(parts, GROUP["id"], "pill")
        api.say("/forget_me", chat=GROUP)
        api.answers(GROUP["id"])
        question = api.messages[-1]
        press(api, "Erase everything", question, chat=GROUP, user=BORIS)
        api.wait(lambda: api.notices)
        assert (api.notices[0][1], names(parts, GROUP["id"])) == (
            "Only the person who asked can answer that.",
            ["pill"],
        )
        press(api, "Erase everything", question, chat=GROUP)
        api.answers(GROUP["id"], 2)
        assert names(parts, GROUP["id"]) == []


def test_presses_of_a_chat_that_is_forgotten_are_forgotten(api: Api) -> None:
    with talking(api) as parts:
        for number in range(15):
            add(parts, ANNA["id"], f"pill {number}")
            add(parts, BORIS["id"], f"pill {number}")
        for user in (ANNA, BORIS):
            api.say("/list", user=user)
            api.answers(user["id"])
            press(api, "›", api.messages[-1], user=user)
            api.answers(user["id"], 2)
        api.say("/forget_me yes")
        api.answers(ANNA["id"], 3)
        (thread,) = [each for each in threading.enumerate() if each.name == "telegram"]
        bot = thread._target.__closure__[0].cell_contents  # type: ignore[attr-defined]
        assert {each[0] for each in bot._presses} == {BORIS["id"]}
