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

from federations.models import Device, DeviceTask  # noqa: E402
from federations.services import device_tasks, task_rows  # noqa: E402
from federations.services import federations as federation_services  # noqa: E402
from fedportal.celery import app  # noqa: E402
from fedportal.common import clock, faults  # noqa: E402
from fedwire.errors import FedportalError  # noqa: E402
from registry.services import models  # noqa: E402
from tests.cast import assemble  # noqa: E402
from tests.training.conftest import Site, Stage, current  # noqa: E402
from tests.training.moments import at_once  # noqa: E402
from training import progress  # noqa: E402
from training.lifecycle import ALIVE_ROUNDS, UNFINISHED  # noqa: E402
from training.models import Assignment, Run, Update  # noqa: E402
from training.services import giving, healing, opening, rounds, runs, schedules  # noqa: E402

# How long the first act stands still; a second one that has to wait for it goes on afterwards.
PAUSE = 1.0
OPENING = "waiting"  # the round's row is written, its tasks are about to be, nothing is committed
ANSWERING = "before_commit"  # the answer is written, nothing is committed
TELLING = "tell"  # everything is written but what is told of it
STORMS = 6


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

    tell_all = progress.tell_all

    def tell(*args: Any) -> None:
        halt(TELLING)
        tell_all(*args)

    with mock.patch.object(faults, "point", halt), mock.patch.object(progress, "tell_all", tell):
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

    def alone(self) -> None:
        """Nobody but the three sites is there, and no run but that which follows goes on."""
        Device.objects.update(last_seen_at=clock.now() - timedelta(days=1))
        for site in self.sites:
            site.seen()
        for run in Run.objects.filter(state="running"):
            self.stop(run)

    def asynchronous(self, **options: Any) -> Run:
        """A run that makes a model of every two answers, unless said otherwise, to which all three sites are asked."""
        plan = {"schedule": "asynchronous", "buffer": options.pop("buffer", 2)}
        config = {"evaluate": False}
        self.alone()
        return self.start(
            strategy="fedbuff", plan=plan, config=config, **{"rounds": 3, "min_participants": 2, **options}
        )

    def finish(self, run: Run) -> None:
        """Everybody does what is left to do, in peace."""
        while again(run).state == "running":
            for site in self.sites:
                site.seen()
                for task in site.tasks():
                    site.answer(task)
            rounds.settle(current(run).pk)
            opening.advance(run.pk)

    def switch(self, run: Run, schedule: str, **ahead: Any) -> None:
        """Somebody at acme changes how the run's rounds follow one another."""
        schedules.switch(self.olga, again(run), {"schedule": schedule, **ahead})

    def accounts(self, run: Run) -> dict[str, Any]:
        """What the run says of the answers that were acknowledged: how many there are, and what became of them."""
        run.refresh_from_db()
        answers = Update.objects.filter(round__run=run)
        made = run.rounds.filter(state="done", kind="train").order_by("number")
        ages = [{} if not one.asynchronous else one.staleness for one in made]
        return {
            "state": run.state,
            "answers": answers.count(),
            "receipts": DeviceTask.objects.filter(
                state="answered", pk__in=Assignment.objects.filter(round__run=run).values("task")
            ).count(),
            "counted": [one.counted.count() for one in made],
            "aged": [sum(age.values()) or one.counted.count() for age, one in zip(ages, made, strict=True)],
            "waiting": answers.filter(counted_in=None).count(),
            "given": sum(share.updates for share in giving.shares(run)),
            "closed": sorted(
                Assignment.objects.filter(round__run=run, state="expired").values_list("reason", flat=True)
            ),
        }

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


def answered_while_the_buffer_is_claimed(track: Track) -> Any:
    """A worker has taken the buffer out and not said so yet when one more device answers."""
    run, (one, two, three) = track.asynchronous(), track.sites
    one.answer()
    two.answer()
    task, found = three.task, current(run)
    errors = overtake(lambda: rounds._settle_one(found.pk), lambda: three.answer(task), TELLING)
    return [errors, track.accounts(run)]


