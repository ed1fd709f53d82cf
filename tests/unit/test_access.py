"""Tokens: what they open, and everything that opens nothing."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core import signing
from django.utils.crypto import constant_time_compare
from hypothesis import assume, given
from hypothesis import strategies as st

from activities.access import LONGEST_TOKEN, TOKEN_PREFIX, Access, Principal, Revocations, ServiceToken
from activities.domain import (
    ActivitiesError,
    Chat,
    NotAuthenticated,
    PermissionDenied,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
)
from activities.ports import Call
from tests.examples import broken

SECRET = "s" * 31 + "_"
READING = "r" * 31 + "-"


class Clock:
    """Unix seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def never(chat_id: int, call: Call) -> int:
    """Of no chat were tokens revoked."""
    return 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> Access:
    return Access(
        keys=["new key", "old key"],
        valid_after=never,
        services=[ServiceToken("bot", SECRET), ServiceToken("watcher", READING, read_only=True)],
        lifetime=timedelta(days=1),
        clock=clock,
    )


@pytest.mark.parametrize("chat_id", [1, -1, 2**63 - 1, -(2**63)])
def test_a_chat_token_opens_its_chat(access, chat_id):
    assert access.authenticate(f"Bearer {access.issue(chat_id)}", call=Call()) == Principal("chat", chat_id)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {}", "Bearer {} "])
def test_the_scheme_is_bearer_in_any_case(access, form):
    assert access.authenticate(form.format(access.issue(1)), call=Call()).chat_id == 1


def test_a_token_is_no_secret_to_a_url_or_header(access):
    token = access.issue(-(2**63))
    assert token.startswith(TOKEN_PREFIX)
    assert token.isascii()
    assert not set(token) & set(" \"'&?#%+=/,;")


def test_a_token_expires(access, clock):
    token = access.issue(1)
    clock.now += 86_399
    assert access.principal(token, call=Call()).chat_id == 1
    clock.now += 1
    with pytest.raises(NotAuthenticated):
        access.principal(token, call=Call())


def test_a_former_key_still_verifies_and_a_forgotten_one_does_not(access, clock):
    token = Access(keys=["old key"], valid_after=never, clock=clock).issue(1)
    assert access.principal(token, call=Call()).chat_id == 1
    with pytest.raises(NotAuthenticated):
        Access(keys=["new key"], valid_after=never, clock=clock).principal(token, call=Call())


def test_the_newest_key_signs(access, clock):
    assert Access(keys=["new key"], valid_after=never, clock=clock).principal(access.issue(1), call=Call()).chat_id == 1


def test_what_the_same_key_signed_for_another_purpose_opens_nothing(access):
    claims = {"chat": 1, "issued": 0, "expires": 2_000_000_000}
    session = signing.Signer(key="new key", salt="sessions").sign_object(claims)
    with pytest.raises(NotAuthenticated):
        access.principal(TOKEN_PREFIX + session, call=Call())


def test_a_token_of_an_earlier_release_stays_good(access):
    claims = {"chat": 1, "issued": 1_799_999_999, "expires": 2_000_000_000}
    earlier = signing.Signer(key="old key", salt="activities.chat-token").sign_object(claims)
    assert access.principal(TOKEN_PREFIX + earlier, call=Call()) == Principal("chat", 1)


NO_TIMES: list[object] = [True, "2000000000", None, [], {}, float("nan"), float("-inf")]
WHOLE: dict[str, object] = {"chat": 1, "issued": 1_799_999_999.5, "expires": 1_800_000_001}


def signed(claims: object) -> str:
    return TOKEN_PREFIX + signing.Signer(key="new key", salt="activities.chat-token").sign_object(claims)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        *({name: value for name, value in WHOLE.items() if name != missing} for missing in WHOLE),
        *(WHOLE | {"chat": chat} for chat in (0, True, "1", 1.0, None, [1], {"1": 1}, 2**63, -(2**63) - 1)),
        *(WHOLE | {name: wrong} for name in ("issued", "expires") for wrong in NO_TIMES),
        WHOLE | {"expires": 1_800_000_000},
        WHOLE | {"issued": 1_800_000_000 - 86_400},
        WHOLE | {"issued": 10**400},
        [],
        [*WHOLE],
        5,
        None,
        "x",
    ],
)
def test_claims_that_are_not_whole_open_nothing(access, claims):
    with pytest.raises(NotAuthenticated):
        access.principal(signed(claims), call=Call())


def test_claims_of_a_later_release_do_not_hurt(access):
    assert access.principal(signed(WHOLE | {"more": [1]}), call=Call()) == Principal("chat", 1)


