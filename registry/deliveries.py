"""What pages show of rollouts: lists of them, how far one is, what each device made of it, how the version fares there.

Everything is about rollouts that the actor was seen to see; `registry.selectors` finds those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When

from federations.models import AuditEntry
from federations.permissions import Actor
from federations.services import audit
from fedwire.states import InstallationState, RolloutState
from registry import selectors
from registry.delivery.health import Report, Verdict, slices
from registry.delivery.placement import wanted
from registry.models import HealthReport, Installation, Model, Rollout
from registry.models.rollouts import ALIVE
from registry.services import gatekeeping, health, rollouts, underway

# Points of a curve, and the reports it is made of: the newest ones.
POINTS, MOST_REPORTS = 40, 2_000
# What happened to a rollout, as it is shown.
MOST_EVENTS = 30
# How a list of devices can be narrowed: a word of the address, and the states that it means.
DEVICES = {
    "failed": (InstallationState.FAILED,),
    "waiting": (InstallationState.PENDING, InstallationState.INSTALLING),
    "done": (InstallationState.INSTALLED, InstallationState.REMOVED),
}


@dataclass(frozen=True)
class Reach:
    """How far a rollout is, in devices. `fleet`: of which the share is taken; `wanted`: how many the share is.

    `waiting` are those in use that have not answered yet.
    """

    fleet: int
    wanted: int
    joined: int
    done: int
    waiting: int
    failed: int


@dataclass(frozen=True)
class Event:
    """Something that happened to a rollout: "widened", with its details; by somebody or by the portal itself."""

    what: str
    at: datetime
    by_itself: bool
    details: dict[str, Any]


def listed(actor: Actor, *, model: Model | None = None, state: str = "", text: str = "") -> QuerySet[Rollout]:
    """The rollouts to the devices of the actor's organization, newest first; `text` is a part of the model's name."""
    found = selectors.rollouts_of(actor, model)
    if state:
        found = found.filter(state=state)
    return found.filter(Q(model__name__icontains=text) | Q(public_id=text)) if text else found


def with_reach(rows: Iterable[Rollout]) -> list[Rollout]:
    """The rollouts, each with `by_state`: state of an installation → how many devices. One query."""
    found = list(rows)
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    members = Installation.objects.filter(rollout__in=[row.pk for row in found]).order_by()
    for pk, state, count in members.values_list("rollout_id", "state").annotate(Count("pk")):
        counts[pk][state] = count
    for row in found:
        row.by_state = counts[row.pk]
    return found


def present(actor: Actor, model: Model) -> Rollout | None:
    """The rollout that says what the organization's devices have of the model: the newest one."""
    return selectors.rollouts_of(actor, model).first()


def is_newest(rollout: Rollout) -> bool:
    """Whether no other of the model, nor an experiment with it, followed it."""
    return not underway.followed(rollout)


def reach(rollout: Rollout) -> Reach:
    """How many devices there are, are meant, and have done what was asked."""
    by_state = selectors.installed_by_state(rollout)
    fleet = underway.fleet(rollout).count()
    done, failed = (sum(by_state.get(state, 0) for state in DEVICES[kind]) for kind in ("done", "failed"))
    waiting = selectors.outstanding(rollout)
    return Reach(fleet, wanted(fleet, rollout.share), sum(by_state.values()), done, waiting, failed)


def members(rollout: Rollout, kind: str = "") -> QuerySet[Installation]:
    """What each device made of the rollout, what failed first, then what waits; `kind` is a key of `DEVICES`."""
    states = DEVICES.get(kind)
    found = rollout.installations.filter(state__in=states) if states else rollout.installations.all()
    trouble = Case(
        When(state__in=DEVICES["failed"], then=Value(0)),
        When(state__in=DEVICES["waiting"], then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    return found.select_related("device", "wanted", "installed", "previous").order_by(trouble, "-changed_at", "pk")


def barred(rollout: Rollout) -> str:
    """Why its version's gate keeps it from further devices; "" when it does not, or nobody is to get it any more."""
    return gatekeeping.standing(rollout.version).reason if rollout.state in ALIVE else ""


def acts(rollout: Rollout, newest: bool, barred: str) -> set[str]:
    """What can be done with the rollout as it is: advance, set, pause, resume, complete, rollback."""
    state = rollout.state
    found: set[str] = set()
    if state == RolloutState.PENDING:
        found |= {"advance"}
    if state == RolloutState.ACTIVE:
        found |= {"pause", "complete"}
        if rollouts.next_share(rollout) > rollout.share:
            found |= {"advance"}
        if rollout.share < 10_000:
            found |= {"set"}
    if state == RolloutState.PAUSED:
        found |= {"resume", "complete"}
    if state != RolloutState.ROLLED_BACK and newest:
        found |= {"rollback"}
    return found - {"advance", "set", "resume"} if barred else found


def verdict(rollout: Rollout) -> Verdict:
    """What was reported in the rollout's window."""
    return health.verdict(rollout)


def course(rollout: Rollout) -> list[tuple[datetime, Verdict]]:
    """How the version fared over time, of the newest reports, oldest first."""
    rows = HealthReport.objects.filter(rollout=rollout, version=rollout.version_id).order_by("-at", "-pk")
    values = rows.values_list("at", "count", "errors", "latencies", "judged", "right")[:MOST_REPORTS]
    reports = [Report(at, count, errors, tuple(classes), *known) for at, count, errors, classes, *known in values]
    return slices(reports, POINTS)


def events(rollout: Rollout) -> list[Event]:
    """What happened to it, newest first. Who did it stands in the audit log, for those who may read that."""
    rows = AuditEntry.objects.filter(organization=rollout.organization_id, subject=rollout.public_id)
    return [
        Event(row.action.partition(".")[2], row.at, row.actor == audit.PORTAL, row.details)
        for row in rows.filter(action__startswith="rollout.").order_by("-pk")[:MOST_EVENTS]
    ]


def reached(rollout: Rollout, happened: Iterable[Event]) -> dict[int, datetime]:
    """Share → when the rollout came to it, as far as it is known."""
    found: dict[int, datetime] = {}
    for event in happened:
        share = event.details.get("after", event.details.get("share"))
        if event.what in ("started", "widened") and isinstance(share, int):
            found[share] = rollout.started_at if event.what == "started" and rollout.started_at else event.at
    return found
