"""How Django's own applications are set up here."""

from django.contrib.admin.apps import SimpleAdminConfig


class AdminConfig(SimpleAdminConfig):
    """The admin, with a site of ours."""

    default_site = "activities.admin_site.AdminSite"