def test_a_lifetime_that_was_shortened_ends_what_was_issued_before(clock):
    def living(days: int) -> Access:
        return Access(keys=["key"], valid_after=never, lifetime=timedelta(days=days), clock=clock)

    token = living(90).issue(1)
    clock.now += timedelta(days=10).total_seconds() - 1
    assert opens(living(10), token)
    clock.now += 1
    assert not opens(living(10), token)
    long = living(10).issue(1)
    clock.now += timedelta(days=10).total_seconds()
    assert not opens(living(90), long)  # nor does a longer one revive what has expired


@pytest.mark.parametrize(
    "token", ["x" * 10_000_000, TOKEN_PREFIX + ":" * 10_000_000, TOKEN_PREFIX + "💊" * 10_000_000, SECRET * 300_000]
)
def test_a_token_of_megabytes_is_not_even_looked_at(access, token, monkeypatch):
    for each in (hmac, signing.Signer):
        monkeypatch.setattr(each, "compare_digest" if each is hmac else "unsign", None)
    with pytest.raises(NotAuthenticated):
        access.authenticate(f"Bearer {token}", call=Call())


def test_the_longest_tokens_are_looked_at(access, clock):
    secret = "s" * LONGEST_TOKEN
    long = Access(keys=["key"], valid_after=never, services=[ServiceToken.parse(f"bot:{secret}")], clock=clock)
    assert long.principal(secret, call=Call()).name == "bot"
    assert len(access.issue(-(2**63))) < LONGEST_TOKEN / 20


def test_signatures_are_compared_in_constant_time_under_every_key(clock, monkeypatch):
    """Whatever opens nothing: the time tells neither how much of it is right nor which key."""
    compared = []

    def compare(given, expected):
        compared.append(given)
        return constant_time_compare(given, expected)

    monkeypatch.setattr("django.core.signing.constant_time_compare", compare)
    access = Access(keys=["newest", "former", "oldest"], valid_after=never, clock=clock)
    token = access.issue(1)
    for wrong in (token[:-1], token + "x", f"{TOKEN_PREFIX}x:y"):
        compared.clear()
        assert not opens(access, wrong)
        assert len(compared) == 3
    compared.clear()
    assert opens(access, token)
    assert compared


def test_a_token_for_another_chat_cannot_be_made_from_ones_own(access):
    payload, signature = access.issue(1).removeprefix(TOKEN_PREFIX).split(":")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"chat": 2}).encode()).decode().rstrip("=")
    with pytest.raises(NotAuthenticated):
        access.principal(f"{TOKEN_PREFIX}{forged}:{signature}", call=Call())


def test_a_truncated_token_opens_nothing(access):
    token = access.issue(1)
    for length in range(len(token)):
        with pytest.raises(NotAuthenticated):
            access.principal(token[:length], call=Call())


@given(st.integers(0, 2**32), st.characters())
def test_a_token_with_another_character_opens_nothing(place, char):
    access = Access(keys=["key"], valid_after=never, clock=Clock())
    token = access.issue(1)
    place %= len(token)
    changed = token[:place] + char + token[place + 1 :]
    assume(changed != token)
    with pytest.raises(NotAuthenticated):
        access.principal(changed, call=Call())


@given(st.text())
def test_any_other_text_opens_nothing(text):
    access = Access(keys=["key"], valid_after=never, services=[ServiceToken("bot", SECRET)])
    for authorization in (text, f"Bearer {text}", f"Bearer {TOKEN_PREFIX}{text}", f"Basic {SECRET}"):
        with pytest.raises(NotAuthenticated):
            access.authenticate(authorization, call=Call())


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", SECRET, f"Token {SECRET}", f"Bearer{SECRET}"])
def test_without_a_bearer_token_nothing_opens(access, authorization):
    with pytest.raises(NotAuthenticated):
        access.authenticate(authorization, call=Call())


def test_service_tokens_open_any_chat(access):
    assert access.authenticate(f"Bearer {SECRET}", call=Call()) == Principal("bot", None)
    assert access.authenticate(f"Bearer {READING}", call=Call()) == Principal("watcher", None, read_only=True)
    for wrong in (SECRET[:-1], SECRET + "s", SECRET.upper(), "bot:" + SECRET, "bot"):
        with pytest.raises(NotAuthenticated):
            access.principal(wrong, call=Call())


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
        f"bot:{'s' * (LONGEST_TOKEN + 1)}",
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
            access.authenticate(f"Bearer {wrong}", call=Call())
        assert wrong[:20] not in str(raised.value) + repr(raised.value)
    assert token not in repr(access.principal(token, call=Call()))
    assert SECRET not in repr(access.principal(SECRET, call=Call()))


# -------------------------------------------------------------------------------------- revocation


