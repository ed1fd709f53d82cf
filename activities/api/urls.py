"""Where the operations are."""

from __future__ import annotations

from urllib.parse import quote, unquote

from django.urls import path, register_converter
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from activities.api import views
from activities.api.gateway import GatewayDocsView, GatewaySchemaView
from activities.api.schema import MadeOnce


class NameConverter:
    """A name as one segment of a path, in which the server in front has left `%2F` and `%25` encoded."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        return unquote(value)

    def to_url(self, value: str) -> str:
        return quote(value, safe="")


register_converter(NameConverter, "name")

urlpatterns = [
    path("v1/activities/", views.ActivitiesView.as_view(), name="activities"),
    path("v1/activities/<name:name>/", views.ActivityView.as_view(), name="activity"),
    path("v1/today/", views.TodayView.as_view(), name="today"),
    path("v1/stream/", views.StreamView.as_view(), name="stream"),
    path("v1/chat/", views.ChatView.as_view(), name="chat"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("logout/", views.LogoutView.as_view(), name="logout"),
    path("schema/", SpectacularAPIView.as_view(generator_class=MadeOnce), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(template_name="activities/swagger.html"), name="docs"),
    path("schema/gateway/", GatewaySchemaView.as_view(), name="gateway-schema"),
    path("docs/gateway/", GatewayDocsView.as_view(), name="gateway-docs"),
]
