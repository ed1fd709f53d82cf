"""/add and /update ask for what is missing, one thing at a time, and are answered by buttons or by text."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from activities.domain import LATEST_END_FIRST, Activity, StorageBusy
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from bot.replies import MOST_DATA_BYTES
from bot.words import quoted
from tests.bot.talking import NOON, Talk
from tests.bot.test_dialogue import exchanges, held
from tests.examples import ODD_NAMES

DAYS = "[Today][Tomorrow][+7 days][+30 days]"
NOVEMBER = """[Mon][Tue][Wed][Thu][Fri][Sat][Sun]
[ ][ ][ ][ ][ ][ ][1]
[2][3][4][5][6][7][8]
[9][10][11][12][13][14][15]
[16][17][18][19][20][21][22]
[23][24][25][26][27][28][29]
[30][ ][ ][ ][ ][ ][ ]"""

ENGLISH = f"""
> /add
What is it called?
[Cancel]

> ..
name: .. cannot be a name.
What is it called?
[Cancel]

> vitamin C
vitamin C
From which day? Choose, or write a date like 20.07.2026 or +10d.
{DAYS}
[‹][November 2026][›]
{NOVEMBER}
[Cancel]

> [Tomorrow]
vitamin C, from 25.11.2026
Until which day? Choose, or write a date like 20.07.2026, or +10d for 10 days after the begin date.
[Tomorrow][+7 days][+14 days][+30 days]
[ ][November 2026][›]
[Mon][Tue][Wed][Thu][Fri][Sat][Sun]
[ ][ ][25][26][27][28][29]
[30][ ][ ][ ][ ][ ][ ]
[Cancel]

> [›]
vitamin C, from 25.11.2026
Until which day? Choose, or write a date like 20.07.2026, or +10d for 10 days after the begin date.
[Tomorrow][+7 days][+14 days][+30 days]
[‹][December 2026][›]
[Mon][Tue][Wed][Thu][Fri][Sat][Sun]
[ ][1][2][3][4][5][6]
[7][8][9][10][11][12][13]
[14][15][16][17][18][19][20]
[21][22][23][24][25][26][27]
[28][29][30][31][ ][ ][ ]
[Cancel]

> [31]
vitamin C, from 25.11.2026, until 31.12.2026
How many times a day? Choose, or write a number up to 100.
[1][2][3][4][5][6]
[Cancel]

> two
times_per_day: two is not a whole number like 2.
vitamin C, from 25.11.2026, until 31.12.2026
How many times a day? Choose, or write a number up to 100.
[1][2][3][4][5][6]
[Cancel]

> [2]
vitamin C, from 25.11.2026, until 31.12.2026, 2 times a day
How much each time? Choose, or write a number like 0.25.
[0.5][1][1.5][2]
[3][5][10][20]
[Cancel]

> 0,25
Added  vitamin C
0.25 each time, 2 times a day, 25.11.2026 – 31.12.2026 (37 days)

> /update
Which one is to change? Choose, or write its name.
[vitamin C]
[Cancel]

> vitamin D
I know no vitamin D. Did you mean vitamin C?
Which one is to change? Choose, or write its name.
[vitamin C]
[Cancel]

> [vitamin C]
vitamin C
From which day? Choose, or write a date like 20.07.2026 or +10d.
{DAYS}
[‹][November 2026][›]
{NOVEMBER}
[Keep 25.11.2026][Cancel]

> [Keep 25.11.2026]
vitamin C
Until which day? Choose, or write a date like 20.07.2026, or +10d for 10 days after the begin date.
[Tomorrow][+7 days][+14 days][+30 days]
[‹][December 2026][›]
[Mon][Tue][Wed][Thu][Fri][Sat][Sun]
[ ][1][2][3][4][5][6]
[7][8][9][10][11][12][13]
[14][15][16][17][18][19][20]
[21][22][23][24][25][26][27]
[28][29][30][31][ ][ ][ ]
[Keep 31.12.2026][Cancel]

> +7d
vitamin C, until 02.12.2026
How many times a day? Choose, or write a number up to 100.
[1][2][3][4][5][6]
[Keep 2][Cancel]

