"""The Celery application. Tasks are found in each app's `tasks` module; `fedportal.common.jobs` makes them."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
app = Celery("fedportal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
