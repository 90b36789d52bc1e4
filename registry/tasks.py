"""Background work of this floor, and what the sweeper does for it."""

from __future__ import annotations

from datetime import timedelta

from federations.permissions import Actor
from fedportal.common import blobs, clock
from fedportal.common.jobs import job, ring, ring_at_times
from registry.models import Artifact, GateReport, ModelVersion, StagedUpload
from registry.services import artifacts, figures, gatekeeping, gates, health, portions

# An upload that nobody continued or pushed for this long is forgotten.
FORGET_AFTER = timedelta(hours=24)
# How often a rollout is judged while reports come, in each process that takes them.
JUDGED_EVERY = 1.0


@job
def make_artifact(artifact_pk: int) -> None:
    """Make a version's other form."""
    artifacts.make(artifact_pk)


@job
def judge_gate(report_pk: int, remeasure: bool = False) -> None:
    """Hold a version against the limits of its model."""
    gates.judge(report_pk, remeasure)


def check_gate(actor: Actor, version: ModelVersion, *, remeasure: bool = False) -> GateReport:
    """Have the version judged: at once when that is quick, else by a worker. Raises what `gates.ask` raises."""
    report = gates.ask(actor, version, remeasure=remeasure)
    if report.state == GateReport.State.PENDING:
        found = gatekeeping.standing(version)
        if found.policy is not None and figures.quick(version, found.policy.limits, found.serving):
            gates.judge(report.pk, remeasure)
        else:
            ring(judge_gate, report.pk, remeasure)
        report.refresh_from_db()
    return report


@job
def go_on(rollout_pk: int) -> None:
    """Do the next portion of what a rollout asks of its devices."""
    portions.go_on(rollout_pk)


@job
def judge(rollout_pk: int) -> None:
    """Judge how a rollout's version fares; one that is unwell goes back."""
    health.look_at(rollout_pk)


def ring_for_portion(rollout_pk: int) -> None:
    """Ask a worker to go on with the rollout once the unit is committed."""
    ring(go_on, rollout_pk)


def ring_for_judgement(rollout_pk: int) -> None:
    """Ask a worker to judge the rollout, however many reports come."""
    ring_at_times(judge, rollout_pk, seconds=JUDGED_EVERY)


def order(actor: Actor, version: ModelVersion, form: str) -> Artifact:
    """The version's other form; a worker is rung for if it is not there yet.

    Raises `format_unavailable`, `format_needs_architecture`.
    """
    artifact = artifacts.wanted(actor, version, form)
    if artifact.state == Artifact.State.PENDING and artifact.claimed_at is None:
        ring(make_artifact, artifact.pk)
    return artifact


def sweep() -> None:
    """Ring for artifacts and gates that nobody is at, and forget old uploads with their files."""
    for artifact_pk in artifacts.unfinished():
        ring(make_artifact, artifact_pk)
    for report_pk in gates.due():
        ring(judge_gate, report_pk)
    old = StagedUpload.objects.filter(created_at__lt=clock.now() - FORGET_AFTER)
    for pk, name in list(old.values_list("pk", "public_id")):
        blobs.staging(name).unlink(missing_ok=True)
        StagedUpload.objects.filter(pk=pk).delete()
