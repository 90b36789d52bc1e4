from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("federations", "0003_known_addresses")]

    operations = [
        migrations.AddIndex(
            model_name="auditentry", index=models.Index(fields=["subject"], name="entries_about")
        ),
    ]
