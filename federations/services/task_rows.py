"""The rows of device tasks as the hot path reads and writes them: in SQL, without the query builder.

Every device of every round passes here five times; `fedportal.common.sql` says what that costs. Cancelling and pages
use the models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS

from federations.models import DeviceTask
from fedportal.common import clock, sql
from fedwire.states import TaskState

# So many rows are written by one statement: databases limit its parameters.
MOST_ROWS = 500
UNFINISHED = (TaskState.OPEN, TaskState.TAKEN)

_TABLE = DeviceTask._meta.db_table
_UNFINISHED = f"state IN ({', '.join(repr(str(state)) for state in UNFINISHED)})"
# What an answer needs of its task; the other columns are fetched when somebody asks for them.
_COLUMNS = (
    *("id", "public_id", "organization_id", "device_id", "kind", "state", "subject", "content", "base_blob"),
    *("update_bytes", "upload_sha256", "upload_norm", "answer_digest", "receipt"),
)
_JSON = tuple(_COLUMNS.index(name) for name in ("content", "receipt"))
# What is written when a task is offered. The rest has the values that a fresh row of the model has.
_OFFERED = (
    *("public_id", "organization_id", "device_id", "kind", "subject", "content", "base_blob", "update_header"),
    *("update_bytes", "deadline", "created_at", "state", "upload_sha256", "answer_digest"),
)
_LOADED = ("public_id", "organization_id", "device_id", "kind", "subject", "state")
_INSERT = f"INSERT INTO {_TABLE} ({', '.join(_OFFERED)}) VALUES "  # noqa: S608
_FIND = f"SELECT {', '.join(_COLUMNS)} FROM {_TABLE} WHERE public_id = %s AND device_id = %s"  # noqa: S608
_FILES = (
    "SELECT id, public_id, state, base_blob, update_header, update_bytes, upload_sha256"  # noqa: S608
    f" FROM {_TABLE} WHERE public_id = %s AND device_id = %s"
)
_NEXT = (
    "SELECT id, device_id, public_id, kind, deadline, base_blob, content"  # noqa: S608
    f" FROM {_TABLE} WHERE device_id IN (%s) AND {_UNFINISHED} AND deadline > %%s ORDER BY id"
)
_NOTE_UPLOAD = f"UPDATE {_TABLE} SET upload_sha256 = %s, upload_norm = %s WHERE id = %s AND {_UNFINISHED}"  # noqa: S608
# Whoever replaced the upload between the look and this move must not have the old one answered for.
_CLOSE = (
    f"UPDATE {_TABLE} SET state = %s, closed_at = %s, answer_digest = %s, receipt = %s"  # noqa: S608
    f" WHERE id = %s AND upload_sha256 = %s AND {_UNFINISHED}"
)


class Files(NamedTuple):
    """What a task says about the files that go out and come in for it."""

    pk: int
    public_id: str
    state: str
    base_blob: str
    update_header: bytes
    update_bytes: int
    upload_sha256: str


class Offered(NamedTuple):
    """A task as it is offered. `content` is JSON text."""

    public_id: str
    organization_pk: int
    device_pk: int
    kind: str
    subject: str
    content: str
    base_blob: str
    update_header: bytes
    update_bytes: int
    deadline: datetime


class Waiting(NamedTuple):
    """An unfinished task as it is handed out. `content` is JSON text."""

    pk: int
    device_pk: int
    public_id: str
    kind: str
    deadline: datetime
    base_blob: str
    content: str


def insert(offered: Sequence[Offered], at: datetime) -> list[DeviceTask]:
    """Write the tasks down, open; as models of which only `_LOADED` is loaded, in order.

    Call it inside a unit.
    """
    moment, loaded = sql.stored(at), ("id", *_LOADED)
    tasks: list[DeviceTask] = []
    for start in range(0, len(offered), MOST_ROWS):
        some = offered[start : start + MOST_ROWS]
        values = [[*task[:-1], sql.stored(task.deadline), moment, str(TaskState.OPEN), "", ""] for task in some]
        query = _INSERT + ", ".join([f"({sql.marks(len(_OFFERED))})"] * len(some)) + " RETURNING public_id, id"
        pks = dict(sql.rows(query, [value for row in values for value in row]))
        tasks += [
            DeviceTask.from_db(DEFAULT_DB_ALIAS, loaded, (pks[task.public_id], *task[:5], str(TaskState.OPEN)))
            for task in some
        ]
    return tasks


def find(device_pk: int, public_id: str) -> DeviceTask | None:
    """The task if it is this device's."""
    row = sql.one(_FIND, [public_id, device_pk])
    if row is None:
        return None
    values = list(row)
    for index in _JSON:
        values[index] = json.loads(values[index]) if isinstance(values[index], str) else values[index]
    return DeviceTask.from_db(DEFAULT_DB_ALIAS, _COLUMNS, values)


def files(device_pk: int, public_id: str) -> Files | None:
    """The files of the task if it is this device's."""
    row = sql.one(_FILES, [public_id, device_pk])
    return Files(*row)._replace(update_header=bytes(row[4])) if row is not None else None


def unfinished(device_pks: Sequence[int]) -> list[Waiting]:
    """The unfinished tasks of these devices whose deadline lies ahead, oldest first."""
    if not device_pks:
        return []
    found = sql.rows(_NEXT % sql.marks(len(device_pks)), [*device_pks, sql.stored(clock.now())])
    return [Waiting(*row)._replace(deadline=sql.aware(row[4])) for row in found]


def note_upload(pk: int, sha256: str, norm: float | None) -> bool:
    """Write down a complete upload, if the task is unfinished. Call it inside a unit."""
    return bool(sql.write(_NOTE_UPLOAD, [sha256, norm, pk]))


def close_answered(task: DeviceTask, at: datetime, digest: str, receipt: dict[str, Any]) -> bool:
    """unfinished → answered, if nobody was quicker. Call it inside a unit."""
    values = [str(TaskState.ANSWERED), sql.stored(at), digest, json.dumps(receipt), task.pk, task.upload_sha256]
    if not sql.write(_CLOSE, values):
        return False
    task.state, task.closed_at, task.answer_digest, task.receipt = TaskState.ANSWERED, at, digest, receipt
    return True
