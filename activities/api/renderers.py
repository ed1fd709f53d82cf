"""The pages on which a person tries the interface in a browser."""

from __future__ import annotations

from typing import Any

from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.request import Request

from activities.api.authentication import COOKIE
from activities.api.paths import encoded_path


class BrowsablePages(BrowsableAPIRenderer):
    """DRF's pages with a way to log in and out, and with links that carry any name."""

    template = "activities/browsable.html"

    def get_breadcrumbs(self, request: Request) -> list[tuple[str, str]]:
        return [(name, encoded_path(url)) for name, url in super().get_breadcrumbs(request)]

    def get_context(self, data: Any, accepted_media_type: str | None, renderer_context: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        # Pygments' styles, where it happens to be installed, would stand in the page, which its policy does not allow.
        return {**context, "code_style": None, "has_cookie": COOKIE in renderer_context["request"].COOKIES}
