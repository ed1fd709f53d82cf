"""The conversation as a person sees it, in both languages."""

from __future__ import annotations

import pytest

ENGLISH = """
> /start
I keep your daily activities (pills, push-ups, drops for the cat) and tell you what is due today. Tell me a name, \
the first and the last day, how many times a day, and how much each time.
Try: /add "vitamin C" today +10d 2 0.5
More: /examples · /help

> /list
You have no activities yet.
Add one: /add "vitamin C" today +10d 2 0.5

> /add "vitamin C" today +10d 2 0,5
Added  vitamin C
0.5 each time, 2 times a day, 24.11.2026 – 04.12.2026 (11 days)

> /add "vitamin C" today +5d 1 1
You already have vitamin C: 0.5, 2 times a day, until 04.12.2026.
Change it: /update "vitamin C" _ +5d 1 1

> /add "VITAMIN c" today +10d 2 0.500
You already have vitamin C, just like that.

> /add drops 31.04.2027 10.05.2027 3 2
begin_date: 31.04.2027 is not a date (April has 30 days).
Like this: /add drops 30.04.2027 10.05.2027 3 2

> /add drops tomorrow
I need three more things: end date, times a day, how much each time.
Like this: /add drops tomorrow +7d 2 0.5

> /add vitamin D tomorrow +30d 1 2
That is more than I need (6 instead of 5). A name with spaces goes in quotes.
Like this: /add "vitamin D" tomorrow +30d 1 2

> /add "vitamin D tomorrow +30d 1 2
A quote is opened there and never closed.
Like this: /add "vitamin D" tomorrow +30d 1 2

> /add drops 10.05.2027 30.04.2027 3 1e3
end_date: 30.04.2027 is before the begin date, 10.05.2027.
quantity_per_time: 1e3 is not a number like 0.5.
Like this: /add drops 30.04.2027 10.05.2027 3 0.5

> /update "vitamin c" _ 31.12.2026 3 _
Changed  vitamin C
until 04.12.2026 → 31.12.2026
2 → 3 times a day

> /update "vitamin C" _ 31.12.2026 _ _
vitamin C is like that already
0.5 each time, 3 times a day, 24.11.2026 – 31.12.2026 (38 days)

> /update "vitamin C" _ 01.11.2026 101 _
end_date: 01.11.2026 is before the begin date, 24.11.2026.
times_per_day: 101 is not from 1 to 100.
Like this: /update "vitamin C" _ +7d 2 _

> /update "vitamin C"
I need four more things: begin date, end date, times a day, how much each time.
Like this: /update "vitamin C" _ +7d _ _

> /add push-up 01.11.2026 24.11.2026 2 30
Added  push-up
30 each time, 2 times a day, 01.11.2026 – 24.11.2026 (24 days)

> /today
Today, Tue 24.11.2026
• vitamin C: 0.5 × 3, until 31.12.2026
• push-up: 30 × 2, last day
2 activities

> /list
Your activities, latest end first (1–2 of 2)
• vitamin C: 0.5 × 3 a day, 24.11.2026 – 31.12.2026
• push-up: 30 × 2 a day, 01.11.2026 – 24.11.2026, last day

> /list_stream
All your activities, latest end first
• vitamin C: 0.5 × 3 a day, 24.11.2026 – 31.12.2026
• push-up: 30 × 2 a day, 01.11.2026 – 24.11.2026, last day
2 activities

> /get VITAMIN\\ c
vitamin C
0.5 each time, 3 times a day, 24.11.2026 – 31.12.2026 (38 days)

> /get pushup
I know no pushup. Did you mean push-up?
/get push-up

> /update pushup _ _ 1 _
I know no pushup. Did you mean push-up?
/update push-up _ _ 1 _

> /get aspirin
I know no aspirin. /list shows what you have.

> /delete push-up
Deleted  push-up
Add it again: /add push-up 01.11.2026 24.11.2026 2 30

> /list 3
page: 3 is not there, 1 is the last.
Like this: /list 1

> /tody
I don't know /tody. Did you mean /today?

> /frobnicate
I don't know /frobnicate. /help shows what I know.

> hello
I understand commands. /help shows them all.
"""

