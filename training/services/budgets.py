"""Privacy budgets: a round's cost is reserved with its opening, and charged or refunded when it is over.

The ledger of an organization is one row, locked by whoever opens a round until the unit ends; of any number that open
rounds at once, no more get through than the budget is enough for. It is locked last: after tasks, parts, rounds and
runs, several in the order of their organizations. A run without a mechanism asks and writes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Exists, OuterRef, Q

from federations.models import Member, Organization, Policy
from federations.services import audit
from fedportal.common import clock
from fedwire.states import AssignmentState, MemberState, RoundKind, SumState, TaskState
from training.lifecycle import ALIVE_ROUNDS, UNFINISHED
from training.models import Assignment, Ledger, Round, Run, Seat, Spending
from training.models.budgets import CHARGED, REFUNDED, RESERVED
from training.privacy import charges, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import DEFAULT_DELTA, DISTRIBUTED, LOCAL, RECORDS, Protection
from training.services import local, notices


def mechanism_of(run: Run) -> Mechanism | None:
    """What a training round of the run costs each organization that takes part; None when it costs nothing."""
    protection = Protection.of(run.config)
    # Only there the length of an update matters, which takes a look at the version.
    parameters = local.travels(run).parameters if protection.mechanism == DISTRIBUTED else 0
    return charges.of(protection, parameters, run.config["parameters"].get("epochs", 1) if protection.spends else 1)


def delta_of(policy: Policy | None) -> float:
    """The δ at which the organization's budget is counted."""
    return (policy.privacy_delta if policy is not None else None) or DEFAULT_DELTA


def reserve(run: Run, opened: Round, organizations: Iterable[int]) -> frozenset[int]:
    """Reserve what the round costs each of these organizations, once; those whose budget is not enough for it.

    Call it inside the unit that opens the round or lets devices in; it holds their ledgers until that ends.
    """
    each = mechanism_of(run) if opened.kind == RoundKind.TRAIN else None
    wanted = sorted(set(organizations)) if each is not None else []
    if each is None or not wanted:
        return frozenset()
    Ledger.objects.bulk_create([Ledger(organization_id=pk) for pk in wanted], ignore_conflicts=True)
    held = list(Ledger.objects.select_for_update().filter(organization__in=wanted).order_by("organization_id"))
    there = set(Spending.objects.filter(round=opened).values_list("organization_id", flat=True))
    policies = {policy.organization_id: policy for policy in Policy.objects.filter(organization__in=wanted)}
    unit, refused = Protection.of(run.config).unit, set[int]()
    rows, changed = list[Spending](), list[Ledger]()
    for ledger in held:
        if ledger.organization_id in there:
            continue
        if not fits(ledger.counts, policies.get(ledger.organization_id), unit, each):
            refused.add(ledger.organization_id)
            continue
        ledger.counts = ledgers.added(ledger.counts, unit, each)
        rows.append(_row(run, opened, ledger.organization_id, unit, each))
        changed.append(ledger)
    Spending.objects.bulk_create(rows)
    Ledger.objects.bulk_update(changed, ["counts"])
    return frozenset(refused)


def settle(run: Run) -> None:
    """Charge or refund what is reserved in rounds of the run that are over; any number of calls do it once.

    An organization pays for a round as soon as one of its answers was accepted, whatever became of the round. Nothing
    is refunded while one may still come: of an asynchronous round devices are at work after it is closed. Call it
    inside the unit that ends a round, after everything else is locked.
    """
    if mechanism_of(run) is None:
        return
    over = Spending.objects.filter(run=run, state=RESERVED).exclude(round__state__in=ALIVE_ROUNDS)
    owners = sorted(set(over.values_list("organization_id", flat=True)))
    if not owners:
        return
    held = Ledger.objects.select_for_update().filter(organization__in=owners).order_by("organization_id")
    by_owner = {ledger.organization_id: ledger for ledger in held}
    of = {"round": OuterRef("round"), "organization": OuterRef("organization")}
    works = Exists(Assignment.objects.filter(**of, state__in=UNFINISHED))
    gave = _gave(Protection.of(run.config))
    refunds = list[Ledger]()
    paid, back = list[int](), list[int]()
    for row in over.filter(organization__in=owners).annotate(gave=gave, works=works).order_by("pk"):
        if row.gave:
            paid.append(row.pk)
        elif not row.works:
            back.append(row.pk)
            ledger, each = by_owner[row.organization_id], Mechanism(row.noise, row.rate, row.rounds)
            ledger.counts = ledgers.added(ledger.counts, row.unit, each, -1)
            refunds.append(ledger)
    for state, pks in ((CHARGED, paid), (REFUNDED, back)):
        if pks:
            Spending.objects.filter(pk__in=pks, state=RESERVED).update(state=state, settled_at=clock.now())
    Ledger.objects.bulk_update(refunds, ["counts"])
    _tell_of_ends(run, paid)


