"""Opening rounds: what a run does next is decided here, and devices are asked.

`advance` may be called at any time by anybody; it looks at the rows and does what is due. So a process that dies
between closing a round and opening the next leaves nothing that the next call does not mend.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from federations.models import Device, DeviceTask, Member
from federations.services import device_tasks, policies
from federations.services.device_tasks import NewTask
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.architectures import Architecture
from fedwire.states import MemberState, RoundKind, RoundState, RunState, TaskKind
from fedwire.tensors import Manifest
from registry.models import ModelVersion
from training import progress, wording
from training.aggregation import strategies
from training.models import Assignment, Round, Run
from training.services import cohorts, finishing, plan, starters
from training.services.plan import Step

# Of the rounds of `counted` those in which fewer devices take part than their run needs.
SHORT = Q(counting__lt=F("run__min_participants"))
LAST = ("pk", "number", "attempt", "kind", "state", "base_blob", "result_blob", "opened_at", "closed_at", "reason")


def advance(run_pk: int) -> int | None:
    """Do what a running run does next: open a round, or end the run. Nothing when a round is going on.

    The primary key of the round it opened, if that is complete already because there is nobody to ask.
    """
    with unit():
        run = locked(run_pk)
        if not may_go_on(Run.objects.filter(pk=run.pk)).exists():
            return None
        last = run.rounds.order_by("-number", "-attempt").values(*LAST).first()
        if not plan.finished(run, last):
            if last is not None and last["state"] == RoundState.FAILED and (reason := starters.why_over(run)):
                finishing.fail(run, reason)
                return None
            step = plan.next_step(run, last)
            return _open(run, step, last) if step is not None else None
    finishing.complete(run_pk)
    return None


def may_go_on(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Those of the runs that open further rounds: running ones, but not while their starter is suspended."""
    suspended = Member.objects.filter(
        federation_id=OuterRef("federation_id"),
        organization_id=OuterRef("organization_id"),
        state=MemberState.SUSPENDED,
    )
    return runs.filter(~Exists(suspended), state=RunState.RUNNING, organization__suspended_at__isnull=True)


def locked(run_pk: int) -> Run:
    """The run with what belongs to it, its row locked until the unit ends."""
    rows = Run.objects.select_related("model", "base_version", "federation")
    return rows.select_for_update(of=("self",), no_key=True).get(pk=run_pk)


def welcome(device_pks: Sequence[int]) -> None:
    """These devices came to wait: let them into the open rounds that have too few."""
    if not Run.objects.filter(state=RunState.RUNNING).exists():
        return
    cohorts.came_to_wait(device_pks)
    for round_pk in short_of_devices():
        fill(round_pk, device_pks)


def short_of_devices() -> list[int]:
    """The open rounds of running runs that may be filled: fewer devices take part than the run needs."""
    open_rounds = Round.objects.filter(state=RoundState.OPEN, run__state=RunState.RUNNING, deadline__gt=clock.now())
    return list(counted(open_rounds).filter(SHORT).order_by("pk").values_list("pk", flat=True))


def waiting_among(run_pks: Sequence[int]) -> set[int]:
    """Those of the runs whose open round has fewer devices than it needs. One query, however many runs."""
    open_rounds = Round.objects.filter(run__in=run_pks, state=RoundState.OPEN, run__state=RunState.RUNNING)
    return set(counted(open_rounds).filter(SHORT).values_list("run_id", flat=True)) if run_pks else set()


def counted(rounds: QuerySet[Round]) -> QuerySet[Round]:
    """Those of the rounds that need devices, with `counting`: how many parts count towards the minimum of their run.

    The one place that says what `SHORT` of devices means. The last model is measured by whoever is there.
    """
    counts = Q()
    for kind in (RoundKind.STATISTICS, RoundKind.TRAIN):
        counts |= Q(kind=kind, assignments__state__in=plan.counting(kind))
    return rounds.exclude(kind=RoundKind.EVALUATE).annotate(counting=Count("assignments", filter=counts))


def fill(round_pk: int, among: Iterable[int] | None = None) -> None:
    """Let available devices (of those in `among`) into an open round that has too few; a device joins once.

    Nobody joins a round whose deadline has passed: it is about to be closed.
    """
    with unit():
        found = Round.objects.select_for_update(no_key=True).filter(pk=round_pk, state=RoundState.OPEN).first()
        if found is None or found.deadline <= clock.now():
            return
        run, counting = locked(found.run_id), plan.counting(found.kind)
        rows = found.assignments.values_list("device_id", "organization_id", "state")
        parts = {device: of if state in counting else None for device, of, state in rows}
        have = sum(of is not None for of in parts.values())
        if run.state != RunState.RUNNING or have >= run.min_participants:
            return
        devices = cohorts.available(run, among, parts=parts)
        if not devices:
            return
        _ask(run, found, devices)
        present = Device.objects.filter(assignments__round=found, assignments__state__in=counting)
        waiting = _waiting(run, found, have + len(devices), present.values_list("organization_id", flat=True))
        news = [
            ("round.joined", {"participant": card, "waiting": waiting})
            for card in (wording.participant(cohorts.party_of(d), last_seen_at=d.last_seen_at) for d in devices)
        ]
        progress.tell_all(run, news)


