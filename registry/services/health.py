"""How versions fare where they are installed: reports are taken, judged, and one that is unwell goes back by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Max, QuerySet, Sum

from federations.models import Device
from federations.services import audit
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.latencies import LATENCIES
from fedwire.states import InstallationState, RolloutState
from registry.delivery import health
from registry.delivery.health import Report, Verdict
from registry.models import HealthReport, Installation, Rollout
from registry.services import arms, portions, rollouts, underway

# Of one sending.
MAX_REPORTS = 100
# Of one report.
MAX_COUNT = 1_000_000
MAX_NAME = 64
KEPT_FOR = timedelta(days=7)
# A completed rollout is judged for so long after it, unless another follows.
WATCHED_FOR = timedelta(days=7)
WATCHED = (RolloutState.ACTIVE, RolloutState.PAUSED, RolloutState.COMPLETED)
_doorbells: list[Callable[[int], object]] = []
_COUNTS = ("count", "errors", "judged", "right")


@dataclass(frozen=True)
class _Said:
    """A report as a device sends it, checked."""

    batch: str
    model: str
    version: str
    counts: dict[str, int]
    latencies: list[int]


def take(device: Device, said: Sequence[Any]) -> int:
    """Keep what the device reports, each a dict {batch, model, version, count, errors, latencies, judged, right}.

    `batch` is the device's own id for the report: the same one again counts once. How many were new. A report of a
    version that the device does not hold says nothing and is left out. Raises `field_invalid`; then none is kept.
    """
    if not isinstance(said, (list, tuple)) or not 0 < len(said) <= MAX_REPORTS:
        raise _invalid("reports", f"it must be a list of 1 to {MAX_REPORTS} reports.")
    checked = {report.batch: report for report in map(_checked, said)}
    held = Installation.objects.filter(
        device=device, state=InstallationState.INSTALLED, model__public_id__in={r.model for r in checked.values()}
    ).select_related("model", "installed", "rollout")
    by_model = {row.model.public_id: row for row in held}
    now = clock.now()
    rows = []
    for report in checked.values():
        row = by_model.get(report.model)
        if row is None or row.installed is None or row.installed.version != report.version:
            continue
        rows.append(
            HealthReport(
                organization_id=device.organization_id,
                device=device,
                rollout=row.rollout if row.wanted_id == row.installed_id else None,
                experiment_id=row.experiment_id if row.wanted_id == row.installed_id else None,
                version=row.installed,
                batch=report.batch,
                at=now,
                latencies=report.latencies,
                **report.counts,
            )
        )
    with unit():
        # One report at a time is counted for an experiment's device, so none is counted twice.
        places = arms.hold(device, rows)
        known = set(HealthReport.objects.filter(device=device, batch__in=list(checked)).values_list("batch", flat=True))
        fresh = [row for row in rows if row.batch not in known]
        HealthReport.objects.bulk_create(fresh, ignore_conflicts=True)  # the same may come on two connections at once
        arms.count(places, fresh)
        for rollout_pk in {row.rollout.pk for row in fresh if row.rollout and _bad(row, row.rollout)}:
            for bell in _doorbells:
                bell(rollout_pk)
    return len(fresh)


def ring_with(bell: Callable[[int], object]) -> None:
    """Call `bell(rollout_pk)`, inside the unit, whenever a report came that speaks against the rollout's version."""
    if bell not in _doorbells:
        _doorbells.append(bell)


def verdict(rollout: Rollout) -> Verdict:
    """What the reports of the rollout's window say of its version."""
    return health.judge(_recent(rollout), clock.now(), rollout.limits)


def look(rollout: Rollout) -> bool:
    """Judge the rollout; one that is unwell is rolled back if it is to be, else told of. Whether this look did it."""
    if rollout.state not in WATCHED:
        return False
    seen = _recent(rollout, timed=rollout.latency_ms is not None)
    found = health.judge(seen, clock.now(), rollout.limits)
    if not found.problem:
        return False
    crossed_at = seen[0].at
    if rollout.auto_rollback:
        return rollouts.go_back(audit.PORTAL, rollout, reason(found), crossed_at)
    if rollout.crossed_at is None:
        rollouts.note_unwell(rollout, reason(found), crossed_at)
    return False


def look_at(rollout_pk: int) -> bool:
    """The same for a rollout that may have gone by now, or is watched no longer."""
    rollout = Rollout.objects.select_related("model", "version", "organization").filter(pk=rollout_pk).first()
    return rollout is not None and _watched(rollout) and look(rollout)


