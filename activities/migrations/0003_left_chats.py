"""An index for purges. And the admin's log, where there is one, no longer tells names and chats."""

from django.db import migrations, models

REDACT_LOG = """
DO $$
BEGIN
    IF to_regclass('django_admin_log') IS NOT NULL THEN
        UPDATE django_admin_log
        SET object_repr = model, object_id = CASE model WHEN 'activity' THEN object_id END
        FROM django_content_type
        WHERE content_type_id = django_content_type.id AND app_label = 'activities' AND object_repr <> model;
    END IF;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [
        ("activities", "0002_forgotten_at"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="chat",
            index=models.Index(
                condition=models.Q(("forgotten_at__isnull", False)),
                fields=["tokens_valid_after"],
                name="left_chat_by_age",
            ),
        ),
        migrations.RunSQL(REDACT_LOG, migrations.RunSQL.noop),
    ]
