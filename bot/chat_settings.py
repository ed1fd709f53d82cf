"""/timezone, /language and /token: what a chat settles for itself."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from zoneinfo import ZoneInfo

from django.utils import translation
from django.utils.translation import gettext as _

from activities.access import Access
from activities.domain import Chat, ChatChanges, timezones
from activities.ports import Chats
from bot import texts
from bot.asked import Asked, Refused
from bot.replies import Button, Buttons, Copy, Reply, Text, pager

REGIONS = (
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Europe",
    "Indian",
    "Pacific",
)
"""What the time zone database calls regions, without its older and its nautical names."""
CITIES_ON_PAGE = 20
LANGUAGE_NAMES: Mapping[str, str] = {"en": "English", "ru": "Русский"}
"""Each language by its own name."""
REVOKE = "revoke"
_EXAMPLE_ZONE = "Europe/Moscow"
_MOST_NEAR = 3
_LONGEST_COMPARED = 40


class ChatSettings:
    """Reads and changes what is known of a chat. `api_url` is where the API is, as people reach it."""

    def __init__(self, chats: Chats, access: Access, *, api_url: str) -> None:
        self._chats = chats
        self._access = access
        self._api_url = api_url.rstrip("/")

    def timezone(self, asked: Asked) -> list[Reply]:
        if not asked.words:
            chat = asked.chat
            is_now = _("Your time zone is {zone}, where it is {moment}.")
            return [
                Reply(
                    (Text(_with_moment(is_now, chat, asked)),),
                    buttons=regions(),
                    typed=(Copy(f"/timezone {_EXAMPLE_ZONE}", _("Another one:")),),
                )
            ]
        wish = " ".join(" ".join(asked.words).split())
        zone = _zones_by_folded().get(_folded(wish))
        if zone is None:
            raise _unknown_zone(wish, asked)
        chat = self._chats.update(asked.chat_id, changes=ChatChanges(timezone=zone), call=asked.call)
        changed = _("Your time zone is {zone} now, where it is {moment}.")
        return [Reply((Text(_with_moment(changed, chat, asked)),))]

    def choice(self, region: str = "", number: str = "", *_rest: str) -> Reply:
        """The regions, or a page of a region's cities; the last one when there is no such page."""
        if region not in REGIONS:
            return Reply((Text(_("Choose a region.")),), buttons=regions())
        return Reply((Text(_("Choose a city.")),), buttons=_cities(region, int(number) if number.isdecimal() else 1))

    def language(self, asked: Asked) -> list[Reply]:
        codes = {name.casefold(): code for code, name in LANGUAGE_NAMES.items()} | {
            code: code for code in LANGUAGE_NAMES
        }
        others = tuple(
            Copy(f"/language {code}", f"{name}:")
            for code, name in LANGUAGE_NAMES.items()
            if code != translation.get_language()
        )
        if not asked.words:
            buttons = tuple(Button(name, f"l:{code}") for code, name in LANGUAGE_NAMES.items())
            return [Reply((Text(_("I speak English with you.")),), buttons=(buttons,), typed=others)]
        code = codes.get(" ".join(asked.words).casefold(), "")
        if not code:
            every = [Copy(f"/language {code}", f"{name}:") for code, name in LANGUAGE_NAMES.items()]
            raise Refused(Text(_("I speak English and Russian.")), *every)
        self._chats.update(asked.chat_id, changes=ChatChanges(language=code), call=asked.call)
        with translation.override(code):
            return [Reply((Text(_("I speak English with you from now on.")),), language=code)]

    def token(self, asked: Asked) -> list[Reply]:
        if asked.words and asked.words != (REVOKE,):
            raise Refused(Text(_("/token gives a token, and this ends all there are:")), Copy(asked.with_words(REVOKE)))
        if asked.words:
            self._chats.revoke_tokens(asked.chat_id, call=asked.call)
            return [Reply((Text(_("All tokens of this chat have ended. /token gives a new one.")),))]
        if not asked.is_private:
            return [Reply((Text(_("A token is a secret, and here everybody reads along. Ask me in a private chat.")),))]
        lifetime = self._access.lifetime
        token = self._access.issue(asked.chat_id, valid_after=asked.chat.tokens_valid_after)
        told = _("Here is a token for the API. It is good for {days}, until {day}.").format(
            days=texts.days_counted(lifetime.days), day=texts.day(asked.chat.date_at(asked.now + lifetime))
        )
        return [
            Reply(
                (
                    Text(told),
                    Copy(token),
                    Copy(f"curl -H 'Authorization: Bearer {token}' {self._api_url}/api/v1/today/", _("Try it:")),
                    Text(_("Whoever has it can read and change your activities, so keep it to yourself.")),
                    Copy(asked.with_words(REVOKE), _("To end all tokens of this chat:")),
                )
            )
        ]


def _with_moment(sentence: str, chat: Chat, asked: Asked) -> str:
    return sentence.format(zone=chat.timezone, moment=texts.moment(asked.now.astimezone(ZoneInfo(chat.timezone))))


# ------------------------------------------------------------------------------------------- zones


@cache
def _zones_by_folded() -> Mapping[str, str]:
    return {zone.casefold(): zone for zone in timezones()}


@cache
def zones_in(region: str) -> Sequence[str]:
    return sorted(zone for zone in timezones() if zone.startswith(f"{region}/"))


def _folded(text: str) -> str:
    return text.replace(" ", "_").casefold()


def _unknown_zone(wish: str, asked: Asked) -> Refused:
    unknown = _("I know no time zone {zone}.").format(zone=texts.as_read(wish))
    near = _near_zones(wish)
    if not near:
        choose = f" {_('/timezone lets you choose one.')}" if asked.has_buttons else ""
        return Refused(Text(unknown + choose), texts.like_this(f"/timezone {_EXAMPLE_ZONE}"))
    lines = [Copy(f"/timezone {zone}") for zone in near]
    return Refused(Text(f"{unknown} {texts.did_you_mean(near)}"), *lines)


def _near_zones(wish: str) -> list[str]:
    """The zones whose whole name or city is like this, the nearest first."""
    by_text = {zone.rpartition("/")[2].casefold(): zone for region in REGIONS for zone in zones_in(region)}
    by_text |= {zone.casefold(): zone for region in REGIONS for zone in zones_in(region)}
    near = difflib.get_close_matches(_folded(wish[:_LONGEST_COMPARED]), by_text, n=2 * _MOST_NEAR, cutoff=0.7)
    return list(dict.fromkeys(by_text[text] for text in near))[:_MOST_NEAR]


def regions() -> Buttons:
    buttons = [Button(texts.region(region), f"z:{region}:1") for region in REGIONS]
    return (*_in_pairs(buttons), (Button("UTC", "Z:UTC"),))


def _cities(region: str, number: int) -> Buttons:
    zones = zones_in(region)
    last = -(-len(zones) // CITIES_ON_PAGE)
    number = min(max(number, 1), last)
    shown = zones[(number - 1) * CITIES_ON_PAGE : number * CITIES_ON_PAGE]
    buttons = [Button(zone.partition("/")[2].replace("_", " "), f"Z:{zone}") for zone in shown]
    return (
        *_in_pairs(buttons),
        *pager(f"z:{region}:", number, last),
        (Button(_("Regions"), "z"),),
    )


def _in_pairs(buttons: Sequence[Button]) -> Buttons:
    return tuple(tuple(buttons[at : at + 2]) for at in range(0, len(buttons), 2))
