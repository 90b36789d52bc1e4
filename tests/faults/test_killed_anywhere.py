"""The portal is killed at every marked point of an update's walk, five times each, and started again.

Cohort and seeds are fixed, so the run must go on by itself and end with the very digest of an undisturbed run; every
acknowledged update is counted, and none twice.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedportal.common import faults
from fedportal_sdk import FedportalError, _retry
from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.states import is_final
from tests.journeys.story import ARCHITECTURE, MEMBERS, Device, Story, devices
from tests.running import Portal

ROUNDS = 7
# At which passage of the point the portal dies in its first, second, … life: not always at the first.
PASSAGES = (1, 2, 1, 3, 1)
FIRST = (1, 1, 1, 1, 1)
# A run passes these once; a portal that is started again passes them again until it gets beyond. And that tasks were
# taken is noted for several rounds at once when rounds are quick.
AT_FIRST = ("task_taken", "before_version", "after_version")
# A run passes this once and for all.
END = "after_end"
# So long each device trains where a life must not see more than a round or two.
LINGER_SECONDS = {"task_taken": 0.5}
QUICK: dict[str, Any] = {"SWEEP_SECONDS": 0.3, "LEASE_SECONDS": 1.5}
# At these points the portal dies in the middle of something, which must therefore have several parts: a model of two
# blocks, whose update arrives in five pieces. Of an aggregation the passages are those at which a part is done and not
# the whole; an upload passes its point at no other time.
IN_PARTS = {"mid_upload": (2, 3, 2, 4, 2), "mid_aggregation": (1, 3, 1, 3, 1)}
# These are passed where a model is made in parts, which must give the digest of one that was made in one piece.
SHARDED = ("mid_shard", "before_shard")
LARGE: dict[str, Any] = {"kind": "mlp", "inputs": 6, "hidden": [1050, 1050], "classes": 2, "standardise": True}
# When to give up waiting for a death or an ending, far beyond what a slow machine needs.
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Ending:
    """How a run ended: the digest of its version, and what every round counted."""

    digest: str
    counted: list[tuple[int, str, str, int]]  # round, organization, digest of the update, samples


class Hospitals:
    """A portal with three hospitals for all tests, made anew when a test left it in disorder."""

    def __init__(self) -> None:
        self._story: Story | None = None
        self._undisturbed: dict[str, Ending] = {}

    @property
    def story(self) -> Story:
        if self._story is None:
            portal = Portal(**QUICK)
            self._story = Story(portal.__enter__())
        return self._story

    @property
    def folder(self) -> Path:
        """Where the devices keep their data and keys."""
        return self.story.portal.data_dir / "devices"

    def undisturbed(self, architecture: dict[str, Any] = ARCHITECTURE) -> Ending:
        """The ending of a run of such a model to which nothing happens."""
        kind = architecture["kind"]
        if kind not in self._undisturbed:
            model, heard = f"undisturbed-{kind}", Heard()
            self.story.shared_model(model, architecture)
            with devices(self.story, self.folder, model=model, on_event=heard):
                self.story.completed(begin(self.story, model), PATIENCE_SECONDS)
            self._undisturbed[kind] = ending_of(self.story, model)
        return self._undisturbed[kind]

    def tidy(self) -> None:
        """Throw the portal away unless it answers and every run in it is over."""
        if self._story is None:
            return
        try:
            sessions = self._story.call("acme", "GET", routes.SESSIONS)["sessions"]
            in_order = all(is_final("run", session["state"]) for session in sessions)
        except FedportalError:
            in_order = False
        if not in_order:
            self.close()

    def close(self) -> None:
        if self._story is not None:
            self._story.portal.close()
            self._story = None


class Heard:
    """What the devices were told: the digests of the updates that the portal acknowledged."""

    def __init__(self, linger: float = 0.0) -> None:
        self.acknowledged: list[str] = []
        self._linger = linger

    def __call__(self, organization: str, event: dict[str, Any]) -> None:
        if event["event"] == "training":
            time.sleep(self._linger)
        if event["event"] == "answered" and event["kind"] == "train":
            self.acknowledged.append(event["receipt"]["sha256"])


@pytest.fixture(scope="module")
def everybody() -> Iterator[Hospitals]:
    hospitals = Hospitals()
    yield hospitals
    hospitals.close()


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices come back soon after every death: what is shown here does not depend on how long they pause."""
    monkeypatch.setattr(_retry, "LONGEST_DELAY", 0.3)


@pytest.fixture
def hospitals(everybody: Hospitals) -> Iterator[Hospitals]:
    """In order before and after every test."""
    yield everybody
    everybody.tidy()


def ending_of(story: Story, model: str) -> Ending:
    """Read from the portal's answers and, for the counts, from its database file."""
    newest = story.versions(model)[0]
    assert newest["version"] == "2.0.0"
    database = sqlite3.connect(f"file:{story.portal.data_dir / 'var' / 'fedportal.sqlite3'}?mode=ro", uri=True)
    rows = database.execute(
        "select r.number, o.name, u.blob, u.samples from training_update u join training_round r on r.id = u.round_id"
        " join training_run t on t.id = r.run_id join registry_model m on m.id = t.model_id"
        " join federations_organization o on o.id = u.organization_id"
        " where r.state = 'done' and r.kind = 'train' and m.name = ? order by 1, 2",
        [model],
    ).fetchall()
    database.close()
    detail = story.call("acme", "GET", routes.MODEL_VERSION.format(model=model, version="2.0.0"))
    return Ending(detail["digest"], rows)


