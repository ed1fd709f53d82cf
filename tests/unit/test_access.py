"""Tokens: what they open, and everything that opens nothing."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from django.core import signing
from hypothesis import assume, given
from hypothesis import strategies as st

from activities.access import TOKEN_PREFIX, Access, Principal, ServiceToken
from activities.domain import ActivitiesError, NotAuthenticated, PermissionDenied
from tests.examples import broken

SECRET = "s" * 31 + "_"
READING = "r" * 31 + "-"


class Clock:
    """Unix seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    return Access(
        keys=["new key", "old key"],
        services=[ServiceToken("bot", SECRET), ServiceToken("watcher", READING, read_only=True)],
        lifetime=timedelta(days=1),
        clock=clock,
    )


@pytest.mark.parametrize("chat_id", [1, -1, 2**63 - 1, -(2**63)])
def test_a_chat_token_opens_its_chat(access, chat_id):
    assert access.authenticate(f"Bearer {access.issue(chat_id)}") == Principal("chat", chat_id)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "Bearer {} "])
def test_the_scheme_is_bearer_in_any_case(access, form):
    assert access.authenticate(form.format(access.issue(1))).chat_id == 1


def test_a_token_is_no_secret_to_a_url_or_header(access):
    token = access.issue(-(2**63))
    assert token.startswith(TOKEN_PREFIX)
    assert token.isascii()
    assert not set(token) & set(" \"'&?#%+=/,;")


def test_a_token_expires(access, clock):
    token = access.issue(1)
    clock.now += 86_399
    assert access.principal(token).chat_id == 1
    clock.now += 1
    with pytest.raises(NotAuthenticated):
        access.principal(token)


def test_a_former_key_still_verifies_and_a_forgotten_one_does_not(access, clock):
    token = Access(keys=["old key"], clock=clock).issue(1)
    assert access.principal(token).chat_id == 1
    with pytest.raises(NotAuthenticated):
        Access(keys=["new key"], clock=clock).principal(token)


def test_the_newest_key_signs(access, clock):
    assert Access(keys=["new key"], clock=clock).principal(access.issue(1)).chat_id == 1


def test_what_the_same_key_signed_for_another_purpose_opens_nothing(access):
    claims = {"chat": 1, "issued": 0, "expires": 2_000_000_000}
    session = signing.Signer(key="new key", salt="sessions").sign_object(claims)
    with pytest.raises(NotAuthenticated):
        access.principal(TOKEN_PREFIX + session)


def test_a_token_of_an_earlier_release_stays_good(access):
    claims = {"chat": 1, "issued": 0, "expires": 2_000_000_000}
    signed = signing.Signer(key="old key", salt="activities.chat-token").sign_object(claims)
    assert access.principal(TOKEN_PREFIX + signed) == Principal("chat", 1)


@pytest.mark.parametrize(
    "claims",
    [{}, {"chat": 1}, {"expires": 2e9}, {"chat": 0, "expires": 2e9}, {"chat": True, "expires": 2e9}, [], 5, None, "x"],
)
def test_claims_that_are_not_whole_open_nothing(access, claims):
    signed = signing.Signer(key="new key", salt="activities.chat-token").sign_object(claims)
    with pytest.raises(NotAuthenticated):
        access.principal(TOKEN_PREFIX + signed)


def test_a_token_for_another_chat_cannot_be_made_from_ones_own(access):
    payload, signature = access.issue(1).removeprefix(TOKEN_PREFIX).split(":")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"chat": 2}).encode()).decode().rstrip("=")
    with pytest.raises(NotAuthenticated):
        access.principal(f"{TOKEN_PREFIX}{forged}:{signature}")


def test_a_truncated_token_opens_nothing(access):
    token = access.issue(1)
    for length in range(len(token)):
        with pytest.raises(NotAuthenticated):
            access.principal(token[:length])


