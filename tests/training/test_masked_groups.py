"""Rounds of more devices than one sum holds: groups that the devices draw, each with a sum of its own."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from fedportal.common import blobs, clock
from fedwire.errors import FedportalError
from fedwire.masking.terms import Policy
from tests.training.conftest import ARCHITECTURE, Stage, current, weights_of
from tests.training.summing import Sitter, expected, play, secure, sitters
from training.models import Assignment, MaskedSum, Round, Run, Seat, Update
from training.services import healing, labelling, rounds

PARAMETERS = ARCHITECTURE.manifest().parameters
IN_GROUPS = {"group": 12}


@pytest.fixture
def many(stage: Stage) -> list[Sitter]:
    """Eight devices of each of three organizations: two groups of twelve."""
    stage.valley_joins()
    return sitters(stage, PARAMETERS, each=8)


def moved(found: Round) -> np.ndarray:
    return weights_of(found.result_blob).astype(np.float64) - weights_of(found.base_blob)


def overdue(run: Run) -> None:
    """Let the present step's deadline be past, and look."""
    MaskedSum.objects.filter(round__run=run).update(deadline=clock.now() - timedelta(seconds=1))
    healing.sweep()


def of_group(devices: list[Sitter], number: int) -> list[Sitter]:
    """The devices that drew this group."""
    names = set(Seat.objects.filter(total__group=number).values_list("device__public_id", flat=True))
    return [device for device in devices if device.name in names]


def reason_of(device: Sitter) -> str:
    return str(Assignment.objects.filter(device=device.device).latest("pk").reason)


def test_the_model_moves_by_the_mean_of_all_groups(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=2, privacy=IN_GROUPS)
    play(many)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    for found in run.rounds.all():
        np.testing.assert_allclose(moved(found), expected(many), atol=1e-5)
        one, other = found.masked_sums.all()
        assert (one.state, other.state) == ("done", "done")
        assert one.weights + other.weights == sum(device.rows for device in many)
        assert sorted([*one.survivors, *other.survivors]) == sorted(device.name for device in many)
        assert one.session != other.session
        assert one.terms["beacon"] == other.terms["beacon"] != ""
        for total in (one, other):
            owners = Counter(total.seats.values_list("organization", flat=True))
            assert list(owners.values()) == [4, 4, 4], "each organization is spread evenly"
            assert not total.total_blob
            assert not any(total.seats.values_list("given", flat=True))
        assert found.bytes_up == 24 * 4 * (PARAMETERS + 1)
    assert len(set(MaskedSum.objects.filter(group=1).values_list("terms__beacon", flat=True))) == 2


def test_a_cohort_that_fits_draws_nothing(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=1)
    play(many, until=lambda step: step == "reveal")
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    assert current(run).masked_sums.get().terms["beacon"] == ""


def test_who_withholds_its_number_is_out_and_the_others_draw_again(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy=IN_GROUPS)
    many[5].until = "reveal"
    play(many)
    overdue(run)
    play(many)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    stay = [device for device in many if not device.until]
    np.testing.assert_allclose(moved(current(run)), expected(stay), atol=1e-5)
    assert reason_of(many[5]) == "not in the sum: it did not take the step reveal in time"
    first = current(run).masked_sums.get(group=1)
    assert first.drawing["list"]["draw"] == 1
    assert len(first.drawing["numbers"]) == 23


def test_a_third_draw_that_comes_to_nothing_ends_the_attempt(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy=IN_GROUPS)
    for number in range(3):
        many[number].until = "reveal"
        play(many)
        overdue(run)
    failed = run.rounds.get(attempt=1)
    assert failed.state == "failed"
    assert "drew their groups 3 times" in failed.reason
    assert "acme-site-2" in failed.reason
    assert failed.masked_sums.get().state == "failed"


def test_a_number_to_which_nobody_committed_itself_is_refused(stage: Stage, many: list[Sitter]) -> None:
    secure(stage, rounds=1, privacy=IN_GROUPS)
    play(many, until=lambda step: step == "reveal")
    task = many[0].task()
    assert task is not None
    for wrong in (many[1].chain.number(0), many[0].chain.number(1), "", 7, None):
        with pytest.raises(FedportalError) as caught:
            many[0].say(task, masking={"number": wrong})
        assert caught.value.code == "masking_refused"
    many[0].act(task)  # the right one is still taken


