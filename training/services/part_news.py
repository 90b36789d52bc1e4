"""What is told of parts that came to nothing."""

from __future__ import annotations

from collections.abc import Sequence

from fedwire.states import AssignmentState
from training import progress, wording
from training.models import Assignment, Round
from training.wording import Party

# So many devices that are out are told one by one.
MOST_TOLD = 50
PARTY = ("device__public_id", "device__identifier", "organization__public_id", "organization__name")


def cards(found: Round, part_pks: Sequence[int], reason: str) -> list[progress.News]:
    """`assignment.changed` for each of these parts, which have expired; of many one event that counts them."""
    if len(part_pks) > MOST_TOLD:
        told = wording.closed(found.number, found.attempt, len(part_pks), reason)
        return [("assignments.closed", {**told, "asynchronous": True} if found.asynchronous else told)]
    rows = Assignment.objects.filter(pk__in=part_pks).order_by("pk").values_list(*PARTY)
    return [
        (
            "assignment.changed",
            wording.changed(
                found.number,
                found.attempt,
                wording.participant(Party(*row), AssignmentState.EXPIRED, reason=reason),
                asynchronous=found.asynchronous,
            ),
        )
        for row in rows
    ]
