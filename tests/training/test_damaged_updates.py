"""An update whose file was lost or damaged on the portal: it is put aside, with its reason, and holds up nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from fedportal.common import blobs, clock
from tests.training.conftest import ARCHITECTURE, Site, Stage, current
from tests.training.summing import Sitter, play, secure, sitters
from tests.training.test_asynchronous import counted, number, start
from tests.training.test_faulty_rounds import TRAIN_ONLY, Seen, finish, mean_of, result_of
from tests.training.test_shards import PARTS, WIDE
from training.models import Assignment, MaskedSum, Run, Shard, Spending, Update
from training.services import outcomes, rounds

Hush = Callable[[], None]
WHY = "the file of its update was lost or damaged on the portal"


def truncate(sha: str) -> None:
    blobs.path(sha).write_bytes(blobs.path(sha).read_bytes()[:-7])


def garble(sha: str) -> None:
    """As long as it was, and its last numbers are none."""
    blobs.path(sha).write_bytes(blobs.path(sha).read_bytes()[:-8] + b"\xff" * 8)


def damaged(site: Site, damage: Callable[[str], object] = truncate) -> str:
    """The site answers, and the file of its update comes to harm before anybody reads it; its digest."""
    task = site.task
    sha = site.upload(task)
    damage(sha)
    site.say(task, {"samples": site.samples, "sha256": sha})
    return sha


def attempts(run: Run) -> list[tuple[int, int, str]]:
    return [(one.number, one.attempt, one.state) for one in run.rounds.all()]


@pytest.mark.parametrize("damage", [truncate, garble])
def test_an_asynchronous_round_goes_on_without_it_and_its_device_may_send_again(
    damage: Callable[[str], object], stage: Stage
) -> None:
    one, two, slow = stage.three()
    run = start(stage)
    slow.take()
    damaged(one, damage)
    two.answer()
    assert attempts(run) == [(1, 1, "done"), (2, 1, "open")]
    assert counted(run) == [(1, [("acme-2", 0)])]
    first = run.rounds.get(number=1)
    assert (first.staleness, first.bytes_up) == ({"0": 1}, Update.objects.get(counted_in=first).size)
    np.testing.assert_allclose(result_of(run, 1), mean_of(run, 1), rtol=1e-6)
    part = Assignment.objects.get(round=first, device=one.device)
    assert (part.state, part.reason) == ("expired", WHY)
    Seen(stage, run).says(f"acme-1 of acme: dropped: {WHY}.")
    assert [number(one), number(two)] == [2, 2]  # both are asked with the new model
    one.answer()
    two.answer()
    assert counted(run)[1] == (2, [("acme-1", 0), ("acme-2", 0)])


def test_with_too_few_others_the_attempt_fails_the_others_wait_and_the_same_bytes_are_taken_anew(stage: Stage) -> None:
    one, two, _ = stage.three()
    run = start(stage, min_participants=2)
    sha = damaged(one)
    two.answer()
    assert attempts(run) == [(1, 1, "failed"), (1, 2, "open")]
    assert run.rounds.get(number=1, attempt=1).reason == (
        "the file of the update of acme-1 of acme was lost or damaged on the portal"
    )
    assert two.tasks() == []  # its answer waits
    assert one.upload(one.task) == sha  # it trains on the same model with the same seed
    assert blobs.verify(sha)
    one.answer()
    assert counted(run) == [(1, [("acme-2", 0), ("acme-1", 0)])]
    assert attempts(run)[1:] == [(1, 2, "done"), (2, 1, "open")]


def test_an_answer_that_waits_takes_its_place(stage: Stage, silent: Hush) -> None:
    sites = stage.three()
    run = start(stage)
    silent()
    damaged(sites[0])
    for site in sites[1:]:
        site.answer()
    rounds.settle(current(run).pk)
    assert counted(run) == [(1, [("acme-2", 0), ("metro-1", 0)])]
    assert current(run).number == 2


def test_a_synchronous_attempt_fails_with_the_name_and_the_next_asks_anew(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=1, config=TRAIN_ONLY)
    sha = damaged(sites[2])
    for site in sites[:2]:
        site.answer()
    assert attempts(run) == [(1, 1, "failed"), (1, 2, "open")]
    reason = "the file of the update of metro-1 of metro was lost or damaged on the portal"
    assert run.rounds.get(attempt=1).reason == reason
    seen = Seen(stage, run)
    seen.says(f"metro-1 of metro: dropped: {WHY}.")
    seen.says(f"Round 1 failed: {reason}.")
    assert seen.card("metro-1")["before"] == {"number": 1, "word": "dropped"}
    assert finish(run, sites).state == "completed"
    assert blobs.verify(sha)
    assert Update.objects.filter(round__attempt=2, blob=sha).exists()
    np.testing.assert_allclose(result_of(run, 1), mean_of(run, 1), rtol=1e-6)


def test_several_damaged_updates_are_found_at_once(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=1, config=TRAIN_ONLY)
    damaged(sites[0])
    damaged(sites[2], garble)
    sites[1].answer()
    assert attempts(run) == [(1, 1, "failed"), (1, 2, "open")]
    reason = "the files of the updates of acme-1 of acme and metro-1 of metro were lost or damaged on the portal"
    assert run.rounds.get(attempt=1).reason == reason
    assert finish(run, sites).state == "completed"


def test_a_file_that_is_not_there_is_looked_for_again_before_it_is_given_up(stage: Stage, silent: Hush) -> None:
    one, two, _ = stage.three()
    run = start(stage)
    silent()
    damaged(one, blobs.remove)
    two.answer()
    first = current(run)
    for claim in range(rounds.MOST_CLAIMS - 1):
        with clock.shifted(timedelta(minutes=claim)), pytest.raises(FileNotFoundError):
            rounds.settle(first.pk)
    assert counted(run) == [(1, [("acme-1", 0), ("acme-2", 0)])]
    with clock.shifted(timedelta(hours=1)):
        rounds.settle(first.pk)
    assert counted(run) == [(1, [("acme-2", 0)])]
    first.refresh_from_db()
    assert first.state == "done"


def test_where_the_model_cannot_be_read_either_no_device_is_blamed(stage: Stage, silent: Hush) -> None:
    sites = stage.three()
    run = stage.start(rounds=1, config=TRAIN_ONLY)
    silent()
    damaged(sites[0])
    for site in sites[1:]:
        site.answer()
    first = current(run)
    blobs.remove(first.base_blob)
    for claim in range(rounds.MOST_CLAIMS):
        with clock.shifted(timedelta(minutes=claim)):
            try:
                rounds.settle(first.pk)
            except OSError:
                continue
    first.refresh_from_db()
    assert (first.state, first.reason.partition(" (")[0]) == ("failed", "a file of this round cannot be read")
    assert not Assignment.objects.filter(state="expired").exists()


def test_parts_that_were_made_with_it_are_made_anew(stage: Stage, settings: Any) -> None:
    settings.FEDPORTAL_SHARD_FROM = 1
    one, two, three = stage.three()
    run = start(stage, model=stage.shared("wide", WIDE), plan={"buffer": 3})
    damaged(one)  # at its end, so that there are parts before
    two.answer()
    three.answer()
    assert attempts(run) == [(1, 1, "done"), (2, 1, "open")]
    made = run.rounds.get(number=1)
    assert run.events.filter(kind="round.part").count() >= 2 * PARTS - 1
    settings.FEDPORTAL_SHARD_FROM = 0
    assert outcomes.of(made, lambda: None).digest == made.digest
    assert not Shard.objects.filter(round=made).exclude(state="done").exists()


def test_an_answer_whose_file_was_damaged_is_paid_for_all_the_same(stage: Stage) -> None:
    sites = stage.three()
    privacy = {"mechanism": "central", "noise": 4.0}
    run = stage.start(rounds=1, min_participants=3, config={**TRAIN_ONLY, "privacy": privacy})
    damaged(sites[2])
    for site in sites[:2]:
        site.answer()
    assert attempts(run) == [(1, 1, "failed"), (1, 2, "open")]
    spent = Spending.objects.filter(organization=stage.cast.metro).order_by("pk")
    assert list(spent.values_list("state", flat=True)) == ["charged", "reserved"]


@pytest.fixture
def twelve(stage: Stage) -> list[Sitter]:
    stage.valley_joins()
    return sitters(stage, ARCHITECTURE.manifest().parameters)


def test_a_masked_sum_that_cannot_be_read_fails_its_attempt(
    stage: Stage, twelve: list[Sitter], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = secure(stage, rounds=1)
    play(twelve, lambda step: step == "unmask")
    truncate(MaskedSum.objects.get().total_blob)
    monkeypatch.setattr(rounds, "MOST_CLAIMS", 1)
    play(twelve)
    run.refresh_from_db()
    assert attempts(run) == [(1, 1, "failed"), (1, 2, "done")]
    assert run.state == "completed"