def _tell_of_ends(run: Run, paid: Iterable[int]) -> None:
    """Tell those who paid these and have too little for a round that is still to come: once, for they take part in
    none until they raise their budget."""
    bound = Spending.objects.filter(pk__in=list(paid), organization__policy__privacy_epsilon__isnull=False)
    rows = bound.filter(round__number__lt=run.total_rounds).select_related("organization__policy")
    for row in rows.select_related("organization__ledger").order_by("organization"):
        owner = row.organization
        if not affords(run, counts_of(owner), owner.policy):
            audit.record(owner, "portal", "budget.exhausted", run.public_id)
            notices.exhausted(run, owner)


def exhausted(run: Run) -> Mapping[int, str]:
    """Organization → why its devices are not asked, for the active members whose budget is not enough for another
    round of the run; not those that have reserved the round that is open. One query, none without a mechanism."""
    each = mechanism_of(run)
    if each is None:
        return {}
    open_round = Spending.objects.filter(
        organization=OuterRef("organization"), run=run.pk, state=RESERVED, round__state__in=ALIVE_ROUNDS
    )
    bound = Member.objects.filter(
        federation_id=run.federation_id, state=MemberState.ACTIVE, organization__policy__privacy_epsilon__isnull=False
    )
    rows = bound.exclude(Exists(open_round)) if run.pk is not None else bound
    unit = Protection.of(run.config).unit
    return {
        member.organization_id: wording_of(member.organization)
        for member in rows.select_related("organization__policy", "organization__ledger").order_by("pk")
        if not fits(counts_of(member.organization), member.organization.policy, unit, each)
    }


def affords(run: Run, counts: Mapping[str, int], policy: Policy | None) -> bool:
    """Whether an organization with these counts may take part in another round of the run under this policy."""
    each = mechanism_of(run)
    return each is None or fits(counts, policy, Protection.of(run.config).unit, each)


def rounds_left(run: Run, counts: Mapping[str, int], policy: Policy | None) -> int | None:
    """How many more rounds of the run an organization with these counts may take part in under this policy, if no other
    run spends; None without a limit, or without a cost."""
    each = mechanism_of(run)
    if each is None or policy is None or policy.privacy_epsilon is None:
        return None
    unit = Protection.of(run.config).unit
    return ledgers.rounds_left(counts, unit, each, policy.privacy_epsilon, delta_of(policy))


def counts_of(organization: Organization) -> Mapping[str, int]:
    """What was reserved or charged of the organization so far."""
    ledger: Ledger | None = getattr(organization, "ledger", None)
    return ledger.counts if ledger is not None else {}


def wording_of(organization: Organization) -> str:
    """Why devices of an organization without budget are not asked, without a full stop."""
    return f"the privacy budget of {organization.name} is not enough for another round"


def fits(counts: Mapping[str, int], policy: Policy | None, unit: str, each: Mechanism) -> bool:
    """Whether such a round is within the organization's budget, if it has one, after all that is counted."""
    if policy is None or policy.privacy_epsilon is None:
        return True
    return ledgers.fits(counts, unit, each, policy.privacy_epsilon, delta_of(policy))


def _gave(protection: Protection) -> Exists:
    """Whether anything of the organization was accepted in the round.

    To be ready to mask a vector gives nothing yet. Where devices add noise that is to protect from the portal, a file
    that came is seen, whether its answer counted, was refused, or never came.
    """
    of = {"round": OuterRef("round"), "organization": OuterRef("organization")}
    if not protection.hides:
        if protection.mechanism in (LOCAL, RECORDS):
            # What was refused is removed, and was seen before; so was what came too late.
            seen = Q(task__upload_sha256__gt="") | Q(refusal__isnull=False) | Q(state=AssignmentState.LATE)
            came = Q(update__isnull=False) | seen
            return Exists(Assignment.objects.filter(came, **of))
        # An update whose file was damaged is no more, and was accepted all the same: its task says so.
        answered = Q(update__isnull=False) | Q(task__state=TaskState.ANSWERED)
        return Exists(Assignment.objects.filter(answered, **of))
    seats = Seat.objects.filter(organization=OuterRef("organization"), total__round=OuterRef("round"))
    return Exists(seats.filter(said__in=(SumState.MASK, SumState.AGREE, SumState.UNMASK)))


def _row(run: Run, opened: Round, organization: int, unit: str, each: Mechanism) -> Spending:
    return Spending(
        organization_id=organization,
        run=run,
        round=opened,
        unit=unit,
        noise=each.noise,
        rate=each.rate,
        rounds=each.rounds,
        delta=Protection.of(run.config).delta,
        at=opened.opened_at,
    )