def test_a_group_that_fails_voids_only_itself(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy=IN_GROUPS)
    play(many, until=lambda step: step == "mask")
    lost, stay = of_group(many, 1), of_group(many, 2)
    for device in lost[:6]:
        device.until = "mask"
    play(many)
    vectors = [vector for vector in Seat.objects.filter(total__group=1).values_list("vector", flat=True) if vector]
    assert len(vectors) == 6
    overdue(run)
    play(many)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(current(run)), expected(stay), atol=1e-5)
    failed, done = current(run).masked_sums.all()
    assert (failed.state, done.state) == ("failed", "done")
    assert "devices are" in failed.reason
    assert set(Update.objects.values_list("device__public_id", flat=True)) == {device.name for device in stay}
    assert "its group failed" in reason_of(lost[-1])
    assert "did not take the step mask" in reason_of(lost[0])
    assert not any(blobs.exists(vector) for vector in vectors)


def test_groups_that_are_left_with_too_few_devices_end_the_attempt(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy=IN_GROUPS, min_participants=13)
    play(many, until=lambda step: step == "mask")
    for device in of_group(many, 2)[:6]:
        device.until = "mask"
    play(many)
    overdue(run)
    failed = run.rounds.get(attempt=1)
    assert failed.state == "failed"
    assert failed.reason.startswith("group 2: ")
    assert {total.state for total in failed.masked_sums.all()} == {"failed"}


def test_a_vector_that_is_lost_voids_its_group(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy=IN_GROUPS)
    play(many, until=lambda step: step == "mask")
    (spoilt, *others), stay = of_group(many, 1), of_group(many, 2)
    for device in [spoilt, *others[:-1]]:
        task = device.task()
        assert task is not None
        device.act(task)
    blobs.remove(Seat.objects.get(device=spoilt.device).vector)
    play(many)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(current(run)), expected(stay), atol=1e-5)
    assert "was lost or damaged on the portal" in current(run).masked_sums.get(group=1).reason


def test_devices_that_draw_no_groups_are_drawn_down_to_one_sum(stage: Stage, many: list[Sitter]) -> None:
    for device in many[:14]:
        device.draws = False
    run = secure(stage, rounds=1, privacy=IN_GROUPS)
    play(many)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    assert len(current(run).masked_sums.get().survivors) == 12


def test_bells_that_nobody_hears_are_rung_again_by_the_sweeper(stage: Stage, many: list[Sitter], silent: Any) -> None:
    run = secure(stage, rounds=1, privacy=IN_GROUPS)
    play(many, until=lambda step: step == "reveal")
    silent()
    while (run.state if run.refresh_from_db() is None else "") == "running":
        play(many)
        for pk in [*healing.due(), *Round.objects.filter(state="masking").values_list("pk", flat=True)]:
            rounds.settle(pk)
    assert run.state == "completed", run.reason
    np.testing.assert_allclose(moved(current(run)), expected(many), atol=1e-5)


def test_the_page_says_how_far_the_groups_are(stage: Stage, many: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy=IN_GROUPS)
    play(many, until=lambda step: step == "reveal")
    assert stage.snapshot(run)["round"]["word"] == "adding up under masks: groups are drawn, 0 of 24 devices"
    play(many, until=lambda step: step == "share")
    word = "adding up under masks: keys are shared, 0 of 24 devices in 2 groups"
    assert stage.snapshot(run)["round"]["word"] == word


def means(devices: list[Sitter]) -> np.ndarray:
    """The mean of each group, in the order of their numbers."""
    numbers = range(1, MaskedSum.objects.count() + 1)
    return np.array([expected(of_group(devices, number)) for number in numbers])


def test_a_robust_strategy_compares_the_means_of_groups(stage: Stage, many: list[Sitter]) -> None:
    """Three groups of eight, of which one holds a device that lies."""
    many[3].update = np.full(PARAMETERS, 5.0, np.float32)
    wish = {"sums": "grouped", "group": 8, "least_devices": 8}
    for device in many:
        device.policy = Policy(least_devices=8)
    run = secure(stage, rounds=1, strategy="median", privacy=wish, min_participants=24)
    play(many)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    found = means(many)
    assert len(found) == 3
    np.testing.assert_allclose(moved(current(run)), np.median(found, axis=0), atol=1e-5)
    label = labelling.of(run)
    assert label["sums"]["sees"] == "sums only"
    assert "only sums of groups over at least 8 devices of 3 organizations" in label["sentences"][0]


def test_groups_that_are_left_too_few_for_the_strategy_make_no_model(stage: Stage, many: list[Sitter]) -> None:
    wish = {"sums": "grouped", "group": 8, "least_devices": 8}
    for device in many:
        device.policy = Policy(least_devices=8)
    run = secure(stage, rounds=1, strategy="median", privacy=wish, min_participants=24)
    Run.objects.filter(pk=run.pk).update(min_participants=16)
    play(many, until=lambda step: step == "mask")
    of_group(many, 1)[0].until = "mask"
    play(many)
    overdue(run)
    play(many, until=lambda step: step == "train")
    failed = run.rounds.get(attempt=1)
    assert failed.state == "failed"
    assert "Coordinate median" in failed.reason
    assert "2" in failed.reason