def _open(run: Run, step: Step, last: dict[str, Any] | None) -> int | None:
    now = clock.now()
    took = (last["closed_at"] - last["opened_at"]).total_seconds() if last and last["closed_at"] else 0.0
    opened = Round.objects.create(
        organization_id=run.organization_id,
        run=run,
        number=step.number,
        attempt=step.attempt,
        kind=step.kind,
        base_blob=step.base_blob,
        opened_at=now,
        deadline=now + timedelta(seconds=plan.seconds_for(run, step.kind, took)),
    )
    devices = cohorts.available(run)
    _ask(run, opened, devices)
    cards = [wording.participant(cohorts.party_of(d), last_seen_at=d.last_seen_at) for d in devices]
    news = {
        "number": opened.number,
        "attempt": opened.attempt,
        "kind": str(opened.kind),
        "opened_at": now.isoformat(),
        "deadline": opened.deadline.isoformat(),
        "participants": cards,
        "waiting": _waiting(run, opened, len(devices), (device.organization_id for device in devices)),
    }
    progress.tell(run, "round.opened", news)
    return opened.pk if step.kind == RoundKind.EVALUATE and not devices else None


def _ask(run: Run, opened: Round, devices: Sequence[Device]) -> None:
    """Offer each device its task, with the floor of its organization's policy, and note its part."""
    manifest = manifest_of(run.base_version)
    trains, measures = opened.kind == RoundKind.TRAIN, opened.kind != RoundKind.STATISTICS
    header = manifest.update_header() if trains else b""
    common = _common(run, opened)
    limits = policies.of_all({device.organization_id for device in devices})
    floors = {organization: policy.least_records for organization, policy in limits.items()}
    half = strategies.find(run.strategy).device_half(run.config["parameters"])
    tasks: list[DeviceTask] = device_tasks.offer(
        [
            NewTask(
                device=device,
                kind=TaskKind(opened.kind),
                subject=str(opened.pk),
                deadline=opened.deadline,
                content={
                    **common,
                    "answer": {**common["answer"], "least_records": floors.get(device.organization_id, 0)},
                    "training": {
                        **half,
                        "seed": cohorts.seed_for(run.config["seed"], opened.number, cohorts.party_of(device)),
                    },
                },
                base_blob=opened.base_blob if measures else "",
                update_header=header,
                update_bytes=manifest.update_bytes if trains else 0,
            )
            for device in devices
        ]
    )
    Assignment.objects.bulk_create(
        Assignment(
            organization_id=device.organization_id,
            round=opened,
            device=device,
            task=task,
            offered_at=opened.opened_at,
            changed_at=opened.opened_at,
        )
        for device, task in zip(devices, tasks, strict=True)
    )


def _common(run: Run, opened: Round) -> dict[str, Any]:
    """What every device of the round is told."""
    measures = opened.kind == RoundKind.EVALUATE or (opened.kind == RoundKind.TRAIN and run.config["evaluate"])
    return {
        "run": run.public_id,
        "model": run.model.public_id,
        "model_name": run.model.name,
        "round": opened.number,
        "attempt": opened.attempt,
        "manifest": run.base_version.manifest,
        "architecture": run.base_version.architecture,
        "answer": {"metrics": bool(measures)},
    }


def _waiting(run: Run, opened: Round, have: int, organizations: Iterable[int]) -> dict[str, Any] | None:
    """For whom the round waits; asks who is missing only if it does."""
    if have >= run.min_participants or opened.kind == RoundKind.EVALUATE:
        return None
    return wording.waiting(have, run.min_participants, cohorts.missing(run, organizations), opened.deadline)


def manifest_of(version: ModelVersion) -> Manifest:
    """The version's manifest; a version never changes, so it is parsed once."""
    return _manifest(version.pk, version.digest)


def columns_of(version: ModelVersion) -> int:
    """How many input columns the version's architecture has; 0 without one."""
    return Architecture.parse(version.architecture).inputs if version.architecture else 0


@lru_cache(maxsize=64)
def _manifest(version_pk: int, digest: str) -> Manifest:
    # The digest is part of the key, so that a test's fresh database does not meet an old entry.
    return Manifest.from_json(ModelVersion.objects.values_list("manifest", flat=True).get(pk=version_pk))
