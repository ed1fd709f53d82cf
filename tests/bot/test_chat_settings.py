"""What a chat settles for itself: zone, language, tokens."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from activities.access import Access, Revocations
from activities.container import access
from activities.domain import Chat, NotAuthenticated, StorageUnavailable, timezones
from activities.ports import Call
from activities.repositories.memory import MemoryRepository
from bot.chat_settings import REGIONS, zones_in
from bot.replies import Copy, Reply
from tests.bot.talking import Talk

EACH_LANGUAGE = pytest.mark.parametrize("language", ["en", "ru"])


def chat(talk: Talk) -> Chat:
    return talk.container.chats.get(talk.chat_id, call=Call())


class Counting(MemoryRepository):
    """Counts how often the chat is read."""

    reads = 0

    def chat(self, *args, **kwargs):
        self.reads += 1
        return super().chat(*args, **kwargs)


@pytest.mark.parametrize("line", ["/list", "/today", "/get x", "/add y tomorrow +3d 1 1", "/update x _ +3d _ _", "hi"])
def test_the_chat_is_read_once_a_line(talking, line):
    repository = Counting()
    talk = talking(repository, language=None, with_buttons=True)
    talk.say("/add x today +1d 1 1")
    repository.reads = 0
    talk.say(line)
    assert repository.reads == 1


# --------------------------------------------------------------------------------------------- zone


@pytest.mark.parametrize(
    ("typed", "zone"),
    [
        ("Europe/Moscow", "Europe/Moscow"),
        ("europe/moscow", "Europe/Moscow"),
        ("America/New York", "America/New_York"),
        ("  america/argentina/buenos   aires ", "America/Argentina/Buenos_Aires"),
        ('"America/New York"', "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_a_zone_is_set_however_it_is_written(talk, typed, zone):
    moment = talk.now.astimezone(ZoneInfo(zone))
    assert talk.say(f"/timezone {typed}") == (
        f"Your time zone is {zone} now, where it is Tue {moment:%d.%m.%Y}, {moment:%H:%M}."
    )
    assert chat(talk).timezone == zone


def test_today_obeys_the_zone(talking):
    talk = talking(now=datetime(2026, 11, 24, 22, 30, tzinfo=UTC))
    talk.say("/add x 25.11.2026 +1d 1 1")
    assert talk.say("/today").startswith("Nothing is due today, Tue 24.11.2026.")
    talk.say("/timezone Europe/Moscow")
    assert talk.say("/today").startswith("Today, Wed 25.11.2026\n• x")
    assert talk.say("/timezone") == (
        "Your time zone is Europe/Moscow, where it is Wed 25.11.2026, 01:30.\nAnother one: /timezone Europe/Moscow"
    )


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("Europe/Moskow", "Europe/Moscow"),
        ("moscow", "Europe/Moscow"),
        ("new york", "America/New_York"),
        ("Kiritimaty", "Pacific/Kiritimati"),
    ],
)
def test_an_unknown_zone_suggests_near_ones_that_work(talk, typed, near):
    assert talk.say(f"/timezone {typed}").startswith(f"I know no time zone {typed}. Did you mean {near}")
    line = talk.suggestions(f"/timezone {typed}")[0]
    assert line == f"/timezone {near}"
    talk.say(line)
    assert chat(talk).timezone == near


@EACH_LANGUAGE
@pytest.mark.parametrize("typed", ["Москва", "GMT+3", "x" * 10_000, "'", "a\0b", "../../etc/passwd"])
def test_a_zone_that_is_like_none_is_refused_with_a_right_line(talk, language, typed):
    talk.language = language
    assert len(talk.say(f"/timezone {typed}")) < 200
    assert talk.suggestions(f"/timezone {typed}") == ["/timezone Europe/Moscow"]
    assert chat(talk).timezone == "UTC"


def test_every_zone_of_a_region_can_be_chosen(tapping):
    seen = set()
    for region in REGIONS:
        number, last = 1, 1
        while number <= last:
            tapping.pressed(f"z:{region}:{number}")
            labels = [button.label for row in tapping.shown.buttons for button in row]
            last = max([1, *(int(label.partition("/")[2]) for label in labels if re.fullmatch(r"\d+/\d+", label))])
            seen |= {button.data[2:] for row in tapping.shown.buttons for button in row if button.data[0] == "Z"}
            number += 1
    assert seen == {zone for region in REGIONS for zone in zones_in(region)}
    assert seen <= timezones()
    assert len(seen) > 400


def test_a_zone_is_chosen_by_buttons_after_a_restart_too(tapping):
    assert tapping.say("/timezone").startswith("Your time zone is UTC, where it is Tue 24.11.2026, 12:00.\n[Africa]")
    tapping.say("[Europe]")
    tapping.restart()
    tapping.say("[›]")
    (reply,) = tapping.replies("[Moscow]")
    assert reply == Reply(reply.lines, replaces=True)
    assert chat(tapping).timezone == "Europe/Moscow"
    assert tapping.say("[Regions]").startswith("Choose a region.\n[Africa]")
    tapping.say("[UTC]")
    assert chat(tapping).timezone == "UTC"


@pytest.mark.parametrize(
    "data", ["z:Europe:99", "z:Europe:0", "z:Europe:x", "z:Europe", "z:Nowhere:1", "z:a:b:c:d", "z:"]
)
def test_a_choice_that_is_gone_shows_one_that_is_there(tapping, data):
    (reply,) = tapping.pressed(data)
    assert reply.replaces
    assert re.search("Zurich|Amsterdam|Africa", tapping.text(reply))


def test_a_zone_that_is_gone_is_refused(tapping):
    (reply,) = tapping.pressed("Z:Europe/Atlantis")
    assert "I know no time zone Europe/Atlantis." in tapping.text(reply)
    assert not reply.replaces


def test_zones_in_russian(tapping_russian):
    assert "[Африка][Америка]" in tapping_russian.say("/timezone")
    tapping_russian.say("[Европа]")
    tapping_russian.say("[›]")
    assert tapping_russian.say("[Moscow]") == (
        "Теперь ваш часовой пояс — Europe/Moscow, там сейчас вт 24.11.2026, 15:00."
    )


# ----------------------------------------------------------------------------------------- language


@pytest.mark.parametrize("typed", ["ru", "RU", "русский", "Русский"])
def test_the_language_is_set_and_spoken_at_once(tapping, typed):
    assert tapping.say(f"/language {typed}") == "Теперь я говорю с вами по-русски."
    assert tapping.say("hello") == "Я понимаю команды. Все они — в /help."
    assert tapping.say("/language English") == "I speak English with you from now on."
    assert tapping.say("hello") == "I understand commands. /help shows them all."


def test_the_language_is_chosen_by_buttons(tapping):
    assert tapping.say("/language") == "I speak English with you.\n[English][Русский]"
    (reply,) = tapping.replies("[Русский]")
    assert (reply.replaces, reply.language, chat(tapping).language) == (True, "ru", "ru")
    assert tapping.say("/language").startswith("Я говорю с вами по-русски.\n")


@EACH_LANGUAGE
@pytest.mark.parametrize("typed", ["de", "x" * 10_000, '""', "en ru"])
def test_another_language_is_refused_with_those_there_are(talk, language, typed):
    talk.language = language
    assert talk.suggestions(f"/language {typed}") == ["/language en", "/language ru"]
    assert chat(talk).language == "en"


def test_start_takes_the_language_that_the_person_is_believed_to_speak(tapping):
    tapping.guess = "ru-RU"
    assert tapping.say("hello").startswith("I understand commands.")
    assert tapping.say("/start").startswith("Я храню ваши ежедневные дела")
    tapping.guess = "en"
    assert tapping.say("hello").startswith("Я понимаю команды.")
    assert tapping.say("/start").startswith("Я храню ваши ежедневные дела")


def test_start_in_a_group_does_not_take_one_members_language_for_everybodys(tapping):
    tapping.guess, tapping.is_private = "ru-RU", False
    assert tapping.say("/start").startswith("I keep your daily activities")


@pytest.mark.parametrize("guess", [None, "de", "en-GB"])
def test_start_keeps_english_for_everybody_else(tapping, guess):
    tapping.guess = guess
    assert tapping.say("/start").startswith("I keep your daily activities")
    assert chat(tapping).language == "en"


def test_a_terminal_speaks_its_own_language_and_leaves_the_chats_alone(russian):
    assert russian.say("/start").startswith("Я храню")
    assert chat(russian).language == "en"


def test_chats_have_settings_of_their_own(tapping):
    tapping.say("/language ru")
    tapping.say("/timezone Asia/Tokyo")
    tapping.in_new_chat()
    assert tapping.say("hello").startswith("I understand commands.")
    assert "UTC" in tapping.say("/timezone")


class Unreachable(MemoryRepository):
    """A store that has lost its chats."""

    def chat(self, *args, **kwargs):
        raise StorageUnavailable

    def update_chat(self, *args, **kwargs):
        raise StorageUnavailable


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/help", "Что я понимаю:"),
        ("/start", "Я храню ваши ежедневные дела"),
        ("/today", "Извините, хранилище сейчас недоступно."),
        ("/timezone UTC", "Извините, хранилище сейчас недоступно."),
        ("/language ru", "Извините, хранилище сейчас недоступно."),
    ],
)
def test_without_its_settings_a_chat_is_answered_in_the_language_of_the_person(talking, line, answer):
    talk = talking(Unreachable(), language=None, with_buttons=True)
    talk.guess = "ru"
    assert talk.say(line).startswith(answer)


# ------------------------------------------------------------------------------------------- tokens


def token_of(reply: Reply) -> str:
    return next(line.command for line in reply.lines if isinstance(line, Copy) and line.command.startswith("act_"))


def test_a_token_opens_this_chat_alone_and_comes_with_a_line_to_copy(tapping):
    tapping.chat_id = 42
    (reply,) = tapping.replies("/token")
    token = token_of(reply)
    assert tapping.container.access.principal(token, call=Call()).chat_id == 42
    assert "It is good for 90 days, until 22.02.2027." in tapping.text(reply)
    (curl,) = (line.command for line in reply.lines if isinstance(line, Copy) and line.command.startswith("curl"))
    assert shlex.split(curl) == [
        "curl",
        "-H",
        f"Authorization: Bearer {token}",
        "http://127.0.0.1:8000/api/v1/today/",
    ]


@pytest.mark.parametrize("line", ["/token", "/token@Bot"])
def test_a_group_gets_no_token(tapping, line):
    tapping.is_private = False
    assert tapping.say(line) == ("A token is a secret, and here everybody reads along. Ask me in a private chat.")


def test_revoking_ends_all_tokens_of_the_chat_and_of_no_other(tapping):
    tokens = [token_of(tapping.replies("/token")[0]) for _ in range(2)]
    other = token_of(tapping.in_new_chat().replies("/token")[0])
    tapping.chat_id = 1
    tapping.now = datetime.now(UTC) + timedelta(seconds=2)  # tokens are issued by the real clock
    assert tapping.say("/token revoke") == "All tokens of this chat have ended. /token gives a new one."
    for token in tokens:
        with pytest.raises(NotAuthenticated):
            access_anew(tapping).principal(token, call=Call())
    assert access_anew(tapping).principal(other, call=Call()).chat_id == 2


def access_anew(talk: Talk) -> Access:
    """As in another process, which remembers nothing."""
    return access(Revocations(talk.container.chats).valid_after)


def test_another_word_changes_nothing(tapping):
    assert tapping.suggestions("/token delete") == ["/token revoke"]
    assert chat(tapping).tokens_valid_after == 0


def test_tokens_in_russian(tapping_russian):
    said = tapping_russian.say("/token")
    assert said.startswith("Вот ключ для API. Он действует 90 дней, до 22.02.2027.\nact_")
    tapping_russian.is_private = False
    assert tapping_russian.say("/token").startswith("Ключ — это секрет")
    assert tapping_russian.say("/token revoke").startswith("Все ключи этого чата отозваны.")


def test_a_token_is_not_logged(tapping, caplog):
    caplog.set_level(0)
    token = token_of(tapping.replies("/token")[0])
    assert token not in caplog.text
