"""The admin: pages for the staff. They read rows by themselves; whatever they change goes through the use cases."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import actions
from django.core.paginator import Paginator
from django.db import DataError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html

from activities import models
from activities.api.errors import CLIENT_GONE
from activities.api.exchange import answer_id, call_of, container_of
from activities.domain import (
    ActivitiesError,
    ActivityNotFound,
    Broken,
    Chat,
    Delete,
    name_key,
    quantity_text,
    read_chat_id,
    timezones,
)
from activities.forms import ActivityForm, ChatForm, UseCaseForm, explained
from activities.ports import Cancelled

logger = logging.getLogger(__name__)

if TYPE_CHECKING:  # these are generic to the type checker alone
    AnyAdmin = admin.ModelAdmin[Any]
    AnyPaginator = Paginator[Any]
else:
    AnyAdmin = admin.ModelAdmin
    AnyPaginator = Paginator

MOST_LISTED = 10_000
"""How many rows a list counts and pages through; nobody turns more pages, and each would cost more."""
MOST_AT_ONCE = 1_000
"""How many activities one action may delete."""
BATCH = 100
"""How many activities are deleted in one access."""

admin.site.site_header = admin.site.site_title = "Activities"
admin.site.index_title = "Administration"


class ShortPaginator(AnyPaginator):
    """Pages of the first `MOST_LISTED` rows: counting a million takes longer than showing fifty of them."""

    @cached_property
    def count(self) -> int:
        return cast("QuerySet[Any]", self.object_list).order_by()[:MOST_LISTED].count()


class UseCaseAdmin(AnyAdmin):
    """Rows whose changes are use cases. What a use case refuses is shown in the form that asked for it."""

    list_per_page = 50
    paginator = ShortPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they would count every row for each choice

    def changelist_view(self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> HttpResponse:
        # A search may have to look at every row; like any caller's, its time is limited.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = %s", [int(settings.ACTIVITIES_STORAGE_SECONDS * 1000)])
            response = super().changelist_view(request, dict(extra_context or {}))
            if isinstance(response, TemplateResponse):
                context = response.context_data or {}
                if "cl" in context and context["cl"].result_count == MOST_LISTED:
                    context["subtitle"] = f"The first {MOST_LISTED} of them; search or filter to see others"
                response.render()  # asks for the rows
            return response

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Mapping[str, Any] | None = None,
    ) -> HttpResponse:
        view = super().changeform_view
        try:
            return view(request, object_id, form_url, dict(extra_context or {}))
        except ActivitiesError as refused:
            # Once more with what was refused, which makes the form invalid: it is shown, and nothing is asked again.
            request.META[_REFUSED] = refused
            return view(request, object_id, form_url, dict(extra_context or {}))

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm[Any]]:
        form = super().get_form(request, obj, change, **kwargs)
        assert issubclass(form, UseCaseForm)  # what every admin of this kind has
        form.refused = request.META.get(_REFUSED)  # the class was made for this request alone
        return form

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_addition(request, Redacted(obj), message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_change(request, Redacted(obj), message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Any]) -> Any:
        return super().log_deletions(request, cast("QuerySet[Any]", list(map(Redacted, queryset))))


_REFUSED = "activities.refused"


class Redacted:
    """A row for the admin's log, which outlives what is erased: it tells no name and no chat."""

    def __init__(self, row: models.Activity | models.Chat) -> None:
        self._meta = row._meta
        self.pk = row.pk if isinstance(row, models.Activity) else None

    def __str__(self) -> str:
        return str(self._meta.model_name)


