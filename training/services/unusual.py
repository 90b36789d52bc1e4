"""Updates that are unlike the others of their round: compared after aggregation, kept with the update, and told.

Nothing is left out for it: a flag is a reason for people to look, and whoever looks after the device may quarantine it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from federations import permissions
from federations.permissions import Actor
from fedwire.codecs import Codec
from fedwire.tensors import Manifest
from training.aggregation import anomaly
from training.aggregation.layout import Layout
from training.aggregation.transforms import Update as FoldedUpdate
from training.models import Round, Run, Update
from training.services import notices, part_rows

# Comparing all pairs takes n²·P multiplications. Beyond this a round would wait for it, so nobody is compared.
MOST_PRODUCTS = 20_000_000_000
MOST_SHOWN = 50
PARTY = ("device__public_id", "device__identifier", "organization__public_id", "organization__name")
# Update's primary key → {"score", "flagged", "reason"}
Found = Mapping[int, dict[str, Any]]


def compared(
    pks: Sequence[int], updates: Sequence[FoldedUpdate], manifest: Manifest, codec: Codec | None, threads: int
) -> Found:
    """What is unusual about each of these updates; empty where there are too few to tell, or too many to compare.

    Raises kernels.Truncated, OSError.
    """
    work = len(updates) ** 2 * manifest.parameters
    if len(updates) < anomaly.LEAST_UPDATES or work > MOST_PRODUCTS:
        return {}
    found = anomaly.of_updates(updates, Layout.of(manifest), codec, threads)
    return {
        pk: {"score": round(one.score, 4), "flagged": one.flagged, "reason": one.reason}
        for pk, one in zip(pks, found, strict=True)
    }


def keep(closed: Round, found: Found) -> list[dict[str, Any]]:
    """Write down what was found, tell of devices that are flagged for the first time in the run, and give all flagged.

    Call it inside a unit.
    """
    if not found:
        return []
    part_rows.judge(found)
    flagged = Update.objects.filter(round=closed, flagged=True).select_related("organization", "device").order_by("pk")
    earlier = Update.objects.filter(round__run_id=closed.run_id, flagged=True).exclude(round=closed)
    before = set(
        earlier.filter(device__in=[update.device_id for update in flagged]).values_list("device_id", flat=True)
    )
    for update in flagged:
        if update.device_id not in before:
            notices.unusual(closed, update)
    return _shown(flagged)


def of_run(run: Run) -> list[dict[str, Any]]:
    """The run's flagged updates, newest first. One query."""
    return _shown(Update.objects.filter(round__run=run, flagged=True).order_by("-pk"))


def managed_by(actor: Actor | None) -> str:
    """The id of the organization whose devices the actor may quarantine; "" for none."""
    own = actor.organization if actor is not None else None
    if actor is None or own is None or not permissions.can(actor, "organization.manage_devices", own):
        return ""
    return own.public_id


def _shown(rows: Any) -> list[dict[str, Any]]:
    columns = ("round__number", "anomaly", *PARTY)
    return [
        {
            "number": number,
            "device": {"id": device, "identifier": identifier},
            "organization": {"id": organization, "name": name},
            "score": found["score"],
            "reason": found["reason"],
        }
        for number, found, device, identifier, organization, name in rows.values_list(*columns)[:MOST_SHOWN]
    ]