@given(st.integers(0, 2**32), st.characters())
def test_a_token_with_another_character_opens_nothing(place, char):
    access = Access(keys=["key"], clock=Clock())
    token = access.issue(1)
    place %= len(token)
    changed = token[:place] + char + token[place + 1 :]
    assume(changed != token)
    with pytest.raises(NotAuthenticated):
        access.principal(changed)


@given(st.text())
def test_any_other_text_opens_nothing(text):
    access = Access(keys=["key"], services=[ServiceToken("bot", SECRET)])
    for authorization in (text, f"Bearer {text}", f"Bearer {TOKEN_PREFIX}{text}", f"Basic {SECRET}"):
        with pytest.raises(NotAuthenticated):
            access.authenticate(authorization)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", SECRET, f"Token {SECRET}", f"Bearer{SECRET}"])
def test_without_a_bearer_token_nothing_opens(access, authorization):
    with pytest.raises(NotAuthenticated):
        access.authenticate(authorization)


def test_service_tokens_open_any_chat(access):
    assert access.authenticate(f"Bearer {SECRET}") == Principal("bot", None)
    assert access.authenticate(f"Bearer {READING}") == Principal("watcher", None, read_only=True)
    for wrong in (SECRET[:-1], SECRET + "s", SECRET.upper(), "bot:" + SECRET, "bot"):
        with pytest.raises(NotAuthenticated):
            access.principal(wrong)


def test_a_service_must_name_the_chat():
    service = Principal("bot", None)
    assert service.chat(5) == 5
    assert service.chat("-5") == -5
    for nothing in (None, "", 0, "0"):
        violation = broken(service.chat, nothing)
        assert violation.message == "is required, for example 42"
    assert broken(service.chat, "x").code == "not_a_chat"
    assert broken(service.chat, 2**63).code == "not_a_chat"


def test_a_chat_need_not_name_itself():
    chat = Principal("chat", 5)
    assert [chat.chat(asked) for asked in (None, "", 0, "0", 5, "5")] == [5] * 6


@pytest.mark.parametrize("other", [4, -5, "6", 2**63 - 1])
def test_a_chat_token_does_not_open_another_chat(other):
    with pytest.raises(PermissionDenied):
        Principal("chat", 5).chat(other)


def test_a_token_for_reading_does_not_write():
    Principal("bot", None).must_write()
    with pytest.raises(PermissionDenied):
        Principal("watcher", None, read_only=True).must_write()


@pytest.mark.parametrize(
    ("text", "token"),
    [
        (f"bot:{SECRET}", ServiceToken("bot", SECRET)),
        (f"a.b-c_9:{READING}:read", ServiceToken("a.b-c_9", READING, read_only=True)),
    ],
)
def test_a_service_token_is_read_from_its_setting(text, token):
    assert ServiceToken.parse(text) == token


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bot",
        "bot:",
        f":{SECRET}",
        f"bot:{SECRET[:-1]}",
        f"bot:{SECRET}!",
        f"bot:{SECRET}:write",
        f"bot:{SECRET}:read:read",
        f"bot {SECRET}",
        f"bot:{SECRET} ",
        f"bot:{SECRET}\n",
        f"bot:{'я' * 32}",
    ],
)
def test_a_service_token_of_another_form_is_refused_without_quoting_it(text):
    with pytest.raises(ValueError, match="expected name:secret") as raised:
        ServiceToken.parse(text)
    assert "sss" not in str(raised.value)


def test_secrets_stay_out_of_what_is_logged(access):
    assert SECRET not in repr(ServiceToken("bot", SECRET))
    token = access.issue(1)
    for wrong in (token + "x", SECRET + "x"):
        with pytest.raises(ActivitiesError) as raised:
            access.authenticate(f"Bearer {wrong}")
        assert wrong[:20] not in str(raised.value) + repr(raised.value)
    assert token not in repr(access.principal(token))
    assert SECRET not in repr(access.principal(SECRET))
