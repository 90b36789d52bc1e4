"""Two versions side by side on an organization's devices: planned, started, stopped, or the better one promoted.

Every act locks the experiment's row, moves it by a guarded UPDATE and leaves an entry in the audit log, in one unit
with the devices' tasks.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from federations.models import DeviceGroup, Federation, Organization
from federations.permissions import Actor
from federations.services import audit, organizations
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import MOVES, ExperimentState, word
from registry.delivery import health as judging
from registry.delivery.conclusions import ACCURACY, ARMS
from registry.delivery.placement import WHOLE
from registry.models import Experiment, HealthReport, Model, ModelVersion, Rollout, Share
from registry.services import (
    arms,
    gatekeeping,
    health,
    installations,
    notices,
    portions,
    rollout_limits,
    rollouts,
    underway,
)

MAX_NAME = 60
MAX_REASON = 300
MAX_PLANNED = 100_000_000
LIMITS = ("window_seconds", "least", "error_rate", "latency_ms", "accuracy")


def create(
    actor: Actor,
    treatment: ModelVersion,
    *,
    control: ModelVersion | None = None,
    name: str = "",
    share: int = WHOLE // 2,
    group: DeviceGroup | None = None,
    federation: Federation | None = None,
    metric: str = ACCURACY,
    planned: int = 1_000,
    start_now: bool = False,
    auto_stop: bool | None = None,
    **limits: Any,
) -> Experiment:
    """Plan to compare the treatment with the control on the devices of the actor's organization.

    `control` is the version of the last completed rollout if it is left out. `share` of the devices, in hundredths of a
    percent, are treated. `limits` are those of `Experiment`; where left out, the organization's policy decides. Members
    of `federation` may join. With `start_now` it is started, or not even planned. Raises `forbidden`, `not_found`,
    `field_invalid`, `wrong_state`.
    """
    organization = underway.allowed(actor, treatment.model)
    control = control or underway.last_version(organization, treatment.model)
    _check(organization, control, treatment, group)
    if federation is not None:
        _check_federation(organization, treatment.model, federation)
    name = name or f"{treatment.version} against {control.version if control else ''}"
    _check_plan(name, share, metric, planned)
    settings = rollout_limits.settled(organization, {**limits, "auto_rollback": auto_stop})
    with unit():
        if start_now:
            organizations.lock(organization)
            gatekeeping.lock(treatment.model_id)
        experiment = Experiment.objects.create(
            organization=organization,
            model=treatment.model,
            name=name,
            control=control,
            treatment=treatment,
            share=share,
            group=group,
            group_name=group.name if group else "",
            federation=federation,
            metric=metric,
            planned=planned,
            auto_stop=settings.pop("auto_rollback"),
            created_by=actor.person,
            **settings,
        )
        versions = {"control": experiment.control.version, "treatment": treatment.version}
        _tell(experiment, actor, "experiment.created", **versions, share=share, metric=metric)
        return start(actor, experiment) if start_now else experiment


def start(actor: Actor, experiment: Experiment) -> Experiment:
    """Give every device its arm and the arm's version.

    Raises `wrong_state` for one that began before, and while a rollout of the model, or another experiment, is on its
    way, and `gate_failed` or `gate_unjudged` for either version.
    """
    organization = underway.allowed(actor, experiment.model)
    with unit():
        organizations.lock(organization)
        experiment = _locked(experiment)
        if experiment.state == ExperimentState.DRAFT:
            underway.refuse_beside_rollout(organization, experiment.model)
            underway.refuse_beside_experiment(organization, experiment.model)
            for arm in ARMS:
                gatekeeping.require(experiment.version_of(arm))
        _move(experiment, ExperimentState.RUNNING, started_at=clock.now())
        _tell(experiment, actor, "experiment.started", devices=arms.fill(experiment))
    return experiment


def stop(actor: Actor, experiment: Experiment, reason: str = "") -> Experiment:
    """Return every device to what it had before. Again: it is stopped once. Raises `wrong_state` for a promoted one."""
    underway.allowed(actor, experiment.model)
    if not isinstance(reason, str) or len(reason) > MAX_REASON or not reason.isprintable():
        said = f"it must be at most {MAX_REASON} printable characters."
        raise FedportalError("field_invalid", field="reason", reason=said)
    if not halt(actor, experiment, reason or "by hand"):
        experiment = _fresh(experiment)
        if experiment.state != ExperimentState.STOPPED:
            raise _wrong(experiment, f"Roll its version back: `fedportal rollback {experiment.model.name}`.")
    return _fresh(experiment)


def halt(actor: Actor | str, experiment: Experiment, reason: str, crossed_at: datetime | None = None) -> bool:
    """Stop, exactly once however many ask for it; whether this was the one."""
    with unit():
        values = {"stopped_at": clock.now(), "crossed_at": crossed_at, "reason": reason[:MAX_REASON]}
        if not _moved(experiment, ExperimentState.STOPPED, **values):
            return False
        experiment = _locked(experiment)
        installations.give_back(experiment, portions.PORTION)
        _tell(experiment, actor, "experiment.stopped", reason=reason[:MAX_REASON])
        if actor == audit.PORTAL:
            notices.stopped(experiment)
        installations.note_restored(experiment)
    return True


def promote(actor: Actor, experiment: Experiment, arm: str = "", *, share: int = WHOLE, **limits: Any) -> Rollout:
    """Send an arm's version, by default of the one that was found better, to all devices that the experiment was for.

    The rollout has the experiment's limits, or `limits`, and takes every device of the experiment first, whatever its
    share. Rolled back, a device returns to what it had before the experiment. Again: it is the same rollout. Raises
    `no_winner`, and `wrong_state` for an experiment that is not running.
    """
    organization = underway.allowed(actor, experiment.model)
    if arm and arm not in ARMS:
        raise FedportalError("field_invalid", field="arm", reason=f"it must be one of {', '.join(ARMS)}.")
    own = {name: getattr(experiment, name) for name in LIMITS}
    with unit():
        organizations.lock(organization)
        experiment = _locked(experiment)
        before = Rollout.objects.filter(experiment=experiment).select_related("model", "version", "organization")
        chosen = arm or experiment.winner or arms.conclusion(experiment).better
        if experiment.state == ExperimentState.PROMOTED:
            for rollout in before.filter(version=experiment.version_of(chosen)) if chosen else before:
                return rollout
        elif experiment.state == ExperimentState.RUNNING and not chosen:
            raise FedportalError("no_winner", name=experiment.name, id=experiment.public_id)
        gatekeeping.lock(experiment.model_id)
        _move(experiment, ExperimentState.PROMOTED, promoted_at=clock.now())
        version = experiment.version_of(chosen)
        _tell(experiment, actor, "experiment.promoted", version=version.version, arm=chosen)
        group = experiment.group
        return rollouts.deploy(actor, version, share=share, group=group, experiment=experiment, **{**own, **limits})


def look(experiment: Experiment) -> bool:
    """Judge a running experiment: an arm that is unwell stops it, a difference that is found is noted.

    Whether this look stopped it.
    """
    since = clock.now() - experiment.limits.window
    for arm in ARMS if experiment.auto_stop else ():
        version = experiment.version_of(arm)
        rows = HealthReport.objects.filter(experiment=experiment, version=version, at__gt=since)
        reports = health.reports(rows)
        found = judging.judge(reports, clock.now(), experiment.limits)
        if found.problem:
            reason = f"{version.version} ({arm}): {health.reason(found)}"
            return halt(audit.PORTAL, experiment, reason, max(report.at for report in reports))
    better = "" if experiment.winner else arms.conclusion(experiment).better
    if better:
        _note(experiment, better)
    return False


def sweep() -> None:
    """Look after every experiment that runs, and after those whose devices are not all back."""
    rows = Experiment.objects.select_related("model", "control", "treatment", "organization")
    for experiment in rows.filter(state=ExperimentState.RUNNING):
        while not look(experiment) and _keep(experiment):
            pass
    for experiment in rows.filter(state=ExperimentState.STOPPED, restored_at=None):
        while _return(experiment):
            pass


def _keep(experiment: Experiment) -> bool:
    """Let a portion of the devices without an arm have one, and ask again those that were away; whether more are."""
    with unit():
        locked, most = _locked(experiment), portions.PORTION
        if locked.state != ExperimentState.RUNNING:
            return False
        joining, asked = arms.fill(locked), installations.ask_again(locked, most)
    return joining > most or asked == most


def _return(experiment: Experiment) -> bool:
    """Give a portion of the devices back what they had, and ask again those that were away; whether more are."""
    with unit():
        locked, most = _locked(experiment), portions.PORTION
        given, asked = installations.give_back(locked, most), installations.ask_again(locked, most)
        installations.note_restored(locked)
    return most in (given, asked)


def _note(experiment: Experiment, better: str) -> None:
    with unit():
        running = Experiment.objects.filter(pk=experiment.pk, winner="", state=ExperimentState.RUNNING)
        if running.order_by().update(winner=better, found_at=clock.now()):
            version = experiment.version_of(better).version
            _tell(experiment, audit.PORTAL, "experiment.decided", arm=better, version=version)
            notices.decided(_locked(experiment), better)


def _check(
    organization: Organization, control: ModelVersion | None, treatment: ModelVersion, group: DeviceGroup | None
) -> None:
    if control is None:
        reason = "no rollout of the model was completed; say with which version to compare."
        raise FedportalError("field_invalid", field="control", reason=reason)
    if control.pk == treatment.pk:
        raise FedportalError("field_invalid", field="treatment", reason="both arms have the same version.")
    if control.model_id != treatment.model_id:
        raise FedportalError("field_invalid", field="treatment", reason="the versions are of two models.")
    if group is not None and group.organization_id != organization.pk:
        raise FedportalError("not_found", what="group")


def _check_federation(organization: Organization, model: Model, federation: Federation) -> None:
    if model.organization_id != organization.pk:
        reason = "only the organization that owns the model opens an experiment to others."
        raise FedportalError("field_invalid", field="federation", reason=reason)
    if not Share.objects.filter(model=model, federation=federation).exists():
        raise FedportalError("field_invalid", field="federation", reason="the model is not shared with it.")


def _check_plan(name: str, share: int, metric: str, planned: int) -> None:
    if not isinstance(name, str) or len(name) > MAX_NAME or not name.isprintable():
        said = f"it must be at most {MAX_NAME} printable characters."
        raise FedportalError("field_invalid", field="name", reason=said)
    if metric not in Experiment.Metric.values:
        said = f"it must be one of {', '.join(Experiment.Metric.values)}."
        raise FedportalError("field_invalid", field="metric", reason=said)
    if isinstance(share, bool) or not isinstance(share, int) or not 0 < share < WHOLE:
        said = "it must be above 0 % and below 100 %, so that both arms have devices."
        raise FedportalError("field_invalid", field="treatment_percentage", reason=said)
    if isinstance(planned, bool) or not isinstance(planned, int) or not 1 <= planned <= MAX_PLANNED:
        raise FedportalError("field_invalid", field="planned", reason=f"it must be from 1 to {MAX_PLANNED:,}.")


def _locked(experiment: Experiment) -> Experiment:
    """The experiment as it is now; nobody else changes it until the unit ends."""
    rows = Experiment.objects.select_related("model", "control", "treatment", "organization", "group", "lead")
    return rows.select_for_update(of=("self",), no_key=True).get(pk=experiment.pk)


def _fresh(experiment: Experiment) -> Experiment:
    return Experiment.objects.select_related("model", "control", "treatment", "organization").get(pk=experiment.pk)


def _move(experiment: Experiment, to: ExperimentState, **values: Any) -> None:
    if not _moved(experiment, to, **values):
        raise _wrong(experiment, f"See how it stands: `fedportal experiment show {experiment.public_id}`.")
    for name, value in {"state": to, **values}.items():
        setattr(experiment, name, value)


def _moved(experiment: Experiment, to: ExperimentState, **values: Any) -> int:
    before = [state for state, followers in MOVES["experiment"].items() if to in followers]
    rows = Experiment.objects.filter(pk=experiment.pk, state__in=before)
    return rows.order_by().update(state=to, **values)


def _wrong(experiment: Experiment, hint: str) -> FedportalError:
    state = word("experiment", experiment.state)
    return FedportalError("wrong_state", what=f"The experiment {experiment.name}", state=state, hint=hint)


def _tell(experiment: Experiment, actor: Actor | str, action: str, **details: Any) -> None:
    model = experiment.model.public_id
    audit.record(experiment.organization, actor, action, experiment.public_id, model=model, **details)
