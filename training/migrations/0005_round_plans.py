from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0004_state_of_strategies'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='plan',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name='round',
            name='target',
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='round',
            name='enough_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
