from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0008_flagged_updates'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='name',
            field=models.CharField(blank=True, max_length=100),
        ),
    ]
