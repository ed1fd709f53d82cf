"""The tables of the PostgreSQL store. Their constraints repeat the domain's rules, so that no writer can break them."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length

from activities.domain import (
    FIRST_DATE,
    LANGUAGES,
    LAST_DATE,
    MOST_QUANTITY,
    MOST_TIMES_PER_DAY,
    NAME_LENGTH,
)

LONGEST_KEY = 3 * NAME_LENGTH
"""The longest name key, in code points: case folding makes at most three of one."""

models.TextField.register_lookup(Length)


class Chat(models.Model):
    """A row for each chat that has anything; one without has the defaults."""

    chat_id = models.BigIntegerField(primary_key=True)
    timezone = models.TextField(default="UTC", db_default="UTC")
    language = models.TextField(default="en", db_default="en", choices=[(each, each) for each in LANGUAGES])
    tokens_valid_after = models.BigIntegerField(default=0, db_default=0)
    # When all that it had was erased, or moved away: a command that was accepted before has no effect.
    forgotten_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        indexes = (
            # What a purge looks at.
            models.Index(
                fields=("tokens_valid_after",), condition=Q(forgotten_at__isnull=False), name="left_chat_by_age"
            ),
        )
        constraints = (
            models.CheckConstraint(name="chat_id_is_not_zero", condition=~Q(chat_id=0)),
            models.CheckConstraint(name="chat_timezone_is_given", condition=~Q(timezone="")),
            models.CheckConstraint(name="chat_language_is_known", condition=Q(language__in=LANGUAGES)),
            models.CheckConstraint(name="chat_tokens_valid_after_is_a_time", condition=Q(tokens_valid_after__gte=0)),
        )

    def __str__(self) -> str:
        return str(self.chat_id)


class Activity(models.Model):
    """A row for each activity."""

    chat = models.ForeignKey(Chat, on_delete=models.CASCADE, related_name="activities", db_index=False)
    name = models.TextField()
    # Ordered and compared by code points, as the domain does.
    key = models.TextField(db_collation="C", editable=False)
    begin_date = models.DateField()
    end_date = models.DateField()
    times_per_day = models.PositiveSmallIntegerField()
    quantity_per_time = models.DecimalField(max_digits=10, decimal_places=3)

    class Meta:
        verbose_name_plural = "activities"
        constraints = (
            # Also what single activities are found by.
            models.UniqueConstraint(name="activity_name_is_unique_in_its_chat", fields=("chat", "key")),
            models.CheckConstraint(
                name="activity_name_has_a_length",
                condition=Q(name__length__range=(1, NAME_LENGTH)) & ~Q(name__in=(".", "..")),
            ),
            models.CheckConstraint(name="activity_key_has_a_length", condition=Q(key__length__range=(1, LONGEST_KEY))),
            models.CheckConstraint(
                name="activity_dates_are_in_range",
                condition=Q(begin_date__gte=FIRST_DATE) & Q(end_date__lte=LAST_DATE),
            ),
            models.CheckConstraint(name="activity_begins_before_it_ends", condition=Q(begin_date__lte=F("end_date"))),
            models.CheckConstraint(
                name="activity_times_per_day_are_in_range",
                condition=Q(times_per_day__range=(1, MOST_TIMES_PER_DAY)),
            ),
            models.CheckConstraint(
                name="activity_quantity_is_in_range",
                condition=Q(quantity_per_time__gt=0) & Q(quantity_per_time__lte=MOST_QUANTITY),
            ),
        )
        indexes = (
            # The order of lists unless asked otherwise, and what ended before today is at its far end.
            models.Index(F("chat"), F("end_date").desc(), F("key"), name="activity_latest_end_first"),
        )

    def __str__(self) -> str:
        return self.name


class HandledRequest(models.Model):
    """What a request id was used for in its chat, and the answer: one transaction with the effect."""

    pk = models.CompositePrimaryKey("chat_id", "request_id")
    chat_id = models.BigIntegerField()
    request_id = models.UUIDField()
    fingerprint = models.TextField()
    # An `activities.domain.Outcome`, written down by the repository.
    outcome = models.JSONField()
    handled_at = models.DateTimeField()

    class Meta:
        indexes = (models.Index(fields=("handled_at",), name="handled_request_by_age"),)
