"""Every move of a run, a round or an assignment: a guarded UPDATE along `fedwire.states.MOVES`.

Of two that race for the same row one wins: the UPDATE touches rows in a state from which the move is allowed and says
how many those were. The event that tells of the move is written in the same unit by whoever moves; see `progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from django.db import connection, transaction
from django.db.models import Model, QuerySet

from fedportal.common import sql
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import MOVES, AssignmentState, RoundState, RunState
from training.models import Assignment, InferencePart, InferencePlan, MaskedSum, Round, Run

M = TypeVar("M", bound=Model)
T = TypeVar("T")

UNFINISHED = (AssignmentState.OFFERED, AssignmentState.TRAINING)
# The parts that count towards the minimum of a round: they have answered or still may.
TAKING_PART = (*UNFINISHED, AssignmentState.SUBMITTED)
ALIVE_ROUNDS = (RoundState.OPEN, RoundState.MASKING, RoundState.AGGREGATING)
ALIVE_RUNS = (RunState.PENDING, RunState.RUNNING, RunState.PAUSED)

# So often an act is tried anew when somebody else is quicker.
TRIES = 5

_KINDS: Mapping[type[Model], str] = {
    Run: "run",
    Round: "round",
    Assignment: "assignment",
    MaskedSum: "sum",
    InferencePlan: "inference",
    InferencePart: "asked",
}


class Lost(Exception):
    """Somebody else moved the row first; whatever was begun for it is to be undone."""


def persist(act: Callable[[], T]) -> T:
    """Do `act` in a unit; when it is Lost, undo it and do it anew from rows as they are then. Raises Lost at last."""
    for _ in range(TRIES - 1):
        try:
            with unit():
                return act()
        except Lost:
            continue
    with unit():
        return act()


def move(rows: QuerySet[M], to: str, **values: Any) -> int:
    """Move those of `rows` that may go to the state `to`, and set `values` on them; how many moved.

    Call it inside a unit, together with the event that tells of it.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("states move inside a unit")
    return rows.filter(state__in=_before(rows.model, to)).order_by().update(state=to, **values)


def move_one(rows: QuerySet[M], to: str, **values: Any) -> None:
    """`move` of exactly one row. Raises Lost when there is none in a state that allows it."""
    if move(rows, to, **values) != 1:
        raise Lost


def move_row(model: type[Model], pk: int, to: str, **values: Any) -> None:
    """`move_one` of the row with this primary key, in SQL; every device of every round passes here."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("states move inside a unit")
    before, fields = _before(model, to), {name: model._meta.get_field(name) for name in values}
    stored = [field.get_db_prep_save(values[name], connection) for name, field in fields.items()]
    assigned = ", ".join(f"{field.column} = %s" for field in fields.values())
    query = (
        f"UPDATE {model._meta.db_table} SET state = %s, {assigned}"  # noqa: S608 (our names)
        f" WHERE id = %s AND state IN ({sql.marks(len(before))})"
    )
    if not before or sql.write(query, [str(to), *stored, pk, *before]) != 1:
        raise Lost


def _before(model: type[Model], to: str) -> list[str]:
    """The states from which a row may go to `to`."""
    return [str(state) for state, followers in MOVES[_KINDS[model]].items() if to in followers]


def require(what: str, state: str, to: str, hint: str) -> None:
    """Raises `wrong_state` unless a run in `state` may go to `to`."""
    if to not in MOVES["run"][state]:
        raise FedportalError("wrong_state", what=what, state=state, hint=hint)