def sweep() -> None:
    """Look after every rollout: who is unwell goes back; whose time has come goes on; who is away is asked again."""
    for rollout in _looked_after():
        if look(rollout):
            continue
        portions.go_on(rollout.pk)
        if rollout.state == RolloutState.ACTIVE and rollout.steps and not portions.missing(rollout):
            seen = verdict(rollout)
            if not seen.problem and max(seen.count, seen.judged) >= rollout.least:
                rollouts.step(rollout)
    HealthReport.objects.filter(at__lt=clock.now() - KEPT_FOR).delete()


def _looked_after() -> list[Rollout]:
    """Those on their way, those completed lately that no other followed, and those whose devices are not all back."""
    rows = Rollout.objects.select_related("model", "version", "organization")
    alive = list(rows.filter(state__in=(RolloutState.ACTIVE, RolloutState.PAUSED)))
    going_back = list(rows.filter(state=RolloutState.ROLLED_BACK, restored_at=None))
    lately = rows.filter(state=RolloutState.COMPLETED, completed_at__gt=clock.now() - WATCHED_FOR)
    return [*alive, *going_back, *filter(_watched, lately)]


def _watched(rollout: Rollout) -> bool:
    """Whether it is judged: on its way, or completed lately and no other followed."""
    if rollout.state != RolloutState.COMPLETED:
        return rollout.state in WATCHED
    at = rollout.completed_at
    return at is not None and at > clock.now() - WATCHED_FOR and not underway.followed(rollout)


def _recent(rollout: Rollout, *, timed: bool = True) -> list[Report]:
    since = clock.now() - rollout.limits.window
    return reports(HealthReport.objects.filter(rollout=rollout, version=rollout.version_id, at__gt=since), timed=timed)


def reports(rows: QuerySet[HealthReport], *, timed: bool = True) -> list[Report]:
    """The reports as they are judged, added up: one, or none; without latencies where it is not `timed`.

    Sums are the database's: while reports come, a rollout is judged every second, and thousands of devices report.
    """
    found = rows.order_by().aggregate(at=Max("at"), **{name: Sum(name) for name in _COUNTS})
    if found["at"] is None:
        return []
    classes = [0] * (len(LATENCIES) + 1)
    if timed:
        for counts in rows.order_by().exclude(latencies=[]).values_list("latencies", flat=True).iterator():
            for place, number in enumerate(counts):
                classes[place] += number
    return [Report(latencies=tuple(classes), **found)]


def _bad(report: HealthReport, rollout: Rollout) -> bool:
    """Whether the report speaks against the version; what only adds to what others said waits for the sweeper."""
    if not rollout.auto_rollback or rollout.state not in WATCHED:
        return False
    errors = rollout.error_rate is not None and report.errors > 0
    wrong = rollout.accuracy is not None and report.right < report.judged
    return errors or wrong or (rollout.latency_ms is not None and health.slow(report.latencies, rollout.latency_ms) > 0)


def reason(found: Verdict) -> str:
    """What is wrong, for people."""
    if found.problem == "error_rate":
        return f"{found.errors} of {found.count} predictions failed"
    if found.problem == "latency":
        return f"of 100 predictions more than 5 took too long (95 of 100 within {found.latency_ms:g} ms)"
    return f"{found.right} of {found.judged} predictions were right"


def _checked(report: Any) -> _Said:
    if not isinstance(report, dict):
        raise _invalid("reports", "one of them is not an object.")
    names = {field: _name(report, field) for field in ("batch", "model", "version")}
    counts = {field: _count(field, report.get(field, 0)) for field in _COUNTS}
    if counts["errors"] > counts["count"] or counts["right"] > counts["judged"]:
        raise _invalid("errors", "there are more of them than predictions.")
    latencies = report.get("latencies") or []
    if not isinstance(latencies, list) or len(latencies) > len(LATENCIES) + 1:
        raise _invalid("latencies", f"it must be a list of at most {len(LATENCIES) + 1} counts.")
    return _Said(**names, counts=counts, latencies=[_count("latencies", number) for number in latencies])


def _name(report: dict[str, Any], field: str) -> str:
    value = report.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise _invalid(field, f"it must be 1 to {MAX_NAME} printable characters.")
    return value


def _count(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise _invalid(field, f"it must be a whole number from 0 to {MAX_COUNT}.")
    return value


def _invalid(field: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=field, reason=reason)
