"""Where everything is that this process serves over HTTP."""

from django.apps import apps
from django.conf import settings
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from django_prometheus.exports import ExportToDjangoView

from activities.api import views

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="docs")),
    path("api/", include("activities.api.urls")),
    path("healthz", views.HealthView.as_view()),
    path("readyz", views.ReadyView.as_view()),
    path("metrics", ExportToDjangoView),
]
if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    admin.autodiscover()
    urlpatterns += [
        path(settings.ADMIN_PATH.rstrip("/"), RedirectView.as_view(pattern_name="admin:index")),
        path(settings.ADMIN_PATH, admin.site.urls),
    ]
else:
    urlpatterns += [re_path(f"^{settings.ADMIN_PATH.rstrip('/')}(?:/.*)?$", views.no_admin)]

handler400 = "activities.api.errors.bad_request"
handler403 = "activities.api.errors.permission_denied"
handler404 = "activities.api.errors.not_found"
handler500 = "activities.api.errors.internal"
