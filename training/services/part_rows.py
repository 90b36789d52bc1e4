"""The rows of a round's parts as answers read and write them: in SQL, see `fedportal.common.sql`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from federations.models import Device, DeviceTask, Member, Organization
from fedportal.common import sql
from fedwire.states import AssignmentState, DeviceState, MemberState, RoundKind, RoundState
from training import lifecycle
from training.lifecycle import Lost
from training.models import Assignment, Round, Run, Update
from training.services.terms import Terms
from training.wording import Party

_PART, _ROUND, _RUN, _UPDATE = (model._meta.db_table for model in (Assignment, Round, Run, Update))
_DEVICE, _ORGANIZATION, _MEMBER = (model._meta.db_table for model in (Device, Organization, Member))
_MAY_ANSWER = (
    f"device.state = '{DeviceState.ACTIVE}' AND EXISTS (SELECT 1 FROM {_MEMBER} member"  # noqa: S608
    " WHERE member.federation_id = run.federation_id AND member.organization_id = part.organization_id"
    f" AND member.state = '{MemberState.ACTIVE}')"
)
_OF_TASKS = (
    "SELECT part.id, part.state, part.device_id, part.organization_id, part.round_id,"  # noqa: S608
    " round.number, round.attempt, round.kind, run.id, run.public_id, run.organization_id, run.min_participants,"
    " run.plan, round.asynchronous,"
    f" {_MAY_ANSWER}, device.public_id, device.identifier, owner.public_id, owner.name"
    f" FROM {_PART} part JOIN {_ROUND} round ON round.id = part.round_id JOIN {_RUN} run ON run.id = round.run_id"
    f" JOIN {_DEVICE} device ON device.id = part.device_id"
    f" JOIN {_ORGANIZATION} owner ON owner.id = part.organization_id"
    " WHERE part.task_id IN (%s) ORDER BY part.id"
)
_COUNT = (
    f"SELECT organization_id, state, COUNT(*) FROM {_PART}"  # noqa: S608
    " WHERE round_id = %s GROUP BY organization_id, state"
)
_BYTES = (
    f"UPDATE {_ROUND} SET bytes_up = bytes_up + %s"  # noqa: S608
    f" WHERE id = %s AND state = '{RoundState.OPEN}' AND NOT asynchronous"
)
_OUTLIVES = f"SELECT asynchronous, state FROM {_ROUND} WHERE id = %s"  # noqa: S608
_INSERT = (
    f"INSERT INTO {_UPDATE} (organization_id, round_id, device_id, assignment_id, blob, size, samples, norm, answer,"  # noqa: S608
    " received_at, counted_in_id, staleness) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0)"
)
_JUDGE = f"UPDATE {_UPDATE} SET anomaly = %s, flagged = %s WHERE id = %s"  # noqa: S608
# A part as it is offered; the rest has the values that a fresh row of the model has.
_OFFERED = ("organization_id", "round_id", "device_id", "task_id", "state", "reason", "offered_at", "changed_at")
_OFFER = f"INSERT INTO {_PART} ({', '.join(_OFFERED)}) VALUES "  # noqa: S608
# So many rows are written by one statement: databases limit its parameters.
MOST_ROWS = 1000


class RunRow(NamedTuple):
    """As much of a run as its events need."""

    pk: int
    public_id: str
    organization_id: int


class Part(NamedTuple):
    """A device's part in a round, with what is told of it."""

    pk: int
    state: str
    device_pk: int
    organization_pk: int
    round_pk: int
    number: int
    attempt: int
    kind: str
    run: RunRow
    min_participants: int
    terms: Terms
    asynchronous: bool  # the round is, so the part outlives it
    may_answer: bool  # the device is active, and its organization an active member of the run's federation
    party: Party


def offer(opened: Round, tasks: Sequence[DeviceTask], at: datetime) -> None:
    """Give the devices of these tasks a part in the round, offered `at`. Call it inside a unit."""
    then, state = sql.stored(at), str(AssignmentState.OFFERED)
    rows = [[task.organization_id, opened.pk, task.device_id, task.pk, state, "", then, then] for task in tasks]
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        marks = ", ".join([f"({sql.marks(len(_OFFERED))})"] * len(some))
        sql.write(_OFFER + marks, [value for row in some for value in row])


def offer_again(closed: Round, tasks: Sequence[DeviceTask], at: datetime) -> list[DeviceTask]:
    """Offer the devices of these tasks the parts anew that they have in the round already; the tasks of the others.

    Call it inside a unit. Raises Lost when such a part may not be offered any more.
    """
    parts = Assignment.objects.filter(round=closed, device__in=[task.device_id for task in tasks])
    having = set(parts.values_list("device_id", flat=True))
    for task in tasks:
        if task.device_id in having:
            fresh = {"task": task, "reason": "", "refusal": None, "offered_at": at, "changed_at": at}
            lifecycle.move_one(parts.filter(device=task.device_id), AssignmentState.OFFERED, **fresh)
    return [task for task in tasks if task.device_id not in having]


def of_tasks(task_pks: Sequence[int]) -> list[Part]:
    """The parts that these device tasks stand for, in order."""
    if not task_pks:
        return []
    found = sql.rows(_OF_TASKS % sql.marks(len(task_pks)), task_pks)
    return [_part(row) for row in found]


def _part(row: Sequence[Any]) -> Part:
    terms = Terms.of(json.loads(row[12]))
    flags = bool(row[13]), bool(row[14])
    return Part._make([*row[:8], RunRow(*row[8:11]), row[11], terms, *flags, Party(*row[15:])])


def counts(round_pk: int) -> dict[int, dict[str, int]]:
    """Organization → how many of its parts in the round are in each state."""
    found: dict[int, dict[str, int]] = {}
    for organization, state, count in sql.rows(_COUNT, [round_pk]):
        found.setdefault(organization, {})[state] = count
    return found


def place(part: Part, size: int) -> int | None:
    """Where an answer of `size` bytes counts: in its round, whose bytes it adds to, or None, the run's buffer.

    A device that comes later checks itself in the check that is over. Call it inside a unit. Raises Lost when the round
    is not open any more and does not let its parts outlive it.
    """
    if sql.write(_BYTES, [size, part.round_pk]):
        return part.round_pk
    row = sql.one(_OUTLIVES, [part.round_pk])  # asked anew: it may have become so since the part was read
    if row is not None and part.kind == RoundKind.CHECK and row[1] == RoundState.DONE:
        return part.round_pk
    if row is None or not row[0]:
        raise Lost
    return None


def keep(
    part: Part,
    *,
    blob: str,
    size: int,
    samples: int,
    norm: float | None,
    answer: Mapping[str, Any],
    at: datetime,
    counted_in: int | None,
) -> None:
    """Write down what the device sent. Call it inside a unit. A second one for the part raises IntegrityError."""
    owner = [part.organization_pk, part.round_pk, part.device_pk, part.pk]
    sql.write(_INSERT, [*owner, blob, size, samples, norm, json.dumps(answer), sql.stored(at), counted_in])


def judge(found: Mapping[int, Mapping[str, Any]]) -> None:
    """Write down what is unusual about these updates: primary key → {"flagged", …}. Call it inside a unit."""
    sql.write_each(_JUDGE, [[json.dumps(one), one["flagged"], pk] for pk, one in found.items()])
