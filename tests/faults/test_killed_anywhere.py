"""The portal is killed at every marked point of an update's walk, five times each, and started again.

Cohort and seeds are fixed, so the run must go on by itself and end with the very digest of an undisturbed run; every
acknowledged update is counted, and none twice.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedportal.common import faults
from fedportal_sdk import FedportalError
from fedwire import routes
from tests.journeys.story import MEMBERS, Story, devices
from tests.running import Portal

DEATHS = 5
ROUNDS = 7
# At which passage of the point the portal dies, in its first, second, … life: not always at the first.
PASSAGES = (1, 2, 1, 3, 1)
# Points that a run passes once; a restarted portal passes them again until it gets beyond.
ONCE = ("before_version", "after_version")
QUICK = {"SWEEP_SECONDS": 0.3, "LEASE_SECONDS": 1.5}


@dataclass(frozen=True)
class Ending:
    """How a run ended: the digest of its version, and what every round counted."""

    digest: str
    counted: list[tuple[int, str, str, int]]  # round, organization, digest of the update, samples


def ending_of(story: Story) -> Ending:
    """Read from the portal's answers and, for the counts, from its database file."""
    newest = story.versions()[0]
    assert newest["version"] == "2.0.0"
    database = sqlite3.connect(f"file:{story.portal.data_dir / 'var' / 'fedportal.sqlite3'}?mode=ro", uri=True)
    rows = database.execute(
        "select r.number, o.name, u.blob, u.samples from training_update u join training_round r on r.id = u.round_id"
        " join federations_organization o on o.id = u.organization_id"
        " where r.state = 'done' and r.kind = 'train' order by 1, 2"
    ).fetchall()
    database.close()
    detail = story.call("acme", "GET", routes.MODEL_VERSION.format(model=story.model, version="2.0.0"))
    return Ending(detail["digest"], rows)


def begin(story: Story) -> str:
    """Start the run, or find it started if the portal died before it could say so; the run's id."""
    while True:
        try:
            found = story.call("acme", "GET", routes.SESSIONS)["sessions"]
            return str(found[0]["id"]) if found else story.start(rounds=ROUNDS, devices=len(MEMBERS), round_seconds=600)
        except FedportalError as error:
            if error.status != 503:
                raise
            if not story.portal.running:
                return ""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ending]:
    """The ending of the run when nothing happens."""
    with Portal(**QUICK) as portal:
        story = Story(portal)
        with devices(story, tmp_path_factory.mktemp("undisturbed")):
            story.completed(begin(story))
        yield ending_of(story)


@pytest.mark.slow
@pytest.mark.parametrize("point", faults.POINTS)
def test_a_run_survives_five_kills_at(point: str, undisturbed: Ending, tmp_path: Path) -> None:
    with Portal(**QUICK) as portal:
        story = Story(portal)
        with devices(story, tmp_path) as taking_part:
            for passage in PASSAGES:
                if portal.running:
                    portal.stop()
                portal.start(FAULT=f"{point}:{1 if point in ONCE else passage}")
                begin(story)
                portal.wait_for_death(90)
            portal.start()
            story.completed(begin(story), seconds=90)
            for device in taking_part:
                device.join(30)
        assert portal.log.read_text().count("fedportal answers at") == DEATHS + 2
        assert ending_of(story) == undisturbed


def test_deadlines_are_extended_by_the_downtime(tmp_path: Path) -> None:
    with Portal(**QUICK) as portal:
        story = Story(portal)
        run = story.start(rounds=1, devices=len(MEMBERS), round_seconds=30)
        before = story.wait_for(run, lambda s: s["round"] is not None)["round"]
        time.sleep(1)  # the sweeper has noted that it lives
        portal.kill()
        time.sleep(6)
        portal.start()
        after = story.wait_for(run, lambda s: s["round"]["deadline"] != before["deadline"], seconds=10)["round"]
        assert (after["number"], after["attempt"]) == (before["number"], before["attempt"])
        with devices(story, tmp_path):
            story.completed(run)


def test_every_marked_point_is_passed_somewhere_in_the_code() -> None:
    root = Path(faults.__file__).resolve().parents[2]
    code = "".join(
        path.read_text()
        for folder in ("federations", "fedportal", "registry", "training")
        for path in (root / folder).rglob("*.py")
    )
    assert [point for point in faults.POINTS if f'faults.point("{point}")' not in code] == []
