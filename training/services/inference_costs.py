"""What a plan of inference with noise costs each organization: reserved at its start, charged or refunded at its end.

It is the ledger of rounds (`training.services.budgets`): the same rows of the same organization, whatever it was spent
on, locked last, in the order of organizations. The unit is a record, for devices add noise that hides any one of their
rows from everybody, the portal too. Devices of one organization have different rows, so a plan costs it once.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Exists, OuterRef

from federations.models import Policy
from fedportal.common import clock
from fedwire.inference import Asked, asked_of
from training.models import InferencePart, InferencePlan, Ledger, Spending
from training.models.budgets import CHARGED, REFUNDED, RESERVED
from training.privacy import accounting, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import UNIT_RECORD
from training.services import budgets


def mechanism(asked: Asked) -> Mechanism | None:
    """What the plan costs each organization; None without noise."""
    return Mechanism(asked.noise) if asked.noise else None


def epsilon(asked: Asked, delta: float) -> float | None:
    """The plan's own ε for one row, tight; None without noise."""
    each = mechanism(asked)
    return accounting.epsilon([each], delta) if each is not None else None


def reserve(plan: InferencePlan, organizations: Iterable[int]) -> frozenset[int]:
    """Reserve what the plan costs each of these, once; those whose budget is not enough for it. Call it inside the
    unit that starts the plan; it holds their ledgers until that ends."""
    each, wanted = mechanism(asked_of(plan.asked)), sorted(set(organizations))
    if each is None or not wanted:
        return frozenset()
    Ledger.objects.bulk_create([Ledger(organization_id=pk) for pk in wanted], ignore_conflicts=True)
    held = Ledger.objects.select_for_update().filter(organization__in=wanted).order_by("organization_id")
    policies = {policy.organization_id: policy for policy in Policy.objects.filter(organization__in=wanted)}
    refused, rows, changed = set[int](), list[Spending](), list[Ledger]()
    for ledger in held:
        owner = ledger.organization_id
        if not budgets.fits(ledger.counts, policies.get(owner), UNIT_RECORD, each):
            refused.add(owner)
            continue
        ledger.counts = ledgers.added(ledger.counts, UNIT_RECORD, each)
        changed.append(ledger)
        cost = {"unit": UNIT_RECORD, "noise": each.noise, "rate": each.rate, "rounds": each.rounds}
        rows.append(Spending(organization_id=owner, plan=plan, delta=plan.delta, at=clock.now(), **cost))
    Spending.objects.bulk_create(rows)
    Ledger.objects.bulk_update(changed, ["counts"])
    return frozenset(refused)


def settle(plan: InferencePlan) -> None:
    """Charge whoever's devices sent anything, and refund the others; any number of calls do it once. Call it inside
    the unit that ends the plan, after everything else is locked."""
    open_rows = Spending.objects.filter(plan=plan, state=RESERVED)
    owners = sorted(open_rows.values_list("organization_id", flat=True))
    if not owners:
        return
    held = Ledger.objects.select_for_update().filter(organization__in=owners).order_by("organization_id")
    by_owner = {ledger.organization_id: ledger for ledger in held}
    seen = InferencePart.objects.filter(plan=plan, organization=OuterRef("organization"), seen=True)
    paid, back, refunds = list[int](), list[int](), list[Ledger]()
    for row in open_rows.filter(organization__in=owners).annotate(gave=Exists(seen)).order_by("pk"):
        if row.gave:
            paid.append(row.pk)
            continue
        back.append(row.pk)
        ledger = by_owner[row.organization_id]
        ledger.counts = ledgers.added(ledger.counts, row.unit, Mechanism(row.noise, row.rate, row.rounds), -1)
        refunds.append(ledger)
    for state, pks in ((CHARGED, paid), (REFUNDED, back)):
        Spending.objects.filter(pk__in=pks, state=RESERVED).update(state=state, settled_at=clock.now())
    Ledger.objects.bulk_update(refunds, ["counts"])


def charge_late(plan: InferencePlan, organization: int) -> None:
    """Something of the organization's devices came after its cost was given back: charge it after all, once, whatever
    the budget says, for it was seen. Call it inside a unit."""
    given_back = Spending.objects.filter(plan=plan, organization=organization, state=REFUNDED)
    if not given_back.exists():
        return
    ledger = Ledger.objects.select_for_update().get(organization=organization)
    if given_back.update(state=CHARGED, settled_at=clock.now()):
        each = mechanism(asked_of(plan.asked))
        assert each is not None  # a plan without noise has no spending
        ledger.counts = ledgers.added(ledger.counts, UNIT_RECORD, each)
        ledger.save(update_fields=["counts"])