RUSSIAN = """
> /list
У вас пока нет дел.
Добавьте первое: /add "витамин D" сегодня +10д 2 0.5

> /add "витамин D" завтра +30d 1 2
Добавлено: витамин D
по 2, 1 раз в день, 25.11.2026 – 25.12.2026 (31 день)

> /today
Сегодня, вт 24.11.2026, дел нет. Все ваши дела — в /list.

> /list
Ваши дела, сначала те, что кончаются позже (1–1 из 1)
• витамин D: 2 × 1 в день, 25.11.2026 – 25.12.2026, начнётся завтра

> /add "витамин D" завтра +5д 3 2
У вас уже есть витамин D: по 2, 1 раз в день, до 25.12.2026.
Изменить: /update "витамин D" _ +5д 3 _

> /update «витамин D» сегодня _ 2 0,5
Изменено: витамин D
с 25.11.2026 → 24.11.2026
1 → 2 раза в день
за раз: 2 → 0.5

> /today
Сегодня, вт 24.11.2026
• витамин D: 0.5 × 2, до 25.12.2026
1 дело

> /add капли 29.02.2027 "" 0 2
начало (begin_date): 29.02.2027 — не дата (в феврале 2027 года 28 дней).
конец (end_date): пусто.
раз в день (times_per_day): 0 — не от 1 до 100.
Например, так: /add капли 28.02.2027 +7д 2 2

> /add капли завтра
Нужно ещё три значения: дата конца, сколько раз в день, сколько за раз.
Например, так: /add капли завтра +7д 2 0.5

> /get витамин
Не знаю дела витамин. Может быть, витамин D?
/get "витамин D"

> /delete "витамин D"
Удалено: витамин D
Вернуть: /add "витамин D" 24.11.2026 25.12.2026 2 0.5

> /помощь
Не знаю команды /помощь. Все команды — в /help.

> привет
Я понимаю команды. Все они — в /help.
"""


def exchanges(dialogue: str) -> list[str]:
    return [each.strip() for each in dialogue.strip().split("\n\n")]


def held(talk, dialogue: str) -> list[str]:
    lines = [each.partition("\n")[0].removeprefix("> ") for each in exchanges(dialogue)]
    return [f"> {line}\n{talk.say(line)}" for line in lines]


def test_english(talk):
    assert held(talk, ENGLISH) == exchanges(ENGLISH)


def test_russian(russian):
    assert held(russian, RUSSIAN) == exchanges(RUSSIAN)


@pytest.mark.parametrize(
    ("times", "counted"),
    [(1, "1 раз в день"), (2, "2 раза в день"), (5, "5 раз в день"), (11, "11 раз в день"), (21, "21 раз в день")],
)
def test_russian_counts_agree_in_number(russian, times, counted):
    assert counted in russian.say(f"/add x сегодня +3д {times} 1")


@pytest.mark.parametrize(
    ("later", "days"), [(0, "(1 день)"), (1, "(2 дня)"), (4, "(5 дней)"), (10, "(11 дней)"), (20, "(21 день)")]
)
def test_russian_days_agree_in_number(russian, later, days):
    assert days in russian.say(f"/add x сегодня +{later}д 1 1")


def test_english_counts_agree_in_number(talk):
    assert talk.say("/add x today +0d 1 1").endswith("once a day, 24.11.2026 – 24.11.2026 (1 day)")
    assert "1 activity" in talk.say("/today")


@pytest.mark.parametrize("code", ["de", "", "uk", "rus", "en-GB"])
def test_other_languages_get_english(talk, code):
    talk.language = code
    assert talk.say("hello") == "I understand commands. /help shows them all."


@pytest.mark.parametrize("code", ["ru", "RU", "ru-RU", "ru_RU"])
def test_russian_codes_get_russian(talk, code):
    talk.language = code
    assert talk.say("hello") == "Я понимаю команды. Все они — в /help."
