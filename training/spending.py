"""What an organization sees of its own privacy budget: what is spent, on what, and how far the rest goes.

Others see of it only what a run's label shows. Nothing here changes anything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from federations.models import Organization, Policy
from fedwire.states import word
from training import wording
from training.lifecycle import ALIVE_RUNS
from training.models import InferencePlan, Ledger, Run, Spending
from training.models.budgets import CHARGED, REFUNDED, RESERVED
from training.privacy import labels, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import Protection
from training.services import budgets

# A picture needs no more points than this, and each takes an accountant.
MOST_POINTS = 120
# So many plans of inference are listed; all count.
MOST_PLANS = 20
# How the ε of a budget is counted; see `training.privacy.ledgers`.
FILTER = "Rényi divergences, as a filter"
EVENT = ("unit", "noise", "rate")


def of(organization: Organization) -> dict[str, Any]:
    """The budget as JSON: the cap (None without one), what is charged and reserved, what is left, and of what the ε is.

    `reserved` is what open rounds add to what is `spent`. Four queries.
    """
    policy = Policy.objects.filter(organization=organization).first()
    ledger = Ledger.objects.filter(organization=organization).first()
    cap, delta = policy.privacy_epsilon if policy is not None else None, budgets.delta_of(policy)
    counts: Mapping[str, int] = ledger.counts if ledger is not None else {}
    held = counts
    for row in _summed(Spending.objects.filter(organization=organization, state=RESERVED)):
        held = ledgers.added(held, row["unit"], _mechanism(row), -1)
    spent, together = ledgers.spent(held, delta), ledgers.spent(counts, delta)
    return {
        "organization": {"id": organization.public_id, "name": organization.name},
        "epsilon": cap,
        "delta": delta,
        "unit": ledgers.unit_of(counts),
        "adjacency": labels.adjacency(ledgers.unit_of(counts)),
        "sampling": labels.sampling(counts),
        "accountant": FILTER,
        "spent": spent,
        "reserved": max(together - spent, 0.0),
        "left": None if cap is None else max(cap - together, 0.0),
        "used": None if cap is None else min(together / cap, 1.0),
        "federations": federations(organization, delta),
    }


def federations(organization: Organization, delta: float) -> list[dict[str, Any]]:
    """What was charged in each federation, the newest first, as if it were all: these ε do not add up, for the budget
    counts all rounds together. A plan of inference is a round. One query."""
    rows = _summed(
        Spending.objects.filter(organization=organization, state=CHARGED).annotate(
            federation=Coalesce("run__federation__public_id", "plan__federation__public_id"),
            federation_name=Coalesce("run__federation__name", "plan__federation__name"),
            federation_pk=Coalesce("run__federation", "plan__federation"),
        ),
        *("federation", "federation_name", "federation_pk"),
    )
    grouped: dict[tuple[str, str], dict[str, int]] = {}
    times = Counter[str]()
    for row in sorted(rows, key=lambda row: -row["federation_pk"]):
        key = row["federation"], row["federation_name"]
        grouped[key] = ledgers.added(grouped.get(key, {}), row["unit"], _mechanism(row))
        times[key[0]] += row["times"]
    return [
        {
            "federation": {"id": public_id, "name": name},
            "rounds": times[public_id],
            "epsilon": ledgers.spent(counts, delta),
            "unit": ledgers.unit_of(counts),
        }
        for (public_id, name), counts in grouped.items()
    ]


def runs(organization: Organization) -> QuerySet[Run]:
    """The runs that reserved something of the organization, newest first."""
    spent = Spending.objects.filter(organization=organization)
    return Run.objects.filter(pk__in=spent.values("run")).select_related("model", "federation").order_by("-pk")


def plans(organization: Organization) -> list[InferencePlan]:
    """The newest plans of inference that reserved something of the organization, each with the `spent_state` of it."""
    of = Spending.objects.filter(organization=organization, plan=OuterRef("pk"))
    found = InferencePlan.objects.annotate(spent_state=Subquery(of.values("state")[:1])).exclude(spent_state=None)
    return list(found.select_related("model", "federation", "version").order_by("-pk")[:MOST_PLANS])


def told(organization: Organization, found: Iterable[Run]) -> list[dict[str, Any]]:
    """What each of these runs cost the organization, and how many more of its rounds the budget is enough for.

    `epsilon` is that of the run's charged rounds alone, at the run's δ, tight; None when it is beyond all use.
    `rounds_left` and `needed` are None of a run that is over, and `rounds_left` where there is no limit. Three queries,
    however many runs.
    """
    wanted = list(found)
    policy = Policy.objects.filter(organization=organization).first()
    ledger = Ledger.objects.filter(organization=organization).first()
    counts: Mapping[str, int] = ledger.counts if ledger is not None else {}
    rows = _summed(Spending.objects.filter(organization=organization, run__in=wanted), "run", "state")
    by_run: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run"], []).append(row)
    return [_run(run, by_run.get(run.pk, []), counts, policy) for run in wanted]


def history(organization: Organization, delta: float) -> list[dict[str, Any]]:
    """How what is spent grew: [{"at", "epsilon", "rounds"}], the oldest first, at most MOST_POINTS, the last always.
    What was refunded never was. One query."""
    kept = Spending.objects.filter(organization=organization).exclude(state=REFUNDED)
    rows = list(kept.order_by("pk").values("at", "rounds", *EVENT))
    step, counts, points = max(-(-len(rows) // MOST_POINTS), 1), dict[str, int](), list[dict[str, Any]]()
    for number, row in enumerate(rows, 1):
        counts = ledgers.added(counts, row["unit"], _mechanism(row))
        if number % step == 0 or number == len(rows):
            epsilon = ledgers.spent(counts, delta)
            points.append({"at": wording.instant(row["at"]), "epsilon": epsilon, "rounds": number})
    return points


def _run(run: Run, rows: list[dict[str, Any]], counts: Mapping[str, int], policy: Policy | None) -> dict[str, Any]:
    states = {state: sum(row["times"] for row in rows if row["state"] == state) for state in _STATES}
    charged = ledgers.summed((row["unit"], _mechanism(row)) for row in rows if row["state"] == CHARGED)
    protection, alive = Protection.of(run.config), run.state in ALIVE_RUNS
    return {
        "run": {"id": run.public_id, "name": run.name or run.model.name},
        "model": {"id": run.model.public_id, "name": run.model.name},
        "federation": {"id": run.federation.public_id, "name": run.federation.name},
        "state": run.state,
        "word": word("run", run.state),
        "unit": protection.unit,
        "noise": protection.noise,
        "delta": protection.delta,
        "epsilon": epsilon if math.isfinite(epsilon := ledgers.planned(charged, protection.delta)) else None,
        **states,
        "rounds_left": budgets.rounds_left(run, counts, policy) if alive else None,
        "needed": max(run.total_rounds - run.current_round - bool(states[RESERVED]), 0) if alive else None,
    }


_STATES = (CHARGED, RESERVED, REFUNDED)


def _summed(rows: QuerySet[Spending], *by: str) -> list[dict[str, Any]]:
    """How many rounds of each kind these are, as `times`, and as `rounds` how often their noise was added."""
    counted = rows.order_by().values(*by, *EVENT).annotate(times=Count("pk"), rounds=Sum("rounds"))
    return [dict(row) for row in counted]


def _mechanism(row: Mapping[str, Any]) -> Mechanism:
    return Mechanism(row["noise"], row["rate"], row["rounds"])