class Chats:
    """As much of the port as `Revocations` ask."""

    def __init__(self) -> None:
        self.valid_after: dict[int, int] = {}
        self.asked: list[int] = []
        self.error: ActivitiesError | None = None

    def get(self, chat_id: int, *, call: Call) -> Chat:
        self.asked.append(chat_id)
        if self.error is not None:
            raise self.error
        return Chat(chat_id, tokens_valid_after=self.valid_after.get(chat_id, 0))

    def revoke(self, chat_id: int, now: float) -> int:
        chat = Chat(chat_id, tokens_valid_after=self.valid_after.get(chat_id, 0))
        self.valid_after[chat_id] = chat.with_tokens_revoked(datetime.fromtimestamp(now, UTC)).tokens_valid_after
        return self.valid_after[chat_id]


@pytest.fixture
def chats() -> Chats:
    return Chats()


def revocable(chats: Chats, clock: Clock, passing: Clock | None = None, **more: int) -> Access:
    """Remembers by the clock `passing`, nothing by default."""
    forgetful = iter(range(10**9)).__next__
    valid_after = Revocations(chats, clock=passing or forgetful, **more).valid_after  # type: ignore[arg-type]
    return Access(keys=["key"], services=[ServiceToken("bot", SECRET)], valid_after=valid_after, clock=clock)


def opens(access: Access, token: str) -> bool:
    try:
        access.principal(token, call=Call())
    except NotAuthenticated:
        return False
    return True


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.0003, 0.1, 0.6, 0.9996, 1.0])), max_size=20))
def test_what_was_issued_before_a_revocation_is_refused_and_what_was_issued_after_is_good(steps):
    chats, clock = Chats(), Clock()
    good: list[str] = []
    bad: list[str] = []
    access = revocable(chats, clock)
    for revokes, seconds in steps:
        clock.now += seconds
        if revokes:
            chats.revoke(1, clock.now)
            bad, good = bad + good, []
        else:
            good.append(access.issue(1, valid_after=chats.valid_after.get(1, 0)))
    assert [opens(access, token) for token in good] == [True] * len(good)
    assert [opens(access, token) for token in bad] == [False] * len(bad)


def test_a_revocation_is_of_one_chats_tokens_alone(chats, clock):
    access = revocable(chats, clock)
    tokens = {chat_id: access.issue(chat_id) for chat_id in (1, 2, -1)}
    chats.revoke(1, clock.now)
    assert {chat_id: opens(access, token) for chat_id, token in tokens.items()} == {1: False, 2: True, -1: True}
    assert opens(access, SECRET)


def test_that_a_token_is_good_is_remembered_for_a_second_and_no_longer(chats, clock):
    passing = Clock()
    access = revocable(chats, clock, passing)
    token = access.issue(1)
    assert opens(access, token)
    chats.revoke(1, clock.now)
    passing.now += 0.999
    assert opens(access, token)
    assert chats.asked == [1]
    passing.now += 0.001
    assert not opens(access, token)
    assert chats.asked == [1, 1]


def test_what_is_remembered_is_as_old_as_the_question(chats, clock):
    passing = Clock()
    answer = chats.get

    def get(chat_id: int, *, call: Call) -> Chat:
        chat: Chat = answer(chat_id, call=call)
        passing.now += 0.9  # until the answer is there
        return chat

    chats.get = get
    access = revocable(chats, clock, passing)
    token = access.issue(1)
    assert opens(access, token)
    chats.revoke(1, clock.now)
    passing.now += 0.1
    assert not opens(access, token)


def test_only_so_many_chats_are_remembered(chats, clock):
    access = revocable(chats, clock, Clock(), most=2)
    tokens = [access.issue(chat_id) for chat_id in (1, 2, 3)]
    for token in (*tokens, tokens[1], tokens[2], tokens[0]):
        assert opens(access, token)
    assert chats.asked == [1, 2, 3, 1]


@pytest.mark.parametrize("error", [StorageUnavailable(), StorageBusy(), StorageTimeout()])
def test_a_store_that_cannot_tell_refuses_nobody_for_good(chats, clock, error):
    access = revocable(chats, clock)
    token = access.issue(1)
    chats.error = error
    with pytest.raises(type(error)):
        access.principal(token, call=Call())
    chats.error = None
    assert opens(access, token)


def test_the_store_is_not_asked_for_what_opens_nothing_anyway(chats, clock):
    access = revocable(chats, clock)
    token = access.issue(1)
    clock.now += timedelta(days=90).total_seconds()
    for wrong in (token, token + "x", SECRET + "x", ""):
        assert not opens(access, wrong)
    assert opens(access, SECRET)
    assert chats.asked == []


def test_only_a_service_acts_for_more_than_one_chat():
    Principal("bot", None).must_be_service()
    with pytest.raises(PermissionDenied):
        Principal("chat", 5).must_be_service()
