"""The pages of experiments: planned by a form, started, looked at, stopped and promoted; and who may do that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from registry.models import Experiment, Rollout
from registry.services import experiments, gates
from tests.cast import Cast
from tests.registry.conftest import House
from tests.registry.test_rollouts import Fleet, version
from tests.web.test_rollouts import plain, words


@pytest.fixture
def fleet(cast: Cast, settings: Any, tmp_path: Path) -> Fleet:
    """metro's ten devices, and a model in two versions that is shared with it."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    return Fleet(House(cast))


@pytest.fixture
def mia(fleet: Fleet) -> Client:
    return fleet.house.cast.browser("mia")


def at(experiment: Experiment, act: str = "") -> str:
    return f"/experiments/{experiment.public_id}{'/' if act else ''}{act}"


def running(fleet: Fleet) -> Experiment:
    made = experiments.create(fleet.mia, fleet.new, control=fleet.old, start_now=True)
    fleet.obey()
    return made


def test_an_experiment_is_planned_by_a_form_and_started_after_a_question(fleet: Fleet, mia: Client) -> None:
    assert "No experiment yet" in words(mia, "/experiments")
    assert "radiology-v1, latest 2.0.0" in words(mia, "/experiments/new")
    form = f"/experiments/new?model={fleet.model.public_id}"
    assert "Plan an experiment with radiology-v1" in words(mia, form)
    typed = {"model": fleet.model.public_id, "control": "1.0.0", "treatment": "2.0.0", "name": "wider network"}
    typed |= {"treatment_percentage": "30", "metric": "error_rate", "planned": "500", "start": "later"}
    said = plain(mia.post("/experiments/new", typed, follow=True))
    assert "wider network" in said
    assert "30 % of them treated" in said
    assert "It has not started: no device is in an arm." in said
    experiment = Experiment.objects.get()
    assert (experiment.share, experiment.metric, experiment.planned) == (3_000, "error_rate", 500)
    assert "30 % of your devices get 2.0.0, the others 1.0.0." in words(mia, at(experiment, "start"))
    assert "every device gets the version of its arm" in plain(mia.post(at(experiment, "start"), follow=True))
    assert experiment.participants.count() == 10


def test_what_is_wrong_with_the_form_is_told_beside_the_field(fleet: Fleet, mia: Client) -> None:
    typed = {"model": fleet.model.public_id, "control": "1.0.0", "treatment": "2.0.0", "treatment_percentage": "100"}
    answer = mia.post("/experiments/new", typed)
    assert answer.status_code == 400
    assert "It must be above 0 % and below 100 %" in plain(answer)
    same = mia.post("/experiments/new", {**typed, "treatment_percentage": "50", "control": "2.0.0"})
    assert "both arms have the same version" in plain(same)
    running(fleet)
    assert "is running. Another one starts when" in words(mia, f"/experiments/new?model={fleet.model.public_id}")
    assert Experiment.objects.count() == 1


def test_a_closed_gate_is_told_in_the_form_and_what_was_typed_stays(fleet: Fleet, mia: Client) -> None:
    gates.set_policy(fleet.house.olga, fleet.model, size=5)
    typed = {"model": fleet.model.public_id, "control": "1.0.0", "treatment": "2.0.0", "name": "wider network"}
    answer = mia.post("/experiments/new", typed)
    assert answer.status_code == 409
    assert 'value="wider network"' in answer.content.decode()
    assert not Experiment.objects.exists()


def test_a_model_with_one_version_has_nothing_to_compare(fleet: Fleet, mia: Client) -> None:
    fleet.new.delete()
    assert "needs two versions" in words(mia, f"/experiments/new?model={fleet.model.public_id}")


def test_the_page_draws_both_arms_and_says_what_may_be_concluded(fleet: Fleet, mia: Client) -> None:
    experiment = running(fleet)
    assert "Nothing can be said yet" in words(mia, at(experiment))
    fleet.report(fleet.old, "old", count=100, errors=5, judged=100, right=75)
    fleet.report(fleet.new, "new", count=100, errors=5, judged=100, right=76)
    page = mia.get(at(experiment)).content.decode()
    assert "No difference yet: the accuracy of 2.0.0 is between" in page
    assert page.count("<figure") == 4
    assert "Accuracy: 1.0.0 75.0 % (" in page
    assert "2.0.0 less 1.0.0: +1.0 (" in page
    assert f'href="{at(experiment, "promote")}"' not in page
    fleet.report(fleet.new, "better", count=500, judged=500, right=495)
    experiments.sweep()
    said = words(mia, at(experiment))
    assert "2.0.0 is better: its accuracy is" in said
    assert "Promote 2.0.0" in said
    assert "Compared on your devices: 2.0.0 against 1.0.0" in words(mia, f"/models/{fleet.model.public_id}")


def test_promoting_asks_and_leads_to_its_one_rollout(fleet: Fleet, mia: Client) -> None:
    experiment = running(fleet)
    assert mia.get(at(experiment, "promote")).status_code == 409
    asked = words(mia, at(experiment, "promote?arm=treatment"))
    assert "No look has found it to be the better one. It goes to all your devices" in asked
    for _ in range(2):
        answer = mia.post(at(experiment, "promote?arm=treatment"), follow=True)
        assert answer.redirect_chain[0][0] == f"/rollouts/{Rollout.objects.get().public_id}"
    assert "It was promoted into a rollout" in words(mia, at(experiment))
    assert "promoted" in words(mia, "/experiments")


def test_stopping_asks_and_says_when_every_device_is_back(fleet: Fleet, mia: Client) -> None:
    experiment = running(fleet)
    assert "10 devices return to what they had before." in words(mia, at(experiment, "stop"))
    assert "Devices are returning" in plain(mia.post(at(experiment, "stop"), follow=True))
    fleet.obey()
    assert "Every device was back after" in words(mia, at(experiment))
    assert "it cannot start now" in plain(mia.get(at(experiment, "start"), follow=True))


def test_who_may_not_reads_who_may(fleet: Fleet) -> None:
    otto = fleet.house.cast.browser("otto")
    assert "No experiment yet" in words(otto, "/experiments")
    assert "device operator" in words(otto, "/experiments")
    third = version(fleet.model, 3)
    made = experiments.create(fleet.house.olga, third, control=fleet.old)
    assert "Give it up" not in words(otto, at(made))
    assert "Give it up" in words(fleet.house.cast.browser("olga"), at(made))
    assert fleet.house.cast.browser("mia").get(at(made)).status_code == 404


def test_a_member_of_the_federation_takes_part_after_reading_what_it_means(fleet: Fleet, mia: Client) -> None:
    olga, house = fleet.house.cast.browser("olga"), fleet.house
    assert "The members of healthcare-consortium" in words(olga, f"/experiments/new?model={fleet.model.public_id}")
    typed = {"model": fleet.model.public_id, "control": "1.0.0", "treatment": "2.0.0", "name": "all wards"}
    olga.post("/experiments/new", {**typed, "federation": house.federation.public_id})
    lead = Experiment.objects.get()
    assert "all wards with radiology-v1 led by acme in healthcare-consortium" in words(mia, "/experiments")
    assert "Whoever takes part sees what devices of all report, as sums." in words(mia, at(lead, "join"))
    said = plain(mia.post(at(lead, "join"), {"group": ""}, follow=True))
    assert "You take part" in said
    assert "2 organizations run it together" in said
    assert "2 organizations run it together" in words(olga, at(lead))
    own = Experiment.objects.get(lead=lead)
    assert "since you take part no more" in plain(mia.post(at(own, "stop"), follow=True))
    assert "Offered to you" not in words(mia, "/experiments")
