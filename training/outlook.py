"""What this floor tells the pages of organizations and devices, which know nothing of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.db.models import Exists, Min, OuterRef, Q

from federations import permissions
from federations.above import LeftOut, Part
from federations.models import Device, DeviceKey, Member, Organization, Policy
from federations.permissions import Actor
from fedportal.common import clock
from fedwire.errors import CATALOGUE, outline
from fedwire.states import DeviceState, MemberState, RoundKind, word
from training import wording
from training.aggregation import strategies
from training.lifecycle import ALIVE_RUNS
from training.models import Assignment, Run, Update
from training.services import budgets, cohorts

# More runs at once are not looked at: the page says how it is, and is no report.
MOST_RUNS = 100


def strategy_titles() -> Mapping[str, str]:
    """The strategies that there are → what people call them."""
    return {name: strategy.title for name, strategy in strategies.STRATEGIES.items()}


def run_names(actor: Actor, ids: Iterable[str]) -> Mapping[str, str]:
    """Public id → "radiology-v1 in cardio", of those runs that the actor may see. One query."""
    seen = permissions.visible(actor, Run.objects.filter(public_id__in=list(ids)))
    rows = seen.values_list("public_id", "model__name", "federation__name")
    return {run: f"{model} in {federation}" for run, model, federation in rows}


def left_out(organization: Organization, policy: Policy) -> list[LeftOut]:
    """The runs that are going on and would leave the organization's devices out under `policy`, and why.

    Four queries, however many runs. Devices that have not sent anything in a run yet are not judged by their rows.
    """
    member = Member.objects.filter(
        federation_id=OuterRef("federation_id"), organization=organization, state=MemberState.ACTIVE
    )
    found = Run.objects.filter(Exists(member), state__in=ALIVE_RUNS).select_related("model", "federation")
    runs = list(found.order_by("-id")[:MOST_RUNS])
    if not runs:
        return []
    groups, rows = _present(organization), _least_rows(organization, runs)
    counts = budgets.counts_of(organization)
    told = ((run, _reasons(run, policy, groups, rows, counts)) for run in runs)
    return [
        LeftOut(run.model.name, run.federation.name, f"/runs/{run.public_id}", tuple(reasons))
        for run, reasons in told
        if reasons
    ]


def parts_of(device: Device, most: int) -> list[Part]:
    """What the device was asked to do in rounds lately, newest first. One query."""
    rows = Assignment.objects.filter(device=device).select_related("round__run__model").order_by("-id")[:most]
    return [
        Part(
            part.round.run.model.name,
            f"/runs/{part.round.run.public_id}",
            f"round {part.round.number}" if part.round.kind == RoundKind.TRAIN else str(part.round.kind),
            word("assignment", part.state),
            _reason(part.reason),
            part.changed_at,
        )
        for part in rows
    ]


def _reason(said: str) -> str:
    """Why nothing came of a part. A device that declines gives a code of the catalogue without values."""
    told = wording.told(said)
    if said not in CATALOGUE:
        return told
    step = CATALOGUE[said].next_step
    return outline(said) if told == said or "{" in step else f"{told[0].upper()}{told[1:]}. {step}"


def _present(organization: Organization) -> list[frozenset[str]]:
    """The groups of each of the organization's devices that could take part now."""
    now = clock.now()
    usable = DeviceKey.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=now), device=OuterRef("pk"), revoked_at__isnull=True
    )
    devices = Device.objects.filter(
        Exists(usable),
        organization=organization,
        state=DeviceState.ACTIVE,
        last_seen_at__gte=cohorts.seen_since(now),
    )
    groups: dict[int, set[str]] = {}
    for device, name in devices.values_list("pk", "groups__name"):  # names alone: there may be a thousand devices
        labels = groups.setdefault(device, set())
        if name:
            labels.add(name)
    return [frozenset(names) for names in groups.values()]


def _least_rows(organization: Organization, runs: Sequence[Run]) -> Mapping[int, list[int]]:
    """Run → of each device that sent something, the fewest rows it stood for."""
    sent = Update.objects.filter(round__run__in=runs, organization=organization).order_by()
    found: dict[int, list[int]] = {}
    for run, _, least in sent.values_list("round__run", "device").annotate(least=Min("samples")):
        found.setdefault(run, []).append(least)
    return found


def _title(strategy: str) -> str:
    return strategy_titles().get(strategy, strategy)


def _reasons(
    run: Run,
    policy: Policy,
    groups: Sequence[frozenset[str]],
    rows: Mapping[int, Sequence[int]],
    counts: Mapping[str, int],
) -> list[str]:
    reasons = []
    if policy.allowed_strategies and run.strategy not in policy.allowed_strategies:
        reasons.append(f"It combines updates by {_title(run.strategy)}, which the policy does not allow.")
    present = sum(not run.group or run.group in labels for labels in groups)
    if present < policy.least_devices:
        reasons.append(
            f"{present} of your devices could take part now; the policy asks for at least {policy.least_devices}."
        )
    if not budgets.affords(run, counts, policy):
        reasons.append("The privacy budget is not enough for another of its rounds.")
    given = rows.get(run.pk, ())
    small = sum(samples < policy.least_records for samples in given)
    if small:
        which = "Your only device there has" if len(given) == 1 else f"{small} of your {len(given)} devices there have"
        reasons.append(f"{which} sent fewer than {policy.least_records} rows and would decline.")
    return reasons
