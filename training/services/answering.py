"""What devices answer to a plan of inference, each counted once, and the plan's end: added up, shown or not, erased.

An answer moves its part and holds nothing else. Whoever ends a plan moves its row first (and who adds it up locks the
federation before), then closes the tasks, and adds up what is answered by then; so an answer is in the sum as a
whole, or it is `task_closed`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from federations.models import DeviceTask, Federation, Organization
from federations.services import audit, device_tasks, members
from fedportal.common import clock
from fedportal.common.transactions import after_commit, unit
from fedwire import inference
from fedwire.errors import FedportalError
from fedwire.inference import Asked, asked_of
from fedwire.states import AskedState, InferenceState, TaskKind
from registry.models import Model
from training import lifecycle
from training.aggregation import summaries
from training.models import InferencePart, InferencePlan
from training.models.inference import ALIVE_PLANS, UNANSWERED
from training.services import consents, inference_costs, inference_news

Bell = Callable[[int], object]
# So many earlier plans over the same model are compared with one that ends.
MOST_COMPARED = 500
ALIKE = "an earlier plan was over almost the same devices, so their difference would tell of few; ask with noise"
SHIFTED = (
    "an earlier plan over the same devices had other bounds, bins or rows, so their difference would tell of few; "
    "ask for the same, or with noise"
)
AT_AN_END = "the mean is so near an end of its range that it may tell of few rows; ask for another range, or with noise"
FEW_ROWS = "all devices together have fewer rows than a cell needs"
_bells: list[Bell] = []


def connect() -> None:
    """Listen to the tasks of plans."""
    device_tasks.handle(
        TaskKind.INFER,
        on_taken=on_taken,
        on_answer=on_answer,
        on_decline=on_decline,
        on_late=on_late,
        on_refused=on_refused,
    )


def listen(bell: Bell) -> None:
    """Call `bell(plan_pk)` after the commit of what may be the last answer of a plan."""
    if bell not in _bells:
        _bells.append(bell)


def on_taken(taken: Sequence[DeviceTask]) -> None:
    """These devices are at it."""
    lifecycle.move(_parts(taken), AskedState.WORKING, changed_at=clock.now())


def on_answer(task: DeviceTask, answer: Mapping[str, Any], stored_sha: str, norm: float | None) -> None:
    """Keep the cells until the plan ends. Raises `inference_invalid` for what no device can have counted."""
    part = InferencePart.objects.filter(task=task.pk).select_related("plan").first()
    if part is None:
        raise FedportalError("not_found", what="plan")
    inference.check(asked_of(part.plan.asked), answer["inference"], settings.FEDPORTAL_MAX_SAMPLES)
    moved = lifecycle.move(
        _parts([task]), AskedState.ANSWERED, cells=answer["inference"], seen=True, changed_at=clock.now()
    )
    if not moved:
        raise FedportalError("task_closed", task=task.public_id, state=part.state)
    _ring(part.plan_id)


def on_decline(task: DeviceTask, reason: str) -> None:
    """The device will not; it is not asked again in this plan."""
    lifecycle.move(_parts([task]), AskedState.DECLINED, reason=reason, changed_at=clock.now())
    for plan_pk in _parts([task]).values_list("plan", flat=True):
        _ring(plan_pk)


def on_late(task: DeviceTask) -> None:
    """Something came and is not counted. It was seen all the same, which costs the budget where noise protects it,
    also when the plan is over and what it cost was given back."""
    _note_seen(task, "")


def on_refused(task: DeviceTask, code: str, sentence: str) -> None:
    """What came was refused; a better answer may still come."""
    _note_seen(task, sentence)


def settle(plan_pk: int) -> bool:
    """End the plan if nothing more is to come, or its time is over; whether this call ended it."""
    plan = InferencePlan.objects.filter(pk=plan_pk, state=InferenceState.RUNNING).first()
    if plan is None:
        return False
    waits = InferencePart.objects.filter(plan=plan, state__in=UNANSWERED).exists()
    over = plan.deadline is not None and plan.deadline <= clock.now()
    return (over or not waits) and _end(plan)


def call_off(plan: InferencePlan, reason: str = "") -> None:
    """Close what is open of a plan that was just cancelled, erase what was answered, and settle what it costs. Call it
    inside the unit that moved the plan's row."""
    _close(plan, AskedState.WITHDRAWN)
    answered = InferencePart.objects.filter(plan=plan, state=AskedState.ANSWERED)
    lifecycle.move(answered, AskedState.WITHDRAWN, cells=None, reason=reason, changed_at=clock.now())
    inference_costs.settle(plan)


