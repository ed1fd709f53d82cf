"""Pages are turned in place, and a deletion is undone for a while."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

import pytest

from activities.domain import Activity, StorageTimeout
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from bot.commands import UNDO
from bot.replies import MOST_DATA_BYTES, MOST_UNITS, Button, Reply, plain, units
from bot.words import quoted
from tests.bot.talking import NOON, Talk
from tests.bot.test_dialogs import stored
from tests.examples import ODD_NAMES


def filled(talk: Talk, count: int, *, name: str = "") -> Talk:
    for number in range(count):
        activity = Activity(f"{number:03}{name}", NOON.date(), NOON.date(), 100, Decimal("999999.999"))
        talk.container.activities.create(talk.chat_id, activity=activity, call=Call())
    return talk


def labels(talk: Talk) -> list[str]:
    return [button.label for row in talk.shown.buttons for button in row] if talk.shown else []


# -------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("command", ["/list", "/today"])
def test_pages_are_turned_in_place_and_show_everything_once(tapping, command):
    filled(tapping, 35)
    shown = re.findall(r"^• (\d{3})", tapping.say(command), re.MULTILINE)
    assert labels(tapping) == ["1/4", "›"]
    for after in (["‹", "2/4", "›"], ["‹", "3/4", "›"], ["‹", "4/4"]):
        (reply,) = tapping.replies("[›]")
        assert reply.replaces
        assert labels(tapping) == after
        shown += re.findall(r"^• (\d{3})", plain(reply), re.MULTILINE)
    assert shown == [f"{number:03}" for number in range(35)]
    assert "• 020" in tapping.say("[‹]")


def test_what_fits_on_one_page_has_no_buttons(tapping):
    filled(tapping, 10)
    (reply,) = tapping.replies("/list")
    assert reply.buttons == ()


def test_pages_are_turned_after_a_restart(tapping):
    filled(tapping, 15)
    tapping.say("/list")
    tapping.restart()
    assert tapping.say("[›]").startswith("Your activities, latest end first (11–15 of 15)")


@pytest.mark.parametrize("command", ["/list", "/today"])
def test_a_page_that_is_gone_shows_the_last_one(tapping, command):
    filled(tapping, 25)
    tapping.say(command)
    tapping.say("[›]")
    for number in range(8, 25):
        tapping.say(f"/delete {number:03}")
    (reply,) = tapping.pressed(f"p:{command[1:]}:3")
    assert reply.notice == "That page is gone, this is the last one."
    assert "• 007" in plain(reply)
    assert reply.buttons == ()


def test_a_page_of_nothing_says_that_there_is_nothing(tapping):
    assert tapping.text(tapping.pressed("p:list:2")[0]).startswith("You have no activities yet.")


def test_the_number_of_a_page_does_nothing(tapping):
    filled(tapping, 15)
    tapping.say("/list")
    assert tapping.replies("[1/2]") == [Reply((), replaces=False)]


def test_a_typed_page_is_of_the_same_size(tapping):
    filled(tapping, 15)
    assert "(11–15 of 15)" in tapping.say("/list 2")
    assert "page: 3 is not there, 2 is the last." in tapping.say("/list 3")


def test_the_terminal_has_longer_pages_and_no_buttons(talk):
    filled(talk, 25)
    (reply,) = talk.replies("/list")
    assert (reply.buttons, talk.suggestions("/list")) == ((), ["/list 2"])
    assert "(1–20 of 25)" in plain(reply)


@pytest.mark.parametrize("command", ["/list", "/today"])
def test_the_longest_page_is_one_message(tapping_russian, command):
    filled(tapping_russian, 12, name="💊" * 117)
    (reply,) = tapping_russian.replies(command)
    assert 2500 < units(plain(reply)) <= MOST_UNITS


def test_pages_of_two_chats_have_nothing_in_common(tapping):
    filled(tapping, 15)
    tapping.in_new_chat().say("/add mine today +1d 1 1")
    (reply,) = tapping.pressed("p:list:2")
    assert re.findall("^• (.*?):", plain(reply), re.MULTILINE) == ["mine"]


# --------------------------------------------------------------------------------------------- undo


GONE = "(I cannot undo that any more, but the line in that message adds it again.)"


def delete(talk: Talk, name: str = "x") -> str:
    """Adds and deletes an activity; the data of the button that brings it back."""
    talk.say(f"/add {quoted(name)} today +5d 3 0.125")
    talk.say(f"/delete {quoted(name)}")
    assert stored(talk) == []
    return talk.button("Undo").data


@pytest.mark.parametrize("name", [*ODD_NAMES, "💊" * 120])
def test_undo_brings_all_of_it_back(tapping, name):
    delete(tapping, name)
    (reply,) = tapping.replies("[Undo]")
    assert (reply.replaces, reply.buttons) == (True, ())
    assert stored(tapping) == [Activity(name, NOON.date(), NOON.date() + timedelta(days=5), 3, Decimal("0.125"))]


def test_what_is_undone_comes_back_as_first_written(tapping):
    tapping.say('/add "Vitamin C" today +5d 3 0.125')
    tapping.say('/delete "VITAMIN C"')
    assert tapping.say("[Undo]").splitlines() == [
        "Here again  Vitamin C",
        "0.125 each time, 3 times a day, 24.11.2026 – 29.11.2026 (6 days)",
    ]


def test_undo_acts_once_on_a_double_tap(tapping):
    data = delete(tapping)
    tapping.pressed(data)
    assert tapping.text(tapping.pressed(data)[0]) == "(It is back already.)"
    tapping.say("/update x _ _ 5 _")
    tapping.pressed(data)
    tapping.now += 2 * UNDO
    assert tapping.text(tapping.pressed(data)[0]) == "(It is back already.)"
    assert [each.times_per_day for each in stored(tapping)] == [5]


def test_undo_in_the_last_moment_works(tapping):
    delete(tapping)
    tapping.now += UNDO - timedelta(milliseconds=1)
    assert tapping.say("[Undo]").startswith("Here again  x")


def test_undo_that_comes_too_late_offers_the_line(tapping):
    delete(tapping, "vitamin C")
    tapping.now += UNDO
    (reply,) = tapping.replies("[Undo]")
    assert not reply.replaces
    assert tapping.text(reply) == (
        'It is too late to undo that.\nAdd it again: /add "vitamin C" 24.11.2026 29.11.2026 3 0.125'
    )
    assert stored(tapping) == []
    (line,) = tapping.suggestions("[Undo]")
    assert tapping.say(line).startswith("Added  vitamin C")


def test_undo_after_a_restart_leads_to_the_line_that_is_there(tapping):
    delete(tapping)
    tapping.restart()
    assert tapping.say("[Undo]") == GONE
    assert "Add it again: /add x 24.11.2026 29.11.2026 3 0.125" in tapping.text(tapping.shown)


def test_undo_is_of_no_use_to_another_chat(tapping):
    data = delete(tapping)
    tapping.chat_id = 2
    assert tapping.text(tapping.pressed(data)[0]) == GONE
    assert stored(tapping) == []
    tapping.chat_id = 1
    assert "Here again  x" in tapping.text(tapping.pressed(data)[0])


def test_undo_when_the_name_is_taken_again_changes_nothing(tapping):
    data = delete(tapping)
    tapping.say("/add X today +1d 1 1")
    (reply,) = tapping.pressed(data)
    assert tapping.text(reply) == (
        "You already have X: 1, once a day, until 25.11.2026.\nChange it: /update X _ 29.11.2026 3 0.125"
    )


def test_a_button_to_undo_is_only_shown_where_there_are_buttons(talk):
    talk.say("/add x today +1d 1 1")
    (reply,) = talk.replies("/delete x")
    assert reply.buttons == ()


class Unsure(MemoryRepository):
    """A store that does what it is told, and may not say so."""

    is_unsure = False

    def apply(self, *args, **kwargs):
        outcomes = super().apply(*args, **kwargs)
        if self.is_unsure:
            raise StorageTimeout
        return outcomes


def test_undo_whose_end_is_not_known_can_be_pressed_again(talking):
    repository = Unsure()
    talk = talking(repository, language=None, with_buttons=True)
    data = delete(talk)
    repository.is_unsure = True
    (reply,) = talk.pressed(data)
    assert not reply.replaces
    assert "I don't know whether that was done.\nLook again: /get x" in talk.text(reply)
    repository.is_unsure = False
    assert talk.text(talk.pressed(data)[0]).startswith("Here again  x")


def test_in_russian(tapping_russian):
    tapping_russian.say("/add x сегодня +5д 3 1")
    assert tapping_russian.say("/delete x").endswith("\n[Вернуть]")
    assert tapping_russian.say("[Вернуть]").startswith("Снова с вами: x\n")
    (reply,) = tapping_russian.pressed("u:0")
    assert reply.notice.startswith("Вернуть кнопкой уже не могу")


# ------------------------------------------------------------------------------------------ buttons


def test_a_button_takes_64_bytes_and_no_more():
    assert Button("x", "я" * (MOST_DATA_BYTES // 2))
    with pytest.raises(ValueError, match="longer than 64 bytes"):
        Button("x", "я" * (MOST_DATA_BYTES // 2) + "x")


def test_every_notice_is_short_enough_for_telegram(tapping_russian):
    for data in ("u:0", "d:0:1:x", "?", "p:list:9"):
        assert len(tapping_russian.pressed(data)[0].notice) <= 200
