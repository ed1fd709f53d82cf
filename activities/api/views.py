"""The operations. Each is three moves: read, call, write. Docstrings are shown to users."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from activities.api.authentication import (
    COOKIE,
    drop_token,
    keep_token,
    must_come_from_our_pages,
    read_token,
)
from activities.api.errors import STATUS, break_off
from activities.api.exchange import Asked, call_of, container_of, fields_of
from activities.api.schema import (
    CHAT_EXAMPLE,
    CHAT_ID,
    EXAMPLE,
    EXISTS,
    LOCATION,
    NAME,
    NOT_FOUND,
    ORDER,
    PAGE,
    READING,
    REQUEST_ID,
    STORAGE,
    TOO_MANY,
    WRITING,
    operation,
)
from activities.api.serializers import (
    ActivityChangesSerializer,
    ActivityListSerializer,
    ActivityReplacementSerializer,
    ActivitySerializer,
    ChatChangesSerializer,
    ChatSerializer,
    LoggedInSerializer,
    LoginSerializer,
    StatusSerializer,
)
from activities.domain import (
    ORDER_FIELDS,
    ActivitiesError,
    Activity,
    ActivityChanges,
    ActivityPage,
    Broken,
    NotAuthenticated,
    Order,
    Page,
    PermissionDenied,
    Reading,
    StorageBusy,
    StorageTimeout,
    StorageUnavailable,
    name_key,
    read_activity,
    read_changes,
    read_chat_changes,
    read_name,
    read_order,
    read_page,
    shown,
)
from activities.ports import Cancelled

NDJSON = "application/x-ndjson"
FOR_PROGRAMS = "a browser needs a chat's token, a service's is for programs"
LINES_PER_CHUNK = 100
"""How many activities a stream sends at a time. The store's batch is a multiple of it, so that nothing which was read
waits for the next read."""


class Endpoint(APIView):
    """What the views of activities and chats share. Like every view that is not `Open`, they need a token."""

    http_method_names = ["get", "head", "post", "put", "patch", "delete"]  # noqa: RUF012
    serializer_class: type[Serializer[Any]]

    def get_serializer(self, *args: Any, **kwargs: Any) -> Serializer[Any]:
        """For the forms of the browsable pages."""
        return self.serializer_class(*args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        patch_cache_control(response, no_store=True)  # it is one chat's own
        return response


class Open(APIView):
    """Asks for no token."""

    authentication_classes = ()
    permission_classes = ()


class ActivitiesView(Endpoint):
    """The activities of a chat."""

    serializer_class = ActivitySerializer

    @operation(
        "listActivities",
        "List activities",
        description="One page of the chat's activities.",
        tags=["activities"],
        parameters=[*PAGE, CHAT_ID, REQUEST_ID],
        answers={200: ActivityListSerializer},
        errors=READING,
        example={"count": 1, "next": None, "previous": None, "results": [EXAMPLE]},
        broken={"limit": ["'501' is not from 0 to 500; for example 50"]},
    )
    def get(self, request: Request) -> Response:
        asked = Asked.by(request)
        page = read_page(asked.reading, request.query_params)
        asked.reading.done()
        found = asked.parts.activities.list(asked.chat_id, page=page, call=asked.call)
        return _page(request, page, found)

    @operation(
        "createActivity",
        "Add an activity",
        description="Adds an activity to the chat. All rules that the request breaks are reported together.",
        tags=["activities"],
        parameters=[CHAT_ID, REQUEST_ID, LOCATION],
        sends=ActivitySerializer,
        sent=EXAMPLE,
        answers={201: ActivitySerializer},
        errors=(*WRITING, EXISTS, TOO_MANY),
        example=EXAMPLE,
        broken={"times_per_day": ["'101' is not from 1 to 100; for example 2"]},
    )
    def post(self, request: Request) -> Response:
        asked = Asked.by(request)
        activity = read_activity(asked.reading, fields_of(request))
        asked.reading.done()
        created = asked.parts.activities.create(asked.chat_id, activity=activity, call=asked.call)
        location = request.build_absolute_uri(f"{reverse('activities')}{quote(created.name, safe='')}/")
        return Response(ActivitySerializer(created).data, status=201, headers={"Location": location})


class ActivityView(Endpoint):
    """One activity, by its name."""

    serializer_class = ActivityReplacementSerializer

    @operation(
        "getActivity",
        "Read an activity",
        description="The chat's activity of this name.",
        tags=["activities"],
        parameters=[NAME, CHAT_ID, REQUEST_ID],
        answers={200: ActivitySerializer},
        errors=(*READING, NOT_FOUND),
        example=EXAMPLE,
        broken={"name": ["may not contain U+0000; for example vitamin C"]},
    )
    def get(self, request: Request, name: str) -> Response:
        asked = Asked.by(request)
        wanted = asked.reading.take("name", read_name, name)
        asked.reading.done()
        activity = asked.parts.activities.get(asked.chat_id, name=wanted, call=asked.call)
        return Response(ActivitySerializer(activity).data)

    @operation(
        "replaceActivity",
        "Replace an activity",
        description="Sets everything but the name, which cannot change. It adds nothing: an unknown name is 404.",
        tags=["activities"],
        parameters=[NAME, CHAT_ID, REQUEST_ID],
        sends=ActivityReplacementSerializer,
        sent={field: value for field, value in EXAMPLE.items() if field != "name"},
        answers={200: ActivitySerializer},
        errors=(*WRITING, NOT_FOUND),
        example=EXAMPLE,
        broken={"end_date": ["end_date 2026-01-01 is before begin_date 2026-02-01; for example 2026-02-01 or later"]},
    )
    def put(self, request: Request, name: str) -> Response:
        asked = Asked.by(request)
        fields = fields_of(request)
        asked.reading.optional("name", _same_as(name), fields)
        activity = read_activity(asked.reading, {**fields, "name": name})
        asked.reading.done()
        changes = ActivityChanges(
            activity.begin_date, activity.end_date, activity.times_per_day, activity.quantity_per_time
        )
        return self._updated(asked, activity.name, changes)

    @operation(
        "updateActivity",
        "Change an activity",
        description="Sets the fields given and keeps the rest; the result is checked as a whole.",
        tags=["activities"],
        parameters=[NAME, CHAT_ID, REQUEST_ID],
        sends=ActivityChangesSerializer,
        sent={"times_per_day": 3},
        answers={200: ActivitySerializer},
        errors=(*WRITING, NOT_FOUND),
        example={**EXAMPLE, "times_per_day": 3},
        broken={
            "begin_date": ["begin_date 2026-03-01 is after end_date 2026-02-01; for example 2026-02-01 or earlier"]
        },
    )
    def patch(self, request: Request, name: str) -> Response:
        asked = Asked.by(request)
        fields = fields_of(request)
        wanted = asked.reading.take("name", read_name, name)
        asked.reading.optional("name", _same_as(name), fields)
        changes = read_changes(asked.reading, fields)
        asked.reading.done()
        return self._updated(asked, wanted, changes)

    @operation(
        "deleteActivity",
        "Delete an activity",
        description="Deletes the chat's activity of this name.",
        tags=["activities"],
        parameters=[NAME, CHAT_ID, REQUEST_ID],
        answers={204: OpenApiResponse(description="It is gone.")},
        errors=(*WRITING, NOT_FOUND),
        broken={"name": ["may not contain U+0000; for example vitamin C"]},
    )
    def delete(self, request: Request, name: str) -> Response:
        asked = Asked.by(request)
        wanted = asked.reading.take("name", read_name, name)
        asked.reading.done()
        asked.parts.activities.delete(asked.chat_id, name=wanted, call=asked.call)
        return Response(status=204)

    def _updated(self, asked: Asked, name: str, changes: ActivityChanges) -> Response:
        activity = asked.parts.activities.update(asked.chat_id, name=name, changes=changes, call=asked.call)
        return Response(ActivitySerializer(activity).data)


class TodayView(Endpoint):
    """The activities that are due on the chat's own date."""

    @operation(
        "listToday",
        "List today's activities",
        description="One page of the activities that are active on the chat's own date.",
        tags=["activities"],
        parameters=[*PAGE, CHAT_ID, REQUEST_ID],
        answers={200: ActivityListSerializer},
        errors=READING,
        example={"count": 1, "next": None, "previous": None, "results": [EXAMPLE]},
        broken={"offset": ["'-1' is not from 0 to 9223372036854775807; for example 100"]},
    )
    def get(self, request: Request) -> Response:
        asked = Asked.by(request)
        page = read_page(asked.reading, request.query_params)
        asked.reading.done()
        found = asked.parts.activities.today(asked.chat_id, page=page, call=asked.call)
        return _page(request, page, found)