class Choice(admin.SimpleListFilter):
    """A filter with fixed choices: each is its word in the URL, what is shown, and its condition."""

    def choices_now(self, now: datetime) -> Sequence[tuple[str, str, Q]]:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: AnyAdmin) -> list[tuple[str, str]]:
        return [(word, shown) for word, shown, _ in self.choices_now(_now())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        conditions = {word: condition for word, _, condition in self.choices_now(_now())}
        condition = conditions.get(self.value() or "")
        return queryset if condition is None else queryset.filter(condition)


class TodayFilter(Choice):
    """By each chat's own date."""

    title = "today in its chat"
    parameter_name = "today"

    def choices_now(self, now: datetime) -> Sequence[tuple[str, str, Q]]:
        zones: dict[date, list[str]] = {}
        for zone in timezones():
            zones.setdefault(now.astimezone(ZoneInfo(zone)).date(), []).append(zone)

        def in_its_chat(condition: Callable[[date], Q]) -> Q:
            # Around the world there are at most three dates at a time.
            days = [condition(day) & Q(chat__timezone__in=there) for day, there in zones.items()]
            return reduce(or_, days)

        return [
            ("active", "active", in_its_chat(lambda day: Q(begin_date__lte=day, end_date__gte=day))),
            ("ended", "ended", in_its_chat(lambda day: Q(end_date__lt=day))),
            ("coming", "to come", in_its_chat(lambda day: Q(begin_date__gt=day))),
        ]


class PeriodFilter(Choice):
    """Rows whose date `parameter_name` lies about today, by UTC."""

    def choices_now(self, now: datetime) -> Sequence[tuple[str, str, Q]]:
        today = now.date()
        month = today.replace(day=1)
        next_month = (month + timedelta(days=32)).replace(day=1)
        return [
            ("past", "in the last 7 days", self._between(today - timedelta(days=7), today)),
            ("today", "today", self._between(today, today + timedelta(days=1))),
            ("next", "in the next 7 days", self._between(today + timedelta(days=1), today + timedelta(days=8))),
            ("month", "this month", self._between(month, next_month)),
            ("year", "this year", self._between(today.replace(month=1, day=1), date(today.year + 1, 1, 1))),
        ]

    def _between(self, first: date, after: date) -> Q:
        return Q(**{f"{self.parameter_name}__gte": first, f"{self.parameter_name}__lt": after})


class BeginFilter(PeriodFilter):
    title = "first day"
    parameter_name = "begin_date"


class EndFilter(PeriodFilter):
    title = "last day"
    parameter_name = "end_date"


class TimesFilter(Choice):
    title = "times per day"
    parameter_name = "times"

    def choices_now(self, now: datetime) -> Sequence[tuple[str, str, Q]]:
        return [
            ("1", "1", Q(times_per_day=1)),
            ("2", "2", Q(times_per_day=2)),
            ("3", "3", Q(times_per_day=3)),
            ("4-9", "4 to 9", Q(times_per_day__range=(4, 9))),
            ("10-", "10 or more", Q(times_per_day__gte=10)),
        ]


class LanguageFilter(Choice):
    title = parameter_name = "language"
    field = "language"

    def choices_now(self, now: datetime) -> Sequence[tuple[str, str, Q]]:
        return [(code, name, Q(**{self.field: code})) for code, name in settings.LANGUAGES]


class ChatLanguageFilter(LanguageFilter):
    title = "language of the chat"
    field = "chat__language"


def _now() -> datetime:
    return datetime.now(UTC)


@admin.register(models.Activity)
class ActivityAdmin(UseCaseAdmin):
    form = ActivityForm
    list_display = ("called", "of_chat", "first_day", "last_day", "times_per_day", "quantity", "today")
    list_filter = (TodayFilter, BeginFilter, EndFilter, TimesFilter, ChatLanguageFilter)
    list_select_related = ("chat",)
    search_fields = ("key",)
    search_help_text = 'A chat id, a part of a name, or both: 42 vitamin. A number in quotes is a part of a name: "12".'
    ordering = ("-id",)
    sortable_by = ("called", "first_day", "last_day", "times_per_day", "quantity")
    actions = ("delete_selected",)

    @admin.display(description="name", ordering="key")
    def called(self, activity: models.Activity) -> str:
        return activity.name

    @admin.display(description="chat")
    def of_chat(self, activity: models.Activity) -> str:
        return _link(reverse("admin:activities_chat_change", args=[activity.chat_id]), str(activity.chat_id))

    @admin.display(description="first day", ordering="begin_date")
    def first_day(self, activity: models.Activity) -> str:
        return activity.begin_date.isoformat()

    @admin.display(description="last day", ordering="end_date")
    def last_day(self, activity: models.Activity) -> str:
        return activity.end_date.isoformat()

    @admin.display(description="quantity", ordering="quantity_per_time")
    def quantity(self, activity: models.Activity) -> str:
        return quantity_text(activity.quantity_per_time)

    @admin.display(description="today")
    def today(self, activity: models.Activity) -> str:
        """By its chat's date."""
        day = _chat(activity.chat).date_at(_now())
        if day > activity.end_date:
            return "ended"
        return "to come" if day < activity.begin_date else "active"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[models.Activity], search_term: str
    ) -> tuple[QuerySet[models.Activity], bool]:
        chat_id, name = _wanted(search_term)
        if chat_id is not None:
            queryset = queryset.filter(chat_id=chat_id)  # before the name: an index finds the chat
        if name:
            queryset = queryset.filter(key__contains=name_key(name))
        return queryset, False

    def get_readonly_fields(self, request: HttpRequest, obj: models.Activity | None = None) -> tuple[str, ...]:
        return () if obj is None else ("chat", "name", "today")

    def get_fieldsets(self, request: HttpRequest, obj: models.Activity | None = None) -> Any:
        what = ("chat", "name") if obj is None else ("chat", "name", "today")
        return [
            (None, {"fields": what}),
            ("When and how much", {"fields": [("begin_date", "end_date"), ("times_per_day", "quantity_per_time")]}),
        ]

    def save_model(self, request: HttpRequest, obj: models.Activity, form: Any, change: bool) -> None:
        activities, call = container_of(request).activities, call_of(request)
        if change:
            saved = activities.update(obj.chat_id, name=obj.name, changes=form.changes, call=call)
        else:
            obj.chat_id = form.chat_id
            saved = activities.create(form.chat_id, activity=form.activity, call=call)
        row = models.Activity.objects.filter(chat=obj.chat_id, key=saved.key).first()
        if row is None:  # somebody was quick to delete it
            raise ActivityNotFound(name=saved.name)
        obj.pk = row.pk
        obj.refresh_from_db()

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, dict(extra_context or {}))
        except ActivitiesError as refused:
            self.message_user(request, f"Not deleted: {explained(refused)}.", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: models.Activity) -> None:
        container_of(request).activities.delete(obj.chat_id, name=obj.name, call=call_of(request))

    @admin.action(permissions=["delete"], description="Delete selected activities")
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[models.Activity]) -> HttpResponse | None:
        """After a confirmation, as the admin's own action, which would say that all are deleted when some are not."""
        chosen = list(queryset.order_by("chat", "key")[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            self.message_user(request, f"At most {MOST_AT_ONCE} activities can be deleted at once.", messages.ERROR)
            return None
        if not request.POST.get("post"):
            return actions.delete_selected(self, request, queryset)
        deleted: list[models.Activity] = []
        try:
            for batch in _cut(chosen, BATCH):
                deleted += self._deleted(request, batch)
        except ActivitiesError as refused:
            self.message_user(request, f"Not all were deleted: {explained(refused)}.", messages.ERROR)
        except Cancelled:
            pass  # nobody reads the answer, but what was done is noted
        self.log_deletions(request, deleted)
        self.message_user(request, f"Deleted {len(deleted)} of {len(chosen)} activities.")
        return None

    def _deleted(self, request: HttpRequest, batch: Sequence[models.Activity]) -> list[models.Activity]:
        """Deletes a batch; returns those that were there to be deleted."""
        commands = [Delete(chat_id=each.chat_id, name=each.name) for each in batch]
        call = replace(call_of(request), asked_at=time.monotonic())  # each batch has the whole limit
        outcomes = container_of(request).activities.apply(commands, call=call)
        return [each for each, outcome in zip(batch, outcomes, strict=True) if outcome is None]


def _wanted(text: str) -> tuple[int | None, str]:
    """The chat id and the part of a name that somebody searches for."""
    first, _, rest = text.strip().partition(" ")
    try:
        chat_id, name = read_chat_id(first), rest.strip()
    except Broken:
        chat_id, name = None, text.strip()
    quoted = len(name) > 1 and name[0] == name[-1] == '"'
    return chat_id, name[1:-1] if quoted else name


def _cut(rows: Sequence[models.Activity], size: int) -> Iterable[Sequence[models.Activity]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


@admin.register(models.Chat)
class ChatAdmin(UseCaseAdmin):
    """Chats come with their first word or activity and go only whole, which is not done here."""

    form = ChatForm
    list_display = ("chat_id", "timezone", "now_there", "language", "tokens_revoked", "activities")
    list_filter = (LanguageFilter,)
    search_fields = ("chat_id",)
    search_help_text = "A chat id, or a part of a time zone: Moscow."
    ordering = ("chat_id",)
    sortable_by = ("chat_id", "timezone", "language", "tokens_revoked")
    readonly_fields = ("chat_id", "now_there", "tokens_revoked", "activities")
    fields = ("chat_id", "timezone", "now_there", "language", "tokens_revoked", "activities")

    @admin.display(description="now there")
    def now_there(self, chat: models.Chat) -> str:
        return f"{_now().astimezone(ZoneInfo(chat.timezone)):%a %H:%M}"

    @admin.display(description="tokens revoked", ordering="tokens_valid_after")
    def tokens_revoked(self, chat: models.Chat) -> str:
        """Those issued before are revoked."""
        if not chat.tokens_valid_after:
            return "never"
        return f"{datetime.fromtimestamp(chat.tokens_valid_after, UTC):%Y-%m-%d %H:%M} UTC"

    @admin.display(description="activities")
    def activities(self, chat: models.Chat) -> str:
        url = reverse("admin:activities_activity_changelist")
        return _link(f"{url}?q={chat.chat_id}", "show")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[models.Chat], search_term: str
    ) -> tuple[QuerySet[models.Chat], bool]:
        try:
            return queryset.filter(chat_id=read_chat_id(search_term)), False
        except Broken:
            return queryset.filter(timezone__icontains=search_term.strip().replace(" ", "_")), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Chat | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: models.Chat, form: Any, change: bool) -> None:
        container_of(request).chats.update(obj.chat_id, changes=form.changes, call=call_of(request))
        obj.refresh_from_db()


def _chat(row: models.Chat) -> Chat:
    return Chat(row.chat_id, row.timezone, row.language, row.tokens_valid_after)


def _link(url: str, text: str) -> str:
    return format_html('<a href="{}">{}</a>', url, text)


class Failures:
    """Middleware: what the database refuses or does not answer in time is a page that says so."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if request.resolver_match is None or request.resolver_match.app_name != "admin":
            return None
        if isinstance(error, Cancelled):
            return HttpResponse(status=CLIENT_GONE)
        if isinstance(error, OperationalError | InterfaceError):
            logger.warning("a page of the admin had no answer, request id %s: %s", answer_id(request), error)
            return render(request, "activities/admin_failure.html", status=503)
        if isinstance(error, DataError):
            return render(request, "activities/admin_failure.html", {"unreadable": True}, status=400)
        return None
