"""The WSGI application that `activities_project.http` puts behind its front."""

from __future__ import annotations

import os
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

from activities.api.paths import encoded_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "activities_project.settings")


class Request(WSGIRequest):
    """A request as the front hands it over: its path keeps `%2F` and `%25`, its text is UTF-8."""

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Sets the content type, but no encoding: `charset` could name any codec of Python's, text or not."""
        self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))

    def get_full_path(self, force_append_slash: bool = False) -> str:
        """The path and query as the client sent them; Django would encode what is encoded already."""
        query = self.META.get("QUERY_STRING", "")
        return encoded_path(self.path) + (f"?{query}" if query else "")


class Handler(WSGIHandler):
    request_class = Request


django.setup(set_prefix=False)
application = Handler()
