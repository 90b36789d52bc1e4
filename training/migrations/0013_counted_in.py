"""Every update so far was an answer to the round it began in."""

from django.db import migrations, models


def count(apps, schema_editor):
    apps.get_model("training", "Update").objects.update(counted_in_id=models.F("round_id"))


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0012_asynchronous_rounds'),
    ]

    operations = [
        migrations.RunPython(count, migrations.RunPython.noop),
    ]
