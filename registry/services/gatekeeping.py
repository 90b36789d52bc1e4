"""May this version go to that device? The one place that answers, whatever way the version would take.

Every task that gives a version to devices is made in `registry.services.installations`, which asks `guard` there; and
devices get models through tasks only. Whoever begins or widens a rollout asks `require` earlier, for a clear refusal.

A closed gate never takes away: a device keeps what it holds, and may return to what it held before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from federations.models import Device, Organization
from fedwire.errors import FedportalError
from fedwire.states import DeviceState, RolloutState
from registry.delivery import gates
from registry.delivery.gates import Check
from registry.models import GateOverride, GatePolicy, GateReport, Installation, Model, ModelVersion, Rollout

FAILED, UNJUDGED = CODES = "gate_failed", "gate_unjudged"
# So many devices are named in one statement.
MOST_ROWS = 500


@dataclass(frozen=True)
class Standing:
    """Where a version stands with its model's gate. `code`: "" while it may go to devices, or the error's that says why
    not, with the `reason`. `serving`: what is rolled out now, where the limits compare with it."""

    policy: GatePolicy | None = None
    report: GateReport | None = None
    override: GateOverride | None = None
    serving: ModelVersion | None = None
    code: str = ""
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether the version may go to devices."""
        return not self.code


def standing(version: ModelVersion) -> Standing:
    """Where the version stands now: of the present revision of its model's limits."""
    policy = GatePolicy.objects.filter(model=version.model_id).first()
    if policy is None or not policy.limits.checks():
        return Standing(policy)
    of_revision = {"version": version, "revision": policy.revision}
    report = GateReport.objects.filter(**of_revision).select_related("against").first()
    override = GateOverride.objects.filter(**of_revision, withdrawn_at=None).select_related("by").first()
    compares = any(name in policy.limits.checks() for name in gates.COMPARING)
    now = serving(version.model) if compares else None
    code, reason = ("", "") if override is not None else _refusal(version, policy, report, now)
    return Standing(policy, report, override, now, code, reason)


def require(version: ModelVersion) -> None:
    """Nothing while the version may go to devices. Otherwise raises `gate_failed` or `gate_unjudged`."""
    found = standing(version)
    if not found.open:
        raise refused(version, found)


def refused(version: ModelVersion, found: Standing) -> FedportalError:
    """The error that says why the version may not go to devices."""
    model = version.model
    return FedportalError(
        found.code,
        model=model.name,
        version=version.version,
        reason=found.reason,
        owner=model.organization.name,
        report=f"/api/v1/models/{model.public_id}/versions/{version.version}/gate",
    )


def admitted(version: ModelVersion, devices: Sequence[Device]) -> list[Device]:
    """Those of the devices to which the version may go: all, or with a closed gate those that had it."""
    return list(devices) if not devices or standing(version).open else _returning(version, devices)


def guard(version: ModelVersion, devices: Sequence[Device]) -> None:
    """Raises as `require` does when the version may not go to one of the devices. Call it in the unit that sends it.

    Until that ends nobody changes the model's gate, so who closes it afterwards sees what was sent. To devices that go
    back to what they had it is open.
    """
    if len(_returning(version, devices)) < len(devices):
        lock(version.model_id)
        require(version)


def require_return(version: ModelVersion, organization: Organization) -> None:
    """As `require`, but nothing either when a device of the organization had the version."""
    held = _had(version).filter(organization=organization, device__state=DeviceState.ACTIVE)
    if not held.exists():
        require(version)


def lock(model_pk: int) -> None:
    """Let nobody else change the model's gate, or send a version of it to devices, until the unit ends.

    Everywhere this comes after the locks of an organization, a rollout and an experiment, and before an entry of the
    audit log, which locks too: otherwise two units would wait for each other.
    """
    Model.objects.select_for_update(no_key=True).get(pk=model_pk)


def serving(model: Model) -> ModelVersion | None:
    """The version that is rolled out by the organization that owns the model. What others give their devices neither
    moves its gate nor is told by it."""
    done = Rollout.objects.filter(model=model, organization=model.organization_id, state=RolloutState.COMPLETED)
    found = done.select_related("version").first()
    return found.version if found is not None else None


def outdated(version: ModelVersion, report: GateReport, now: ModelVersion | None) -> bool:
    """Whether the report compares with a version that is not the one rolled out any more."""
    compared = any(check["name"] in gates.COMPARING for check in report.checks)
    return compared and now != version and report.against_id != (now.pk if now is not None else None)


def checks(report: GateReport) -> list[Check]:
    """The checks of a report."""
    return [Check(**row) for row in report.checks]


def _refusal(
    version: ModelVersion, policy: GatePolicy, report: GateReport | None, now: ModelVersion | None
) -> tuple[str, str]:
    """Code and reason; both empty for a version that passed."""
    if report is None or report.state == GateReport.State.PENDING:
        return UNJUDGED, "it has not been judged by the present limits"
    if outdated(version, report, now):
        before = report.against.version if report.against is not None else "nothing"
        return UNJUDGED, f"it was compared with {before}, and {now.version if now else 'nothing'} is rolled out now"
    if report.state == GateReport.State.PASSED:
        return "", ""
    # Without figures: how far the worst organization is behind is not for everybody who sees the model.
    return FAILED, "; ".join(
        f"{gates.title(check.name, policy.metric)}: {'not known' if check.outcome == 'unknown' else 'beyond the limit'}"
        for check in checks(report)
        if check.outcome != "passed"
    )


def _returning(version: ModelVersion, devices: Sequence[Device]) -> list[Device]:
    """Those of the devices that had the version."""
    had: set[int] = set()
    for start in range(0, len(devices), MOST_ROWS):
        some = [device.pk for device in devices[start : start + MOST_ROWS]]
        had.update(_had(version).filter(device__in=some).values_list("device_id", flat=True))
    return [device for device in devices if device.pk in had]


def _had(version: ModelVersion) -> QuerySet[Installation]:
    """What devices hold, of those that hold the version, or held it before they were given another."""
    return Installation.objects.filter(Q(installed=version) | Q(previous=version), model=version.model_id).order_by()