def withdraw(federation: Federation, organization: Organization) -> int:
    """The organization's devices are out of the plans that run here: their tasks are closed, their answers erased.
    How many parts. Call it inside a unit."""
    plans = InferencePlan.objects.filter(federation=federation, state=InferenceState.RUNNING).order_by("pk")
    running = list(plans.select_for_update(no_key=True).values_list("pk", flat=True))
    parts = InferencePart.objects.filter(plan__in=running, organization=organization)
    device_tasks.cancel(parts.filter(state__in=UNANSWERED, task__isnull=False).values_list("task", flat=True))
    reason = f"{organization.name} took its consent back"
    gone = parts.filter(state__in=(*UNANSWERED, AskedState.ANSWERED))
    moved = lifecycle.move(gone, AskedState.WITHDRAWN, cells=None, reason=reason, changed_at=clock.now())
    for plan_pk in running:
        _ring(plan_pk)
    return moved


def overdue(now: datetime) -> list[int]:
    """The running plans whose time is over, or of which no answer is awaited any more."""
    running = InferencePlan.objects.filter(state=InferenceState.RUNNING)
    waiting = InferencePart.objects.filter(plan__in=running, state__in=UNANSWERED).values("plan")
    return sorted({*running.filter(deadline__lte=now).values_list("pk", flat=True)} | _all_in(running, waiting))


def _all_in(running: QuerySet[InferencePlan], waiting: QuerySet[Any, Any]) -> set[int]:
    return set(running.exclude(pk__in=waiting).values_list("pk", flat=True))


def _end(plan: InferencePlan) -> bool:
    """Add up what was answered and show it, or say why not; then erase what single devices sent."""
    with unit():
        # Of two plans that end at once, be it in two federations that share the model, the second is compared with the
        # first. With the federation's lock no consent changes meanwhile.
        members.lock(plan.federation)
        Model.objects.select_for_update(no_key=True).get(pk=plan.model_id)
        rows = InferencePlan.objects.filter(pk=plan.pk, state=InferenceState.RUNNING)
        if not list(rows.select_for_update(no_key=True).values_list("pk", flat=True)):
            return False
        _close(plan, AskedState.EXPIRED)
        counted = _counted(plan)
        reason, result = _outcome(plan, counted)
        state = InferenceState.FAILED if reason else InferenceState.DONE
        if lifecycle.move(rows, state, result=result, reason=reason, ended_at=clock.now()) != 1:
            return False
        InferencePart.objects.filter(plan=plan).exclude(cells=None).update(cells=None)
        inference_costs.settle(plan)
        plan.refresh_from_db()
        action = "inference.failed" if reason else "inference.done"
        audit.record(plan.organization, audit.PORTAL, action, plan.public_id, devices=len(counted), reason=reason)
        inference_news.ended(plan)
    return True


def _counted(plan: InferencePlan) -> list[InferencePart]:
    """The answers of organizations that are still members with a consent that goes as far as the plan; the others' are
    taken out."""
    # Leaving a federation is no act of this floor, so it is looked at here; and so is a consent given anew with less.
    asked = asked_of(plan.asked)
    bounds = {consent.organization_id: consents.beyond(consent, asked) for consent in consents.given(plan.federation)}
    answered = InferencePart.objects.filter(plan=plan, state=AskedState.ANSWERED).order_by("pk")
    for owner in set(answered.values_list("organization", flat=True)):
        if reason := bounds.get(owner, "not a member any more"):
            gone = answered.filter(organization=owner)
            lifecycle.move(gone, AskedState.WITHDRAWN, cells=None, reason=reason[:300], changed_at=clock.now())
    return list(answered)