def begin(story: Story, model: str) -> str:
    """Start the model's run, or find it started by a portal that died before it could say so; the run's id."""
    while True:
        try:
            sessions = story.call("acme", "GET", routes.SESSIONS)["sessions"]
            found = [session["id"] for session in sessions if session["model"]["name"] == model]
            rounds = {"rounds": ROUNDS, "devices": len(MEMBERS), "round_seconds": 600}
            return str(found[0]) if found else story.start(model=model, **rounds, batch_size=64)
        except FedportalError as error:
            if error.status != 503:
                raise
        if not story.portal.running:
            return ""
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in faults.POINTS if point != END])
def test_a_run_survives_five_kills_at(point: str, hospitals: Hospitals) -> None:
    architecture = LARGE if point in (*IN_PARTS, *SHARDED) else ARCHITECTURE
    parts = {"SHARD_FROM": 1} if point in SHARDED else {}
    undisturbed, story, model = hospitals.undisturbed(architecture), hospitals.story, f"killed-{point}"
    portal, heard = story.portal, Heard(LINGER_SECONDS.get(point, 0.0))
    story.shared_model(model, architecture)
    with devices(story, hospitals.folder, model=model, on_event=heard) as taking_part:
        portal.kill()
        for passage in FIRST if point in AT_FIRST else IN_PARTS.get(point, PASSAGES):
            die_at(portal, f"{point}:{passage}", partial(begin, story, model), **parts)
            if point in IN_PARTS:
                assert half_done(portal, point, architecture)
        portal.start(**parts)
        story.completed(begin(story, model), PATIENCE_SECONDS)
        survived(taking_part)
    check(undisturbed, ending_of(story, model), heard)


@pytest.mark.slow
def test_five_runs_survive_a_kill_at_their_end(hospitals: Hospitals) -> None:
    undisturbed, story = hospitals.undisturbed(), hospitals.story
    for number in range(len(PASSAGES)):
        model, heard = f"killed-{END}-{number}", Heard()
        story.shared_model(model)
        with devices(story, hospitals.folder, model=model, on_event=heard) as taking_part:
            story.portal.kill()
            die_at(story.portal, END, partial(begin, story, model))
            story.portal.start()
            survived(taking_part)
        check(undisturbed, ending_of(story, model), heard)


def die_at(portal: Portal, fault: str, act: Callable[[], object], **env: object) -> None:
    """Start the portal, `act`, and wait until it has killed itself at the point."""
    portal.launch(FAULT=fault, **env)
    act()
    assert portal.wait_for_death(PATIENCE_SECONDS) == -signal.SIGKILL


def half_done(portal: Portal, point: str, architecture: dict[str, Any]) -> bool:
    """Whether the portal died when it had a part of an upload, or of a new model, and not the whole."""
    manifest = Architecture.parse(architecture).manifest()
    folder = portal.data_dir / "var" / ("uploads" if point == "mid_upload" else "scratch")
    found = sorted((path.stat() for path in folder.iterdir()), key=lambda stat: stat.st_mtime_ns)
    if point == "mid_upload":  # of several that came at once
        return any(0 < part.st_size < manifest.update_bytes for part in found)
    # A file with holes: only the blocks that were written take up room.
    return 0 < found[-1].st_blocks * 512 < manifest.model_bytes


def survived(taking_part: list[Device]) -> None:
    """Every device did its part of every round once, and learned of the end."""
    results = [device.join(PATIENCE_SECONDS) for device in taking_part]
    assert [(result.rounds, result.state) for result in results] == [(ROUNDS, "completed")] * len(MEMBERS)


def check(undisturbed: Ending, ending: Ending, heard: Heard) -> None:
    """The same model from the same updates; what was acknowledged was counted, once."""
    assert ending == undisturbed
    assert sorted(heard.acknowledged) == sorted(digest for _, _, digest, _ in ending.counted)


def test_deadlines_are_extended_by_the_downtime(hospitals: Hospitals) -> None:
    story, model, down = hospitals.story, "deadlines", 1.5
    story.shared_model(model)
    run = story.start(model=model, rounds=1, devices=len(MEMBERS), round_seconds=30)
    before = story.wait_for(run, lambda s: s["round"] is not None)["round"]
    time.sleep(1)  # the sweeper has noted that it lives
    story.portal.kill()
    time.sleep(down)
    story.portal.start()
    after = story.wait_for(run, lambda s: s["round"]["deadline"] != before["deadline"])["round"]
    assert (after["number"], after["attempt"]) == (before["number"], before["attempt"])
    given = datetime.fromisoformat(after["deadline"]) - datetime.fromisoformat(before["deadline"])
    assert given >= timedelta(seconds=down)
    with devices(story, hospitals.folder, model=model):
        story.completed(run)


def test_every_marked_point_is_passed_somewhere_in_the_code() -> None:
    root = Path(faults.__file__).resolve().parents[2]
    code = "".join(
        path.read_text()
        for folder in ("federations", "fedportal", "registry", "training")
        for path in (root / folder).rglob("*.py")
    )
    points = (*faults.POINTS, *faults.MASKED_POINTS, *faults.CONVERSION_POINTS)
    assert [point for point in points if f'faults.point("{point}")' not in code] == []
