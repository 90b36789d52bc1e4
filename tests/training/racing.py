"""Acts on one run at the same moment, against a real database file or server: `python -m tests.training.racing`.

Prints one JSON object; `test_races` starts it in a process of its own, with the database of its choice.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from federations.models import Device, DeviceTask  # noqa: E402
from federations.services import device_tasks, task_rows  # noqa: E402
from federations.services import federations as federation_services  # noqa: E402
from fedportal.common import clock, faults  # noqa: E402
from fedwire.errors import FedportalError  # noqa: E402
from registry.services import models  # noqa: E402
from tests.cast import assemble  # noqa: E402
from tests.training.conftest import Site, Stage, current  # noqa: E402
from training.lifecycle import ALIVE_ROUNDS, UNFINISHED  # noqa: E402
from training.models import Assignment, Run  # noqa: E402
from training.services import healing, opening, rounds, runs  # noqa: E402

# How long the first act stands still; a second one that has to wait for it goes on afterwards.
PAUSE = 1.0
OPENING = "waiting"  # the round's row is written, its tasks are about to be, nothing is committed
STORMS = 6


def at_once(*acts: Callable[[], object]) -> list[str]:
    """Do all of them at the same moment; what went wrong."""
    errors: list[str] = []
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        start.wait()
        try:
            act()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def overtake(first: Callable[[], object], second: Callable[[], object], point: str = OPENING) -> list[str]:
    """Do `second` while `first` stands at the marked point; what went wrong in both."""
    reached, over = threading.Event(), threading.Event()

    def halt(name: str) -> None:
        if name == point and threading.current_thread() in leading and not reached.is_set():
            reached.set()
            over.wait(PAUSE)

    leading: list[threading.Thread] = []

    def lead() -> None:
        leading.append(threading.current_thread())
        first()

    def follow() -> None:
        reached.wait(30)
        try:
            second()
        finally:
            over.set()

    with mock.patch.object(faults, "point", halt):
        return at_once(lead, follow)


def ended(run: Run) -> dict[str, Any]:
    """How the run stands, what of it goes on, and what was told last; a late answer may be told of at any time."""
    run.refresh_from_db()
    return {
        "state": run.state,
        "rounds": list(run.rounds.filter(state__in=ALIVE_ROUNDS).values_list("number", flat=True)),
        "parts": Assignment.objects.filter(round__run=run, state__in=UNFINISHED).count(),
        "tasks": DeviceTask.objects.filter(
            pk__in=Assignment.objects.filter(round__run=run).values("task"), state__in=task_rows.UNFINISHED
        ).count(),
        "last": run.events.exclude(kind="assignment.changed").order_by("-sequence").values_list("kind", flat=True)[0],
    }


class Track(Stage):
    """A stage whose three sites are there from the start."""

    def __init__(self) -> None:
        super().__init__(assemble())
        self.sites = self.three()

    def late(self) -> Site:
        """A further device, which no round has asked."""
        return self.site(self.cast.metro, f"late-{Device.objects.count()}")

    def one_round_done(self, **options: Any) -> Run:
        """A run whose first round is closed and whose second is not open yet."""
        run = self.start(**options)
        for site in self.sites:
            for task in site.tasks():
                site.answer(task)
        assert rounds._settle_one(current(run).pk) == run.pk
        return run

    def stop(self, run: Run) -> None:
        """Somebody at acme stops the run."""
        runs.stop(self.olga, again(run))


def stopped_while_a_round_opens(track: Track) -> Any:
    """A person stops the run while a worker opens its next round."""
    run = track.one_round_done()
    errors = overtake(lambda: opening.advance(run.pk), lambda: track.stop(run))
    return [errors, ended(run)]


def dissolved_while_a_round_opens(track: Track) -> Any:
    """The sweeper ends the run of a dissolved federation while a worker opens its next round."""
    federation = federation_services.found(track.olga, name="soon dissolved")
    models.share(track.olga, track.model, federation)
    run = track.one_round_done(federation=federation)
    federation_services.dissolve(track.olga, federation)
    errors = overtake(lambda: opening.advance(run.pk), healing.end_the_forsaken)
    return [errors, ended(run)]


def stopped_while_a_device_joins(track: Track) -> Any:
    """A person stops the run while a device is let into its round."""
    run, late = track.start(min_participants=9), track.late()
    errors = overtake(lambda: opening.fill(current(run).pk, [late.device.pk]), lambda: track.stop(run))
    return [errors, ended(run)]


def failed_while_a_device_joins(track: Track) -> Any:
    """The deadline of a round passes while a device is let into it: what the device was asked is still wanted."""
    run, late = track.start(min_participants=9), track.late()
    found = current(run)

    def settle() -> None:
        with clock.shifted(timedelta(hours=1)):
            rounds.settle(found.pk)

    errors = overtake(lambda: opening.fill(found.pk, [late.device.pk]), settle)
    asked = Assignment.objects.filter(round__run=run, task__state__in=task_rows.UNFINISHED)
    wanted = set(asked.values_list("round__state", flat=True))
    track.stop(run)
    return [errors, sorted(wanted)]


def storm(track: Track) -> Any:
    """Answers, refusals, arrivals, the sweeper, workers and a person who stops the run, all at once."""
    outcomes = []
    for _ in range(STORMS):
        run = track.start(rounds=5, min_participants=2, config={"evaluate": False})
        outcomes.append([_storm(track, run), ended(run)])
    return outcomes


def _storm(track: Track, run: Run) -> list[str]:
    first, *others = track.sites

    def work() -> None:
        for _ in range(6):
            rounds.settle(current(run).pk)

    def stop() -> None:
        time.sleep(0.05)
        track.stop(run)

    answers = [functools.partial(_speak, site, Site.answer) for site in others]
    everybody = [site.device.pk for site in track.sites]
    arrive = functools.partial(device_tasks.tell_idle, everybody)
    refuse = functools.partial(_speak, first, Site.decline)
    return at_once(*answers, refuse, arrive, healing.sweep, work, work, stop)


def _speak(site: Site, say: Callable[[Site], object]) -> None:
    """Whatever the device is asked for a while. Its part may be over by the time it speaks; that is no error."""
    for _ in range(4):
        with contextlib.suppress(FedportalError, ValueError):
            say(site)


def again(run: Run) -> Run:
    """The run as another request reads it."""
    return Run.objects.get(pk=run.pk)


RACES = (
    stopped_while_a_round_opens,
    dissolved_while_a_round_opens,
    stopped_while_a_device_joins,
    failed_while_a_device_joins,
    storm,
)


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    track = Track()
    json.dump({act.__name__: act(track) for act in RACES}, sys.stdout)


if __name__ == "__main__":
    main()
