"""The gateway's API for those who read: its OpenAPI description, which `make proto` makes, and Swagger's page of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.views.generic import View
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.response import Response

FILE = Path(__file__).with_name("gateway.yaml")


@cache
def _description() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return document


class GatewaySchemaView(View):
    """The description, with the address of the gateway that there is."""

    def get(self, request: HttpRequest) -> JsonResponse:
        return JsonResponse({**_description(), "servers": [{"url": settings.ACTIVITIES_GATEWAY_URL}]})


class GatewayDocsView(SpectacularSwaggerSplitView):
    """Swagger's page. It shows and does not try: the gateway is another origin, and answers no page but its own."""

    url_name = "gateway-schema"
    template_name = "activities/swagger.html"
    title = "Activities: the gateway"

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().get(request, *args, **kwargs)  # type: ignore[no-untyped-call]
        if "settings" in response.data:
            shown = {**spectacular_settings.SWAGGER_UI_SETTINGS, "supportedSubmitMethods": []}
            response.data["settings"] = self._dump(shown)  # type: ignore[no-untyped-call]
        return response  # type: ignore[no-any-return]
