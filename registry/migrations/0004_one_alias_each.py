from django.db import migrations, models

import fedportal.common.ids


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0003_fill_model_alias'),
    ]

    operations = [
        migrations.AlterField(
            model_name='model',
            name='alias',
            field=models.PositiveBigIntegerField(default=fedportal.common.ids.model_alias, editable=False, unique=True),
        ),
    ]
