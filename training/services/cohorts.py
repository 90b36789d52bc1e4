"""Which devices are there for a run, who is missing, and whose devices are not asked.

Whether an organization may be asked at all is decided on the floor below (`federations.services.enrolment`); here its
devices are counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from federations.models import Device, DeviceKey, Member, Organization
from federations.services import enrolment
from federations.services.enrolment import Rules
from fedportal.common import clock
from fedwire.states import AssignmentState, DeviceState, MemberState, RoundKind, RunState
from training import checks
from training.lifecycle import UNFINISHED
from training.models import Assignment, Pulse, Round, Run
from training.services import budgets, sampling
from training.services.sampling import Candidate, Limits
from training.services.terms import Terms
from training.wording import Party

# A number that every JSON reader keeps exact.
SEED_BITS = 53


def available(
    run: Run,
    among: Iterable[int] | None = None,
    *,
    taken: QuerySet[Assignment] | None = None,
    have: Mapping[int, int] | None = None,
) -> list[Device]:
    """The devices that can take part now, in a fixed order, with their organizations.

    Active devices of active members that nothing bars, in the run's group, with a usable key, heard of within
    FEDPORTAL_PRESENCE_SECONDS, and, if they declined a part of this run, heard of since. `among`: only these. `taken`:
    parts whose devices are left out; `have`: how many devices of each organization take part, which count where an
    organization lets so many of its devices take part only together.
    """
    present = _present(run)
    if taken is not None:
        present = present.filter(~Exists(taken.filter(device=OuterRef("pk"))))
    found = _ordered(present if among is None else present.filter(pk__in=list(among)))
    if not found:
        return []
    rules = rules_of(run)
    bound = {device.organization_id for device in found} & set(rules.floors) - set(rules.refused)
    if among is not None and bound:  # these come together or not at all, so the others of them are asked too
        free = [device for device in found if device.organization_id not in bound]
        found = sorted([*free, *_ordered(present.filter(organization__in=bound))], key=_place)
    count = Counter(device.organization_id for device in found) + Counter(have or {})
    barred = rules.barred(count)
    return [device for device in found if device.organization_id not in barred]


def barred(run: Run) -> list[tuple[Organization, str]]:
    """The active members whose devices are not asked in the next round, by name, each with the reason."""
    reasons = _barred(run)
    if not reasons:
        return []
    found = Organization.objects.filter(pk__in=reasons).order_by("name").only("public_id", "name")
    return [(organization, reasons[organization.pk]) for organization in found]


def of_members(run: Run) -> QuerySet[Device]:
    """Every device that may take part when it is there and nothing bars its organization."""
    member = Member.objects.filter(
        federation_id=run.federation_id, organization=OuterRef("organization_id"), state=MemberState.ACTIVE
    )
    devices = Device.objects.filter(Exists(member), state=DeviceState.ACTIVE, organization__suspended_at__isnull=True)
    return devices.filter(groups__name=run.group) if run.group else devices


def here(devices: QuerySet[Device]) -> QuerySet[Device]:
    """Those of the devices that have a usable key and were heard of within FEDPORTAL_PRESENCE_SECONDS."""
    now = clock.now()
    usable = DeviceKey.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=now), device=OuterRef("pk"), revoked_at__isnull=True
    )
    return devices.filter(Exists(usable), last_seen_at__gte=seen_since(now))


def of_barred(run: Run, device_pks: Iterable[int]) -> set[int]:
    """Those of the devices whose organization is barred for now: they are not asked, and they are not gone."""
    reasons = _barred(run)
    of = Device.objects.filter(pk__in=list(device_pks), organization__in=list(reasons))
    return set(of.values_list("pk", flat=True)) if reasons else set()


def demanded(run: Run) -> frozenset[int]:
    """The organizations of which a quota asks for devices: those that have any for this run and that nothing bars
    however many are there."""
    owners = set(of_members(run).order_by().values_list("organization_id", flat=True).distinct())
    return frozenset(owners - set(rules_of(run).refused))


def drawn(
    run: Run,
    found: Round,
    devices: Sequence[Device],
    have: Mapping[int, int] | None = None,
    at_work: int | None = None,
) -> list[Device]:
    """Those of the available devices that the round asks, in their order; `have`: how many of each organization take
    part already. `at_work`: how many of those the round's target limits, where not all. Without a plan that limits them
    all are asked."""
    terms, have = Terms.of(run.plan), have or {}
    if found.target is None and not terms.cap:
        return list(devices)
    taken = sum(have.values()) if at_work is None else at_work
    room = None if found.target is None else max(found.target - taken, 0)
    floors = rules_of(run).floors
    place = (int(run.config["seed"]), found.number, found.attempt)
    candidates = [
        Candidate(one.pk, one.organization_id, sampling.rank(*place, one.organization.name, one.identifier))
        for one in devices
    ]
    asked = sampling.drawn(candidates, Limits(room, terms.quota, terms.cap, floors, have))
    return [device for device in devices if device.pk in asked]


def missing(run: Run, present: Iterable[int]) -> dict[str, str]:
    """The names of the active members beside those whose primary keys are `present`, each with why its devices are not
    asked; "" when it just has none available."""
    reasons = _barred(run)
    grouped = set(of_members(run).values_list("organization_id", flat=True)) if run.group else set()
    members = Organization.objects.filter(
        federation_members__federation_id=run.federation_id, federation_members__state=MemberState.ACTIVE
    )
    rows = list(members.exclude(pk__in=set(present)).order_by("name").only("pk", "name"))
    reasons = {**checks.absent(run, rows), **reasons}
    others = [(one.pk, one.name) for one in rows]
    outside = f"has no device in the group {run.group}"
    return {
        name: reasons.get(pk) or (f"{name} {outside}" if run.group and pk not in grouped else "") for pk, name in others
    }


def came_to_wait(device_pks: Iterable[int]) -> None:
    """These devices wait for work. Those that declined lately, or let the time of a check pass, are thereby heard of
    again, and asked again."""
    unanswered = Q(state__in=checks.UNANSWERED, round__kind=RoundKind.CHECK)
    closed = Assignment.objects.filter(
        Q(state=AssignmentState.DECLINED) | unanswered,
        device=OuterRef("pk"),
        round__run__state=RunState.RUNNING,
        changed_at__gt=OuterRef("last_seen_at"),
    )
    Device.objects.filter(Exists(closed), pk__in=list(device_pks)).update(last_seen_at=clock.now())


def work_shares(run: Run, devices: Sequence[Device]) -> Mapping[int, float]:
    """Device → the share of the local steps that it is asked for, of those whose group is asked for less than all. One
    query where the run says anything of that; of several groups the least counts."""
    shares: Mapping[str, float] = run.config.get("work_shares") or {}
    if not shares:
        return {}
    rows = Device.objects.filter(pk__in=[one.pk for one in devices], groups__name__in=list(shares))
    found: dict[int, float] = {}
    for pk, name in rows.order_by().values_list("pk", "groups__name"):
        found[pk] = min(found.get(pk, 1.0), shares.get(name, 1.0))
    return found


def labelled(run: Run, groups: Iterable[str]) -> Mapping[str, int]:
    """Group → how many devices in it may take part in the run when they are there. One query, without groups none."""
    names = list(groups)
    if not names:
        return {}
    rows = Device.objects.filter(pk__in=of_members(run).values("pk"), groups__name__in=names).order_by()
    found = dict(rows.values_list("groups__name").annotate(count=Count("pk", distinct=True)))
    return {name: found.get(name, 0) for name in names}


def party_of(device: Device) -> Party:
    """The device as it is shown."""
    organization = device.organization
    return Party(device.public_id, device.identifier, organization.public_id, organization.name)


def seed_for(run_seed: int, number: int, party: Party) -> int:
    """The seed of a device's work in a round: the same for another attempt, and in any portal with the same names."""
    text = f"{run_seed}\n{number}\n{party.organization}\n{party.identifier}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - SEED_BITS)