class _AlwaysJSON(BaseContentNegotiation):
    """For views whose result has a form of its own, whatever is accepted; their errors are JSON."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return JSONRenderer(), JSONRenderer.media_type


class StreamView(Endpoint):
    """All activities of a chat, one JSON object a line, sent while they are read."""

    content_negotiation_class = _AlwaysJSON

    @operation(
        "streamActivities",
        "Stream all activities",
        description="Every activity as a JSON object on a line of its own, sent while the store is read. It is no "
        "snapshot: what does not change meanwhile appears exactly once. After a failure on the way the response "
        "lacks its proper end, which HTTP clients report as an error.",
        tags=["activities"],
        parameters=[ORDER, CHAT_ID, REQUEST_ID],
        answers={(200, NDJSON): OpenApiTypes.STR},
        errors=READING,
        example=f"{json.dumps(EXAMPLE)}\n",
        broken={"order": [f"'size' is not an order; it is one of {', '.join(ORDER_FIELDS)}, with - in front …"]},
    )
    def get(self, request: Request) -> HttpResponseBase:
        asked = Asked.by(request)
        order = asked.reading.take("order", read_order, request.query_params.get("order"))
        asked.reading.done()
        lines = _lines(request, asked, order)
        next(lines)  # until here errors have their status; from here on `close` gives everything back
        return StreamingHttpResponse(lines, content_type=NDJSON)


def _lines(request: Request, asked: Asked, order: Order) -> Iterator[bytes]:
    """The lines in chunks; the first chunk is empty and comes when the first activity has been read."""
    written = ActivitySerializer()
    with (
        asked.parts.streams.hold(),
        closing(asked.parts.activities.stream(asked.chat_id, order=order, call=asked.call)) as activities,
    ):
        first = [_line(written, activity) for activity in islice(activities, 1)]
        yield b""
        try:
            yield b"".join(first)
            chunk = []
            for count, activity in enumerate(activities, start=2):
                chunk.append(_line(written, activity))
                if count % LINES_PER_CHUNK == 0:
                    yield b"".join(chunk)
                    chunk.clear()
            yield b"".join(chunk)
        except Cancelled:
            return
        except Exception as error:
            break_off(error, request)


def _line(written: ActivitySerializer, activity: Activity) -> bytes:
    return json.dumps(written.to_representation(activity), ensure_ascii=False).encode() + b"\n"


class ChatView(Endpoint):
    """The chat itself: its time zone, which says what date is today, and its language."""

    serializer_class = ChatChangesSerializer

    @operation(
        "getChat",
        "Read the chat",
        description="What is known of the chat.",
        tags=["chat"],
        parameters=[CHAT_ID, REQUEST_ID],
        answers={200: ChatSerializer},
        errors=READING,
        example=CHAT_EXAMPLE,
        broken={"chat_id": ["is required, for example 42"]},
    )
    def get(self, request: Request) -> Response:
        asked = Asked.by(request)
        asked.reading.done()
        chat = asked.parts.chats.get(asked.chat_id, call=asked.call)
        return Response(ChatSerializer(chat).data)

    @operation(
        "updateChat",
        "Change the chat",
        description="Sets the fields given and keeps the rest.",
        tags=["chat"],
        parameters=[CHAT_ID, REQUEST_ID],
        sends=ChatChangesSerializer,
        sent={"timezone": "Europe/Moscow"},
        answers={200: ChatSerializer},
        errors=READING,
        example=CHAT_EXAMPLE,
        broken={"timezone": ["'Mars' is not an IANA time zone like Europe/Moscow"]},
    )
    def patch(self, request: Request) -> Response:
        asked = Asked.by(request)
        changes = read_chat_changes(asked.reading, fields_of(request))
        asked.reading.done()
        chat = asked.parts.chats.update(asked.chat_id, changes=changes, call=asked.call)
        return Response(ChatSerializer(chat).data)

    @operation(
        "forgetChat",
        "Forget the chat",
        description="Erases the chat's activities, its settings and the answers kept for its request ids, and revokes "
        "its tokens, this one included. It cannot be undone.",
        tags=["chat"],
        parameters=[CHAT_ID, REQUEST_ID],
        answers={204: OpenApiResponse(description="Nothing is left of it.")},
        errors=READING,
        broken={"chat_id": ["is required, for example 42"]},
    )
    def delete(self, request: Request) -> Response:
        asked = Asked.by(request)
        asked.reading.done()
        asked.parts.chats.forget(asked.chat_id, call=asked.call)
        return Response(status=204)


def _page(request: Request, page: Page, found: ActivityPage) -> Response:
    """A list's answer. Its links keep what was asked for."""

    def link(offset: int) -> str:
        url = replace_query_param(request.build_absolute_uri(), "limit", page.limit)
        return replace_query_param(url, "offset", offset)

    after = page.offset + page.limit
    body = {
        "count": found.total,
        "next": link(after) if after < found.total else None,
        "previous": link(max(0, min(page.offset, found.total) - page.limit)) if page.offset else None,
        "results": found.activities,
    }
    return Response(dict(ActivityListSerializer(body).data))


