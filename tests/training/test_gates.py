"""What runs tell gates: a version is held against what devices measured, by the run that made it or one it began."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from federations.services import device_tasks
from registry import tasks
from registry.models import GateReport, ModelVersion
from registry.services import gatekeeping, gates
from tests.training.conftest import STANDARDISED, Site, Stage
from tests.training.inferring import Ward
from tests.training.test_rounds import finish
from training.services import finishing


def latest(stage: Stage) -> ModelVersion:
    return ModelVersion.objects.filter(model=stage.model).select_related("model__organization")[0]


def checks(stage: Stage, version: ModelVersion) -> dict[str, tuple[Any, ...]]:
    report = tasks.check_gate(stage.olga, version)
    return {row.name: (row.outcome, row.figure, row.reason) for row in gatekeeping.checks(report)}


class Metro(Site):
    """A device on whose rows the model does worse than elsewhere."""

    def report(self, task: Any) -> dict[str, Any]:
        found = super().report(task)
        return {**found, "correct": found["correct"] - 4, "histograms": {}}


def test_what_a_run_publishes_is_held_against_its_own_evaluation(stage: Stage) -> None:
    sites = [stage.site(stage.cast.acme, "acme-1"), Metro(stage.site(stage.cast.metro, "metro-1").device, 10, 0.0)]
    finish(stage.start(rounds=2), sites)
    gates.set_policy(stage.olga, stage.model, quality=0.5, gap=0.1, drift=0.5)
    version = latest(stage)
    spread = version.metrics["fairness"]["accuracy"]
    found = checks(stage, version)
    assert found["quality"] == ("passed", version.metrics["accuracy"], "")
    assert found["gap"] == ("failed" if spread["gap"] > 0.1 else "passed", spread["gap"], "")
    assert found["drift"] == ("passed", None, "nothing is rolled out yet")


def test_a_pushed_version_is_measured_by_a_run_that_begins_with_it(stage: Stage) -> None:
    pushed = latest(stage)
    gates.set_policy(stage.olga, stage.model, quality=0.5)
    assert checks(stage, pushed)["quality"][0] == "unknown"
    site = stage.site(stage.cast.acme, "acme-1")
    assert finish(stage.start(rounds=1), [site]).state == "completed"
    outcome, figure, reason = checks(stage, pushed)["quality"]
    assert (outcome, reason) == ("passed", "measured by a run that began with it")
    assert figure == finishing.measured(pushed)["accuracy"]
    # Once it is known it stays: the report is the same, whoever asks again.
    judged_at = GateReport.objects.get(version=pushed).judged_at
    checks(stage, pushed)
    assert GateReport.objects.get(version=pushed).judged_at == judged_at


@pytest.mark.parametrize("config", [{"evaluate": False}])
def test_a_run_that_measures_nothing_tells_nothing(stage: Stage, config: dict[str, Any]) -> None:
    pushed = latest(stage)
    site = stage.site(stage.cast.acme, "acme-1")
    assert finish(stage.start(rounds=1, config=config), [site]).state == "completed"
    assert finishing.measured(pushed) == {}


def test_a_run_that_changes_the_model_before_it_measures_tells_nothing(stage: Stage) -> None:
    model = stage.shared("standardised", STANDARDISED)
    pushed = ModelVersion.objects.get(model=model)
    site = stage.site(stage.cast.acme, "acme-1")
    assert finish(stage.start(model=model, rounds=1), [site]).state == "completed"
    assert finishing.measured(pushed) == {}


def test_a_pushed_version_is_measured_by_a_plan_of_inference(stage: Stage, tmp_path: Path) -> None:
    ward = Ward(stage, tmp_path)
    clinics = ward.three()
    gates.set_policy(stage.olga, stage.model, quality=0.75)
    plan = ward.plan(summary="confusion")
    for clinic in clinics:
        assert checks(stage, plan.version)["quality"][0] == "unknown"
        body = json.dumps({"samples": 0, "inference": [12, 4, 4, 20]}).encode()
        device_tasks.answer(clinic.site.device.pk, clinic.site.take().public_id, body)
    passed = ("passed", pytest.approx(0.8), "of all rows that a plan of inference counted")
    assert checks(stage, plan.version)["quality"] == passed


def test_a_plan_that_hides_cells_measures_nothing(stage: Stage, tmp_path: Path) -> None:
    ward = Ward(stage, tmp_path)
    clinics = ward.three()
    gates.set_policy(stage.olga, stage.model, quality=0.1)
    plan = ward.plan(summary="confusion")
    for clinic in clinics:
        body = json.dumps({"samples": 0, "inference": [18, 1, 1, 20]}).encode()
        device_tasks.answer(clinic.site.device.pk, clinic.site.take().public_id, body)
    assert checks(stage, plan.version)["quality"][0] == "unknown"
