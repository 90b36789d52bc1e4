"""What each organization gave to a run, over all training rounds that count.

The run keeps the tally of its closed rounds and each round adds to it, so that closing a round costs the same however
many came before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedwire.states import RoundKind, RoundState
from training.models import Assignment, Round, Run, Update
from training.wording import NOT_NEEDED, Share

# organization → {"name", "devices": [ids], "updates", "expected", "samples"}
Tally = dict[str, dict[str, Any]]


def with_round(tally: Mapping[str, Mapping[str, Any]], round_pk: int) -> Tally:
    """The tally and what this round adds to it, if it is a training round: the devices that it asked, but for those
    that were not needed, and the answers that count in it, or would if it is open. Two queries."""
    found: Tally = {key: {**given, "devices": list(given["devices"])} for key, given in tally.items()}
    columns = ("organization__public_id", "organization__name", "device__public_id")
    asked = Assignment.objects.filter(round_id=round_pk, round__kind=RoundKind.TRAIN).order_by("pk")
    for row in asked.exclude(reason=NOT_NEEDED).values_list(*columns):
        _of(found, *row)["expected"] += 1
    counted = Update.objects.filter(counted_in=round_pk, counted_in__kind=RoundKind.TRAIN).order_by("pk")
    for *row, samples in counted.values_list(*columns, "samples"):
        given = _of(found, *row)
        given["updates"] += 1
        given["samples"] += samples
    for given in found.values():
        given["devices"] = list(dict.fromkeys(given["devices"]))
    return found


def without_unneeded(tally: Tally, last: Round) -> Tally:
    """The tally less the tasks of earlier rounds that the last asynchronous round closed: nobody expects them now.

    What attempts that failed asked for is in no tally.
    """
    closed = Assignment.objects.filter(
        round__run=last.run_id, round__asynchronous=True, round__state=RoundState.DONE, reason=NOT_NEEDED
    )
    earlier = closed.filter(changed_at__gte=last.opened_at).exclude(round=last)
    for key in earlier.values_list("organization__public_id", flat=True):
        tally[key]["expected"] -= 1
    return tally


def _of(tally: Tally, organization: str, name: str, device: str) -> dict[str, Any]:
    """The organization's row of the tally, with this device among those that gave."""
    given = tally.setdefault(organization, {"devices": [], "updates": 0, "expected": 0, "samples": 0})
    given["name"] = name
    given["devices"].append(device)
    return given


def shares(run: Run, also: int | None = None) -> list[Share]:
    """What each organization gave in the closed rounds, and in the round `also`."""
    return of_tally(run.given if also is None else with_round(run.given, also))


def of_tally(tally: Mapping[str, Mapping[str, Any]]) -> list[Share]:
    """The tally as it is shown."""
    return [
        Share(key, given["name"], len(given["devices"]), given["updates"], given["expected"], given["samples"])
        for key, given in tally.items()
    ]
