"""Plans of inference: who directs one, and what holds for one that runs or was seen at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from federations.services import federations as federation_services
from fedportal.common.transactions import unit
from fedportal_sdk._policy import DevicePolicy
from fedwire.errors import FedportalError
from registry.services import models
from tests.training.conftest import Stage
from tests.training.inferring import Ward, fresh
from tests.training.test_inference import NOISE, code, expected, states
from training.models import InferencePart
from training.services import answering, consents, inference


@pytest.fixture
def ward(stage: Stage, tmp_path: Path) -> Ward:
    return Ward(stage, tmp_path / "clinics")


def test_a_consent_given_anew_with_less_reaches_the_plans_that_run(ward: Ward) -> None:
    clinics = ward.three()
    vera = ward.stage.cast.actor("vera")
    for said in ({"least_noise": 1.0}, {"least_count": 20}, {"summaries": ["mean"]}):
        consents.give(vera, ward.federation, plans_a_month=1000)
        plan = ward.plan(least_devices=2, least_organizations=2)
        clinics[2].act()
        consents.give(vera, ward.federation, **said, plans_a_month=1000)  # type: ignore[arg-type]
        for clinic in clinics[:2]:
            clinic.act()
        assert fresh(plan).result["cells"] == expected(clinics[:2])
        part = InferencePart.objects.get(plan=plan, device=clinics[2].site.device)
        assert (part.state, part.cells, part.reason[:6]) == ("withdrawn", None, "valley")


def test_a_plan_is_directed_by_its_organization_and_the_owner_of_the_federation(ward: Ward) -> None:
    ward.three()
    mia, vera, federation = ward.stage.cast.actor("mia"), ward.stage.cast.actor("vera"), ward.federation
    federation_services.change(ward.olga, federation, members_may_start_runs=True)
    plans = [
        inference.plan(mia, federation, ward.stage.model, said={"summary": "counts"}, begin=False) for _ in range(2)
    ]
    for act in (inference.start, inference.cancel):
        with pytest.raises(FedportalError) as refused:
            act(vera, plans[0])
        assert refused.value.code == "forbidden"
        assert refused.value.next_step == "An owner or a data scientist of metro or acme may do this."
    assert ward.stage.cast.browser("vera").get(f"/inference/{plans[0].public_id}/cancel").status_code == 403
    assert inference.start(mia, plans[0]).state == "running"
    assert inference.cancel(ward.olga, plans[0]).state == "cancelled"
    models.unshare(ward.olga, ward.stage.model, federation)
    for who in (mia, ward.olga):
        assert code(inference.start, who, fresh(plans[1])) == "not_shared"


def test_a_second_look_through_another_federation_is_not_shown_either(ward: Ward) -> None:
    clinics = [*ward.three(), ward.clinic(ward.stage.cast.acme, "acme-2")]
    plan = ward.plan()
    for clinic in clinics:
        clinic.act()
    assert fresh(plan).state == "done"
    ward.federation = federation_services.found(ward.olga, name="again")
    others = [ward.owners[who] for who in ("mia", "vera")]
    federation_services.invite(ward.olga, ward.federation, org_ids=[one.public_id for one in others])
    models.share(ward.olga, ward.stage.model, ward.federation)
    for who in ward.owners:
        actor = ward.stage.cast.actor(who)
        federation_services.join(actor, ward.federation)
        consents.give(actor, ward.federation)
    without = ward.plan()
    clinics[3].policy = DevicePolicy(inference=False)
    for clinic in clinics:
        clinic.act()
    assert (fresh(without).state, fresh(without).reason) == ("failed", answering.ALIKE)


def test_what_is_refused_while_the_plan_ends_is_paid_for_all_the_same(ward: Ward) -> None:
    """The task was open when the portal looked, and the plan over when the refusal is noted."""
    clinics = ward.three()
    plan = ward.plan(noise=NOISE)
    task = clinics[0].site.take()
    inference.cancel(ward.olga, plan)
    with unit():
        answering.on_refused(task, "inference_invalid", "It cannot be.")
    assert states(ward, "olga") == ["charged"]
