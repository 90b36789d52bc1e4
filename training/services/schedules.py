"""How the rounds of a run follow one another, synchronous or asynchronous: what a strategy allows, and the switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from federations import permissions
from federations.permissions import Actor
from federations.services import audit
from fedportal.common.jobs import ring
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RoundState
from training import lifecycle, plan_words, progress, tasks
from training.aggregation import strategies
from training.aggregation.strategy import Strategy, Values
from training.lifecycle import ALIVE_RUNS, Lost
from training.models import Round, Run
from training.services import opening, protections, terms
from training.services.terms import AHEAD, Terms


def settled(asked: Terms, strategy: Strategy, values: Values, min_participants: int) -> Terms:
    """The terms as they are stored: of asynchronous rounds with their buffer.

    Raises `strategy_schedule` for a schedule that the strategy is not for, `field_invalid` for a buffer that it cannot
    do with.
    """
    if asked.schedule not in strategy.schedules:
        usable = " and ".join(strategy.schedules)
        why = f", because {strategy.in_step}" if asked.asynchronous and strategy.in_step else ""
        said = {"strategy": strategy.title, "schedule": asked.schedule, "why": why, "usable": usable}
        raise FedportalError("strategy_schedule", **said)
    if not asked.asynchronous:
        return asked
    least = strategy.least_updates(values)
    buffer = asked.buffer or (1 if strategy.one_answer else max(min_participants, least))
    if strategy.one_answer and buffer != 1:
        raise _wrong(f"{strategy.title} makes a model of every answer, so it must be 1.")
    if buffer < least:
        raise _wrong(f"{strategy.title} with these settings needs at least {least} answers for a model.")
    return replace(asked, buffer=buffer)


def switch(actor: Actor, run: Run, said: Mapping[str, Any]) -> Run:
    """Change how the run's rounds follow one another: `said` holds fields of `terms.AHEAD`, others stay as they are.

    To asynchronous: the training round that is open is so at once, and devices that are at work stay at work.
    To synchronous: the open round takes what is in the buffer when it closes, and whoever is at work then is not
    needed any more; the next round asks everybody anew. Nothing happens when nothing changes. Raises `forbidden`,
    `wrong_state` for a run that is over, and what `settled` and `terms.checked` raise.
    """
    permissions.require(actor, "run.control", run)
    try:
        lifecycle.persist(lambda: _switch(actor, run, {name: said.get(name) for name in AHEAD}))
    except Lost:
        raise FedportalError("conflict") from None
    run.refresh_from_db()
    return run


def _switch(actor: Actor, run: Run, said: Mapping[str, Any]) -> None:
    # Rows are locked in one order everywhere: round, run.
    held = list(_open(run).select_for_update(no_key=True).values_list("pk", flat=True))
    fresh = opening.locked(run.pk)
    if list(_open(run).values_list("pk", flat=True)) != held:
        raise Lost
    if fresh.state not in ALIVE_RUNS:
        hint = "Start another run with the schedule that you want."
        raise FedportalError("wrong_state", what="The run", state=str(fresh.state), hint=hint)
    before = Terms.of(fresh.plan)
    strategy = strategies.find(fresh.strategy)
    after = settled(terms.rescheduled(before, said), strategy, fresh.config["parameters"], fresh.min_participants)
    if after == before:
        return
    protections.check_rounds(strategy, fresh.config, after, fresh.min_participants)
    Run.objects.filter(pk=run.pk).update(plan=after.as_json())
    if after.asynchronous:
        Round.objects.filter(pk__in=held, kind=RoundKind.TRAIN).update(asynchronous=True)
    told = {name: value for name, value in asdict(after).items() if name in AHEAD}
    audit.record(fresh.organization, actor, "run.rescheduled", fresh.public_id, **told)
    by = actor.organization
    told["sentence"] = plan_words.told(after, fresh.min_participants)
    progress.tell(fresh, "run.rescheduled", {**told, "by": {"id": by.public_id, "name": by.name}} if by else told)
    for round_pk in held:  # it may have what it needs now, and room for devices that have nothing to do
        ring(tasks.fill_round, round_pk)


def _open(run: Run) -> Any:
    return Round.objects.filter(run=run, state=RoundState.OPEN).order_by("pk")


def _wrong(reason: str) -> FedportalError:
    return FedportalError("field_invalid", field="buffer", reason=reason)