def _same_as(name: str) -> Callable[[object], str]:
    """Reads a name that must mean the activity which the URL names."""

    def read(raw: object) -> str:
        repeated = read_name(raw)
        if name_key(repeated) != name_key(name.strip()):
            raise Broken("name_other", value=shown(repeated))
        return repeated

    return read


class SeeOther(HttpResponseRedirect):
    """Look there, by GET."""

    status_code = 303


class LoginView(Open):
    """Keeps a chat's token in a cookie, so that a browser can use this interface."""

    content_negotiation_class = _AlwaysJSON
    http_method_names = ["get", "head", "post"]  # noqa: RUF012 - as the base class has it

    @operation(
        "loginPage",
        "Show the form to log in",
        description="A page for people; its form asks for a chat's token.",
        tags=["access"],
        parameters=[OpenApiParameter("next", str, description="Where on this site to go after the login.")],
        answers={(200, "text/html"): OpenApiTypes.STR},
        example="<!DOCTYPE html> ...",
    )
    def get(self, request: Request) -> HttpResponse:
        return self._form(request, {}, status=200)

    @operation(
        "login",
        "Log a browser in",
        description="Keeps a chat's token in a signed cookie out of reach of scripts and of other sites. Changes with "
        "the cookie need CSRF's token, and so does this when a browser asks.",
        tags=["access"],
        parameters=[],
        sends=LoginSerializer,
        sent={"token": "act_..."},
        answers={200: LoggedInSerializer, 303: OpenApiResponse(description="The same, for who accepts no JSON.")},
        errors=(NotAuthenticated(), PermissionDenied(reason=FOR_PROGRAMS), *STORAGE),
        example={"chat_id": 42},
        broken={"token": ["is required, for example act_..."]},
    )
    def post(self, request: Request) -> HttpResponseBase:
        if "origin" in request.headers or "referer" in request.headers:  # a browser, which another site may have sent
            must_come_from_our_pages(request)
        fields = fields_of(request)
        try:
            token, chat_id = self._chat_token(request, fields)
        except ActivitiesError as error:
            if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
                return self._form(request, fields, status=STATUS[type(error)], error=error)
            raise
        response: HttpResponseBase
        if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
            response = Response({"chat_id": chat_id})
        else:
            response = SeeOther(_next(request, fields.get("next")))
        keep_token(request, response, token)
        return response

    def _chat_token(self, request: Request, fields: Mapping[str, object]) -> tuple[str, int]:
        reading = Reading()
        token = reading.take("token", read_token, fields.get("token"))
        reading.done()
        chat_id = container_of(request).access.principal(token, call=call_of(request)).chat_id
        if chat_id is None:
            raise PermissionDenied(reason=FOR_PROGRAMS)
        return token, chat_id

    def _form(
        self, request: Request, fields: Mapping[str, object], *, status: int, error: ActivitiesError | None = None
    ) -> HttpResponse:
        message = "This token does not work: mistyped, expired or revoked?" if status == 401 else error
        context = {"next": _next(request, fields.get("next")), "error": message}
        response = render(request._request, "activities/login.html", context, status=status)
        if status == 401:
            response["WWW-Authenticate"] = "Bearer"
        if error is not None and error.seconds_to_wait is not None:
            response["Retry-After"] = error.seconds_to_wait
        patch_cache_control(response, no_store=True)
        return response


