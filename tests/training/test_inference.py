"""Federated inference: who is asked, what is counted, what is shown of it, and what it costs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federations.models import AuditEntry, DeviceTask
from federations.services import device_tasks
from federations.services import federations as federation_services
from fedportal.common import clock
from fedportal_sdk._policy import DevicePolicy
from fedwire.errors import FedportalError
from tests.training.conftest import Stage
from tests.training.inferring import Clinic, Ward, fresh
from tests.training.test_budgets import limit
from training import inferences, tasks
from training.models import InferencePart, InferencePlan, Ledger, Spending
from training.privacy import ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import DEFAULT_DELTA, UNIT_RECORD
from training.services import answering, consents, inference

NOISE = 2.0


@pytest.fixture
def ward(stage: Stage, tmp_path: Path) -> Ward:
    return Ward(stage, tmp_path / "clinics")


def code(call: Any, *args: Any, **more: Any) -> str:
    with pytest.raises(FedportalError) as refused:
        call(*args, **more)
    return refused.value.code


def say(clinic: Clinic, task: DeviceTask, cells: Any) -> Any:
    body = json.dumps({"samples": 0, "inference": cells}).encode()
    return device_tasks.answer(clinic.site.device.pk, task.public_id, body)[0]


def expected(clinics: list[Clinic]) -> list[int]:
    """What the model says of all rows together: those whose first column is above 0 are of class 1."""
    rows = np.concatenate([clinic.rows for clinic in clinics])
    above = int((rows[:, 0] > 0).sum())
    return [len(rows) - above, above]


def state_of(clinic: Clinic, plan: InferencePlan) -> str:
    return str(InferencePart.objects.get(plan=plan, device=clinic.site.device).state)


# --- from a plan to its summary --------------------------------------------------------------------------------------


def test_only_the_sum_of_what_devices_counted_is_shown(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    assert (plan.state, fresh(plan).result) == ("running", None)
    for clinic in clinics:
        clinic.act()
    done = fresh(plan)
    assert (done.state, done.reason) == ("done", "")
    assert done.result["cells"] == expected(clinics)
    assert {name: done.result[name] for name in ("rows", "devices", "organizations", "hidden", "deviation")} == {
        "rows": 120,
        "devices": 3,
        "organizations": 3,
        "hidden": 0,
        "deviation": 0.0,
    }


def test_nothing_of_a_single_device_stays(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    clinics[0].act()
    assert InferencePart.objects.exclude(cells=None).count() == 1
    for clinic in clinics[1:]:
        clinic.act()
    assert fresh(plan).state == "done"
    assert not InferencePart.objects.exclude(cells=None).exists()
    assert {task.receipt["samples"] for task in DeviceTask.objects.filter(kind="infer")} == {0}


def test_a_plan_may_wait_for_its_start(ward: Ward) -> None:
    (first, *_) = ward.three()
    plan = ward.plan(begin=False)
    assert (plan.state, first.site.tasks()) == ("planned", [])
    inference.start(ward.olga, plan)
    assert fresh(plan).state == "running"
    assert code(inference.start, ward.olga, plan) == "wrong_state"


def test_a_cancelled_plan_shows_nothing_and_forgets_what_came(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    clinics[0].act()
    inference.cancel(ward.olga, plan)
    assert (fresh(plan).state, fresh(plan).result) == ("cancelled", None)
    assert [clinic.site.tasks() for clinic in clinics] == [[], [], []]
    assert not InferencePart.objects.exclude(cells=None).exists()
    assert code(inference.cancel, ward.olga, plan) == "wrong_state"
    assert answering.settle(plan.pk) is False


def test_at_its_deadline_a_plan_ends_with_the_answers_that_are_enough(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(least_devices=2, least_organizations=2)
    for clinic in clinics[:2]:
        clinic.act()
    tasks.sweep_inference()
    assert fresh(plan).state == "running"
    InferencePlan.objects.update(deadline=clock.now() - timedelta(seconds=1))
    tasks.sweep_inference()
    assert (fresh(plan).state, fresh(plan).result["devices"]) == ("done", 2)
    assert state_of(clinics[2], plan) == "expired"
    assert clinics[2].site.tasks() == []


def test_with_too_few_answers_nothing_is_shown(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    clinics[0].policy = DevicePolicy(inference=False)
    for clinic in clinics:
        clinic.act()
    failed = fresh(plan)
    assert (failed.state, failed.result) == ("failed", None)
    assert failed.reason == "2 devices of 2 organizations answered; it needs 3 of 3"


# --- who is asked ----------------------------------------------------------------------------------------------------


def test_without_consent_no_device_is_asked(ward: Ward) -> None:
    clinics = ward.three()
    inference.withdraw_consent(ward.stage.cast.actor("vera"), ward.federation)
    with pytest.raises(FedportalError) as refused:
        ward.plan()
    assert refused.value.code == "inference_too_few"
    assert "valley has not consented" in refused.value.message
    assert InferencePlan.objects.count() == 0
    plan = ward.plan(least_devices=2, least_organizations=2)
    assert clinics[2].site.tasks() == []
    assert plan.left_out == {"valley": "valley has not consented"}


def test_a_consent_goes_as_far_as_it_says(ward: Ward) -> None:
    ward.three()
    limits: list[tuple[Any, Any, str]] = [
        ({"summaries": ["mean"]}, {}, "does not consent to summaries of the kind counts"),
        ({"least_count": 20}, {"least_count": 19}, "cells of at least 20 rows"),
        ({"least_noise": 1.0}, {"noise": 0.5}, "noise of at least 1"),
        ({"plans_a_month": 0}, {}, "its 0 plans of the last 30 days"),
    ]
    for bounds, asked, reason in limits:
        consents.give(ward.stage.cast.actor("vera"), ward.federation, **bounds)
        plan = ward.plan(least_devices=2, least_organizations=2, **asked)
        assert reason in plan.left_out["valley"]
        assert not plan.parts.filter(organization=ward.stage.cast.valley).exists()


def test_with_a_budget_plans_without_noise_are_counted_and_those_with_noise_are_not(ward: Ward) -> None:
    ward.three()
    consents.give(ward.stage.cast.actor("vera"), ward.federation, plans_a_month=1)
    limit(ward.stage.cast.valley, 100.0)
    bounds = {"least_devices": 2, "least_organizations": 2}
    assert ward.plan(noise=NOISE, **bounds).left_out == {}
    assert ward.plan(**bounds).left_out == {}
    assert "1 plans without noise" in ward.plan(**bounds).left_out["valley"]
    InferencePlan.objects.update(started_at=clock.now() - timedelta(days=31))
    assert ward.plan(**bounds).left_out == {}


def test_without_a_budget_plans_with_noise_are_counted_too(ward: Ward) -> None:
    """Else nothing would bound how often little noise is asked for, and averaged away."""
    ward.three()
    consents.give(ward.stage.cast.actor("vera"), ward.federation, plans_a_month=1)
    bounds = {"least_devices": 2, "least_organizations": 2}
    assert ward.plan(noise=0.3, **bounds).left_out == {}
    for noise in (0.3, 0.0):
        assert "its 1 plans of the last 30 days" in ward.plan(noise=noise, **bounds).left_out["valley"]
    limit(ward.stage.cast.valley, 1000.0)
    assert ward.plan(noise=0.3, **bounds).left_out == {}
    assert ward.plan(**bounds).left_out == {}


def test_consent_taken_back_takes_its_answers_out_of_what_runs(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(least_devices=2, least_organizations=2)
    clinics[2].act()
    inference.withdraw_consent(ward.stage.cast.actor("vera"), ward.federation)
    part = InferencePart.objects.get(plan=plan, device=clinics[2].site.device)
    assert (part.state, part.cells) == ("withdrawn", None)
    for clinic in clinics[:2]:
        clinic.act()
    assert fresh(plan).result["cells"] == expected(clinics[:2])


def test_who_left_is_not_counted_and_has_to_consent_again(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(least_devices=2, least_organizations=2)
    clinics[2].act()
    vera = ward.stage.cast.actor("vera")
    federation_services.leave(vera, ward.federation)
    for clinic in clinics[:2]:
        clinic.act()
    assert (fresh(plan).state, fresh(plan).result["organizations"]) == ("done", 2)
    federation_services.invite(ward.olga, ward.federation, org_ids=[ward.stage.cast.valley.public_id])
    federation_services.join(vera, ward.federation)
    again = ward.plan(noise=NOISE, least_devices=2, least_organizations=2)
    assert again.left_out == {"valley": "valley has not consented"}


def test_consent_is_for_owners_and_privacy_officers_and_is_written_down(ward: Ward) -> None:
    otto, mia = ward.stage.cast.actor("otto"), ward.stage.cast.actor("mia")
    assert code(consents.give, otto, ward.federation) == "forbidden"
    assert code(inference.withdraw_consent, otto, ward.federation) == "forbidden"
    assert code(consents.give, ward.stage.cast.actor("rex"), ward.federation) == "not_found"
    consents.give(mia, ward.federation)  # the same again
    inference.withdraw_consent(mia, ward.federation)
    inference.withdraw_consent(mia, ward.federation)
    rows = AuditEntry.objects.filter(organization=ward.stage.cast.metro, action__startswith="inference.")
    assert list(rows.order_by("sequence").values_list("action", flat=True)) == [
        "inference.consented",
        "inference.consent_withdrawn",
    ]


def test_a_consent_that_says_nothing_usable_is_refused(ward: Ward) -> None:
    nothing: list[Any] = [{"summaries": []}, {"summaries": ["rows"]}, {"least_count": 4}, {"least_noise": 0.1}]
    for limits in (*nothing, {"plans_a_month": -1}):
        assert code(consents.give, ward.stage.cast.actor("mia"), ward.federation, **limits) == "field_invalid"


def test_only_who_may_train_plans(ward: Ward) -> None:
    for who, expected_code in (("otto", "forbidden"), ("mia", "forbidden"), ("rex", "not_found")):
        actor = ward.stage.cast.actor(who)
        said = {"summary": "counts"}
        assert code(inference.plan, actor, ward.federation, ward.stage.model, said=said) == expected_code


def test_a_plan_that_cannot_be_is_refused(ward: Ward) -> None:
    impossible: list[tuple[Any, str]] = [
        ({"summary": "rows"}, "summary"),
        ({"bins": 1}, "bins"),
        ({"low": 1.0, "high": 1.0}, "high"),
        ({"noise": 0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"least_count": 4}, "least_count"),
        ({"rows": "one"}, "rows"),
        ({"least_devices": 1}, "least_devices"),
        ({"least_organizations": 1}, "least_organizations"),
        ({"seconds": 1}, "seconds"),
    ]
    for asked, field in impossible:
        with pytest.raises(FedportalError) as refused:
            ward.plan(**asked)
        assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", field)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_counts_once_and_another_one_is_refused(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    task = clinics[0].act()
    given = InferencePart.objects.get(plan=plan, task=task).cells
    receipt = say(clinics[0], task, given)
    assert say(clinics[0], task, given) == receipt
    assert code(say, clinics[0], task, [given[0] + 1, given[1]]) == "answer_differs"
    clinics[0].again(task)  # the SDK repeats it after a restart
    for clinic in clinics[1:]:
        clinic.act()
    assert fresh(plan).result["cells"] == expected(clinics)


IMPOSSIBLE = (
    *(None, [], [20], [20, 20, 20], [-1, 41], [20.5, 19.5], [True, 39], ["20", 20]),
    *([10**8, 10**8], [2**60, 0], [4, 5], {"0": 20}),
)


def test_what_no_device_can_have_counted_is_refused(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    task = clinics[0].site.take()
    for cells in IMPOSSIBLE:
        assert (cells, code(say, clinics[0], task, cells)) == (cells, "inference_invalid")
    assert state_of(clinics[0], plan) == "working"
    clinics[0].again(task)  # a better one may still come
    assert state_of(clinics[0], plan) == "answered"


def test_not_a_number_is_no_json(ward: Ward) -> None:
    clinics = ward.three()
    ward.plan()
    task = clinics[0].site.take()
    body = b'{"samples": 0, "inference": [NaN, 20]}'
    assert code(device_tasks.answer, clinics[0].site.device.pk, task.public_id, body) == "bad_request"


def test_noisy_cells_may_be_below_zero_but_not_beyond_the_noise(ward: Ward) -> None:
    clinics = ward.three()
    ward.plan(noise=NOISE)
    task = clinics[0].site.take()
    assert code(say, clinics[0], task, [-30, 40]) == "inference_invalid"
    say(clinics[0], task, [-3, 40])


def test_an_answer_after_the_end_is_closed(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    task = clinics[0].site.take()
    inference.cancel(ward.olga, plan)
    assert code(say, clinics[0], task, [20, 20]) == "task_closed"
    assert InferencePart.objects.get(task=task).cells is None


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_small_cells_are_hidden_and_cannot_be_told_from_the_rest(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(summary="histogram", bins=4)
    for clinic, cells in zip(clinics, ([1, 20, 15, 4], [0, 30, 9, 1], [1, 25, 12, 2]), strict=True):
        say(clinic, clinic.site.take(), cells)
    # 2 and 7 are below 10, and together still are: the smallest of the others goes with them.
    assert fresh(plan).result["cells"] == [None, 75, None, None]
    assert (fresh(plan).result["rows"], fresh(plan).result["hidden"]) == (120, 3)


def test_a_second_look_at_almost_the_same_devices_is_not_shown(ward: Ward) -> None:
    clinics = [*ward.three(), ward.clinic(ward.stage.cast.acme, "acme-2")]
    plan = ward.plan()
    for clinic in clinics:
        clinic.act()
    assert fresh(plan).state == "done"
    without = ward.plan()
    clinics[3].policy = DevicePolicy(inference=False)
    for clinic in clinics:
        clinic.act()
    assert (fresh(without).state, fresh(without).result) == ("failed", None)
    assert fresh(without).reason == answering.ALIKE
    noisy = ward.plan(noise=NOISE)
    for clinic in clinics:
        clinic.act()
    assert fresh(noisy).state == "done"


def test_the_same_devices_are_not_looked_at_within_slightly_other_bounds(ward: Ward) -> None:
    clinics = ward.three()
    asked: list[tuple[dict[str, Any], str]] = [
        ({"summary": "histogram", "bins": 4}, ""),
        ({"summary": "histogram", "bins": 4, "high": 1.0001}, answering.SHIFTED),
        ({"summary": "histogram", "bins": 4, "rows": "held_out"}, answering.SHIFTED),
        ({"summary": "histogram", "bins": 4, "high": 1.0001, "noise": NOISE}, ""),
        ({"summary": "histogram", "bins": 4}, ""),
    ]
    for said, reason in asked:
        plan = ward.plan(**said)
        for clinic in clinics:
            say(clinic, clinic.site.take(), [10, 10, 10, 10])
        assert (said, fresh(plan).reason, fresh(plan).result is None) == (said, reason, bool(reason))


def test_a_mean_that_is_a_count_of_few_is_withheld_with_the_reason(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(summary="mean", low=0.5, high=0.5 + 1e-12)
    for clinic, above in zip(clinics, (1, 0, 2), strict=True):
        say(clinic, clinic.site.take(), [40 * 1024, above * 1024])
    assert (fresh(plan).state, fresh(plan).result, fresh(plan).reason) == ("failed", None, answering.AT_AN_END)


def test_members_see_it_and_others_do_not(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    for clinic in clinics:
        clinic.act()
    found = inferences.shown([inferences.find_plan(ward.stage.cast.actor("mia"), plan.public_id)])[0]
    assert (found["status"], found["devices"], found["labels"]) == ("done", {"answered": 3}, ["0", "1"])
    assert code(inferences.find_plan, ward.stage.cast.actor("rex"), plan.public_id) == "not_found"


# --- noise and budget ------------------------------------------------------------------------------------------------


def enough_for(plans: int) -> float:
    return ledgers.spent({f"{UNIT_RECORD} {NOISE!r} 1.0": plans}, DEFAULT_DELTA) * 1.001


def states(ward: Ward, owner: str) -> list[str]:
    rows = Spending.objects.filter(organization=ward.owners[owner], plan__isnull=False)
    return list(rows.order_by("pk").values_list("state", flat=True))


def test_noise_is_reserved_at_the_start_and_charged_to_who_answered(ward: Ward) -> None:
    clinics = ward.three()
    clinics[2].policy = DevicePolicy(inference=False)
    plan = ward.plan(noise=NOISE, least_devices=2, least_organizations=2)
    assert [states(ward, who) for who in ward.owners] == [["reserved"]] * 3
    for clinic in clinics:
        clinic.act()
    assert [states(ward, who) for who in ward.owners] == [["charged"], ["charged"], ["refunded"]]
    counts = {ledger.organization.name: ledger.counts for ledger in Ledger.objects.select_related("organization")}
    one = ledgers.added({}, UNIT_RECORD, Mechanism(NOISE))
    assert counts == {"acme": one, "metro": one, "valley": {}}
    done = fresh(plan)
    assert done.result["deviation"] == pytest.approx(NOISE * 2**0.5)
    assert abs(done.result["rows"] - 80) < 40
    budget = ward.stage.cast.client("mia").get(f"/api/v1/orgs/{ward.stage.cast.metro.public_id}/budget").json()
    assert budget["spent"] == pytest.approx(enough_for(1), rel=2e-3)
    assert [row["rounds"] for row in budget["federations"]] == [1]


def test_an_organization_without_budget_is_left_out(ward: Ward) -> None:
    clinics = ward.three()
    limit(ward.stage.cast.valley, enough_for(1))
    bounds = {"least_devices": 2, "least_organizations": 2}
    assert ward.plan(noise=NOISE, **bounds).left_out == {}
    second = ward.plan(noise=NOISE, **bounds)
    assert second.left_out == {"valley": "the privacy budget of valley is not enough for this plan"}
    assert len(clinics[2].site.tasks()) == 1
    assert states(ward, "vera") == ["reserved"]
    with pytest.raises(FedportalError) as refused:
        ward.plan(noise=NOISE)
    assert refused.value.code == "inference_too_few"
    assert [states(ward, who) for who in ward.owners] == [["reserved"] * 2, ["reserved"] * 2, ["reserved"]]


def test_what_was_seen_is_paid_for_also_when_the_plan_comes_to_nothing(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(noise=NOISE)
    clinics[0].act()
    assert code(say, clinics[1], clinics[1].site.take(), [1, 2, 3]) == "inference_invalid"
    inference.cancel(ward.olga, plan)
    assert [states(ward, who) for who in ward.owners] == [["charged"], ["charged"], ["refunded"]]


def test_what_comes_after_the_end_is_paid_for_all_the_same(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(noise=NOISE)
    task = clinics[0].site.take()
    inference.cancel(ward.olga, plan)
    assert states(ward, "olga") == ["refunded"]
    for _ in range(2):
        assert code(say, clinics[0], task, [20, 20]) == "task_closed"
    assert states(ward, "olga") == ["charged"]
    assert Ledger.objects.get(organization=ward.stage.cast.acme).counts == ledgers.added(
        {}, UNIT_RECORD, Mechanism(NOISE)
    )
