"""Large rounds made by real Celery workers, of which some are killed: `python -m tests.faults.working`.

The environment names a PostgreSQL and a Valkey that nobody else uses. Devices answer by the services,
in this process, which also sweeps; what comes of their rounds is the workers' alone. A trigger writes down which worker
moved which part, and sees to it that so many workers as a scene has take part: nobody takes a second part of a pass
before each has taken one. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from fedportal.celery import app  # noqa: E402
from fedportal.common import blobs  # noqa: E402
from fedwire.states import is_final  # noqa: E402
from tests.cast import assemble  # noqa: E402
from tests.running import ROOT, STOP_SECONDS  # noqa: E402
from tests.training.conftest import Stage  # noqa: E402
from training.models import Run, Shard  # noqa: E402
from training.services import healing  # noqa: E402

# Sixteen blocks of 2^16 numbers, so sixteen parts in each of the two passes that krum takes.
WIDE = {"kind": "mlp", "inputs": 3, "hidden": [1000, 1000], "classes": 2}
SWEEP_SECONDS = 1.0
PATIENCE_SECONDS = 100.0
LOG = """
CREATE TABLE crew (size int);
INSERT INTO crew VALUES (1);
CREATE TABLE moved (id bigserial, worker text, round bigint, first bool, start bigint, state text);
CREATE FUNCTION move() RETURNS trigger AS $$
DECLARE
  me text := current_setting('application_name');
BEGIN
  IF NEW.state = OLD.state AND NEW.claim = OLD.claim THEN
    RETURN NEW;  -- a lease is renewed
  END IF;
  IF NEW.state = 'taken' AND (SELECT size FROM crew) > (
    SELECT count(DISTINCT worker) FROM moved WHERE round = NEW.round_id AND first = NEW.first
  ) AND EXISTS (SELECT 1 FROM moved WHERE round = NEW.round_id AND first = NEW.first AND worker = me) THEN
    PERFORM pg_sleep(0.02);
    RETURN NULL;  -- not yet: another was not there so far
  END IF;
  INSERT INTO moved (worker, round, first, start, state) VALUES (me, NEW.round_id, NEW.first, NEW.start, NEW.state);
  RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER moves BEFORE UPDATE ON training_shard FOR EACH ROW EXECUTE FUNCTION move();
"""


class Workers:
    """Celery workers of this portal, by name; each is a group of processes."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, fault: str = "") -> None:
        """Start one; with a `fault` it is a single process, which kills itself there."""
        url = os.environ["FEDPORTAL_DATABASE_URL"]
        env = os.environ | {"FEDPORTAL_DATABASE_URL": f"{url}?application_name={name}", "FEDPORTAL_SHARD_FROM": "1"}
        options = ["--pool=solo"] if fault else ["--concurrency=1"]
        with open(settings.FEDPORTAL_DATA_DIR / "workers.log", "ab") as log:
            self._running[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "fedportal.celery", "worker"),
                    *("--loglevel=WARNING", f"--hostname={name}@here", *options),
                ],
                cwd=ROOT,
                env=env | ({"FEDPORTAL_FAULT": fault} if fault else {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def died(self, name: str) -> bool:
        """Whether it was killed."""
        return self._running[name].poll() == -signal.SIGKILL

    def end(self) -> None:
        """End all of them."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Scene:
    """The stage, five devices, and what is seen of a run of theirs."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.stage = Stage(assemble())
        self.stage.model = self.stage.shared("wide", WIDE)
        metro = self.stage.cast.metro
        further = [self.stage.site(metro, "metro-2", 40), self.stage.site(metro, "metro-3", 50)]
        self.sites = [*self.stage.three(), *further]
        self.base = self.stage.model.versions.get()

    def answered(self, size: int = 1) -> Run:
        """A run of one round to which all have answered; `size` workers must take part in each of its passes."""
        do("UPDATE crew SET size = %s", size)
        for site in self.sites:
            site.seen()
        run = self.stage.start(
            strategy="krum", rounds=1, min_participants=5, config={"evaluate": False}, version=self.base
        )
        for site in self.sites:
            site.answer()
        return run

    def seen(self, run: Run) -> dict[str, Any]:
        """Sweep until the run is over; what came of it."""
        until(lambda: is_final("run", Run.objects.values_list("state", flat=True).get(pk=run.pk)))
        run.refresh_from_db()
        made = run.rounds.get()
        healing.sweep()  # the parts of a round that is over are forgotten
        found = {
            "state": [run.state, made.state, made.fence],
            "made": [made.result_blob, made.digest, made.state_blob],
            "rows": Shard.objects.count(),
            "files": len(list(blobs.scratch().parent.iterdir())),
            "versions": self.stage.model.versions.filter(lineage__run=run.public_id).count(),
            "told": [event.data["done"] for event in run.events.filter(kind="round.part").order_by("sequence")],
            "closed": run.events.filter(kind="round.done").count(),
            "moved": do("SELECT worker, first, start, state FROM moved WHERE round = %s ORDER BY id", made.pk),
        }
        for path in blobs.scratch().parent.iterdir():  # what killed workers left, which the sweeper removes in a day
            path.unlink()
        return found


def in_one_piece(scene: Scene) -> dict[str, Any]:
    """No worker, no parts: what the others are compared with."""
    app.conf.task_always_eager = True
    run = scene.answered()
    app.conf.task_always_eager = False
    return scene.seen(run)


def killed_claimant(scene: Scene) -> dict[str, Any]:
    """The only worker claims the round and dies as it says that its first part is done; another comes."""
    scene.workers.start("claimant", fault="before_shard")
    run = scene.answered()
    until(lambda: scene.workers.died("claimant"))
    scene.workers.start("first")
    return scene.seen(run)


def alone(scene: Scene) -> dict[str, Any]:
    """One worker."""
    return scene.seen(scene.answered())


def killed_helper(scene: Scene) -> dict[str, Any]:
    """A second worker takes a part of a round that another has claimed, and dies in the middle of it."""
    run = scene.answered(2)
    until(lambda: Shard.objects.filter(round__run=run, claim=1).exists())
    scene.workers.start("helper", fault="mid_shard")
    until(lambda: scene.workers.died("helper"))
    do("UPDATE crew SET size = 1")
    return scene.seen(run)


def two(scene: Scene) -> dict[str, Any]:
    """Two workers."""
    scene.workers.start("second")
    return scene.seen(scene.answered(2))


def three(scene: Scene) -> dict[str, Any]:
    """Three workers."""
    scene.workers.start("third")
    return scene.seen(scene.answered(3))


def until(come: Callable[[], bool]) -> None:
    """Sweep, as the sweeper would, until it has come true. Raises TimeoutError."""
    began = swept = time.monotonic()
    while not come():
        now = time.monotonic()
        if now - began > PATIENCE_SECONDS:
            raise TimeoutError((settings.FEDPORTAL_DATA_DIR / "workers.log").read_text()[-3000:])
        if now - swept > SWEEP_SECONDS:
            healing.sweep()
            swept = time.monotonic()
        time.sleep(0.05)


def do(statement: str, *values: Any) -> list[Any]:
    """What the database says."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return [list(row) for row in cursor.fetchall()] if cursor.description else []


def main() -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.FEDPORTAL_SHARD_FROM = 0
    call_command("migrate", verbosity=0)
    do(LOG)
    workers = Workers()
    try:
        scene = Scene(workers)
        acts = (in_one_piece, killed_claimant, alone, killed_helper, two, three)
        found = {act.__name__: act(scene) for act in acts}
    finally:
        workers.end()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
