"""What a run's privacy label is made of, read from its rows."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q, Sum

from fedwire.states import RoundKind, SumState
from training.aggregation import strategies
from training.models import MaskedSum, Run, Spending, Update
from training.models.budgets import REFUNDED
from training.privacy import labels, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.labels import Facts, Spent
from training.privacy.protection import RECORDS, Protection


def of(run: Run) -> dict[str, Any]:
    """The label of the run as it stands. No query for a run without protection, two for sums, one for noise."""
    return labels.label(facts(run))


def facts(run: Run) -> Facts:
    """What happened in the run that its label tells of."""
    protection = Protection.of(run.config)
    updates, hidden = _masked(run) if protection.hides else (sum(one["updates"] for one in run.given.values()), 0)
    return Facts(
        protection=protection,
        updates=updates,
        hidden=hidden,
        certified=hidden > 0 and _are_certified(run),
        spent=_spent(run) if protection.spends else (),
        evaluates=bool(run.config.get("evaluate", True)),
        standardises=bool(run.config.get("standardise")),
        checks=run.config.get("preflight", "off") != "off",
        personal=strategies.find(run.strategy).personal,
        # Without a rate no device knows how, whatever may stand in a run's configuration.
        added=protection.mechanism != RECORDS or protection.rate > 0,
    )


def _masked(run: Run) -> tuple[int, int]:
    """How many updates came, and how many of those masked: what lies with the portal as a file was seen by it."""
    given = Update.objects.filter(round__run=run, round__kind=RoundKind.TRAIN)
    counted = given.aggregate(all=Count("pk"), hidden=Count("pk", filter=Q(blob="")))
    return counted["all"], counted["hidden"]


def _are_certified(run: Run) -> bool:
    """Whether that holds of every session that a sum came of, and there is one."""
    done = MaskedSum.objects.filter(round__run=run, state=SumState.DONE)
    return set(done.order_by().values_list("certified", flat=True).distinct()) == {True}


def _spent(run: Run) -> tuple[Spent, ...]:
    """By organization, open rounds too: an answer to one may be there already."""
    kept = Spending.objects.filter(run=run).exclude(state=REFUNDED).order_by()
    by = ("organization__public_id", "organization__name", "unit", "noise", "rate")
    found: dict[str, Spent] = {}
    counted = kept.values_list(*by).annotate(times=Count("pk"), rounds=Sum("rounds"))
    for public_id, name, unit, noise, rate, times, rounds in counted:
        before = found.get(public_id, Spent(public_id, name, {}, 0))
        counts = ledgers.added(before.counts, unit, Mechanism(noise, rate, rounds))
        found[public_id] = Spent(public_id, name, counts, before.rounds + times)
    return tuple(sorted(found.values(), key=lambda one: one.name.casefold()))