> [Keep 2]
vitamin C, until 02.12.2026
How much each time? Choose, or write a number like 0.25.
[0.5][1][1.5][2]
[3][5][10][20]
[Keep 0.25][Cancel]

> [1]
Changed  vitamin C
until 31.12.2026 → 02.12.2026
0.25 → 1 each time

> /add drops tomorrow +3d
drops, from 25.11.2026, until 28.11.2026
How many times a day? Choose, or write a number up to 100.
[1][2][3][4][5][6]
[Cancel]

> [Cancel]
Cancelled, nothing has changed.

> drops
I understand commands. /help shows them all.
"""

RUSSIAN = """
> /add
Как назовём дело?
[Отмена]

> «витамин D»
витамин D
С какого дня? Выберите или напишите дату вроде 20.07.2026 или +10д.
[Сегодня][Завтра][+7 дней][+30 дней]
[‹][Ноябрь 2026][›]
[пн][вт][ср][чт][пт][сб][вс]
[ ][ ][ ][ ][ ][ ][1]
[2][3][4][5][6][7][8]
[9][10][11][12][13][14][15]
[16][17][18][19][20][21][22]
[23][24][25][26][27][28][29]
[30][ ][ ][ ][ ][ ][ ]
[Отмена]

> завтра
витамин D, с 25.11.2026
До какого дня? Выберите или напишите дату вроде 20.07.2026 или +10д (через 10 дней от начала).
[Завтра][+7 дней][+14 дней][+30 дней]
[ ][Ноябрь 2026][›]
[пн][вт][ср][чт][пт][сб][вс]
[ ][ ][25][26][27][28][29]
[30][ ][ ][ ][ ][ ][ ]
[Отмена]

> [+30 дней]
витамин D, с 25.11.2026, до 25.12.2026
Сколько раз в день? Выберите или напишите число до 100.
[1][2][3][4][5][6]
[Отмена]

> [3]
витамин D, с 25.11.2026, до 25.12.2026, 3 раза в день
Сколько за раз? Выберите или напишите число вроде 0,25.
[0.5][1][1.5][2]
[3][5][10][20]
[Отмена]

> 0
сколько за раз (quantity_per_time): 0 — а нужно больше 0 и не больше 1000000.
витамин D, с 25.11.2026, до 25.12.2026, 3 раза в день
Сколько за раз? Выберите или напишите число вроде 0,25.
[0.5][1][1.5][2]
[3][5][10][20]
[Отмена]

> [2]
Добавлено: витамин D
по 2, 3 раза в день, 25.11.2026 – 25.12.2026 (31 день)

> /update "витамин D" _ _ 1
витамин D, 1 раз в день
Сколько за раз? Выберите или напишите число вроде 0,25.
[0.5][1][1.5][2]
[3][5][10][20]
[Оставить 2][Отмена]

> [Оставить 2]
Изменено: витамин D
3 → 1 раз в день

> /update
Какое дело изменить? Выберите или напишите название.
[витамин D]
[Отмена]

