from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='alias',
            field=models.PositiveBigIntegerField(editable=False, null=True),
        ),
    ]
