"""The project package: settings, doors, and the floors below the apps."""

import os

# Every process that may ring a job, also `manage.py` and a web server, must know the broker from the start.
from fedportal.celery import app as celery_app

# Read when numpy is loaded, which is later. The combining kernels bring their own threads, and products that the
# library shares among processors depend in their last bit on how many there are.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__all__ = ["celery_app"]
