"""What is on its way to an organization's devices: of a model one rollout, or one experiment, at a time.

Whoever begins one holds the organization's lock (`organizations.lock`).
"""

from __future__ import annotations

from django.db.models import Q, QuerySet

from federations import permissions
from federations.models import Device, Organization
from federations.permissions import Actor
from fedwire.errors import FedportalError
from fedwire.states import DeviceState, ExperimentState, RolloutState, word
from registry.models import Experiment, Model, ModelVersion, Rollout
from registry.models.rollouts import ALIVE
from registry.services import models

ACTION = "organization.deploy"


def allowed(actor: Actor, model: Model) -> Organization:
    """The actor's organization, for whose devices they may decide, and which may have the model.

    Raises `not_found`, `forbidden`.
    """
    organization = actor.organization
    if organization is None or models.relation(model, organization) is None:
        raise FedportalError("not_found", what="model")
    permissions.require(actor, ACTION, organization)
    return organization


def rollout(organization: Organization, model: Model) -> Rollout | None:
    """The rollout of the model that is on its way."""
    rows = Rollout.objects.filter(organization=organization, model=model, state__in=ALIVE)
    return rows.select_related("model", "version", "organization").first()


def experiment(organization: Organization, model: Model) -> Experiment | None:
    """The experiment with the model that is running."""
    return Experiment.objects.filter(organization=organization, model=model, state=ExperimentState.RUNNING).first()


def refuse_beside_rollout(organization: Organization, model: Model) -> None:
    """Raises `wrong_state` while a rollout of the model is on its way."""
    running = rollout(organization, model)
    if running is not None:
        commands = (f"`fedportal {verb} {running.public_id}`" for verb in ("rollout complete", "rollback"))
        hint = f"First be done with it: {', or '.join(commands)}."
        what = f"The rollout of {model.name} {running.version.version}"
        raise FedportalError("wrong_state", what=what, state=word("rollout", running.state), hint=hint)


def refuse_beside_experiment(organization: Organization, model: Model) -> None:
    """Raises `wrong_state` while an experiment with the model is running."""
    running = experiment(organization, model)
    if running is not None:
        commands = (f"`fedportal experiment {verb} {running.public_id}`" for verb in ("stop", "promote"))
        what, hint = f"The experiment {running.name}", f"First end it: {' or '.join(commands)}."
        raise FedportalError("wrong_state", what=what, state=word("experiment", running.state), hint=hint)


def fleet(decider: Rollout | Experiment) -> QuerySet[Device]:
    """The devices in use that it is for: of its group, or all of the organization."""
    found = Device.objects.filter(organization=decider.organization_id, state=DeviceState.ACTIVE).order_by()
    if not decider.group_name:
        return found
    return found.filter(groups=decider.group_id) if decider.group_id is not None else found.none()


def last_version(organization: Organization, model: Model) -> ModelVersion | None:
    """The version of the last rollout that was completed."""
    done = Rollout.objects.filter(organization=organization, model=model, state=RolloutState.COMPLETED)
    last = done.select_related("version").first()
    return last.version if last is not None else None


def followed(rollout: Rollout) -> bool:
    """Whether a later rollout or experiment has decided since what the rollout's devices are to hold."""
    same = {"organization": rollout.organization_id, "model": rollout.model_id}
    since = Q(started_at__gt=rollout.created_at) | Q(state=ExperimentState.RUNNING)
    later = Experiment.objects.filter(since, **same)
    return Rollout.objects.filter(**same, pk__gt=rollout.pk).exists() or later.exists()
