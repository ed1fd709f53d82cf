"""The admin's forms. They take raw text and have the domain read it, so that it is refused with the domain's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.widgets import AdminDateWidget, AdminTextInputWidget, ForeignKeyRawIdWidget

from activities import models
from activities.domain import (
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityExists,
    ChatChanges,
    InvalidActivity,
    Reading,
    StorageTimeout,
    Violation,
    quantity_text,
    read_activity,
    read_changes,
    read_chat_changes,
    read_chat_id,
    timezones,
)

if TYPE_CHECKING:  # it is generic to the type checker alone
    AnyForm = forms.ModelForm[Any]
else:
    AnyForm = forms.ModelForm


class RawField(forms.Field):
    """What was typed, as it was typed. It counts as changed when it is not what the page showed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(show_hidden_initial=True, **options)

    def validate(self, value: object) -> None:
        """The domain does."""

    def prepare_value(self, value: object) -> object:
        return _written(value)

    def has_changed(self, initial: object, data: object) -> bool:
        return (data or "") != _written(initial)


def _written(value: object) -> str:
    """A value as somebody would type it."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return quantity_text(value)
    return "" if value is None else str(value)


class UseCaseForm(AnyForm):
    """What a use case needs, read from a form; saving it is the admin's part."""

    refused: ActivitiesError | None = None
    """What the use case answered when it was asked with this very content."""

    def clean(self) -> None:
        reading = Reading()
        self.read(reading, self.cleaned_data)
        self._show(reading.violations)
        if isinstance(self.refused, InvalidActivity):
            self._show(self.refused.violations)
        elif self.refused is not None:
            taken = isinstance(self.refused, ActivityExists)
            self.add_error("name" if taken else None, explained(self.refused))

    def read(self, reading: Reading, raw: Mapping[str, object]) -> None:
        """Keeps the domain's values for the use case."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        """Leaves the row as it is: the model's own checks would repeat the domain's in other words."""

    def _show(self, violations: Iterable[Violation]) -> None:
        for each in violations:
            field = "chat" if each.field == "chat_id" else each.field
            self.add_error(field if field in self.fields else None, each.message)


def explained(error: ActivitiesError) -> str:
    """The error for somebody who has a page before them and no request id."""
    if isinstance(error, StorageTimeout):
        return "the storage did not answer in time; look at the list to see whether it was done all the same"
    return str(error)


class ActivityForm(UseCaseForm):
    """A new activity, or changes of one."""

    class Media:
        css = {"all": ["activities/admin.css"]}  # noqa: RUF012 - as Django has it

    chat = RawField(
        label="Chat",
        help_text="The chat's Telegram id. One that is not in the list yet is made with its first activity.",
        widget=ForeignKeyRawIdWidget(models.Activity._meta.get_field("chat").remote_field, admin.site),
    )
    name = RawField(
        label="Name",
        help_text="Unique in its chat; upper and lower case are one. 1 to 120 characters. It cannot be changed later.",
        widget=AdminTextInputWidget(),
    )
    begin_date = RawField(label="First day", widget=AdminDateWidget())
    end_date = RawField(label="Last day", help_text="Included.", widget=AdminDateWidget())
    times_per_day = RawField(
        label="Times per day", help_text="1 to 100.", widget=forms.TextInput({"inputmode": "numeric", "size": 10})
    )
    quantity_per_time = RawField(
        label="Quantity per time",
        help_text="Like 0.5; at most 1000000, with at most 3 decimal places.",
        widget=forms.TextInput({"inputmode": "decimal", "size": 10}),
    )

    chat_id: int
    activity: Activity
    changes: ActivityChanges

    class Meta:
        model = models.Activity
        fields: ClassVar[list[str]] = []  # the admin says which

    def read(self, reading: Reading, raw: Mapping[str, object]) -> None:
        if self.instance._state.adding:
            self.chat_id = reading.take("chat_id", read_chat_id, raw["chat"])
            self.activity = read_activity(reading, raw)
            return
        # What nobody touched stays as it is, also where it has been changed elsewhere since the page was shown; but it
        # is read with the others, for the sake of the rules between them.
        kept = {name: getattr(self.instance, name) for name in raw if name not in self.changed_data}
        changes = read_changes(reading, {**raw, **kept})
        if not reading.violations:
            self.changes = ActivityChanges(**_only(self.changed_data, changes.given))


class ChatForm(UseCaseForm):
    """Changes of a chat."""

    timezone = RawField(
        label="Time zone",
        help_text="Which date is today in this chat.",
        widget=forms.Select(choices=[(each, each) for each in sorted(timezones())]),
    )
    language = RawField(label="Language", help_text="Of its messages.", widget=forms.Select(choices=settings.LANGUAGES))

    changes: ChatChanges

    class Meta:
        model = models.Chat
        fields: ClassVar[list[str]] = []  # the admin says which

    def read(self, reading: Reading, raw: Mapping[str, object]) -> None:
        self.changes = read_chat_changes(reading, _only(self.changed_data, raw))


def _only(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
