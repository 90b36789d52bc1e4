"""What happens in a run, told to whoever watches: numbered without gaps, sent after the commit.

`tell` appends an event in the unit of what it speaks of; number and row commit with it or not at all. The message that
goes out afterwards may be lost or overtaken; the watcher sees the gap and asks for what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from django.db import transaction

from fedportal.common import clock, live, sql
from fedportal.common.transactions import after_commit
from training import wording
from training.models import Run, RunEvent

# A watcher that missed more gets a fresh snapshot instead.
MOST_MISSED = 5000
# So many rows are written by one statement: databases limit its parameters.
MOST_ROWS = 1000
_NUMBER = f"UPDATE {Run._meta.db_table} SET sequence = sequence + %s WHERE id = %s RETURNING sequence"  # noqa: S608
_APPEND = f"INSERT INTO {RunEvent._meta.db_table} (organization_id, run_id, sequence, at, kind, data) VALUES "  # noqa: S608


class RunLike(Protocol):
    """A run, or as much of it as events need."""

    @property
    def pk(self) -> int: ...
    @property
    def public_id(self) -> str: ...
    @property
    def organization_id(self) -> int: ...


News = tuple[str, Mapping[str, Any]]


def tell(run: RunLike, kind: str, data: Mapping[str, Any]) -> None:
    """Append one event to the run. Call it inside a unit."""
    tell_all(run, [(kind, data)])


def tell_all(run: RunLike, news: Sequence[News]) -> None:
    """Append several events to the run, in order. Call it inside a unit, as its last locking step: it locks the run."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("events are appended inside a unit")
    if not news:
        return
    first, now = _numbered(run.pk, len(news)) - len(news) + 1, clock.now()
    numbered = [(number, kind, data) for number, (kind, data) in enumerate(news, first)]
    owner, at = [run.organization_id, run.pk], sql.stored(now)
    rows = [[*owner, number, at, kind, json.dumps(data)] for number, kind, data in numbered]
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        sql.write(_APPEND + ", ".join([f"({sql.marks(6)})"] * len(some)), [value for row in some for value in row])
    messages = [_message(number, kind, now, data) for number, kind, data in numbered]
    after_commit(lambda: _publish(group(run.public_id), messages))


def message(event: RunEvent) -> dict[str, Any]:
    """An event as it travels."""
    return _message(event.sequence, event.kind, event.at, event.data)


def since(run_pk: int, sequence: int, most: int = MOST_MISSED) -> list[dict[str, Any]] | None:
    """The messages after number `sequence`, in order; None when there are more than `most`."""
    missed = RunEvent.objects.filter(run_id=run_pk, sequence__gt=sequence).order_by("sequence")
    events = list(missed[: most + 1])
    return None if len(events) > most else [message(event) for event in events]


def group(run_id: str) -> str:
    """The name of the group of browsers that watch the run with this public id."""
    return f"run.{run_id}"


def _numbered(run_pk: int, count: int) -> int:
    """Take the next `count` numbers of the run; the last of them. One statement, which also locks the row."""
    row = sql.one(_NUMBER, [count, run_pk])
    assert row is not None, "events belong to a run"
    return int(row[0])


def _message(sequence: int, kind: str, at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    text = wording.sentence(kind, data)
    return {"sequence": sequence, "kind": kind, "at": at.isoformat(), "text": text, "data": dict(data)}


def _publish(name: str, messages: Iterable[dict[str, Any]]) -> None:
    for item in messages:
        live.publish(name, item)
