"""What people and programs are told of plans of inference. Every function is called in the unit of what it tells."""

from __future__ import annotations

from collections.abc import Iterable

from federations.models import Organization
from federations.services import notifications
from fedwire.states import InferenceState
from training.models import InferencePlan


def started(plan: InferencePlan, organizations: Iterable[Organization]) -> None:
    """The plan asks devices of these organizations."""
    sentence = (
        f"{plan.organization.name} asks your devices what {plan.model.name} {plan.version.version} says of their rows, "
        f"in {plan.federation.name}."
    )
    for organization in organizations:
        notifications.tell(organization, "inference.started", sentence=sentence, address=address(plan), data=_ids(plan))


def ended(plan: InferencePlan) -> None:
    """The plan is over: told to whose it is."""
    how = "is there" if plan.state == InferenceState.DONE else f"is not there: {plan.reason}"
    sentence = f"The summary of {plan.model.name} {plan.version.version} in {plan.federation.name} {how}."
    data = {**_ids(plan), "state": str(plan.state), "reason": plan.reason}
    notifications.tell(plan.organization, "inference.finished", sentence=sentence, address=address(plan), data=data)


def address(plan: InferencePlan) -> str:
    """The page of the plan."""
    return f"/inference/{plan.public_id}"


def _ids(plan: InferencePlan) -> dict[str, str]:
    return {"plan": plan.public_id, "model": plan.model.public_id, "federation": plan.federation.public_id}
