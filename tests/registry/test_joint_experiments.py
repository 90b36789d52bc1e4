"""Experiments of a federation: each joins with its own devices, the numbers are of all, and each may leave."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from federations.models import AuditEntry, Role
from federations.permissions import Actor
from federations.services import federations
from fedwire.states import ExperimentState
from registry import experiment_selectors
from registry.models import Experiment, Installation
from registry.services import arms, experiments, joint, models, rollouts
from tests.registry.conftest import House, refusal
from tests.registry.test_rollouts import Fleet, more_devices
from tests.registry.test_rollouts_api import send


@pytest.fixture
def fleet(house: House) -> Fleet:
    """metro's ten devices; acme, which owns the model, has six of its own."""
    found = Fleet(house)
    found.devices += more_devices(house.acme, 6)
    return found


def led(fleet: Fleet, **more: Any) -> Experiment:
    """acme's experiment, which runs and is open to the federation."""
    house = fleet.house
    return experiments.create(
        house.olga, fleet.new, control=fleet.old, federation=house.federation, start_now=True, **more
    )


def test_an_organization_joins_by_its_own_decision_with_its_own_devices(fleet: Fleet) -> None:
    lead = led(fleet)
    assert fleet.obey() == 6
    assert list(experiment_selectors.offered(fleet.mia)) == [lead]
    for name in ("olga", "vera", "rex"):  # its own; only invited; a stranger
        assert list(experiment_selectors.offered(fleet.house.cast.actor(name))) == []
    own = joint.join(fleet.mia, lead)
    assert (own.organization, own.lead, own.state) == (fleet.house.metro, lead, ExperimentState.RUNNING)
    assert fleet.obey() == 10
    held = Counter(Installation.objects.values_list("organization__name", "installed__version"))
    assert held == {("acme", "1.0.0"): 3, ("acme", "2.0.0"): 3, ("metro", "1.0.0"): 5, ("metro", "2.0.0"): 5}
    assert AuditEntry.objects.get(action="experiment.joined").organization == fleet.house.metro
    assert list(experiment_selectors.offered(fleet.mia)) == []
    assert refusal(joint.join, fleet.mia, lead).code == "not_found"


def test_the_numbers_are_of_all_that_take_part(fleet: Fleet) -> None:
    lead = led(fleet)
    own = joint.join(fleet.mia, lead)
    fleet.obey()
    fleet.report(fleet.old, "old", count=50, judged=50, right=30)
    fleet.report(fleet.new, "new", count=50, judged=50, right=45)
    for experiment in (lead, own):
        found = arms.conclusion(experiment)
        assert (found.control.devices, found.treatment.count, found.better) == (8, 400, "treatment")
        assert experiment_selectors.organizations(experiment) == 2
    experiments.sweep()
    assert set(Experiment.objects.values_list("winner", flat=True)) == {"treatment"}


def test_each_promotes_for_itself_and_one_that_leaves_takes_only_its_own_devices_out(fleet: Fleet) -> None:
    lead = led(fleet)
    own = joint.join(fleet.mia, lead)
    fleet.obey()
    fleet.report(fleet.old, "old", count=10, judged=10, right=5)
    assert experiments.stop(fleet.mia, own).restored_at is None
    own.refresh_from_db()
    assert arms.conclusion(own).control.count == 50  # from now on it sees no numbers of others
    assert arms.conclusion(lead).control.count == 80
    assert fleet.obey() == 10
    assert fleet.holding() == {"": 10, "1.0.0": 3, "2.0.0": 3}
    rollout = experiments.promote(fleet.house.olga, lead, "treatment")
    fleet.obey()
    assert rollout.organization == fleet.house.acme
    assert fleet.holding() == {"": 10, "2.0.0": 6}


def test_when_the_lead_stops_all_stop(fleet: Fleet) -> None:
    lead = led(fleet)
    own = joint.join(fleet.mia, lead)
    fleet.obey()
    experiments.stop(fleet.house.olga, lead)
    joint.sweep()
    joint.sweep()
    own.refresh_from_db()
    assert (own.state, own.reason) == (ExperimentState.STOPPED, joint.LEAD_STOPPED)
    assert fleet.obey() == 16
    assert fleet.holding() == {"": 16}


@pytest.mark.parametrize("way", ["left", "taken out"])
def test_who_does_not_share_the_model_any_more_is_out(fleet: Fleet, way: str) -> None:
    lead = led(fleet)
    own = joint.join(fleet.mia, lead)
    if way == "left":
        federations.leave(fleet.mia, fleet.house.federation)
    else:
        models.unshare(fleet.house.olga, fleet.model, fleet.house.federation)
    joint.sweep()
    own.refresh_from_db()
    lead.refresh_from_db()
    assert (own.state, own.reason) == (ExperimentState.STOPPED, joint.NOT_SHARED)
    assert lead.state == ExperimentState.RUNNING


def test_only_the_owner_of_a_shared_model_opens_an_experiment(fleet: Fleet) -> None:
    house = fleet.house
    plan = {"control": fleet.old, "federation": house.federation}
    assert refusal(experiments.create, fleet.mia, fleet.new, **plan).context["field"] == "federation"
    models.unshare(house.olga, fleet.model, house.federation)
    assert refusal(experiments.create, house.olga, fleet.new, **plan).context["field"] == "federation"


def test_who_only_looks_cannot_join_for_the_organization(fleet: Fleet) -> None:
    metro = fleet.house.metro
    viewer = Actor(fleet.house.cast.colleague(metro, Role.VIEWER), metro)
    assert refusal(joint.join, viewer, led(fleet)).code == "forbidden"


def test_what_is_on_its_way_at_the_one_that_joins_comes_first(fleet: Fleet) -> None:
    lead = led(fleet)
    rollouts.deploy(fleet.mia, fleet.old)
    assert refusal(joint.join, fleet.mia, lead).code == "wrong_state"
    assert Experiment.objects.count() == 1


def test_an_offer_over_http_shows_the_plan_and_no_numbers(fleet: Fleet) -> None:
    said = {"model_id": "radiology-v1", "control_version": "1.0.0", "treatment_version": "2.0.0"}
    federation = fleet.house.federation.public_id
    _, made = send(fleet, "olga", "/experiments", **said, federation=federation, start_immediately=True)
    assert (made["federation_id"], made["lead_id"]) == (federation, None)
    listed = fleet.house.cast.client("mia").get("/api/v1/experiments/offered").json()
    offer = listed["experiments"][0]
    assert (listed["total"], offer["id"], offer["organization"]["name"]) == (1, made["id"], "acme")
    assert not {"devices", "winner", "status"} & offer.keys()
    status, own = send(fleet, "mia", f"/experiments/{made['id']}/join")
    assert (status, own["lead_id"], own["status"]) == (201, made["id"], "running")
    assert send(fleet, "mia", f"/experiments/{made['id']}/stop")[0] == 404
