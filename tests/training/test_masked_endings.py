"""A session that has ended, however it did, leaves no open task and no file, and says nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from federations.models import DeviceTask, Organization
from federations.services import task_rows
from fedportal.common import blobs, clock, faults
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from tests.training.conftest import ARCHITECTURE, Stage, current
from tests.training.summing import Sitter, play, secure, sitters
from training.lifecycle import Lost
from training.models import MaskedSum, Seat
from training.services import leftovers, runs, sums

PARAMETERS = ARCHITECTURE.manifest().parameters


@pytest.fixture
def twelve(stage: Stage) -> list[Sitter]:
    """Four devices of each of three organizations."""
    stage.valley_joins()
    return sitters(stage, PARAMETERS)


def on_disk(settings: Any) -> set[str]:
    """The blobs that are there."""
    return {path.name for path in (settings.FEDPORTAL_DATA_DIR / "blobs").rglob("*") if path.is_file()}


def nothing_goes_on() -> bool:
    """Whether no session and no task of one does."""
    asked = DeviceTask.objects.filter(kind="secagg", state__in=task_rows.UNFINISHED)
    return not asked.exists() and set(MaskedSum.objects.values_list("state", flat=True)) <= {"done", "failed"}


def test_a_sum_that_is_ready_when_its_session_was_ended_is_not_kept(
    stage: Stage, twelve: list[Sitter], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = secure(stage, rounds=1), on_disk(settings)

    def stop(name: str) -> None:
        if name == "mid_fold":
            monkeypatch.undo()
            runs.stop(stage.olga, run)

    play(twelve, until=lambda step: step == "mask")
    monkeypatch.setattr(faults, "point", stop)
    play(twelve)
    assert nothing_goes_on()
    assert on_disk(settings) == before


def test_a_file_that_comes_after_its_session_was_ended_is_removed(
    stage: Stage, twelve: list[Sitter], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = secure(stage, rounds=1), on_disk(settings)
    play(twelve, until=lambda step: step == "unmask")
    total = MaskedSum.objects.get()
    staged = blobs.scratch()
    staged.write_bytes(b"the mean of twelve updates")
    adopt = blobs.adopt

    def too_late(file: Path, sha: str) -> None:
        runs.stop(stage.olga, run)
        adopt(file, sha)

    monkeypatch.setattr(blobs, "adopt", too_late)
    sha = blobs.name_of(staged)
    with pytest.raises(Lost):
        leftovers.publish(total, staged, sha, mean_blob=sha)
    with pytest.raises(Lost):  # nor is one named afterwards
        leftovers.publish(total, staged, sha, mean_blob=sha)
    assert MaskedSum.objects.get().mean_blob == ""
    assert nothing_goes_on()
    assert on_disk(settings) == before


def test_nothing_that_was_sent_to_the_devices_of_a_session_outlives_it(
    stage: Stage, twelve: list[Sitter], settings: Any
) -> None:
    run, before = secure(stage, rounds=1), on_disk(settings)
    play(twelve, until=lambda step: step == "mask")
    assert len(on_disk(settings)) > len(before)  # the roster, for one
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    assert on_disk(settings) == before | {current(run).result_blob}
    assert not DeviceTask.objects.filter(kind="secagg").exclude(base_blob="").exists()


def test_a_vector_that_was_uploaded_and_not_answered_for_does_not_outlive_a_stop(
    stage: Stage, twelve: list[Sitter], settings: Any
) -> None:
    run, before = secure(stage, rounds=1), on_disk(settings)
    play(twelve, until=lambda step: step == "mask")
    task = twelve[0].task()
    assert task is not None
    twelve[0]._mask(task, task.content["masking"], {})  # its upload is complete
    runs.stop(stage.olga, run)
    assert nothing_goes_on()
    assert on_disk(settings) == before
    assert not Seat.objects.exclude(shared=None).exists()


def test_a_session_that_was_ended_has_no_further_step(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "share")
    found = current(run)
    runs.stop(stage.olga, run)
    with unit():
        assert sums.step(found) is None


def test_a_device_of_an_organization_that_was_suspended_goes_no_further(stage: Stage, twelve: list[Sitter]) -> None:
    secure(stage, rounds=1)
    play(twelve, until=lambda step: step == "share")
    Organization.objects.filter(pk=stage.cast.metro.pk).update(suspended_at=clock.now())
    mine = next(device for device in twelve if device.device.organization_id == stage.cast.metro.pk)
    task = mine.task()
    assert task is not None
    with pytest.raises(FedportalError) as refused:
        mine.act(task)
    assert refused.value.code == "forbidden"