def _outcome(plan: InferencePlan, counted: Sequence[InferencePart]) -> tuple[str, dict[str, Any] | None]:
    """Why nothing is shown, "" where something is; and what is shown."""
    asked = asked_of(plan.asked)
    owners = {part.organization_id for part in counted}
    if len(counted) < plan.least_devices or len(owners) < plan.least_organizations:
        have = f"{len(counted)} devices of {len(owners)} organizations answered"
        return f"{have}; it needs {plan.least_devices} of {plan.least_organizations}", None
    if not asked.noise and (reason := _differs_by_few(plan, asked, counted)):
        return reason, None
    total = summaries.total_of(asked, [part.cells or [] for part in counted])
    found = summaries.released(asked, total, len(counted))
    if found is None:
        return (FEW_ROWS if inference.rows_of(asked, total) < asked.least_count else AT_AN_END), None
    return "", {**found, "devices": len(counted), "organizations": len(owners)}


def _differs_by_few(plan: InferencePlan, asked: Asked, counted: Sequence[InferencePart]) -> str:
    """That an earlier summary of this model was of almost the same devices, or of almost the same organizations, or of
    exactly the same within other bounds: counted without noise both times, their difference would be the count of few.
    All versions are looked at, for the same weights can be pushed as another one; and all federations, for the model
    can be shared with several. "" if none was."""
    earlier = InferencePlan.objects.filter(model=plan.model_id, state=InferenceState.DONE, asked__noise=0)
    said = dict(earlier.exclude(pk=plan.pk).order_by("-pk").values_list("pk", "asked")[:MOST_COMPARED])
    rows = InferencePart.objects.filter(plan__in=list(said), state=AskedState.ANSWERED)
    devices: dict[int, set[int]] = {}
    owners: dict[int, set[int]] = {}
    for plan_pk, device, organization in rows.values_list("plan", "device", "organization"):
        devices.setdefault(plan_pk, set()).add(device)
        owners.setdefault(plan_pk, set()).add(organization)
    mine, whose = {part.device_id for part in counted}, {part.organization_id for part in counted}
    if summaries.too_alike(mine, devices.values(), plan.least_devices):
        return ALIKE
    if summaries.too_alike(whose, owners.values(), plan.least_organizations):
        return ALIKE
    same = [asked_of(said[pk]) for pk, before in devices.items() if before == mine]
    return SHIFTED if any(summaries.cut_otherwise(asked, before) for before in same) else ""


def _close(plan: InferencePlan, state: AskedState) -> None:
    """No answer is taken any more."""
    open_parts = InferencePart.objects.filter(plan=plan, state__in=UNANSWERED)
    tasks = list(open_parts.exclude(task=None).values_list("task", flat=True))
    if state == AskedState.EXPIRED:
        device_tasks.expire(tasks)
    else:
        device_tasks.cancel(tasks)
    # Of a task that was answered meanwhile the part has moved too.
    lifecycle.move(open_parts, state, changed_at=clock.now())


def _note_seen(task: DeviceTask, reason: str) -> None:
    """Something that the device counted is here. Whoever ends the plan at the same moment holds its row and settles its
    costs: either that sees this, or this finds the plan over and charges what was given back."""
    more = {"reason": reason[:300]} if reason else {}
    plans = InferencePlan.objects.filter(pk__in=_parts([task]).values("plan"))
    for plan in plans.select_for_update(no_key=True):
        parts = _parts([task]).filter(plan=plan)
        parts.update(seen=True, **more)
        if plan.state not in ALIVE_PLANS:
            for owner in parts.values_list("organization", flat=True):
                inference_costs.charge_late(plan, owner)


def _parts(tasks: Sequence[DeviceTask]) -> QuerySet[InferencePart]:
    return InferencePart.objects.filter(task__in=[task.pk for task in tasks])


def _ring(plan_pk: int) -> None:
    def ring() -> None:
        for bell in _bells:
            bell(plan_pk)

    after_commit(ring)
