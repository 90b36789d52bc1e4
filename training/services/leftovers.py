"""Files of secure sums that have served: named in a row by the commit after which nobody needs them, then removed.

So a process that dies between that commit and the removal leaves no file that the sweeper does not find.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q

from fedportal.common import blobs, faults
from fedportal.common.transactions import after_commit, unit
from registry.models import Artifact, ModelVersion
from training.models import MaskedSum, Round, Update


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
        for sha in rows.select_for_update(no_key=True).values_list("leftover", flat=True).get():
            if not _is_named(sha):
                blobs.remove(sha)
        rows.update(leftover=[])


def sweep() -> None:
    """Remove what dead processes left."""
    for pk in MaskedSum.objects.exclude(leftover=[]).order_by("pk").values_list("pk", flat=True):
        clear(pk)


def _is_named(sha: str) -> bool:
    """Whether the same bytes are somebody else's: a device may send whatever has the length of a vector."""
    of_round = Q(base_blob=sha) | Q(result_blob=sha) | Q(state_blob=sha)
    return (
        Round.objects.filter(of_round).exists()
        or ModelVersion.objects.filter(blob=sha).exists()
        or Artifact.objects.filter(blob=sha).exists()
        or Update.objects.filter(blob=sha).exists()
    )