> [Отмена]
Отменено, ничего не изменилось.
"""


def stored(talk: Talk) -> list[Activity]:
    return list(talk.container.activities.stream(talk.chat_id, order=LATEST_END_FIRST, call=Call()))


def test_english(tapping):
    assert held(tapping, ENGLISH) == exchanges(ENGLISH)


def test_russian(tapping_russian):
    assert held(tapping_russian, RUSSIAN) == exchanges(RUSSIAN)


# -------------------------------------------------------------------------------------- same as typed


def test_a_dialog_ends_like_the_typed_line(tapping):
    tapping.say("/add x today +1d 1 1")
    tapping.say("/add X today +2d 3")
    assert tapping.say("[2]") == tapping.say("/add X 24.11.2026 26.11.2026 3 2")
    assert "You already have x" in tapping.say("/add X today +2d 3 2")


@pytest.mark.parametrize(
    "line", ["/add x today +1d 1 1 1", '/add "x', "/update x 1 1 1 1 1", "/add x today +1d 1 half"]
)
def test_a_whole_line_is_answered_and_not_asked_about(tapping, line):
    assert "Like this: " in tapping.say(line) or "Add one: " in tapping.say(line)
    assert not tapping.commands.has_dialog(1, 7)


@pytest.mark.parametrize("line", ["/add", "/add x", "/update"])
def test_without_buttons_nothing_is_asked(talk, line):
    talk.user_id = None
    assert "Like this: " in talk.say(line) or "Add one: " in talk.say(line)
    assert not talk.commands.has_dialog(1, 7)


def test_somebody_who_is_not_known_is_not_asked(tapping):
    (reply,) = tapping.commands.answer("/add x", chat_id=1, has_buttons=True)
    assert "I need four more things" in tapping.text(reply)
    assert tapping.say("today") == "I understand commands. /help shows them all."


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_name_can_be_written_or_chosen(tapping, name):
    tapping.say("/add")
    written = f'"{name}"' if name.startswith("/") else name  # it would be a command
    for answer in (written, "today", "+1d", "1", "1"):
        tapping.say(answer)
    (activity,) = stored(tapping)
    assert activity.name == name
    tapping.say("/update")
    tapping.replies(f"[{tapping.shown.buttons[0][0].label}]")
    for answer in ("_", "_", "2", "_"):
        tapping.say(answer)
    assert [each.times_per_day for each in stored(tapping)] == [2]
    assert name in tapping.say(f"/get {quoted(name)}")


@pytest.mark.parametrize(("typed", "name"), [('"a b"', "a b"), ("a b", "a b"), ('a "b"', 'a "b"'), ("a\\b", "a\\b")])
def test_quotes_round_a_name_may_be_left_out(tapping, typed, name):
    tapping.say("/add")
    assert tapping.say(typed).startswith(f"{name}\n")


def test_at_most_eight_names_are_offered_and_near_ones_first(tapping):
    for number in range(20):
        tapping.say(f"/add pill{number:02} today +{number}d 1 1")
    reply = tapping.say("/update pil00")
    assert reply.splitlines()[0].startswith("I know no pil00. Did you mean pill00")
    assert reply.splitlines()[2] == "[pill00]"
    assert reply.count("[pill") == 8
    assert tapping.say("[pill00]").startswith("pill00\n")


def test_an_update_of_nothing_asks_nothing(tapping):
    assert tapping.say("/update").startswith("You have no activities yet.")
    assert not tapping.commands.has_dialog(1, 7)


# ----------------------------------------------------------------------------------------------- dates


def test_a_wrong_word_on_the_line_is_asked_for_again_and_the_rest_is_kept(tapping):
    assert tapping.say("/add x 31.04.2027 +3d").splitlines()[:2] == [
        "begin_date: 31.04.2027 is not a date (April has 30 days).",
        "x, until +3d",
    ]
    tapping.say("30.04.2027")
    tapping.say("[1]")
    assert "30.04.2027 – 03.05.2027" in tapping.say("[1]")


def test_an_end_before_the_begin_is_asked_for_again(tapping):
    tapping.say("/add x 31.04.2027 01.04.2027")
    again = tapping.say("30.04.2027")
    assert again.startswith("end_date: 01.04.2027 is before the begin date, 30.04.2027.\nx, from 30.04.2027\nUntil")


def test_a_new_begin_after_the_end_asks_for_another_end(tapping):
    tapping.say("/add x today +7d 1 1")
    assert tapping.say("/update x 20.12.2026").startswith("x, from 20.12.2026\nUntil which day?")
    again = tapping.say("[Keep 01.12.2026]")
    assert again.startswith("begin_date: 20.12.2026 is after the end date, 01.12.2026.\nx, from 20.12.2026\nUntil")
    tapping.say("[24]")
    tapping.say("_")
    assert "until 01.12.2026 → 24.12.2026" in tapping.say("_")


def test_today_stays_the_day_on_which_it_was_said(tapping):
    tapping.now = NOON.replace(hour=23, minute=59)
    tapping.say("/add x today")
    tapping.now += timedelta(minutes=2)
    tapping.say("+1d")
    tapping.say("[1]")
    assert "24.11.2026 – 25.11.2026" in tapping.say("[1]")


def test_today_is_that_of_the_zone(tapping):
    tapping.say("/timezone Pacific/Kiritimati")
    tapping.say("/add x")
    assert tapping.say("[Today]").startswith("x, from 25.11.2026\n")


@pytest.mark.parametrize(("line", "missing"), [("/add x 01.01.2000", "‹"), ("/add x 01.12.2999", "›")])
def test_the_calendar_ends_where_the_dates_end(tapping, line, missing):
    tapping.say(line)
    labels = {button.label for row in tapping.shown.buttons for button in row}
    assert missing not in labels
    assert len({"‹", "›"} & labels) == (1 if missing == "‹" else 0)


def test_turning_the_calendar_after_the_activity_was_deleted_ends_the_question(tapping):
    tapping.say("/add x today +7d 1 1")
    tapping.say("/update x _")
    onward = tapping.button("›").data
    tapping.container.activities.delete(tapping.chat_id, name="x", call=Call())
    (reply,) = tapping.pressed(onward)
    assert "no longer open" in (reply.notice or "") + "".join(str(line) for line in reply.lines)


def test_every_day_of_a_leap_february_can_be_chosen(tapping):
    tapping.say("/add x 01.02.2028")
    assert tapping.say("[29]").startswith("x, from 01.02.2028, until 29.02.2028\n")


# -------------------------------------------------------------------------------------- taps and ends


def test_a_pressed_question_is_replaced_and_a_typed_answer_gets_a_new_one(tapping):
    tapping.say("/add x today +1d")
    (reply,) = tapping.replies("[1]")
    assert reply.replaces
    (reply,) = tapping.replies("[1]")
    assert reply.replaces
    tapping.say("/add y")
    (reply,) = tapping.replies("today")
    assert not reply.replaces


@pytest.mark.parametrize("label", ["[Today]", "[30]"])
def test_a_double_tap_answers_once(tapping, label):
    tapping.say("/add x")
    data = tapping.button(label[1:-1]).data
    assert "Until which day?" in tapping.text(tapping.pressed(data)[0])
    assert tapping.text(tapping.pressed(data)[0]) == "(That question is answered already.)"
    assert "Until which day?" in tapping.say("[›]")


def test_a_double_tap_on_the_last_answer_adds_once(tapping):
    tapping.say("/add x today +1d 1")
    data = tapping.button("2").data
    assert "Added  x" in tapping.text(tapping.pressed(data)[0])
    assert "no longer open" in tapping.pressed(data)[0].notice
    assert len(stored(tapping)) == 1


def test_a_button_of_an_older_question_does_not_answer_a_newer_one(tapping):
    tapping.say("/add x today +1d")
    old = tapping.button("5").data
    tapping.say("0")
    assert "answered already" in tapping.pressed(old)[0].notice
    tapping.say("/add y today +1d")
    assert "no longer open" in tapping.pressed(old)[0].notice
    assert tapping.say("[2]").startswith("y, ")


@pytest.mark.parametrize("command", ["/list", "/add", "/nonsense", "/start"])
def test_a_new_command_ends_the_dialog(tapping, command):
    tapping.say("/add x today +1d")
    data = tapping.button("5").data
    tapping.say(command)
    assert "no longer open" in tapping.pressed(data)[0].notice
    assert tapping.commands.has_dialog(1, 7) == (command == "/add")


def test_a_question_from_before_a_restart_is_told_kindly(tapping):
    tapping.say("/add x today +1d")
    tapping.restart()
    (reply,) = tapping.replies("[5]")
    assert (reply.lines, reply.notice) == (
        (),
        "That question is no longer open. Please send the command again.",
    )


def test_a_question_that_waits_too_long_is_forgotten(tapping):
    tapping.say("/add x today +1d")
    tapping.now += timedelta(minutes=59)
    assert tapping.commands.has_dialog(1, 7)
    tapping.now += timedelta(minutes=1)
    assert not tapping.commands.has_dialog(1, 7)
    assert "no longer open" in tapping.say("[5]")


def test_people_of_a_group_and_other_chats_have_dialogs_of_their_own(tapping):
    tapping.say("/add x today +1d")
    data = tapping.button("5").data
    tapping.user_id = 8
    assert "no longer open" in tapping.pressed(data)[0].notice
    assert tapping.say("3") == "I understand commands. /help shows them all."
    tapping.user_id, tapping.chat_id = 7, 2
    assert "no longer open" in tapping.pressed(data)[0].notice
    tapping.chat_id = 1
    assert "How much each time?" in tapping.text(tapping.pressed(data)[0])


@pytest.mark.parametrize("data", ["d", "d:", "d:0:1:2", "m:0:1:x", "i:0:1:99", "x:::", "", "-", "p:list:x", "?", "u:x"])
def test_data_that_no_button_of_ours_has_is_answered(tapping, data):
    tapping.say("/add x today +1d")
    assert tapping.pressed(data)
    assert stored(tapping) == []


@pytest.mark.parametrize(("kind", "value"), [("m", "9999-99"), ("m", "9999-12"), ("m", ""), ("i", "9"), ("i", "x")])
def test_a_forged_answer_changes_nothing(tapping, kind, value):
    tapping.say("/add x")
    _, dialog, turn, _ = tapping.button("Cancel").data.split(":")
    (reply,) = tapping.pressed(f"{kind}:{dialog}:{turn}:{value}")
    assert reply.notice == "I don't know that button any more."
    assert tapping.say("[Today]").startswith("x, from 24.11.2026\n")


def test_the_longest_buttons_fit(tapping_russian):
    name = "💊" * 120
    tapping_russian.say(f"/add {name} today +1d 1 1")
    for line in ("/update", f"/update {name}", f"/update {name} _", f"/update {name} _ _", f"/delete {name}"):
        tapping_russian.say(line)
        assert tapping_russian.shown
        for row in tapping_russian.shown.buttons:
            assert len(row) <= 8
            assert all(button.label and len(button.data.encode()) <= MOST_DATA_BYTES for button in row)


# -------------------------------------------------------------------------------------- our faults


class Flaky(MemoryRepository):
    """A store that has moments."""

    is_busy = False

    def page(self, *args, **kwargs):
        if self.is_busy:
            raise StorageBusy
        return super().page(*args, **kwargs)

    def apply(self, *args, **kwargs):
        if self.is_busy:
            raise StorageBusy
        return super().apply(*args, **kwargs)


def test_a_question_stays_open_when_the_storage_has_a_moment(talking):
    repository = Flaky()
    talk = talking(repository, language=None, with_buttons=True)
    talk.say("/add x today +1d 1 1")
    talk.say("/update")
    repository.is_busy = True
    (reply,) = talk.replies("y")
    assert "Sorry, there is too much going on" in talk.text(reply)
    repository.is_busy = False
    assert talk.say("[x]").startswith("x\nFrom which day?")


def test_what_was_gathered_is_not_lost_when_the_storage_has_a_moment(talking):
    repository = Flaky()
    talk = talking(repository, language=None, with_buttons=True)
    talk.say('/add "vitamin C" today +1d 1')
    repository.is_busy = True
    (line,) = talk.suggestions("[0.5]")
    assert line == '/add "vitamin C" 24.11.2026 25.11.2026 1 0.5'
    repository.is_busy = False
    assert talk.say(line).startswith("Added  vitamin C")


def test_a_vanished_activity_is_told_and_another_name_asked_for(tapping):
    tapping.say("/add x today +1d 1 1")
    tapping.say("/add y today +1d 1 1")
    tapping.say("/update x _ _")
    tapping.container.activities.delete(1, name="x", call=Call())
    assert tapping.say("[5]").splitlines()[0] == "I know no x."
    tapping.say("[y]")
    tapping.say("_")
    assert stored(tapping) == [Activity("y", date(2026, 11, 24), date(2026, 11, 25), 5, Decimal(1))]