def claimed_while_an_answer_is_written(track: Track) -> Any:
    """A device's answer is written and not there yet when a worker claims the last round: it counts, or is refused."""
    run, (one, two, three) = track.asynchronous(rounds=1), track.sites
    one.answer()
    two.answer()
    task, found = three.task, current(run)
    errors = overtake(lambda: three.answer(task), lambda: rounds.settle(found.pk), ANSWERING)
    return [errors, track.accounts(run)]


def settled_by_several_workers(track: Track) -> Any:
    """Several workers settle the same full buffer, again and again."""
    run, found = track.asynchronous(rounds=STORMS, buffer=3), []
    for _ in range(STORMS):
        for site in track.sites:
            site.answer()
        latest = current(run).pk
        found += at_once(*[functools.partial(rounds.settle, latest)] * 3)
    return [found, track.accounts(run), sorted(run.rounds.values_list("number", "attempt", "fence"))]


def settled_while_it_is_made_asynchronous(track: Track) -> Any:
    """A worker finds that a synchronous round has enough answers while a person makes it asynchronous."""
    track.alone()
    run, (one, two, three) = track.start(rounds=2, min_participants=2, plan={"stragglers": "cut"}), track.sites
    one.answer()
    two.answer()
    task, found = three.task, current(run)
    errors = overtake(lambda: track.switch(run, "asynchronous", buffer=3), lambda: rounds.settle(found.pk), TELLING)
    three.answer(task)
    rounds.settle(found.pk)
    return [errors, track.accounts(run)]


def answered_while_it_is_made_asynchronous(track: Track) -> Any:
    """A device answers a synchronous round while a person makes it asynchronous: its answer fills the buffer, so it
    rings, beside the switch itself."""
    track.alone()
    run, (one, two, _) = track.start(rounds=2, min_participants=2), track.sites
    one.answer()
    task = two.task
    rung()
    errors = overtake(lambda: track.switch(run, "asynchronous", buffer=2), lambda: two.answer(task), TELLING)
    bells = rung()
    rounds.settle(current(run).pk)
    return [errors, track.accounts(run), bells]


def asynchronous_storm(track: Track) -> Any:
    """Answers, arrivals, the sweeper, workers and a person who changes the schedule to and fro, all at once."""
    outcomes = []
    for _ in range(STORMS // 2):
        run = track.asynchronous(rounds=12)
        errors = _asynchronous_storm(track, run)
        track.finish(run)
        outcomes.append([errors, track.accounts(run)])
    return outcomes


def _asynchronous_storm(track: Track, run: Run) -> list[str]:
    def again_and_again(act: Callable[[], object]) -> Callable[[], None]:
        def several() -> None:
            for _ in range(12):
                with contextlib.suppress(FedportalError, ValueError):  # others were quicker, or there is nothing to do
                    act()
                time.sleep(0.01)

        return several

    def change() -> None:
        for schedule in ("synchronous", "asynchronous"):
            track.switch(run, schedule, buffer=2)

    def work() -> None:
        rounds.settle(current(run).pk)

    answers = [functools.partial(Site.answer, site) for site in track.sites]
    arrive = functools.partial(device_tasks.tell_idle, [site.device.pk for site in track.sites])
    return at_once(*map(again_and_again, (*answers, arrive, work, work, change)), healing.sweep)


def rung() -> list[str]:
    """The bells that wait for a worker, who does not come, are heard here and gone."""
    names = []
    with app.connection_for_read() as broker, broker.SimpleQueue(app.conf.task_default_queue) as queue:
        while True:
            try:
                bell = queue.get_nowait()
            except queue.Empty:
                break
            bell.ack()
            names.append(bell.headers["task"])
    return sorted(names)


def again(run: Run) -> Run:
    """The run as another request reads it."""
    return Run.objects.get(pk=run.pk)


RACES = (
    stopped_while_a_round_opens,
    dissolved_while_a_round_opens,
    stopped_while_a_device_joins,
    failed_while_a_device_joins,
    storm,
    answered_while_the_buffer_is_claimed,
    claimed_while_an_answer_is_written,
    settled_by_several_workers,
    settled_while_it_is_made_asynchronous,
    answered_while_it_is_made_asynchronous,
    asynchronous_storm,
)


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    track = Track()
    json.dump({act.__name__: act(track) for act in RACES}, sys.stdout)


if __name__ == "__main__":
    main()
