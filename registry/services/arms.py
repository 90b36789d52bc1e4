"""The arms of an experiment: which device is in which, for good, and what it reported of the arm's version."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import F, Q

from federations.models import Device
from fedwire.states import ExperimentState
from registry.delivery import conclusions, placement
from registry.delivery.conclusions import ARMS, Conclusion, Seen
from registry.models import Experiment, HealthReport, Participant
from registry.services import gatekeeping, installations, portions, underway


def fill(experiment: Experiment) -> int:
    """Put the devices that have no arm yet into one and let them have its version, a portion at a time.

    How many had none: more than a portion, and there is more to do. Call it inside a unit.
    Nobody new joins while the gate of one of the versions is closed: an arm without its version would tell nothing.
    """
    if not all(gatekeeping.standing(experiment.version_of(arm)).open for arm in ARMS):
        return 0
    pks = dict(underway.fleet(experiment).values_list("public_id", "pk"))
    rows = experiment.participants.order_by().values_list("device__public_id", "arm")
    placed: dict[str, placement.Arm] = {name: "treatment" if arm == "treatment" else "control" for name, arm in rows}
    owner, of = experiment.organization.public_id, (experiment.lead or experiment).public_id
    found = placement.arms(of, owner, pks, experiment.share, placed)
    some = list(found.items())[: portions.PORTION]  # in the order of their places: who comes next is not moved by it
    for arm in ARMS:
        devices = [
            Device(pk=pks[name], organization_id=experiment.organization_id) for name, its_arm in some if its_arm == arm
        ]
        if devices:
            Participant.objects.bulk_create(
                Participant(organization_id=experiment.organization_id, experiment=experiment, device=device, arm=arm)
                for device in devices
            )
            installations.join(experiment, experiment.version_of(arm), devices)
    return len(found)


def hold(device: Device, reports: Sequence[HealthReport]) -> dict[int, Participant]:
    """The device's places in the running experiments that the reports are of, locked until the unit ends.

    So a batch that comes on two connections at once is counted once.
    """
    of = {report.experiment_id for report in reports if report.experiment_id is not None}
    if not of:
        return {}
    rows = Participant.objects.filter(device=device, experiment__in=of, experiment__state=ExperimentState.RUNNING)
    return {row.experiment_id: row for row in rows.select_for_update(of=("self",), no_key=True)}


def count(places: dict[int, Participant], reports: Sequence[HealthReport]) -> None:
    """Add new reports to what the device has seen. Reports are kept for days, these sums as long as the experiment."""
    for report in reports:
        place = places.get(report.experiment_id or 0)
        if place is not None:
            Participant.objects.filter(pk=place.pk).update(
                count=F("count") + report.count,
                errors=F("errors") + report.errors,
                judged=F("judged") + report.judged,
                right=F("right") + report.right,
            )


def conclusion(experiment: Experiment, metric: str = "") -> Conclusion:
    """What may be concluded now by this metric, or the experiment's own.

    While it runs, of all organizations that run it together; then of the own devices only.
    """
    seen: dict[placement.Arm, list[Seen]] = {"control": [], "treatment": []}
    lead = experiment.lead_id or experiment.pk
    together = Q(experiment=lead) | Q(experiment__lead=lead)
    alone = Q(experiment=experiment)
    found = Participant.objects.filter(together if experiment.state == ExperimentState.RUNNING else alone)
    rows = found.order_by().values_list("arm", "count", "errors", "judged", "right")
    for arm, *counts in rows:
        seen["treatment" if arm == "treatment" else "control"].append(Seen(*counts))
    return conclusions.conclude(metric or experiment.metric, seen, experiment.planned)
