"""What each organization gave to a run, over all rounds that count."""

from __future__ import annotations

from django.db.models import Count, Q, Sum

from fedwire.states import RoundKind, RoundState
from training.models import Assignment
from training.wording import Share


def shares(run_pk: int, also: int | None = None) -> list[Share]:
    """Devices, updates and rows per organization in the training rounds that are closed, and in the round `also`.

    One query, whatever the number of devices and rounds.
    """
    counted = Q(round__state=RoundState.DONE) | Q(round_id=also)
    rows = (
        Assignment.objects.filter(counted, round__run_id=run_pk, round__kind=RoundKind.TRAIN)
        .order_by()
        .values_list("organization__public_id", "organization__name")
        .annotate(
            devices=Count("device", distinct=True),
            expected=Count("pk"),
            updates=Count("update"),
            samples=Sum("update__samples"),
        )
    )
    return [
        Share(key, name, devices, updates, expected, samples or 0)
        for key, name, devices, expected, updates, samples in rows
    ]
