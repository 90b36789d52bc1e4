"""The project package: settings, doors, and the floors below the apps."""

# Every process that may ring a job, also `manage.py` and a web server, must know the broker from the start.
from fedportal.celery import app as celery_app

__all__ = ["celery_app"]