def _next(request: Request, asked: object) -> str:
    """Where a browser goes after it has logged in: where it asks to, when that is one of our pages."""
    wanted = asked or request.query_params.get("next")
    host = {request.get_host()}
    if isinstance(wanted, str) and wanted.isascii() and url_has_allowed_host_and_scheme(wanted, host):
        return wanted
    return reverse("activities")


class LogoutView(Open):
    """Makes a browser forget its token."""

    content_negotiation_class = _AlwaysJSON
    http_method_names = ["post"]  # noqa: RUF012 - as the base class has it

    @operation(
        "logout",
        "Log a browser out",
        description="Makes the browser forget the token. The token itself stays good until it expires or is revoked.",
        tags=["access"],
        parameters=[],
        answers={
            204: OpenApiResponse(description="The cookie is gone."),
            303: OpenApiResponse(description="The same, for who accepts no JSON."),
        },
        errors=[PermissionDenied(reason="CSRF Failed")],
    )
    def post(self, request: Request) -> HttpResponseBase:
        if COOKIE in request.COOKIES:
            must_come_from_our_pages(request)
        response: HttpResponseBase
        if request.get_preferred_type(["text/html", "application/json"]) == "application/json":
            response = Response(status=204)
        else:
            response = SeeOther(reverse("login"))
        drop_token(response)
        return response