def seen_since(now: datetime) -> datetime:
    """Since when a device must have been seen. Right after a downtime this reaches back to before it: whoever was
    there then is taken to be there still, until it had the time to show that it is not."""
    presence = timedelta(seconds=settings.FEDPORTAL_PRESENCE_SECONDS)
    pulse = Pulse.objects.filter(back_at__gt=now - presence).values_list("down_seconds", flat=True).first()
    return now - presence - timedelta(seconds=pulse or 0)


def rules_of(run: Run) -> Rules:
    """What bars the members of the run's federation from its next round; the run need not be stored."""
    together = not Terms.of(run.plan).asynchronous
    rules = enrolment.rules(run.federation_id, strategy=run.strategy, together=together)
    exhausted = budgets.exhausted(run)
    return replace(rules, refused={**exhausted, **rules.refused}) if exhausted else rules


def _barred(run: Run) -> Mapping[int, str]:
    """Organization → why its devices are not asked. Devices are counted only where a policy asks for it."""
    rules = rules_of(run)
    if not rules.floors:
        return rules.refused
    of_bound = _present(run).filter(organization__in=list(rules.floors)).order_by()
    return rules.barred(Counter(of_bound.values_list("organization_id", flat=True)))


def unchecked(run: Run, among: Iterable[int] | None = None) -> list[Device]:
    """The devices (of those in `among`) that are there, that nothing bars, and that were not asked for the check with
    which the run began, or did not answer it and were heard of since."""
    asked = checks.asked(run).filter(device=OuterRef("pk"))
    silent = checks.unanswered(run).filter(device=OuterRef("pk"), changed_at__gt=OuterRef("last_seen_at"))
    found = _able(run).filter(~Exists(asked), ~Exists(silent))
    devices = _ordered(found if among is None else found.filter(pk__in=list(among)))
    refused = rules_of(run).refused if devices else {}
    return [device for device in devices if device.organization_id not in refused]


def _present(run: Run) -> QuerySet[Device]:
    """The devices that could take part now, whatever bars their organizations."""
    found = _able(run)
    mode = run.config.get("preflight", checks.OFF)
    if run.pk is None or mode == checks.OFF:
        return found
    over = checks.over(run) is not None
    if over:  # who came later looks at itself first
        looked = checks.asked(run).exclude(state__in=UNFINISHED)
        found = found.filter(Exists(looked.filter(device=OuterRef("pk"))))
    if mode == checks.LEAVE_OUT or (mode == checks.STOP and over):
        found = found.exclude(pk__in=checks.failing(run).values("device_id"))
    return found


def _able(run: Run) -> QuerySet[Device]:
    """The devices that are there, and that heard of the run since they last declined a part of it."""
    declined = Assignment.objects.filter(
        device=OuterRef("pk"),
        round__run=run,
        state=AssignmentState.DECLINED,
        changed_at__gt=OuterRef("last_seen_at"),
    )
    return here(of_members(run)).filter(~Exists(declined))


def _ordered(devices: QuerySet[Device]) -> list[Device]:
    columns = ("public_id", "identifier", "last_seen_at", "organization__public_id", "organization__name")
    ordered = devices.order_by("organization__name", "identifier").select_related("organization")
    return list(ordered.only(*columns))


def _place(device: Device) -> tuple[str, str]:
    return device.organization.name, device.identifier
