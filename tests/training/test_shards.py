"""A large round is combined in parts: by any number of workers, of which any may be killed, to the same model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from fedportal.celery import app
from fedportal.common import blobs, clock
from tests.training.conftest import Site, Stage, current
from training import selectors, tasks
from training.models import Round, Run, Shard
from training.models.shards import ShardState
from training.services import healing, outcomes, rounds, runs, shards

# Five blocks of 2^16 numbers, the last one short.
WIDE = {"kind": "mlp", "inputs": 3, "hidden": [540, 540], "classes": 2}
PARTS = 5
Hush = Callable[[], None]


@pytest.fixture
def large(stage: Stage, settings: Any) -> Stage:
    """Every round is large enough to be cut."""
    settings.FEDPORTAL_SHARD_FROM = 1
    stage.model = stage.shared("wide", WIDE)
    return stage


def begin(stage: Stage, strategy: str = "fedavg", *, sites: list[Site] | None = None, **more: Any) -> Any:
    """A run of two rounds with five devices, and these."""
    metro = stage.cast.metro
    sites = sites or [*stage.three(), stage.site(metro, "metro-2", 40), stage.site(metro, "metro-3", 50)]
    wish = {"rounds": 2, "min_participants": 5, "config": {"evaluate": False}, **more}
    return stage.start(strategy=strategy, **wish), sites


def answer_all(sites: list[Site]) -> None:
    for site in sites:
        site.answer(steps=-(-site.samples // 32))  # of the default batches


def to_the_end(run: Run, sites: list[Site]) -> list[tuple[str, str, str]]:
    """Blob, digest and state of every round."""
    run.refresh_from_db()
    while run.state == "running":
        answer_all(sites)
        run.refresh_from_db()
    assert run.state == "completed"
    return list(run.rounds.order_by("number").values_list("result_blob", "digest", "state_blob"))


@pytest.mark.parametrize(
    ("strategy", "codec"),
    [(one, "none") for one in ("fedavg", "fedadam", "scaffold", "median", "krum", "geometric_median")]
    + [("scaffold", "int8"), ("feddyn", "float16")],
)
def test_rounds_in_parts_give_the_models_of_rounds_in_one_piece(
    large: Stage, settings: Any, strategy: str, codec: str
) -> None:
    config = {"evaluate": False, "codec": codec}
    run, sites = begin(large, strategy, config=config)
    in_parts = to_the_end(run, sites)
    assert run.events.filter(kind="round.part").exists()
    settings.FEDPORTAL_SHARD_FROM = 0
    again, _ = begin(large, strategy, sites=sites, version=run.base_version, config=config)
    assert to_the_end(again, sites) == in_parts
    assert not again.events.filter(kind="round.part").exists()


def test_small_round_is_made_in_one_piece(stage: Stage) -> None:
    run, sites = begin(stage, rounds=1)
    to_the_end(run, sites)
    assert not run.events.filter(kind="round.part").exists()


def test_cut_round_says_how_far_it_has_come(large: Stage) -> None:
    run, sites = begin(large, "krum", rounds=1)
    to_the_end(run, sites)
    told = [event.data for event in run.events.filter(kind="round.part").order_by("sequence")]
    assert [(one["done"], one["parts"]) for one in told] == [(done, 2 * PARTS) for done in range(1, 2 * PARTS + 1)]
    assert told[4]["word"] == "aggregating: 5 of 10 parts"


def claimed(large: Stage, silent: Hush, strategy: str = "krum") -> tuple[Run, Round]:
    """All have answered, a worker claimed the round and cut it, and was killed then."""
    run, sites = begin(large, strategy)
    silent()
    answer_all(sites)
    found = rounds._claim(current(run).pk)
    assert isinstance(found, Round)
    shards._cut(found, outcomes.recipe(found), first=strategy == "krum")
    return run, found


def test_round_card_counts_the_parts(large: Stage, silent: Hush) -> None:
    run, found = claimed(large, silent)
    tasks.make_part(found.pk)
    shown = selectors.snapshot(run, large.olga)["round"]
    assert (shown["state"], shown["word"]) == ("aggregating", f"aggregating: 1 of {2 * PARTS} parts")


def test_killed_claimant_is_followed_by_one_that_finds_what_is_done(large: Stage, silent: Hush) -> None:
    run, found = claimed(large, silent)
    tasks.make_part(found.pk)
    (done,) = Shard.objects.filter(state=ShardState.DONE)
    with clock.shifted(timedelta(seconds=31)):
        rounds.settle(found.pk)
    found.refresh_from_db()
    assert (found.state, found.fence) == ("done", 2)
    done.refresh_from_db()
    assert done.claim == 1  # nobody made it again
    assert current(run).number == 2


def test_shard_of_a_killed_worker_is_free_when_its_lease_is_over(large: Stage, silent: Hush) -> None:
    _, found = claimed(large, silent)
    Shard.objects.update(state=ShardState.TAKEN, claim=1, lease_until=clock.now() + timedelta(seconds=30))
    assert shards.free() == []
    tasks.make_part(found.pk)
    assert not Shard.objects.filter(state=ShardState.DONE).exists()
    with clock.shifted(timedelta(seconds=31)):
        assert shards.free() == [found.pk]
        tasks.make_part(found.pk)
    assert Shard.objects.get(state=ShardState.DONE).claim == 2


def test_sweeper_rings_for_free_shards(large: Stage, silent: Hush) -> None:
    _, found = claimed(large, silent)
    app.conf.task_always_eager = True
    healing._first.set()  # claims are not void as they are at the start of the only process
    healing.sweep()
    assert Shard.objects.filter(round=found, state=ShardState.DONE).count() == 1


def test_only_the_first_result_of_a_shard_counts(large: Stage, silent: Hush) -> None:
    _, found = claimed(large, silent)
    recipe, mine = outcomes.recipe(found), shards._take(Shard.objects.all())
    assert mine is not None
    shards._make(found, recipe, mine, [], lambda: None)
    kept = Shard.objects.get(pk=mine.pk).part
    before = len(list((blobs.scratch().parent).iterdir()))
    shards._make(found, recipe, mine, [], lambda: None)
    assert Shard.objects.get(pk=mine.pk).part == kept
    assert len(list((blobs.scratch().parent).iterdir())) == before


def test_lost_file_is_made_again(large: Stage, silent: Hush) -> None:
    run, found = claimed(large, silent)
    tasks.make_part(found.pk)
    blobs.scratch(Shard.objects.get(state=ShardState.DONE).part).unlink()
    with clock.shifted(timedelta(seconds=31)):
        rounds.settle(found.pk)
    assert current(run).number == 2


def test_part_that_cannot_be_made_is_free_again(large: Stage, silent: Hush) -> None:
    _, found = claimed(large, silent)
    blob = outcomes.recipe(found).updates[0].path
    content = blob.read_bytes()
    blob.unlink()
    with pytest.raises(FileNotFoundError):
        tasks.make_part(found.pk)
    assert set(Shard.objects.values_list("state", flat=True)) == {ShardState.WAITING}
    blob.write_bytes(content)
    tasks.make_part(found.pk)
    assert Shard.objects.filter(state=ShardState.DONE).exists()


def test_numbers_that_grew_beyond_all_bounds_end_the_run(large: Stage) -> None:
    run, sites = begin(large, "fedadam")
    for site in sites:
        site.answer(vector=np.full_like(site.vector(site.task), 3e38))
    run.refresh_from_db()
    assert run.state == "failed"


def test_parts_of_a_round_that_is_over_are_forgotten(large: Stage, silent: Hush) -> None:
    run, found = claimed(large, silent)
    tasks.make_part(found.pk)
    part = blobs.scratch(Shard.objects.get(state=ShardState.DONE).part)
    shards.tidy()
    assert part.is_file()
    runs.stop(large.olga, run)
    shards.tidy()
    assert not part.exists()
    assert not Shard.objects.exists()
    tasks.make_part(found.pk)  # a late bell
