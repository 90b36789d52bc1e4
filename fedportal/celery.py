"""The Celery application. Tasks are found in each app's `tasks` module; `fedportal.common.jobs` makes them."""

import os
import sys

from celery import Celery

from fedportal.common import broker, heap

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
heap.share_arenas()  # here, for every process of the portal passes by before it has threads
broker.register()
app = Celery("fedportal")
app.config_from_object("django.conf:settings", namespace="CELERY")
# Celery would close the database around every task; each job looks after its thread's connection by Django's own rules.
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize
app.autodiscover_tasks()
