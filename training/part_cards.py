"""The devices of a round as they are shown: a card for each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import QuerySet

from fedwire.states import AssignmentState, RoundKind
from training import checks, wording
from training.models import Assignment
from training.wording import Party

PART = (
    *("state", "reason", "refusal", "device__public_id", "device__identifier", "device__last_seen_at", "device_id"),
    *("organization__public_id", "organization__name", "organization_id"),
    *(
        "update__samples",
        "update__answer__seconds",
        "update__answer__devices",
        "update__answer__work_share",
        "update__anomaly",
        "round__number",
    ),
)


def parts_of(parts: QuerySet[Assignment], most: int) -> list[dict[str, Any]]:
    """The first of these parts, `most` at most, with what is shown of them, by organization and device."""
    return list(parts.order_by("organization__name", "device__identifier").values(*PART)[:most])


def cards(
    parts: Sequence[dict[str, Any]], number: int, before: dict[str, Any] | None = None, *, called_off: bool = False
) -> list[dict[str, Any]]:
    """The cards of devices in round `number`. `before` is the round before: whose part in it came to nothing, says so
    on the card.

    `called_off`: the round whose parts these are was.
    """
    trouble: dict[str, dict[str, Any]] = {}
    if before is not None and before["kind"] != RoundKind.CHECK:
        failed = (AssignmentState.LATE, AssignmentState.EXPIRED, AssignmentState.DECLINED)
        devices = [part["device_id"] for part in parts]
        rows = Assignment.objects.filter(round_id=before["pk"], state__in=failed, device__in=devices)
        for device, state, refusal in rows.exclude(reason=wording.NOT_NEEDED).values_list(
            "device__public_id", "state", "refusal"
        ):
            told = wording.word_of(state, refused=bool(refusal))
            trouble[device] = {"number": before["number"], "word": told}
    return [{**_card(part, number, called_off), "before": trouble.get(part["device__public_id"])} for part in parts]


def party(part: Mapping[str, Any]) -> Party:
    """Whose part it is."""
    return Party(
        part["device__public_id"],
        part["device__identifier"],
        part["organization__public_id"],
        part["organization__name"],
    )


def _card(part: Mapping[str, Any], number: int, called_off: bool) -> dict[str, Any]:
    return wording.participant(
        party(part),
        part["state"],
        reason=checks.sentence(part["reason"]) if part["state"] == AssignmentState.SUBMITTED else part["reason"],
        refusal=part["refusal"],
        samples=part["update__samples"] or None,
        seconds=part["update__answer__seconds"],
        devices=part["update__answer__devices"],
        share=part["update__answer__work_share"],
        last_seen_at=part["device__last_seen_at"],
        unusual=(part["update__anomaly"] or {}).get("reason", ""),
        called_off=called_off,
        staleness=number - part["round__number"],
    )
