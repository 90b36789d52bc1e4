"""A run whose strategy withstands wrong updates: how many it needs, and what comes of them."""

from __future__ import annotations

import numpy as np
import pytest

from fedwire.errors import FedportalError
from tests.training.conftest import Stage, current, rewind, weights_of
from training.models import Run
from training.services import configs, previews, rounds


def test_run_with_fewer_devices_than_its_strategy_needs_is_not_started(stage: Stage) -> None:
    stage.three()
    with pytest.raises(FedportalError, match="Coordinate median with these settings needs at least 5") as refused:
        stage.start(strategy="median", min_participants=4, config={"faulty": 2})
    assert refused.value.context["field"] == "min_participants"
    assert not Run.objects.exists()


def test_preview_says_beside_the_field_how_many_are_needed(stage: Stage) -> None:
    stage.three()
    wish = {"rounds": 3, "strategy": "krum", "min_participants": 2, "federation": stage.cast.federation}
    preview = previews.of(stage.olga, stage.model, **wish)
    assert not preview.ok
    assert [problem.field for problem in preview.problems if problem.level == "error"] == ["min_participants"]
    sentence = preview.problems[0].sentence
    assert "Krum with these settings needs at least 5 updates in every round; ask for so many" in sentence
    assert "withstand fewer faulty ones" in sentence
    assert preview.need == 2  # as it was said, though it is too few
    assert previews.of(stage.olga, stage.model, **{**wish, "config": {"faulty": 0}, "min_participants": 3}).ok


def test_the_form_and_the_runs_page_call_parameters_by_words(stage: Stage) -> None:
    stage.three()
    browser = stage.cast.browser("olga")
    form = browser.get(f"/runs/new?model={stage.model.public_id}&strategy=median").content.decode()
    assert "Faulty updates to withstand" in form
    assert "Mix each with its nearest" in form
    assert "Nnm" not in form
    run = stage.start(strategy="median", min_participants=3)
    assert "Faulty updates to withstand" in browser.get(f"/runs/{run.public_id}").content.decode()


@pytest.mark.parametrize("wrong", [{"faulty": -1}, {"faulty": "many"}, {"unheard": 1}])
def test_parameter_that_is_unusable_is_told_once(wrong: dict) -> None:
    plan = {"rounds": 1, "min_participants": 1, "round_seconds": 60, "group": ""}
    codes = [error.code for error in configs.complaints("median", wrong, None, plan)]
    assert codes == ["strategy_parameter"]


def test_round_with_fewer_updates_than_the_strategy_needs_fails_and_is_tried_again(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(strategy="median", min_participants=3, rounds=1)
    # As if an update had been taken out after its device had answered.
    Run.objects.filter(pk=run.pk).update(min_participants=2)
    first.answer()
    second.answer()
    rewind(run)
    rounds.settle(run.rounds.get().pk)
    failed = run.rounds.get(attempt=1)
    assert (failed.state, failed.reason) == (
        "failed",
        "Coordinate median with these settings needs at least 3 updates in a round, and there are 2.",
    )
    again = current(run)
    assert (again.number, again.attempt, again.state, again.base_blob) == (1, 2, "open", failed.base_blob)
    for site in (first, second, third):
        site.seen()
        site.answer()
    again.refresh_from_db()
    assert again.state == "done"


def test_one_device_that_sends_nonsense_does_not_move_the_median(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(strategy="median", min_participants=3, rounds=1, config={"evaluate": False})
    sent = [site.vector(site.task) for site in sites]
    sent[1] = np.full_like(sent[1], 1e30)
    for site, vector in zip(sites, sent, strict=True):
        site.answer(vector=vector)
    run.refresh_from_db()
    assert run.result_version is not None
    expected = weights_of(run.base_version.blob) + np.median(sent, axis=0)
    assert (weights_of(run.result_version.blob) == expected).all()
