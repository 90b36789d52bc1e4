"""Questions about experiments. Everything here is scoped to what the actor may see."""

from __future__ import annotations

from django.db.models import Count, QuerySet

from federations import permissions
from federations.permissions import Actor
from fedwire.errors import FedportalError
from fedwire.states import ExperimentState
from registry.delivery import conclusions
from registry.delivery.conclusions import Conclusion
from registry.models import Experiment, Model, Rollout
from registry.services import joint


def experiments_of(actor: Actor, model: Model | None = None) -> QuerySet[Experiment]:
    """The experiments on the devices of the actor's organization, with this model or with any, newest first."""
    permissions.require_scope(actor, "model.view")
    found = permissions.visible(actor, Experiment.objects.all())
    found = found.filter(model=model) if model is not None else found
    return found.select_related("model", "control", "treatment", "organization", "rollout", "federation", "lead")


def listed(actor: Actor, model: Model | None = None) -> QuerySet[Experiment]:
    """The same, each with `devices`: how many are in its arms."""
    return experiments_of(actor, model).annotate(devices=Count("participants")).order_by("-id")


def offered(actor: Actor) -> QuerySet[Experiment]:
    """The experiments of others that the actor's organization may join, newest first."""
    permissions.require_scope(actor, "model.view")
    if actor.organization is None:
        return Experiment.objects.none()
    found = joint.offered(actor.organization).filter(model__in=permissions.visible(actor, Model.objects.all()))
    return found.select_related("model", "control", "treatment", "organization", "federation").order_by("-id")


def find_offered(actor: Actor, reference: str) -> Experiment:
    """The experiment with this id that may be joined. Raises `not_found`."""
    found = offered(actor).filter(public_id=reference).first()
    if found is None:
        raise FedportalError("not_found", what="experiment")
    return found


def organizations(experiment: Experiment) -> int:
    """Of how many organizations the numbers are: of all that run it together, while it runs."""
    if experiment.state != ExperimentState.RUNNING:
        return 1
    return joint.together(experiment).exclude(state=ExperimentState.DRAFT).count()


def running(actor: Actor, model: Model) -> Experiment | None:
    """The experiment with the model that runs on the organization's devices."""
    return experiments_of(actor, model).filter(state=ExperimentState.RUNNING).first()


def find_experiment(actor: Actor, reference: str) -> Experiment:
    """The experiment with this id, on the devices of the actor's organization. Raises `not_found`."""
    found = experiments_of(actor).filter(public_id=reference).first()
    if found is None:
        raise FedportalError("not_found", what="experiment")
    return found


def promoted_into(experiment: Experiment) -> str | None:
    """The id of the rollout that the experiment was promoted into."""
    rollout: Rollout | None = getattr(experiment, "rollout", None)
    return rollout.public_id if rollout is not None else None


def devices_by_arm(experiment: Experiment) -> dict[str, dict[str, int]]:
    """Arm → state of the installation → how many of its devices. A device that a rollout took over is left out."""
    found: dict[str, dict[str, int]] = {arm: {} for arm in conclusions.ARMS}
    rows = experiment.participants.filter(device__installations__experiment=experiment).order_by()
    counted = rows.values_list("arm", "device__installations__state").annotate(Count("pk"))
    for arm, state, number in counted:
        found[arm][state] = number
    return found


def members_by_arm(experiment: Experiment) -> dict[str, int]:
    """Arm → how many devices are in it, for good."""
    counted = dict(experiment.participants.order_by().values_list("arm").annotate(Count("pk")))
    return {arm: counted.get(arm, 0) for arm in conclusions.ARMS}


def sentence(experiment: Experiment, found: Conclusion) -> str:
    """What may be concluded now by the experiment's own metric, of which `found` is the conclusion."""
    if experiment.state == ExperimentState.DRAFT:
        return "It has not started: no device is in an arm."
    return conclusions.sentence(found, experiment.control.version, experiment.treatment.version, experiment.winner)
