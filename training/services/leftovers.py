"""Files of secure sums: named in the session's row before they are there, and still when nobody needs them any more.

So neither a process that dies, nor one that is slow while others end its session, leaves a file that nobody finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from federations.models import DeviceTask
from fedportal.common import blobs, faults
from fedportal.common.transactions import after_commit, unit
from fedwire.states import TaskState
from registry.models import Artifact, ModelVersion
from training.lifecycle import Lost
from training.models import MaskedSum, Round, Update

# Columns in which the same bytes may be somebody else's.
_NAMING = (
    *((Round, "base_blob"), (Round, "result_blob"), (Round, "state_blob")),
    *((ModelVersion, "blob"), (Artifact, "blob"), (Update, "blob")),
)


def publish(total: MaskedSum, staged: Path, sha: str, **named: Any) -> None:
    """Make the file `staged` the blob `sha` of the session, whose row names it: `named` is what is written there.

    Raises Lost when the session is not any more in the state in which it was read; then no file stays.
    """
    rows = MaskedSum.objects.filter(pk=total.pk)
    with unit():
        if not rows.filter(state=total.state).update(**named):
            raise Lost
    blobs.adopt(staged, sha)
    with unit():  # whoever ended the session meanwhile looked for a file that was not there yet
        is_named = sha in rows.select_for_update(no_key=True).values_list("total_blob", "mean_blob").get()
        if not is_named and not _named([sha]):
            blobs.remove(sha)
    if not is_named:
        raise Lost
    for name, value in named.items():
        setattr(total, name, value)


def erase_later(total: MaskedSum, shas: Iterable[str]) -> None:
    """Remove these blobs of the session after the commit. Call it inside a unit, in which the session is held."""
    more = {sha for sha in shas if sha}
    if not more:
        return
    rows = MaskedSum.objects.filter(pk=total.pk)
    rows.update(leftover=sorted(more.union(rows.values_list("leftover", flat=True).get())))
    after_commit(lambda: faults.point("before_erasure"))
    after_commit(lambda: clear(total.pk))


def clear(total_pk: int) -> None:
    """Remove what is left of this session. Harmless at any time."""
    with unit():
        rows = MaskedSum.objects.filter(pk=total_pk)
        left = rows.select_for_update(no_key=True).values_list("leftover", flat=True).get()
        for sha in set(left) - _named(left):
            blobs.remove(sha)
        rows.update(leftover=[])


def sweep() -> None:
    """Remove what dead processes left."""
    for pk in MaskedSum.objects.exclude(leftover=[]).order_by("pk").values_list("pk", flat=True):
        clear(pk)


def _named(shas: Collection[str]) -> set[str]:
    """Those of which the same bytes are somebody else's: a device may send whatever has the length of a vector, and
    several groups may be sent the same document."""
    if not shas:
        return set()
    asked = DeviceTask.objects.filter(state__in=(TaskState.OPEN, TaskState.TAKEN), base_blob__in=shas)
    found = set(asked.order_by().values_list("base_blob", flat=True))
    for model, name in _NAMING:
        found.update(model.objects.filter(**{f"{name}__in": shas}).order_by().values_list(name, flat=True))
    return found
