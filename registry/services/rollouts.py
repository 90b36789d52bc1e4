"""A version goes to the devices of an organization: started, widened, paused, completed, rolled back.

Who joins is decided in `registry.delivery.placement`, what is unwell in `registry.delivery.health`. Every act locks the
rollout's row, moves it by a guarded UPDATE and leaves an entry in the audit log, in one unit with the devices' tasks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from federations.models import DeviceGroup
from federations.permissions import Actor
from federations.services import audit, organizations
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import MOVES, RolloutState, word
from registry.delivery.placement import WHOLE
from registry.models import Experiment, ModelVersion, Rollout
from registry.services import gatekeeping, installations, notices, portions, rollout_limits, underway
from registry.services.rollout_limits import Steps


def deploy(
    actor: Actor,
    version: ModelVersion,
    *,
    share: int = WHOLE,
    group: DeviceGroup | None = None,
    steps: Steps = (),
    start: bool = True,
    target: int = WHOLE,
    increment: int = 1_000,
    experiment: Experiment | None = None,
    **limits: Any,
) -> Rollout:
    """Send the version to this share (in hundredths of a percent) of the devices of the actor's organization.

    While the same version is on its way to the same devices, a higher share widens that rollout, and the same share
    changes nothing. `steps` is a schedule [(share, seconds), …], which begins with its first share. `experiment` is the
    one that promotes the version: its devices join first. `limits` are those of `Rollout` (window_seconds, least,
    error_rate, latency_ms, accuracy, auto_rollback); where left out, the organization's policy decides.

    Raises `forbidden`, `not_found`, `field_invalid`, `wrong_state` while another version, or this one for other
    devices, or an experiment is on its way, and `gate_failed` or `gate_unjudged`, as do all that give the version to
    more devices.
    """
    organization = underway.allowed(actor, version.model)
    rollout_limits.check_shares(share, target, increment, steps)
    if group is not None and group.organization_id != organization.pk:
        raise FedportalError("not_found", what="group")
    settings = rollout_limits.settled(organization, limits)
    with unit():
        organizations.lock(organization)
        running = underway.rollout(organization, version.model)
        if running is not None:
            return _widened(actor, running, version, group, share)
        underway.refuse_beside_experiment(organization, version.model)
        gatekeeping.lock(version.model_id)
        gatekeeping.require(version)
        rollout = Rollout.objects.create(
            organization=organization,
            model=version.model,
            version=version,
            previous_version=underway.last_version(organization, version.model),
            group=group,
            group_name=group.name if group else experiment.group_name if experiment else "",
            share=steps[0][0] if steps else share,
            target=target,
            increment=increment,
            experiment=experiment,
            steps=[list(step) for step in steps],
            created_by=actor.person,
            **settings,
        )
        _tell(rollout, actor, "rollout.started", version=version.version, share=rollout.share)
        if start:
            _start(rollout)
    return rollout


def start(actor: Actor, rollout: Rollout) -> Rollout:
    """Begin with a rollout that was made to wait. Raises `wrong_state` for one that began before."""
    underway.allowed(actor, rollout.model)
    with unit():
        rollout = portions.locked(rollout.pk)
        if rollout.state != RolloutState.PENDING:
            raise _wrong(rollout, f"It has begun. Widen it: `fedportal rollout advance {rollout.public_id}`.")
        _start(rollout)
    return rollout


def advance(actor: Actor, rollout: Rollout) -> Rollout:
    """Go to the next share of the schedule, or one increment further, at most to the target; a waiting one begins.

    Raises `wrong_state` for a rollout that is not active.
    """
    underway.allowed(actor, rollout.model)
    with unit():
        rollout = portions.locked(rollout.pk)
        if rollout.state == RolloutState.PENDING:
            _start(rollout)
        else:
            _widen(rollout, actor, next_share(rollout))
    return rollout


def set_share(actor: Actor, rollout: Rollout, share: int) -> Rollout:
    """Widen an active rollout to this share. Raises `wrong_state`, and `field_invalid` for a lower share."""
    underway.allowed(actor, rollout.model)
    rollout_limits.check_shares(share, WHOLE, 1, ())
    with unit():
        rollout = portions.locked(rollout.pk)
        _widen(rollout, actor, share)
    return rollout


def pause(actor: Actor, rollout: Rollout) -> Rollout:
    """Give the version to nobody new; what devices have not fetched yet is taken back. Raises `wrong_state`."""
    underway.allowed(actor, rollout.model)
    with unit():
        rollout = portions.locked(rollout.pk)
        _move(rollout, RolloutState.PAUSED)
        installations.withhold(rollout)
        _tell(rollout, actor, "rollout.paused")
    return rollout


def resume(actor: Actor, rollout: Rollout) -> Rollout:
    """Go on where it was paused. Raises `wrong_state` for one that is not paused."""
    underway.allowed(actor, rollout.model)
    with unit():
        rollout = portions.locked(rollout.pk)
        if rollout.state != RolloutState.PAUSED:
            raise _wrong(rollout, f"Only a paused one is resumed; see `fedportal rollout show {rollout.public_id}`.")
        _pass(rollout)
        _move(rollout, RolloutState.ACTIVE, stepped_at=clock.now())
        portions.begin(rollout)
        _tell(rollout, actor, "rollout.resumed")
    return rollout


def complete(actor: Actor | str, rollout: Rollout) -> Rollout:
    """Nothing more is to come: devices keep what they have, and the next version may go out. Raises `wrong_state`."""
    if not isinstance(actor, str):
        underway.allowed(actor, rollout.model)
        portions.finish(rollout)
    with unit():
        rollout = portions.locked(rollout.pk)
        _move(rollout, RolloutState.COMPLETED, completed_at=clock.now())
        _tell(rollout, actor, "rollout.completed", share=rollout.share)
    return rollout


def roll_back(actor: Actor, rollout: Rollout, reason: str = "") -> Rollout:
    """Return every device of the rollout to what it had before, to nothing if it had nothing.

    Again, or at the same moment as another: it is rolled back once. Raises `wrong_state` for a completed rollout that
    a later one has followed.
    """
    underway.allowed(actor, rollout.model)
    if not isinstance(reason, str) or len(reason) > 300 or not reason.isprintable():
        raise FedportalError("field_invalid", field="reason", reason="it must be at most 300 printable characters.")
    with unit():
        organizations.lock(rollout.organization)
        underway.refuse_beside_experiment(rollout.organization, rollout.model)
        if underway.followed(rollout):
            command = f"`fedportal rollback {rollout.model.name} --to-version VERSION`"
            raise _wrong(rollout, f"A later one has followed. Go back to a version: {command}.")
        go_back(actor, rollout, reason or "by hand")
    rollout.refresh_from_db()
    return rollout


def go_back(actor: Actor | str, rollout: Rollout, reason: str, crossed_at: datetime | None = None) -> bool:
    """Roll back, exactly once however many ask for it; whether this was the one. What others have followed stays."""
    with unit():
        organizations.lock(rollout.organization)  # so nothing begins to follow it now
        rollout = portions.locked(rollout.pk)
        if rollout.state == RolloutState.COMPLETED and underway.followed(rollout):
            return False
        rows = Rollout.objects.filter(pk=rollout.pk)
        values = {"rolled_back_at": clock.now(), "reason": reason[:300]}
        if crossed_at is not None:
            values["crossed_at"] = crossed_at
        if not _moved(rows, RolloutState.ROLLED_BACK, **values):
            return False
        rollout = portions.locked(rollout.pk)
        portions.begin(rollout)  # it locks the model's gate, which comes before the audit log
        _tell(rollout, actor, "rollout.rolled_back", version=rollout.version.version, reason=reason[:300])
        if actor == audit.PORTAL:
            notices.went_back(rollout)
    return True


def note_unwell(rollout: Rollout, reason: str, crossed_at: datetime) -> None:
    """A limit is crossed and the rollout does not go back by itself: say so, the first time."""
    with unit():
        rows = Rollout.objects.filter(pk=rollout.pk, crossed_at=None).order_by()
        if rows.update(crossed_at=crossed_at):
            rollout = portions.locked(rollout.pk)
            _tell(rollout, audit.PORTAL, "rollout.unwell", version=rollout.version.version, reason=reason)
            notices.unwell(rollout, reason)


def roll_back_to(actor: Actor, version: ModelVersion) -> Rollout:
    """Send this version to all devices of the organization, as a rollback; what is on its way ends with it.

    If its gate is closed, only those get it that had it, the others what they had; with none of them it is refused.
    Raises `forbidden`, `not_found`, `gate_failed`, `gate_unjudged`.
    """
    organization = underway.allowed(actor, version.model)
    settings = rollout_limits.settled(organization, {})
    with unit():
        organizations.lock(organization)
        underway.refuse_beside_experiment(organization, version.model)
        running = underway.rollout(organization, version.model)
        running = portions.locked(running.pk) if running is not None else None
        gatekeeping.lock(version.model_id)
        gatekeeping.require_return(version, organization)
        if running is not None:
            installations.withhold(running)
            reason = f"by hand, to {version.version}"
            _move(running, RolloutState.ROLLED_BACK, rolled_back_at=clock.now(), reason=reason)
            _tell(running, actor, "rollout.rolled_back", version=running.version.version, reason=reason)
            if not gatekeeping.standing(version).open:
                portions.begin(running)  # otherwise the version below is for all of its devices
        rollout = Rollout.objects.create(
            organization=organization,
            model=version.model,
            version=version,
            previous_version=running.version if running else underway.last_version(organization, version.model),
            share=WHOLE,
            is_rollback=True,
            created_by=actor.person,
            **settings,
        )
        _tell(rollout, actor, "rollout.started", version=version.version, share=WHOLE, rollback=True)
        _start(rollout)
    return rollout


def step(rollout: Rollout) -> None:
    """The schedule says that it is time, and the version is well: go to the next share, or complete it."""
    with unit():
        rollout = portions.locked(rollout.pk)
        at = due_at(rollout)
        if not gatekeeping.standing(rollout.version).open:
            return
        if rollout.state != RolloutState.ACTIVE or at is None or at > clock.now():
            return
        share = next_share(rollout)
        if share > rollout.share:
            _widen(rollout, audit.PORTAL, share)
        else:
            complete(audit.PORTAL, rollout)


def next_share(rollout: Rollout) -> int:
    """The share that follows in the schedule, or one increment more; the present one at the end."""
    if rollout.steps:
        return int(next((share for share, _ in rollout.steps if share > rollout.share), rollout.share))
    return max(rollout.share, min(rollout.target, rollout.share + rollout.increment))


def due_at(rollout: Rollout) -> datetime | None:
    """When the present share of the schedule will have been kept for as long as it says; None without a schedule."""
    waits = [wait for share, wait in rollout.steps if share <= rollout.share]
    return rollout.stepped_at + timedelta(seconds=waits[-1]) if waits else None


def _widened(actor: Actor, running: Rollout, version: ModelVersion, group: DeviceGroup | None, share: int) -> Rollout:
    """The rollout that is on its way, with this share; the same command again is for the one that it began."""
    if running.version_id != version.pk or running.group_name != (group.name if group else ""):
        done = f"`fedportal rollout complete {running.public_id}`"
        raise _wrong(running, f"First be done with it: {done}, or `fedportal rollback {running.public_id}`.")
    running = portions.locked(running.pk)
    if share != running.share:
        _widen(running, actor, share)
    return running


def _pass(rollout: Rollout) -> None:
    """Raise `gate_failed` or `gate_unjudged` while the gate is closed. A way back is open to devices that had it."""
    if not rollout.is_rollback:
        gatekeeping.require(rollout.version)


def _start(rollout: Rollout) -> None:
    _pass(rollout)
    now = clock.now()
    _move(rollout, RolloutState.ACTIVE, started_at=now, stepped_at=now)
    portions.begin(rollout)


def _widen(rollout: Rollout, actor: Actor | str, share: int) -> None:
    if rollout.state != RolloutState.ACTIVE:
        paused = rollout.state == RolloutState.PAUSED
        verb = "First let it go on: `fedportal rollout resume" if paused else "Begin another: `fedportal deploy"
        raise _wrong(rollout, f"{verb} {rollout.public_id if paused else rollout.model.name}`.")
    if share < rollout.share:
        reason = f"it is at {rollout.share / 100:g} % and only grows; a rollback takes it back."
        raise FedportalError("field_invalid", field="share", reason=reason)
    if share == rollout.share:
        return
    _pass(rollout)
    before, rollout.share, rollout.stepped_at = rollout.share, share, clock.now()
    rollout.save(update_fields=["share", "stepped_at"])
    joined = portions.begin(rollout)
    _tell(rollout, actor, "rollout.widened", before=before, after=share, devices=joined)


def _move(rollout: Rollout, to: RolloutState, **values: Any) -> None:
    """Move the rollout, in the database and in hand. Raises `wrong_state` when that is not allowed from where it is."""
    if not _moved(Rollout.objects.filter(pk=rollout.pk), to, **values):
        raise _wrong(rollout, f"See how it stands: `fedportal rollout show {rollout.public_id}`.")
    for name, value in {"state": to, **values}.items():
        setattr(rollout, name, value)


def _moved(rows: QuerySet[Rollout], to: RolloutState, **values: Any) -> int:
    before = [state for state, followers in MOVES["rollout"].items() if to in followers]
    return rows.filter(state__in=before).order_by().update(state=to, **values)


def _wrong(rollout: Rollout, hint: str) -> FedportalError:
    what = f"The rollout of {rollout.model.name} {rollout.version.version}"
    return FedportalError("wrong_state", what=what, state=word("rollout", rollout.state), hint=hint)


def _tell(rollout: Rollout, actor: Actor | str, action: str, **details: Any) -> None:
    audit.record(rollout.organization, actor, action, rollout.public_id, model=rollout.model.public_id, **details)
