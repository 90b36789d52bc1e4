"""Updates that are unlike the others of their round: compared after aggregation, kept with the update, and told.

Nothing is left out for it: a flag is a reason for people to look, and whoever looks after the device may quarantine it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Count

from federations import permissions, roles
from federations.permissions import Actor
from fedwire.codecs import Codec
from fedwire.states import DeviceState
from fedwire.tensors import Manifest
from training import wording
from training.aggregation import anomaly
from training.aggregation.layout import Layout
from training.aggregation.transforms import Update as FoldedUpdate
from training.models import Round, Run, Update
from training.services import notices, part_rows

# Comparing all pairs takes n²·P multiplications. Beyond this a round would wait for it, so nobody is compared.
MOST_PRODUCTS = 20_000_000_000
MOST_SHOWN = 50
# So many of a run's flagged updates are read, the newest, to say in which rounds each device had some.
MOST_READ = 2000
MOST_ROUNDS = 10  # of a device are named
EVERYBODYS = "*"
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
    if not any(one["flagged"] for one in found.values()):
        return []
    flagged = (
        Update.objects.filter(counted_in=closed, flagged=True).select_related("organization", "device").order_by("pk")
    )
    earlier = Update.objects.filter(round__run_id=closed.run_id, flagged=True).exclude(counted_in=closed)
    before = set(
        earlier.filter(device__in=[update.device_id for update in flagged]).values_list("device_id", flat=True)
    )
    for update in flagged:
        if update.device_id not in before:
            notices.unusual(closed, update)
    return _shown(flagged)


def sight(actor: Actor | None, run: Run) -> str:
    """Whose flags the actor sees: EVERYBODYS, those of the organization with this id, or "" for nobody's.

    `federations.roles.FLAGS` says so by what the run is to the actor's organization.
    """
    own = actor.organization if actor is not None else None
    if own is None:
        return ""
    owner, starter = run.federation.organization_id, run.organization_id
    relation = "owner" if own.pk == owner else "starter" if own.pk == starter else "member"
    return EVERYBODYS if roles.FLAGS[relation] == roles.EVERY_FLAG else own.public_id


def seen(rows: Sequence[dict[str, Any]], whose: str) -> list[dict[str, Any]]:
    """Those of the flagged updates that `sight` lets one see."""
    return [one for one in rows if whose in (EVERYBODYS, one["organization"]["id"])]


def told(message: dict[str, Any], whose: str) -> dict[str, Any]:
    """A message of the run as it goes to who has this `sight`."""
    if whose == EVERYBODYS or not message["data"].get("flagged"):
        return message
    return {**message, "data": {**message["data"], "flagged": seen(message["data"]["flagged"], whose)}}


def on_cards(cards: list[dict[str, Any]], whose: str) -> list[dict[str, Any]]:
    """The cards of devices, without the flags that `sight` does not let one see."""
    return [
        card if whose in (EVERYBODYS, card["organization"]["id"]) or not card["unusual"] else {**card, "unusual": ""}
        for card in cards
    ]


def of_run(run: Run, whose: str, managed: str = "") -> list[dict[str, Any]]:
    """The devices with flagged updates that `sight` lets one see, at most MOST_SHOWN, those flagged last first: how
    often, in which rounds, and the highest score with its round and reason. One query, two where they are many.

    Of devices of the organization `managed` that get no work any more `idle` says their state.
    """
    rows = Update.objects.filter(round__run=run, flagged=True)
    if whose != EVERYBODYS:
        rows = rows.filter(organization__public_id=whose)
    found: dict[str, list[dict[str, Any]]] = {}
    newest = _shown(rows.order_by("-pk"), managed, MOST_READ)
    for one in newest:
        found.setdefault(one["device"]["id"], []).append(one)
    counts: dict[str, int] = {}
    if len(newest) == MOST_READ:
        counts = dict(rows.order_by().values_list("device__public_id").annotate(count=Count("pk")))
    shown = list(found.items())[:MOST_SHOWN]
    return [_of_device(flags, counts.get(device, len(flags))) for device, flags in shown]


def _of_device(flags: Sequence[dict[str, Any]], count: int) -> dict[str, Any]:
    """What is shown of a device with these flags, newest first."""
    highest = max(flags, key=lambda one: one["score"])
    rounds = [one["number"] for one in flags[:MOST_ROUNDS]][::-1]
    where = wording.flagged(count, rounds, highest["score"], highest["number"])
    return {**highest, "count": count, "rounds": rounds, "where": where}


def managed_by(actor: Actor | None) -> str:
    """The id of the organization whose devices the actor may quarantine; "" for none."""
    own = actor.organization if actor is not None else None
    if actor is None or own is None or not permissions.can(actor, "organization.manage_devices", own):
        return ""
    return own.public_id


def _shown(rows: Any, managed: str = "", most: int = MOST_SHOWN) -> list[dict[str, Any]]:
    columns = ("counted_in__number", "anomaly", "device__state", *PARTY)
    return [
        {
            "number": number,
            "device": {"id": device, "identifier": identifier},
            "organization": {"id": organization, "name": name},
            "score": found["score"],
            "reason": found["reason"],
            **({"idle": state} if organization == managed and state != DeviceState.ACTIVE else {}),
        }
        for number, found, state, device, identifier, organization, name in rows.values_list(*columns)[:most]
    ]
