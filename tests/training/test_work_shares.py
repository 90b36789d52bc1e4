"""Devices that do less: what they are asked for, what is believed of them, how they count, and what the page shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federations.services import devices as device_services
from fedwire import answers, effort
from fedwire.errors import FedportalError
from tests.training.conftest import Site, Stage, current, weights_of
from tests.training.test_faulty_rounds import Seen, mean_of, result_of
from training.models import Update
from training.services import cohorts

TRAINING = {"epochs": 2, "batch_size": 10}
CONFIG = {"evaluate": False, **TRAINING}


def grouped(stage: Stage, site: Site, who: str, *names: str) -> None:
    device_services.set_groups(stage.cast.actor(who), site.device, list(names))


def share_of(site: Site) -> Any:
    return site.task.content["training"].get("share")


def test_devices_of_a_group_are_asked_for_its_share_and_of_several_for_the_least(stage: Stage) -> None:
    first, second, third = stage.three()
    grouped(stage, second, "olga", "laptops")
    grouped(stage, third, "mia", "laptops", "phones")
    run = stage.start(config={**CONFIG, "work_shares": {"laptops": 0.5, "phones": 0.2}})
    assert [share_of(site) for site in (first, second, third)] == [None, 0.5, 0.2]
    page = Seen(stage, run).page
    assert "Work of laptops 50% of the steps" in page
    assert "Work of phones 20% of the steps" in page


def test_a_run_that_asks_nobody_for_less_asks_no_further_question(
    stage: Stage, django_assert_max_num_queries: Any
) -> None:
    stage.three()
    run = stage.start(config=CONFIG)
    with django_assert_max_num_queries(0):
        assert cohorts.work_shares(run, []) == {}


def test_who_did_less_counts_by_rows_and_its_card_says_what_it_did(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(rounds=1, config=CONFIG)
    first.answer(work_share=0.5)
    told = run.events.filter(kind="assignment.changed", data__state="submitted").get()
    assert told.data["effort"] == "50% of the steps"
    shown = Seen(stage, run)
    assert shown.card("acme-1")["effort"] == "50% of the steps"
    assert "10 rows, 0.25 s, 50% of the steps" in shown.page
    second.answer()
    third.answer()
    assert shown.card("acme-2")["effort"] == ""
    run.refresh_from_db()
    assert run.state == "completed"
    np.testing.assert_allclose(result_of(run, 1), mean_of(run, 1), rtol=1e-6)


def test_fednova_divides_by_the_steps_that_were_taken(stage: Stage) -> None:
    """Two devices with the same rows; one does half of the steps and gets half as far: each moves by 1 a step."""
    one = stage.site(stage.cast.acme, "acme-1", samples=100)
    other = stage.site(stage.cast.metro, "metro-1", samples=100)
    run = stage.start(rounds=1, strategy="fednova", config=CONFIG, min_participants=2)
    one.answer(vector=np.full(4, 20, np.float32), steps=20, normaliser=20.0)
    other.answer(vector=np.full(4, 10, np.float32), steps=10, normaliser=10.0, work_share=0.5)
    run.refresh_from_db()
    assert run.state == "completed"
    # τ_eff = Σ pᵢ·aᵢ = 15, direction Σ pᵢ·Δᵢ/aᵢ = 1: as if all had taken the mean number of steps.
    np.testing.assert_allclose(result_of(run, 1), weights_of(run.base_version.blob).astype("f8") + 15, rtol=1e-6)


@pytest.mark.parametrize(
    ("share", "steps", "good"),
    [
        (None, 20, True),
        (None, 10, False),
        (0.5, 10, True),
        (0.5, 11, False),
        (0.5, 9, False),
        (0.1, 2, True),
        (0.1, 1, False),
        (1.0, 20, True),
    ],
)
def test_steps_are_held_against_rows_and_share(share: float | None, steps: int, good: bool) -> None:
    answer = {"samples": 100, "steps": steps, **({"work_share": share} if share is not None else {})}
    if good:
        answers.check_local_work(TRAINING, answer)
    else:
        with pytest.raises(FedportalError) as refused:
            answers.check_local_work(TRAINING, answer)
        assert refused.value.context["field"] == "steps"


@pytest.mark.parametrize("wrong", [0, 0.05, 1.1, True, "half", float("inf")])
def test_a_share_that_is_none_is_refused(wrong: Any, stage: Stage) -> None:
    first, *_ = stage.three()
    run = stage.start(config=CONFIG)
    with pytest.raises(FedportalError):
        first.answer(work_share=wrong)
    assert not Update.objects.filter(round=current(run)).exists()


@pytest.mark.parametrize("wrong", [{"laptops": 0.01}, {"laptops": "half"}, ["laptops"], {"a\n": 0.5}, {" ": 0.5}])
def test_shares_of_groups_that_are_none_are_refused(wrong: Any, stage: Stage) -> None:
    with pytest.raises(FedportalError) as refused:
        stage.start(config={"work_shares": wrong})
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", "config.work_shares")


def test_shares_of_steps_by_hand() -> None:
    assert [effort.steps_of(30, share) for share in (0.1, 0.5, 1.0)] == [3, 15, 30]
    assert (effort.steps_of(7, 0.5), effort.steps_of(1, 0.1), effort.steps_of(0, 0.5)) == (4, 1, 0)
