"""Whoever has an account when proofs of addresses begin keeps it: their address counts as proven."""

from typing import Any

from django.conf import settings
from django.db import migrations


def trust(apps: Any, schema_editor: Any) -> None:
    known = apps.get_model("account", "EmailAddress").objects
    people = apps.get_model("federations", "Person").objects
    proven = known.filter(verified=True).values("user_id")
    rows = people.exclude(pk__in=proven).values_list("pk", "email").iterator(chunk_size=1000)
    known.bulk_create(
        (known.model(user_id=pk, email=email, verified=True, primary=True) for pk, email in rows), batch_size=500
    )


class Migration(migrations.Migration):
    dependencies = [
        ("federations", "0002_agreements_policies_notifications"),
        ("account", "0009_emailaddress_unique_primary_email"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [migrations.RunPython(trust, migrations.RunPython.noop)]
