"""How values look from outside: for output, for the forms of the browsable pages and for the schema.

They check nothing: raw input goes to the domain's readers, and the bounds named here document those.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from activities.domain import (
    INT64,
    LANGUAGES,
    MOST_QUANTITY,
    MOST_TIMES_PER_DAY,
    NAME_LENGTH,
    Activity,
    Chat,
)


@extend_schema_field({"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": int(MOST_QUANTITY)})
class QuantityField(serializers.DecimalField):
    """A decimal as a JSON number."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_digits=10, decimal_places=3, **kwargs)

    def to_representation(self, value: Decimal) -> float:  # type: ignore[override]
        # At most ten digits: what JSON writes for the nearest double is the decimal itself.
        return int(value) if value == value.to_integral_value() else float(value)


NAME_HELP = (
    "Unique in its chat; upper and lower case are one. Trimmed and in Unicode's NFC it has 1 to 120 characters, at "
    "least one of them visible, and no control characters; '.' and '..' are refused."
)
BEGIN_HELP = "The first day, 2000-01-01 to 2999-12-31."
END_HELP = "The last day, included; not before the first."
TIMES_HELP = "How many times on each day."
QUANTITY_HELP = "How much each time, with at most 3 decimal places; more are refused, never rounded."


class ActivitySerializer(serializers.Serializer[Activity]):
    """Something a chat does `times_per_day` times on each day from `begin_date` to `end_date`."""

    name = serializers.CharField(max_length=NAME_LENGTH, help_text=NAME_HELP)
    begin_date = serializers.DateField(help_text=BEGIN_HELP)
    end_date = serializers.DateField(help_text=END_HELP)
    times_per_day = serializers.IntegerField(min_value=1, max_value=MOST_TIMES_PER_DAY, help_text=TIMES_HELP)
    quantity_per_time = QuantityField(help_text=QUANTITY_HELP)


class ActivityReplacementSerializer(ActivitySerializer):
    """Everything of an activity but its name, which the URL has."""

    name = serializers.CharField(
        max_length=NAME_LENGTH, required=False, help_text="May repeat the name in the URL, and nothing else."
    )


class ActivityChangesSerializer(ActivityReplacementSerializer):
    """What changes; what is left out stays."""

    begin_date = serializers.DateField(required=False, help_text=BEGIN_HELP)
    end_date = serializers.DateField(required=False, help_text=END_HELP)
    times_per_day = serializers.IntegerField(
        min_value=1, max_value=MOST_TIMES_PER_DAY, required=False, help_text=TIMES_HELP
    )
    quantity_per_time = QuantityField(required=False, help_text=QUANTITY_HELP)


class ActivityListSerializer(serializers.Serializer[Any]):
    """One page of a list."""

    count = serializers.IntegerField(min_value=0, help_text="How many there are on all pages together.")
    next = serializers.URLField(allow_null=True, help_text="The next page.")
    previous = serializers.URLField(allow_null=True, help_text="The page before.")
    results = ActivitySerializer(many=True)


class ChatSerializer(serializers.Serializer[Chat]):
    """What is known of a chat."""

    chat_id = serializers.IntegerField(min_value=-INT64, max_value=INT64 - 1, help_text="Its Telegram id.")
    timezone = serializers.CharField(help_text="An IANA time zone; it says which date is today.")
    language = serializers.ChoiceField(choices=LANGUAGES, help_text="The language of its messages.")
    tokens_valid_after = serializers.IntegerField(
        min_value=0, max_value=INT64 - 1, help_text="Unix seconds: tokens issued before are revoked."
    )


class ChatChangesSerializer(serializers.Serializer[Chat]):
    """What changes; what is left out stays."""

    timezone = serializers.CharField(required=False, help_text="An IANA time zone.")
    language = serializers.ChoiceField(choices=LANGUAGES, required=False, help_text="The language of its messages.")


class LoginSerializer(serializers.Serializer[Any]):
    """A chat's token, as the bot's `/token` or `manage.py token issue` gives it."""

    token = serializers.CharField(help_text="Begins with `act_`.")
    next = serializers.CharField(required=False, help_text="Where on this site a browser goes afterwards.")


class LoggedInSerializer(serializers.Serializer[Any]):
    """The browser has the cookie now."""

    chat_id = serializers.IntegerField(min_value=-INT64, max_value=INT64 - 1, help_text="The chat that it opens.")


class StatusSerializer(serializers.Serializer[Any]):
    """The process is well."""

    status = serializers.ChoiceField(choices=["ok"])


class ErrorSerializer(serializers.Serializer[Any]):
    """Why there is no result."""

    error = serializers.CharField(help_text="The error's name, for programs.")
    detail = serializers.CharField(help_text="The same for people.")


class TracedErrorSerializer(ErrorSerializer):
    """Why there is no result, with the id that finds it in the log or asks for its outcome."""

    request_id = serializers.CharField()


class BrokenRulesSerializer(serializers.Serializer[Any]):
    """Every field that breaks a rule, with what is wrong and a right example.

    Besides the fields of the request there may be `chat_id` (the `X-Chat-Id` header) and `x-request-id`.
    """
