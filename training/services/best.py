"""The best round of a run: by what it is chosen, whether a model is better, and its model as a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federations import permissions
from federations.permissions import Actor
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.reports import MAX_NAME
from fedwire.states import RoundKind, RoundState
from registry.models import ModelVersion
from registry.services import versions
from training import curve_points, progress
from training.aggregation import strategies
from training.models import Round, Run
from training.services import comparable, finishing

DEFAULT = {"metric": "loss", "greater": False}
WHAT = "The best model of this run"


def criterion(value: Any) -> dict[str, Any]:
    """{"metric", "greater"}: by what the best round is chosen, and whether more of it is better.

    `value` is a metric's name ("loss", "accuracy", "auc" or one that devices report), or an object with `metric` and
    perhaps `greater`. Left out, more is better unless it is a loss or an error. Raises `field_invalid`.
    """
    given = dict(DEFAULT) if value is None else {"metric": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not set(given) <= {"metric", "greater"}:
        raise _invalid("it must be a metric's name, or an object with `metric` and `greater`.")
    metric = given.get("metric", DEFAULT["metric"])
    if not isinstance(metric, str) or not 0 < len(metric) <= MAX_NAME + len("auc_") or not metric.isprintable():
        raise _invalid(f"`metric` must be a name of up to {MAX_NAME} characters.")
    greater = given.get("greater")
    if greater is None:
        greater = not curve_points.lower_is_better(metric)
    if not isinstance(greater, bool):
        raise _invalid("`greater` must be true or false.")
    return {"metric": metric, "greater": greater}


def of(run: Run) -> dict[str, Any]:
    """The run's criterion; that of a run from before there was a choice is the loss."""
    return run.config.get("best") or dict(DEFAULT)


def value_of(run: Run, point: Mapping[str, Any]) -> float | None:
    """What counts of a point of the curves; None where it was not measured."""
    metric, point = of(run)["metric"], judged(run, point)
    value = point.get(metric) if metric in curve_points.RATIOS else point.get("others", {}).get(metric)
    return None if value is None else float(value)


def judged(run: Run, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a point or a round's metrics what models are compared by: where a part of the model stays on the devices, what
    it is with their own parts, for without it is of no use to anybody."""
    if strategies.find(run.strategy).staying is None:
        return found
    own: Mapping[str, Any] = found.get("personal", {})
    return own


def is_better(run: Run, known: Mapping[str, Any]) -> bool:
    """Whether this model is better than the best so far, over the organizations that measured both.

    A value over other rows says nothing: who joins late does not begin the comparison anew, and a model that none of
    them measured is not compared.
    """
    value = value_of(run, known)
    if value is None or run.best_value is None or run.best_round is None:
        return value is not None
    kept = (
        Round.objects.filter(run=run, number=run.best_round + 1, state=RoundState.DONE).values_list("metrics").first()
    )
    by = of(run)
    both = comparable.over_both(
        judged(run, kept[0] if kept else {}).get("organizations", {}),
        judged(run, known).get("organizations", {}),
        by["metric"],
    )
    if both is None:
        return False
    before, now = both
    return now > before if by["greater"] else now < before


def published(run: Run, actor: Actor | None) -> tuple[ModelVersion | None, bool]:
    """The version that holds the model of the best round, if there is one, and whether the actor may make it one."""
    made = _round_of(run)
    if made is None:
        return None, False
    version = _version_of(run, made)
    return version, version is None and actor is not None and permissions.can(actor, "run.control", run)


def _version_of(run: Run, made: Round) -> ModelVersion | None:
    if run.result_version is not None and run.result_version.blob == made.result_blob:
        return run.result_version
    return ModelVersion.objects.filter(source=_source(run, made)).first()


def publish(actor: Actor, run: Run) -> ModelVersion:
    """Make the model of the best round the next minor version, with its lineage; any number of calls do it once.

    Raises `forbidden`, and `wrong_state` while no round is the best, or the model that the run began with is.
    """
    permissions.require(actor, "run.control", run)
    run = Run.objects.select_related(
        "model", "federation", "base_version", "result_version", "started_by", "organization"
    ).get(pk=run.pk)
    made = _round_of(run)
    if made is None:
        hint = "Rounds are compared once devices have measured them."
        if run.best_round == 0:
            hint = f"It is version {run.base_version.version} already."
        state = "the one it began with" if run.best_round == 0 else "not known yet"
        raise FedportalError("wrong_state", what=WHAT, state=state, hint=hint)
    if (found := _version_of(run, made)) is not None:
        return found
    with unit():
        fresh = versions.publish(
            run.model,
            blob=made.result_blob,
            digest=made.digest,
            parent=run.base_version,
            source=_source(run, made),
            bump="minor",
            lineage=finishing.lineage(run, made, chosen="best"),
            metrics=finishing.metrics_of(run, made.number),
            created_by=actor.person,
        )
        news = {"round": made.number, "version": fresh.version, "version_id": fresh.public_id}
        progress.tell(run, "version.published", news)
    return fresh


def _round_of(run: Run) -> Round | None:
    if not run.best_round:
        return None
    return Round.objects.filter(run=run, number=run.best_round, kind=RoundKind.TRAIN, state=RoundState.DONE).first()


def _source(run: Run, made: Round) -> str:
    return f"{run.public_id}/round-{made.number}"


def _invalid(reason: str) -> FedportalError:
    return FedportalError("field_invalid", field="config.best", reason=reason)
