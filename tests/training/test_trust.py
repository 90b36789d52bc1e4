"""A run that trusts an organization: whom it may name, and what its devices' updates decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federations.models import Organization
from fedwire.errors import FedportalError
from tests.training.conftest import Stage, current, rewind, weights_of
from training.models import Run
from training.services import previews, rounds, schedules


def trusting(stage: Stage, trusted: Any = None, **more: Any) -> Run:
    config = {"evaluate": False, **({"trusted": trusted} if trusted is not None else {})}
    return stage.start(strategy="fltrust", rounds=1, config=config, **more)


def test_updates_count_as_they_agree_with_those_of_the_trusted_organization(stage: Stage) -> None:
    sites = stage.three()  # two of acme with 10 and 20 rows, one of metro
    acme = stage.cast.acme
    run = trusting(stage, acme.name, min_participants=3)
    assert run.config["trusted"] == acme.public_id
    one = sites[0].vector(sites[0].task)
    sent = [one, np.roll(one, 1), 50 * one]
    for site, vector in zip(sites, sent, strict=True):
        site.answer(vector=vector)
    run.refresh_from_db()
    wide = np.array(sent, np.float64)
    trusted = wide[0] * 10 / 30 + wide[1] * 20 / 30
    length = np.linalg.norm(trusted)
    cosine = max(0.0, wide[2] @ trusted / (np.linalg.norm(wide[2]) * length))
    moved = (trusted + cosine * length / np.linalg.norm(wide[2]) * wide[2]) / (1 + cosine)
    assert run.result_version is not None
    assert np.allclose(weights_of(run.result_version.blob), weights_of(run.base_version.blob) + moved, atol=1e-5)


def test_updates_against_the_trusted_one_do_not_count(stage: Stage) -> None:
    sites = stage.three()
    run = trusting(stage, stage.cast.metro.public_id, min_participants=3)
    good = sites[2].vector(sites[2].task)
    for site, vector in zip(sites, [-good, -1e6 * good, good], strict=True):
        site.answer(vector=vector)
    run.refresh_from_db()
    assert run.result_version is not None
    assert np.allclose(weights_of(run.result_version.blob), weights_of(run.base_version.blob) + good, atol=1e-6)


def test_a_round_waits_for_the_trusted_organization(stage: Stage) -> None:
    """Without it the others would train for nothing, again and again."""
    first, second, third = stage.three()
    third.vanish()
    run = trusting(stage, stage.cast.metro.name, min_participants=1)
    first.answer()
    second.answer()
    assert (current(run).attempt, current(run).state) == (1, "open")
    waiting = stage.snapshot(run)["round"]["waiting"]
    assert [one["who"] for one in waiting["missing"]] == ["metro-1 of metro"]
    third.arrive()
    third.answer()
    run.refresh_from_db()
    assert run.state == "completed"


def test_round_to_which_nobody_trusted_answers_is_tried_again(stage: Stage) -> None:
    first, second, third = stage.three()
    run = trusting(stage, stage.cast.metro.name, min_participants=1)
    first.answer()
    second.answer()
    rewind(run)
    rounds.settle(run.rounds.get().pk)
    failed = run.rounds.get(attempt=1)
    assert failed.state == "failed"
    assert failed.reason == "0 of 1 devices of metro had answered at the deadline"
    for site in (first, second, third):
        site.seen()
        site.answer()
    run.refresh_from_db()
    assert run.state == "completed"


def test_trusted_update_that_moves_nothing_is_no_measure(stage: Stage) -> None:
    sites = stage.three()
    run = trusting(stage, stage.cast.metro.name, min_participants=3)
    for site in sites:
        vector = site.vector(site.task)
        site.answer(vector=vector * 0 if site is sites[2] else vector)
    failed = run.rounds.get(attempt=1)
    assert (failed.state, "the trusted update is zero." in failed.reason) == ("failed", True)
    assert current(run).attempt == 2


def test_a_trusted_update_that_is_no_measure_again_and_again_ends_the_run(stage: Stage) -> None:
    """The same devices would do the same, at once and for ever."""
    sites = stage.three()
    run = trusting(stage, stage.cast.metro.name, min_participants=3)
    for _ in range(rounds.MOST_UNTRUSTED):
        for site in sites:
            vector = site.vector(site.task)
            site.answer(vector=vector * 0 if site is sites[2] else vector)
    run.refresh_from_db()
    assert (run.state, current(run).state) == ("failed", "failed")
    assert run.reason.endswith("the trusted update is zero.")


def test_nobody_is_trusted_for_being_called_like_the_id_of_another(stage: Stage) -> None:
    stage.three()
    stage.valley_joins()
    metro, valley = stage.cast.metro, stage.cast.valley
    Organization.objects.filter(pk=metro.pk).update(name=valley.public_id)
    assert trusting(stage, valley.public_id).config["trusted"] == valley.public_id


@pytest.mark.parametrize("wrong", [None, "", 7, "rival", "nobody"])
def test_only_an_active_member_may_be_trusted(stage: Stage, wrong: Any) -> None:
    stage.three()
    with pytest.raises(FedportalError) as refused:
        trusting(stage, wrong)
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", "config.trusted")
    wish = {"rounds": 1, "strategy": "fltrust", "config": {"trusted": wrong}, "federation": stage.cast.federation}
    assert "config.trusted" in [problem.field for problem in previews.of(stage.olga, stage.model, **wish).problems]


@pytest.mark.parametrize(
    ("plan", "field"), [({"stragglers": "cut"}, "stragglers"), ({"sample": 1}, "mode"), ({"sample": 0.5}, "mode")]
)
def test_the_trusted_organization_is_asked_and_waited_for(stage: Stage, plan: dict[str, Any], field: str) -> None:
    stage.three()
    with pytest.raises(FedportalError, match="asks everybody and waits, as it needs metro in every round") as refused:
        trusting(stage, stage.cast.metro.name, plan=plan)
    assert refused.value.context["field"] == field


def test_updates_from_different_models_are_not_compared_with_the_trusted_one(stage: Stage) -> None:
    stage.three()
    plan = {"schedule": "asynchronous", "buffer": 2}
    with pytest.raises(FedportalError) as refused:
        trusting(stage, stage.cast.metro.name, plan=plan)
    assert refused.value.code == "strategy_schedule"
    assert refused.value.message == (
        "FLTrust does not work with asynchronous rounds, because every update is compared with one of the trusted"
        " organization from the same model, for which all wait."
    )
    assert refused.value.next_step == "It works with synchronous rounds; or choose another strategy."
    wish = {"rounds": 1, "strategy": "fltrust", "plan": plan, "config": {"trusted": stage.cast.metro.name}}
    preview = previews.of(stage.olga, stage.model, federation=stage.cast.federation, **wish)
    assert [(one.code, one.field) for one in preview.problems if one.level == "error"] == [
        ("strategy_schedule", "schedule")
    ]


def test_a_run_that_trusts_cannot_be_made_asynchronous(stage: Stage) -> None:
    stage.three()
    run = trusting(stage, stage.cast.metro.name)
    with pytest.raises(FedportalError, match="for which all wait") as refused:
        schedules.switch(stage.olga, run, {"schedule": "asynchronous"})
    assert refused.value.code == "strategy_schedule"
    assert not current(run).asynchronous
    browser = stage.cast.browser("olga")
    pages = [browser.get(f"/runs/{one.public_id}").content.decode() for one in (run, stage.start())]
    assert ['data-action="asynchronous" hidden' in page for page in pages] == [True, False]


def test_other_strategies_trust_nobody(stage: Stage) -> None:
    stage.three()
    with pytest.raises(FedportalError) as refused:
        stage.start(config={"trusted": stage.cast.metro.name})
    assert refused.value.code == "strategy_parameter"
    assert stage.start().config["trusted"] is None
