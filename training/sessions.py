"""A run as a session, the vocabulary in which other federated-learning clients know it. Nothing here has a state of its
own: a session is a run, a host is a device, and words are translated by `fedwire.states.SESSION_WORDS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Count, Max, OuterRef, Q, Subquery, Sum

from federations.models import Federation
from federations.permissions import Actor
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RoundState, session_word
from registry.models import Model
from training.models import Assignment, Run
from training.services import runs

# The algorithms of that vocabulary, each with the strategy that it is.
ALGORITHMS: Mapping[str, str] = {"fed_avg": "fedavg", "fed_prox": "fedprox"}
# What its configuration calls otherwise than a strategy does.
PARAMETERS: Mapping[str, str] = {
    "local_epochs": "epochs",
    "learning_rate": "learning_rate",
    "batch_size": "batch_size",
    "proximal_mu": "mu",
}
# Protections that it may ask for and that no run gives yet; false, zero and null ask for nothing.
PROTECTIONS: Mapping[str, str] = {
    "dp_sigma": "Noise against the learning of single rows (differential privacy)",
    "secure_aggregation": "Secure aggregation",
}
MOST_PARTICIPANTS = 1000


def told(run: Run) -> dict[str, Any]:
    """The run by itself; needs the rows of `selectors.with_names`."""
    return {
        "id": run.public_id,
        "name": run.name or run.model.name,
        "status": session_word("run", run.state),
        "current_round": run.current_round,
        "total_rounds": run.total_rounds,
        "reason": run.reason,
        "base_workload_id": run.model.public_id,
        "result_version": run.result_version.version if run.result_version else None,
        "federation": {"id": run.federation.public_id, "name": run.federation.name},
        "config": _config(run),
        "created_at": run.created_at,
    }


def in_full(run: Run) -> dict[str, Any]:
    """The run with the devices that have or had a part in it, the first MOST_PARTICIPANTS by organization and name.

    Three queries, however many rounds there were.
    """
    parts = Assignment.objects.filter(round__run=run)
    newest = parts.filter(device=OuterRef("device")).order_by("-round__number", "-round__attempt")
    counted = Q(round__kind=RoundKind.TRAIN, update__counted_in__state=RoundState.DONE)
    rows = (
        parts.order_by()
        .values("device__public_id", "device__identifier", "organization__public_id")
        .annotate(
            done=Count("pk", filter=counted),
            samples=Sum("update__samples", filter=counted),
            seen=Max("device__last_seen_at"),
            state=Subquery(newest.values("state")[:1]),
        )
        .order_by("organization__name", "device__identifier")
    )
    return {
        **told(run),
        "participant_count": parts.values("device").distinct().count(),
        "participants": [
            {
                "host_id": row["device__public_id"],
                "name": row["device__identifier"],
                "organization_id": row["organization__public_id"],
                "status": session_word("assignment", row["state"]),
                "rounds_completed": row["done"],
                "total_samples": row["samples"] or 0,
                "last_seen_at": row["seen"],
            }
            for row in rows[:MOST_PARTICIPANTS]
        ],
    }


def wanted(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a session's name, rounds and configuration ask of `runs.start`.

    Raises `field_invalid` for an algorithm or a setting that is none, and `not_available` for a protection that no run
    gives yet: it is never left out silently.
    """
    config: dict[str, Any] = {name: value for name, value in said["config"].items() if value is not None}
    for name, what in PROTECTIONS.items():
        if config.pop(name, 0):
            raise FedportalError("not_available", what=what, field=f"config.{name}")
    algorithm = config.pop("algorithm", "fed_avg")
    if algorithm not in ALGORITHMS:
        reason = f"it must be one of {', '.join(ALGORITHMS)}."
        raise FedportalError("field_invalid", field="config.algorithm", reason=reason)
    least = config.pop("min_participants", None)
    if unknown := sorted(set(config) - set(PARAMETERS)):
        raise FedportalError("field_invalid", field=f"config.{unknown[0]}", reason="there is no such setting.")
    return {
        "name": said["name"],
        "rounds": said["total_rounds"],
        "strategy": ALGORITHMS[algorithm],
        "config": {PARAMETERS[name]: value for name, value in config.items()},
        **({"min_participants": least} if least is not None else {}),
    }


def federation_of(actor: Actor, model: Model) -> Federation:
    """The one federation in which the actor may train the model. Raises `not_shared`; `field_invalid` for several."""
    try:
        return runs.federation_of(actor, model, None)
    except FedportalError as error:
        if error.code != "ambiguous_name":
            raise
        reason = f"{model.name} is shared with several federations; name one of {error.context['choices']}."
        raise FedportalError("field_invalid", field="federation", reason=reason) from None


def _config(run: Run) -> dict[str, Any]:
    """How the run trains, as a session says it; settings of strategies that a session does not know are left out."""
    parameters = run.config.get("parameters", {})
    algorithms = {strategy: name for name, strategy in ALGORITHMS.items()}
    return {
        "algorithm": algorithms.get(run.strategy, run.strategy),
        **{name: parameters[of] for name, of in PARAMETERS.items() if of in parameters},
        "min_participants": run.min_participants,
        "dp_sigma": None,
        "secure_aggregation": False,
    }
