"""Gates: limits are set, versions judged, one is let through by hand, and what is known of them to whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from federations.models import AuditEntry, Role
from federations.permissions import Actor
from fedportal.common import blobs
from registry import gate_reports, tasks
from registry.models import GateReport, Model, ModelVersion, Rollout
from registry.services import gatekeeping, gates, installations, models
from tests.registry.conftest import House, pushed, refusal

LOGISTIC = {"kind": "logistic", "inputs": 2}
MEASURED = {
    "accuracy": 0.9,
    "loss": 0.3,
    "auc": None,
    "samples": 40,
    "fairness": {"accuracy": {"gap": 0.2, "worst": "org", "least": 0.7, "most": 1.0, "deviation": 0.1}},
}


@pytest.fixture
def model(house: House) -> Model:
    made = models.create(house.olga, name="radiology-v1", architecture=LOGISTIC)
    models.share(house.olga, made, house.federation)
    return made


def weights(house: House, model: Model, *values: float) -> ModelVersion:
    """A version with these weights."""
    arrays = {"layers.0.weight": np.array([values], np.float32), "layers.0.bias": np.zeros(1, np.float32)}
    return pushed(house, model, save(arrays))


def measured(version: ModelVersion, **metrics: Any) -> ModelVersion:
    """The version as if a run had measured it."""
    ModelVersion.objects.filter(pk=version.pk).update(origin="trained", metrics={**MEASURED, **metrics})
    version.refresh_from_db()
    return version


def rolled_out(house: House, version: ModelVersion, actor: Actor | None = None) -> Rollout:
    """A completed rollout of the version."""
    of = (actor or house.olga).organization
    return Rollout.objects.create(
        organization=of, model=version.model, version=version, share=10_000, state="completed"
    )


def check(house: House, version: ModelVersion, **more: Any) -> dict[str, Any]:
    """What came of each check, by name: outcome, figure, reason."""
    report = tasks.check_gate(house.olga, version, **more)
    return {row.name: (row.outcome, row.figure, row.reason) for row in gatekeeping.checks(report)}


def actions(model: Model) -> list[str]:
    """What the audit log says of gates, oldest first."""
    rows = AuditEntry.objects.filter(organization=model.organization, action__startswith="gate.").order_by("pk")
    return list(rows.values_list("action", flat=True))


def test_a_measured_version_is_held_against_every_limit(house: House, model: Model) -> None:
    old, new = weights(house, model, 3.0, 4.0), measured(weights(house, model, 3.0, 4.5))
    rolled_out(house, old)
    gates.set_policy(house.olga, model, quality=0.85, gap=0.1, drift=0.11, cosine=0.01, size=10_000, latency=5_000.0)
    found = check(house, new)
    assert found["quality"] == ("passed", 0.9, "")
    assert found["gap"] == ("failed", 0.2, "")
    assert found["drift"] == ("passed", pytest.approx(0.1), "")
    assert found["cosine"][1] == pytest.approx(1 - (9 + 18) / (5 * np.hypot(3.0, 4.5)), rel=1e-9)
    assert found["size"] == ("passed", float(new.size), "")
    assert found["latency"][0] == "passed"
    report = GateReport.objects.get()
    assert (report.state, report.against, report.revision) == ("failed", old, 1)
    assert actions(model) == ["gate.changed", "gate.judged"]


def test_judging_again_changes_nothing_until_something_did(house: House, model: Model) -> None:
    old, new = weights(house, model, 3.0, 4.0), measured(weights(house, model, 3.0, 4.5))
    gates.set_policy(house.olga, model, drift=0.05, latency=5_000.0)
    first = check(house, new)
    assert first["drift"] == ("passed", None, "nothing is rolled out yet")
    judged_at = GateReport.objects.get().judged_at
    assert check(house, new) == first
    assert GateReport.objects.get().judged_at == judged_at
    assert check(house, new, remeasure=True)["drift"] == first["drift"]
    rolled_out(house, old)
    assert gatekeeping.standing(new).reason == "it was compared with nothing, and 1.0.0 is rolled out now"
    again = check(house, new)
    assert again["drift"] == ("failed", pytest.approx(0.1), "")
    # A time would be another one each time: it is measured once.
    assert GateReport.objects.count() == 1
    gates.set_policy(house.olga, model, latency=4_000.0)
    assert check(house, new)["latency"][1] == again["latency"][1]


def test_what_nobody_knows_says_why_and_does_not_pass(house: House, model: Model) -> None:
    bare = models.create(house.olga, name="undescribed")
    version = pushed(house, bare, save({"w": np.ones(2, np.float32)}))
    gates.set_policy(house.olga, bare, quality=0.5, gap=0.1, latency=100.0)
    found = check(house, version)
    assert found["quality"] == (
        "unknown",
        None,
        "it was pushed, and no run that began with it has measured it",
    )
    assert found["latency"][2] == "its architecture is not described, so the portal cannot compute with it"
    assert gatekeeping.standing(version).code == "gate_failed"
    alone = measured(weights(house, model, 1.0, 1.0), fairness={})
    gates.set_policy(house.olga, model, gap=0.1)
    assert check(house, alone)["gap"] == ("unknown", None, "fewer than two organizations measured it")


def test_other_tensors_a_file_that_is_gone_and_zero_weights_are_not_known(house: House, model: Model) -> None:
    zeros, other = weights(house, model, 0.0, 0.0), weights(house, model, 1.0, 1.0)
    bare = models.create(house.olga, name="growing")
    first = pushed(house, bare, save({"w": np.ones(2, np.float32)}))
    second = pushed(house, bare, save({"w": np.ones(3, np.float32)}))
    for one, version in ((model, zeros), (bare, first)):
        rolled_out(house, version)
        gates.set_policy(house.olga, one, drift=0.5, cosine=0.5)
    assert check(house, other)["drift"][2] == "the weights of one of the two are all zero"
    assert check(house, second)["cosine"][2] == "its tensors are not those of the version that is rolled out"
    blobs.path(first.blob).unlink()
    third = pushed(house, bare, save({"w": np.ones(4, np.float32)}))
    assert check(house, third)["drift"][2] == "a file of a version is gone"


def test_serving_is_what_the_owner_completed_whatever_others_give_their_devices(house: House, model: Model) -> None:
    one, two = weights(house, model, 1.0, 0.0), weights(house, model, 2.0, 0.0)
    assert gatekeeping.serving(model) is None
    rolled_out(house, two, house.mia)
    assert gatekeeping.serving(model) is None
    first, second = rolled_out(house, one), rolled_out(house, two)
    assert gatekeeping.serving(model) == two
    Rollout.objects.filter(pk=second.pk).update(state="rolled_back")
    assert gatekeeping.serving(model) == one == first.version


def test_the_owner_and_admins_set_limits_and_an_owner_alone_lets_through(house: House, model: Model) -> None:
    version = weights(house, model, 1.0, 0.0)
    admin = Actor(house.cast.colleague(house.acme, Role.ADMIN), house.acme)
    scientist = Actor(house.cast.colleague(house.acme, Role.DATA_SCIENTIST), house.acme)
    assert gates.set_policy(admin, model, size=1).revision == 1
    assert refusal(gates.set_policy, scientist, model, size=2).code == "forbidden"
    assert refusal(gates.set_policy, house.mia, model, size=2).code == "forbidden"
    assert refusal(gates.set_policy, house.rex, model, size=2).code == "not_found"
    assert tasks.check_gate(scientist, version).state == "failed"
    assert refusal(tasks.check_gate, house.mia, version).code == "forbidden"
    for actor in (admin, scientist, house.mia):
        assert refusal(gates.override, actor, version, "it is urgent").code == "forbidden"
    reading = house.through_key(house.olga, "models:read")[0]
    assert refusal(gates.override, reading, version, "it is urgent").code == "scope_missing"
    assert gates.override(house.olga, version, "it is urgent").by == house.cast.olga


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"metric": "beauty"}, "metric"),
        ({"quality": 1.5}, "quality"),
        ({"metric": "loss", "quality": -1}, "quality"),
        ({"drift": float("nan")}, "drift"),
        ({"cosine": 3}, "cosine"),
        ({"size": 1.5}, "size"),
        ({"size": True}, "size"),
        ({"speed": 1}, "speed"),
    ],
)
def test_limits_are_numbers_that_mean_something(house: House, model: Model, limits: dict[str, Any], field: str) -> None:
    assert refusal(gates.set_policy, house.olga, model, **limits).context["field"] == field
    assert gates.policy_of(model).revision == 0


def test_the_same_limits_again_are_no_new_revision_and_none_are_no_gate(house: House, model: Model) -> None:
    version = weights(house, model, 1.0, 0.0)
    assert gates.set_policy(house.olga, model).revision == 0
    assert [gates.set_policy(house.olga, model, size=1).revision for _ in range(2)] == [1, 1]
    assert not gatekeeping.standing(version).open
    assert gates.set_policy(house.olga, model).revision == 2
    assert gatekeeping.standing(version).open
    assert refusal(tasks.check_gate, house.olga, version).code == "no_gate"
    assert actions(model) == ["gate.changed", "gate.changed"]


def test_an_override_is_for_one_version_and_one_revision_and_is_withdrawn(house: House, model: Model) -> None:
    one, other = weights(house, model, 1.0, 0.0), weights(house, model, 2.0, 0.0)
    assert refusal(gates.override, house.olga, one, "why").code == "no_gate"
    gates.set_policy(house.olga, model, size=1)
    assert refusal(gates.override, house.olga, one, "why").code == "gate_unjudged"
    check(house, one)
    check(house, other)
    for reason in ("", "  ", "a\nb", "x" * 501):
        assert refusal(gates.override, house.olga, one, reason).context["field"] == "reason"
    made = gates.override(house.olga, one, "the ward cannot wait")
    assert gates.override(house.olga, one, "again").pk == made.pk
    assert [gatekeeping.standing(version).open for version in (one, other)] == [True, False]
    entry = AuditEntry.objects.get(action="gate.overridden")
    assert (entry.actor, entry.subject) == (house.cast.olga.public_id, one.public_id)
    assert (entry.details["reason"], entry.details["revision"]) == ("the ward cannot wait", 1)
    gates.set_policy(house.olga, model, size=2)
    assert gatekeeping.standing(one).code == "gate_unjudged"
    gates.set_policy(house.olga, model, size=100_000)
    check(house, one)
    assert refusal(gates.override, house.olga, one, "why").code == "wrong_state"
    gates.set_policy(house.olga, model, size=3)
    check(house, one)
    gates.override(house.olga, one, "once more")
    gates.withdraw(house.olga, one)
    assert not gatekeeping.standing(one).open
    assert refusal(gates.withdraw, house.olga, one).code == "not_found"
    assert [row.withdrawn_at is not None for row in gates.overrides_of(one)] == [True, False]


def test_the_sweeper_has_the_newest_version_judged(house: House, model: Model) -> None:
    weights(house, model, 1.0, 0.0)
    newest = weights(house, model, 2.0, 0.0)
    gates.set_policy(house.olga, model, size=100_000)
    (report_pk,) = gates.due()
    assert gates.due() == [report_pk]
    assert gates.judge(report_pk)
    assert not gates.judge(report_pk)
    assert gates.due() == []
    assert (GateReport.objects.get().version, gatekeeping.standing(newest).open) == (newest, True)


def test_a_model_that_cannot_be_looked_at_does_not_hold_up_the_others(
    house: House, model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = models.create(house.olga, name="pathology")
    weights(house, other, 1.0, 0.0)
    for one in (model, other):
        gates.set_policy(house.olga, one, size=100_000)
    recall = installations.recall

    def broken(of: Model) -> int:
        if of == model:
            raise ZeroDivisionError
        return recall(of)

    monkeypatch.setattr(installations, "recall", broken)
    assert len(gates.due()) == 1
    assert model.public_id in caplog.text


def test_a_report_that_nobody_asks_for_any_more_is_not_made(house: House, model: Model) -> None:
    version = weights(house, model, 1.0, 0.0)
    gates.set_policy(house.olga, model, size=100_000)
    (report_pk,) = gates.due()
    gates.set_policy(house.olga, model, size=1)
    assert not gates.judge(report_pk)
    assert check(house, version)["size"][0] == "failed"


def test_how_the_worst_organization_does_stays_among_those_who_may_know(house: House, model: Model) -> None:
    version = measured(weights(house, model, 1.0, 0.0))
    gates.set_policy(house.olga, model, quality=0.95, gap=0.1)
    check(house, version)
    gates.override(house.olga, version, "a quiet reason")
    # It was measured in a federation of which metro is no member.
    ModelVersion.objects.filter(pk=version.pk).update(lineage={"federation": {"id": "fed_other", "name": "other"}})
    version.refresh_from_db()
    own, others = (gate_reports.shown(actor, version) for actor in (house.olga, house.mia))
    assert [line.figure for line in own.checks] == [0.9, 0.2]
    assert [line.figure for line in others.checks] == [0.9, None]
    assert [line.outcome for line in others.checks] == ["failed", "failed"]
    assert ([row.reason for row in own.overrides], others.overrides) == (["a quiet reason"], [])
    assert (own.open, others.open, own.state) == (True, True, "failed")
