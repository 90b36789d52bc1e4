from django.db import migrations

from fedportal.common import ids


def fill(apps, schema_editor):
    """Give every model that has none an alias of its own."""
    models = apps.get_model('registry', 'Model').objects
    taken = set(models.exclude(alias=None).values_list('alias', flat=True))
    for pk in models.filter(alias=None).values_list('pk', flat=True).iterator():
        alias = ids.model_alias()
        while alias in taken:
            alias = ids.model_alias()
        taken.add(alias)
        models.filter(pk=pk).update(alias=alias)


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0002_model_alias'),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