class Probe(Open):
    """What watches over the process asks here."""

    content_negotiation_class = _AlwaysJSON
    http_method_names = ["get", "head"]  # noqa: RUF012 - as the base class has it


class HealthView(Probe):
    """The process is up."""

    @operation(
        "health",
        "Is the process up?",
        description="Answers as long as the process serves.",
        tags=["process"],
        parameters=[],
        answers={200: StatusSerializer},
        example={"status": "ok"},
    )
    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


class ReadyView(Probe):
    """The process can do its work."""

    @operation(
        "ready",
        "Does the storage answer?",
        description="Answers 200 when the storage does, so that requests are worth sending here.",
        tags=["process"],
        parameters=[],
        answers={200: StatusSerializer},
        errors=[StorageUnavailable(), StorageBusy()],
        example={"status": "ok"},
    )
    def get(self, request: Request) -> Response:
        try:
            container_of(request).ready(call_of(request))
        except StorageTimeout:
            raise StorageUnavailable from None  # one status for every way of not being ready
        return Response({"status": "ok"})


@csrf_exempt
def no_admin(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - a view has it
    """Says why there is no admin here."""
    sentence = "The admin needs the database: start this with ACTIVITIES_BACKEND=postgres to use it.\n"
    return HttpResponse(sentence, status=404, content_type="text/plain; charset=utf-8")
