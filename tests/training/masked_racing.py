"""Runs with secure sums that are stopped while a session goes on: `python -m tests.training.masked_racing`.

Prints one JSON object; `test_masked_races` starts it in a process of its own, with the database of its choice.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.training.racing import Track, ended, overtake  # sets Django up, so it is the first

# isort: split

from django.conf import settings
from django.core.management import call_command

from federations.models import DeviceTask
from federations.services import task_rows
from tests.training.conftest import ARCHITECTURE, current
from tests.training.summing import Sitter, secure, sitters, step_of
from training.models import MaskedSum
from training.services import endings, rounds


def stopped_when(track: Track, devices: list[Sitter], step: str) -> Any:
    """A person stops the run while a worker asks the devices for a step."""
    run, reached = secure(track, rounds=1), ""
    while reached != step:
        for device in devices:
            if (task := device.task()) is not None:
                reached = step_of(task)
                device.act(task)
        if reached != step:
            rounds.settle(current(run).pk)
    errors = overtake(lambda: rounds.settle(current(run).pk), lambda: track.stop(run))
    alive = MaskedSum.objects.filter(round__run=run, state__in=endings.ALIVE).count()
    open_tasks = DeviceTask.objects.filter(kind="secagg", state__in=task_rows.UNFINISHED).count()
    return [errors, ended(run), {"sessions": alive, "tasks": open_tasks}]


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    track = Track()
    track.valley_joins()
    for site in track.sites:  # only those that answer are there
        site.device.__class__.objects.filter(pk=site.device.pk).update(last_seen_at=None)
    devices = sitters(track, ARCHITECTURE.manifest().parameters)
    json.dump({step: stopped_when(track, devices, step) for step in ("train", "advertise")}, sys.stdout)


if __name__ == "__main__":
    main()
