"""What a round needs and how it stands: the one place that says which rounds are short of devices, and of whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, QuerySet

from federations.models import Organization
from fedwire.states import RoundKind, RoundState, RunState
from training import wording
from training.models import Assignment, Round, Run
from training.services import buffering, cohorts, part_rows, plan, trust
from training.services.plan import Need, Standing
from training.services.terms import Terms


@dataclass(frozen=True)
class Look:
    """A round as it stands."""

    found: Round
    need: Need
    standing: Standing

    @property
    def missing(self) -> int:
        """How many devices the round lacks to have as many as it needs, of all and of each organization."""
        have, lacking = self.standing.counting(self.need.kind), self.standing.lacking(self.need)
        return max(self.need.least - have, sum(lacking.values()), 0)

    @property
    def at_work(self) -> int | None:
        """How many devices have a task of an asynchronous round's run; its target limits those. None in another."""
        return self.standing.unfinished if self.need.buffer else None

    @property
    def has_room(self) -> bool:
        """Whether devices may be let in: it is short, or fewer take part than it asks, and it has no quorum yet."""
        if self.need.kind == RoundKind.CHECK:  # whoever comes while the others look at themselves, does so too
            return True
        target = self.found.target
        if self.need.buffer:  # whoever is free is asked, as many as may be at work at once
            free = target is None or self.standing.unfinished < target
            return free and self.standing.answered(self.need.kind) < self.need.buffer
        if self.standing.enough(self.need) or self.found.enough_at is not None:
            return False
        return bool(self.missing) or self.standing.counting(self.need.kind) < (target or 0)


@dataclass(frozen=True)
class Shortage:
    """What a round lacks. `quotas`: organization → how many devices of it; `missing`: organization → why it is not
    there, "" when it just has no device available."""

    have: int
    need: int
    quotas: Mapping[str, int]
    missing: Mapping[str, str]

    def told(self, until: datetime) -> dict[str, Any] | None:
        """For whom the round waits, as JSON."""
        return wording.waiting(self.have, self.need, self.missing, until, self.quotas)


def of(run: Run, kind: str, asynchronous: bool = False) -> Need:
    """What a round of this kind needs in the run; asks for organizations only where there is a quota, or one that is
    trusted."""
    terms = Terms.of(run.plan)
    if asynchronous:
        buffer = max(terms.buffer, 1)
        return Need(kind, min(run.min_participants, buffer), buffer=buffer)
    if kind == RoundKind.EVALUATE:  # whoever is there measures the last model, and all of them are waited for
        return Need(kind)
    if kind == RoundKind.CHECK:  # all that are there, whatever the plan says of rounds
        return Need(kind, run.min_participants)
    demanded = cohorts.demanded(run) if terms.quota else frozenset()
    # Without an answer of whom the run trusts all others would have trained for nothing.
    trusted = trust.organization_of(run) if kind == RoundKind.TRAIN else None
    if trusted is not None:
        return Need(kind, run.min_participants, max(terms.quota, 1), demanded | {trusted}, terms.stragglers)
    return Need(kind, run.min_participants, terms.quota, demanded, terms.stragglers)


def of_round(found: Round) -> Need:
    """What this round needs."""
    return of(found.run, found.kind, found.asynchronous)


def standing(found: Round) -> Standing:
    """How the parts of the round stand; of an asynchronous one, all that are out or would count in it."""
    if found.asynchronous:
        return buffering.standing(found.run_id, found.pk)
    return Standing(part_rows.counts(found.pk))


def looks(rounds: QuerySet[Round]) -> list[Look]:
    """Those of the rounds that need devices, in order: the last model is measured by whoever is there.

    Two queries, two more for each run with a quota, one where an organization is trusted, and three for each
    asynchronous round.
    """
    open_rounds = rounds.exclude(kind=RoundKind.EVALUATE).select_related("run")
    found = list(open_rounds.defer("run__given", "run__standardisation", "metrics").order_by("pk"))
    if not found:
        return []
    counts: dict[int, dict[int, dict[str, int]]] = {one.pk: {} for one in found}
    rows = Assignment.objects.filter(round__in=list(counts)).order_by().values_list("round", "organization", "state")
    for round_pk, organization, state, count in rows.annotate(count=Count("pk")):
        counts[round_pk].setdefault(organization, {})[state] = count
    return [Look(one, of_round(one), standing(one) if one.asynchronous else Standing(counts[one.pk])) for one in found]


def short_among(run_pks: Iterable[int]) -> dict[int, Look]:
    """Those of the runs whose open round lacks devices, each with that round."""
    pks = list(run_pks)
    open_rounds = Round.objects.filter(run__in=pks, state=RoundState.OPEN, run__state=RunState.RUNNING)
    return {look.found.run_id: look for look in looks(open_rounds) if look.missing} if pks else {}


def shortage(run: Run, kind: str, have: Mapping[int, int], asynchronous: bool = False) -> Shortage | None:
    """What a round of this kind lacks in which so many devices of each organization take part; None when nothing."""
    need, count = of(run, kind, asynchronous), sum(have.values())
    lacking = plan.lacking(need, have)
    if kind == RoundKind.EVALUATE or (count >= need.least and not lacking):
        return None
    names = dict(Organization.objects.filter(pk__in=list(lacking)).order_by("name").values_list("pk", "name"))
    missing = cohorts.missing(run, (pk for pk, number in have.items() if number))
    if count >= need.least:
        missing = {name: reason for name, reason in missing.items() if name in names.values()}
    some = {name: f"{name} has {have[pk]} of {need.quota} there" for pk, name in names.items() if have.get(pk)}
    return Shortage(count, need.least, {name: lacking[pk] for pk, name in names.items()}, {**missing, **some})


def counted(parts: Iterable[tuple[int, str]], kind: str) -> Counter[int]:
    """Organization → how many of these parts (organization, state) count towards the minimum."""
    states = plan.counting(kind)
    return Counter(organization for organization, state in parts if state in states)
