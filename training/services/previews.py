"""A run before it is started: whom its first round would ask, and what stands in the way. Nothing changes here.

The arguments are those of `runs.start`; the number of queries depends neither on organizations nor on devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery

from federations import permissions
from federations.models import Device, Federation, Member
from federations.permissions import Actor
from federations.services import policies
from fedwire.errors import FedportalError
from fedwire.states import AssignmentState, MemberState, RoundKind, RoundState, RunState
from registry.models import Model, ModelVersion
from registry.services import versions
from training import plan_words, wording
from training.lifecycle import ALIVE_RUNS
from training.models import Assignment, Round, Run, Update
from training.privacy.protection import Protection
from training.services import (
    budgets,
    cohorts,
    compression,
    configs,
    local,
    preflight,
    protections,
    runs,
    sampling,
    terms,
    trust,
)
from training.services.preflight import Facts, Place, Problem
from training.services.sampling import Limits
from training.services.terms import Terms
from training.wording import GREW

# How many of the last rounds say how long a round takes.
LAST_ROUNDS = 5
# How many of the last runs are looked through for one with the same settings.
LAST_RUNS = 20
SHOWN = (MemberState.ACTIVE, MemberState.INVITED, MemberState.SUSPENDED)


@dataclass(frozen=True)
class Preview:
    """What would happen. `ok`: whether `runs.start` would start it."""

    problems: tuple[Problem, ...]
    places: tuple[Place, ...]
    expected: int
    need: int
    sentence: str
    federation: Federation | None
    version: ModelVersion | None
    settings: Mapping[str, Any]
    plan: str  # whom a round asks and when it closes, in words, who is asked for less work, and what is kept from whom

    @property
    def ok(self) -> bool:
        return not any(problem.level == preflight.ERROR for problem in self.problems)


def of(
    actor: Actor,
    model: Model,
    *,
    federation: Federation | None = None,
    rounds: Any,
    strategy: str = "fedavg",
    group: Any = "",
    min_participants: Any = 1,
    round_seconds: Any = configs.DEFAULT_ROUND_SECONDS,
    config: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    version: ModelVersion | None = None,
) -> Preview:
    """What `runs.start` with the same arguments would do. Raises `forbidden` to whom it would."""
    permissions.require(actor, "model.train", model)
    refused: list[FedportalError] = []
    place = _place(actor, model, federation, refused)
    if place is not None:
        permissions.require(actor, "federation.train", place)
    base = version or versions.latest(model)
    if base is None:
        refused.append(runs.without_version(model))
    limits = {"rounds": rounds, "min_participants": min_participants, "round_seconds": round_seconds, "group": group}
    refused += configs.complaints(strategy, config or {}, base, {**limits, "plan": plan})
    wrong = {preflight.field_of(error) for error in refused}
    label = "" if "group" in wrong else configs.group(group)
    need = min_participants if configs.countable(min_participants) else 1
    asks = Terms() if wrong & set(terms.FIELDS) else terms.checked(plan or {}, need)
    refused += trust.complaints(strategy, config or {}, place, asks)
    settled = configs.checked(strategy, config or {}, base) if not refused and base is not None else None
    if settled is not None:
        asks = configs.plan_of(strategy, settled["parameters"], plan or {}, need)
    wish = Run(federation=place, group=label, strategy=strategy, config=settled or {}, plan=asks.as_json())
    wish.base_version = base
    shares = settled["work_shares"] if settled is not None and place is not None else {}
    facts = Facts(
        model=model.name,
        places=_places(wish, asks, need) if place is not None else (),
        need=need,
        terms=asks,
        group=label,
        round_seconds=0.0 if "round_seconds" in wrong else float(round_seconds),
        refused=refused,
        going_on=_going_on(actor, model),
        slowest=_slowest(model, place) if place is not None and "round_seconds" not in wrong else None,
        rate=_rate(config or {}),
        failed=_failed(model, place, strategy, base, config or {}) if not refused and place and base else "",
        standardise=settled is not None and settled["standardise"],
        written=_written(base, settled) if settled is not None and base is not None else None,
        lessened=cohorts.labelled(wish, shares),
        rounds=rounds if configs.countable(rounds) else 0,
        afforded=_afforded(actor, wish),
    )
    kept = "" if settled is None else protections.foreseen(Protection.of(settled), budgets.mechanism_of(wish), rounds)
    return _seen(facts, place, base, {**limits, "strategy": strategy}, _told(facts, shares, kept))


def _seen(
    facts: Facts,
    place: Federation | None,
    base: ModelVersion | None,
    settings: Mapping[str, Any],
    plan: str,
) -> Preview:
    return Preview(
        problems=tuple(preflight.problems(facts)),
        places=tuple(facts.places),
        expected=sum(row.expected for row in facts.places),
        need=facts.need,
        sentence=preflight.forecast(facts) if place is not None else "The run cannot start yet.",
        federation=place,
        version=base,
        settings={**settings, "standardise": facts.standardise, "plan": facts.terms.as_json()},
        plan=plan,
    )


def _written(base: ModelVersion, settled: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """The codec of the updates, and their bytes with it and plain; None for plain ones."""
    if settled["codec"] is None:
        return None
    return settled["codec"]["name"], *compression.sizes(settled["codec"], local.travelling(base, settled["local"]))


def _told(facts: Facts, shares: Mapping[str, float], kept: str) -> str:
    there = sum(row.present for row in facts.places if row.possible)
    told = plan_words.told(facts.terms, facts.need, there), plan_words.lessened(shares, facts.lessened), kept
    return " ".join(filter(None, told))


def _place(
    actor: Actor, model: Model, federation: Federation | None, refused: list[FedportalError]
) -> Federation | None:
    """The federation to train in; what stands against all of them goes to `refused`."""
    try:
        return runs.federation_of(actor, model, federation)
    except FedportalError as error:
        refused.append(error)
        return None


def _afforded(actor: Actor, wish: Run) -> int | None:
    """How many rounds the budget of the actor's own organization is enough for; None without a limit, or a cost.
    What others have left is theirs to know."""
    own = actor.organization
    if own is None or budgets.mechanism_of(wish) is None:
        return None
    return budgets.rounds_left(wish, budgets.counts_of(own), policies.of(own))


def _places(run: Run, asks: Terms, need: int) -> list[Place]:
    """The organizations of the federation, those with devices that would be asked first."""
    federation = run.federation
    devices = cohorts.of_members(run).order_by()
    known = {
        row["organization_id"]: row
        for row in devices.values("organization_id").annotate(known=Count("pk"), seen=Max("last_seen_at"))
    }
    few = _few(federation, cohorts.here(devices))
    here = cohorts.here(devices).values("organization_id").annotate(present=Count("pk"))
    present = {row["organization_id"]: row["present"] for row in here}
    rules = cohorts.rules_of(run)
    barred = rules.barred(present)
    free = {pk: count for pk, count in present.items() if pk in rules.names and pk not in barred}
    room = asks.target(need, sum(free.values()))
    asked = sampling.expected(free, Limits(room, asks.quota, asks.cap, rules.floors))
    answers = _answers(federation)
    members = Member.objects.filter(federation=federation, state__in=SHOWN).select_related("organization")
    found = [
        Place(
            id=member.organization.public_id,
            name=member.organization.name,
            state=member.state,
            known=known.get(member.organization_id, {}).get("known", 0),
            present=present.get(member.organization_id, 0),
            last_seen_at=known.get(member.organization_id, {}).get("seen"),
            barred=barred.get(member.organization_id, ""),
            grouped=bool(run.group),
            asked=asked.get(member.organization_id),
            cap=asks.cap,
            answers=answers.get(member.organization_id, 1.0),
            floor=few.get(member.organization_id, (0, 0))[0],
            few=few.get(member.organization_id, (0, 0))[1],
        )
        for member in members
    ]
    return sorted(found, key=lambda place: (not place.expected, place.state != MemberState.ACTIVE, place.name))


def _answers(federation: Federation) -> dict[int, float]:
    """Organization → how many of its devices that were asked in the last training rounds answered, from 0 to 1."""
    last = Round.objects.filter(run__federation=federation, kind=RoundKind.TRAIN, state=RoundState.DONE)
    parts = Assignment.objects.filter(round__in=list(last.order_by("-pk").values_list("pk", flat=True)[:LAST_ROUNDS]))
    rows = parts.exclude(reason=wording.NOT_NEEDED).order_by().values_list("organization")
    sent = Count("pk", filter=Q(state=AssignmentState.SUBMITTED))
    return {pk: answered / asked for pk, asked, answered in rows.annotate(asked=Count("pk"), sent=sent)}


def _few(federation: Federation, here: QuerySet[Device]) -> dict[int, tuple[int, int]]:
    """Organization → the fewest rows of a device by its policy, and how many of its devices sent fewer last time.

    A device that sent nothing yet is not judged, as on the policy's page.
    """
    floors = {
        organization: policy.least_records
        for organization, policy in policies.of_all(set(here.values_list("organization_id", flat=True))).items()
        if policy.least_records
    }
    if not floors:
        return {}
    sent = Update.objects.filter(
        device=OuterRef("pk"), round__run__federation=federation, round__kind=RoundKind.TRAIN
    ).order_by("-pk")
    rows = here.filter(organization__in=list(floors)).annotate(last=Subquery(sent.values("samples")[:1]))
    found = Counter(
        organization
        for organization, last in rows.values_list("organization_id", "last")
        if last is not None and last < floors[organization]
    )
    return {organization: (floors[organization], count) for organization, count in found.items()}


def _rate(config: Mapping[str, Any]) -> float | None:
    """The learning rate in what was asked for, where it is a number."""
    rate = config.get("learning_rate")
    return float(rate) if isinstance(rate, (int, float)) and not isinstance(rate, bool) else None


def _failed(model: Model, federation: Federation, strategy: str, base: ModelVersion, config: Mapping[str, Any]) -> str:
    """Why the last run with the same settings failed, if its numbers grew without end; "" otherwise."""
    wished = configs.checked(strategy, config, base)["parameters"]
    ended = Run.objects.filter(model=model, federation=federation, strategy=strategy).exclude(state__in=ALIVE_RUNS)
    for found, state, reason in ended.order_by("-pk").values_list("config", "state", "reason")[:LAST_RUNS]:
        if found.get("parameters") == wished:
            return reason if state == RunState.FAILED and reason.startswith(GREW) else ""
    return ""


def _going_on(actor: Actor, model: Model) -> list[str]:
    """The runs of the model that go on, as far as the actor sees them."""
    seen = permissions.visible(actor, Run.objects.filter(model=model, state__in=ALIVE_RUNS)).select_related(
        "federation"
    )
    return [f"round {run.current_round} of {run.total_rounds} in {run.federation.name}" for run in seen[:5]]


def _slowest(model: Model, federation: Federation) -> float | None:
    """How long the slowest of the last training rounds of the model took there."""
    rounds = Round.objects.filter(
        run__model=model, run__federation=federation, state=RoundState.DONE, kind=RoundKind.TRAIN
    ).order_by("-pk")
    took = [
        (closed - opened).total_seconds()
        for opened, closed in rounds.values_list("opened_at", "closed_at")[:LAST_ROUNDS]
        if closed is not None
    ]
    return max(took, default=None)
