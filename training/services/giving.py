"""What each organization gave to a run, over all training rounds that count.

The run keeps the tally of its closed rounds and each round adds to it, so that closing a round costs the same however
many came before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedwire.states import RoundKind
from training.models import Assignment, Run
from training.wording import NOT_NEEDED, Share

# organization → {"name", "devices": [ids], "updates", "expected", "samples"}
Tally = dict[str, dict[str, Any]]


def with_round(tally: Mapping[str, Mapping[str, Any]], round_pk: int) -> Tally:
    """The tally and what this round adds to it, if it is a training round: who was not needed was not expected. One
    query."""
    found: Tally = {key: {**given, "devices": list(given["devices"])} for key, given in tally.items()}
    columns = ("organization__public_id", "organization__name", "device__public_id", "update__samples")
    rows = Assignment.objects.filter(round_id=round_pk, round__kind=RoundKind.TRAIN).order_by("pk")
    for key, name, device, samples in rows.exclude(reason=NOT_NEEDED).values_list(*columns):
        given = found.setdefault(key, {"devices": [], "updates": 0, "expected": 0, "samples": 0})
        given["name"] = name
        given["devices"].append(device)
        given["expected"] += 1
        if samples is not None:
            given["updates"] += 1
            given["samples"] += samples
    for given in found.values():
        given["devices"] = list(dict.fromkeys(given["devices"]))
    return found


def shares(run: Run, also: int | None = None) -> list[Share]:
    """What each organization gave in the closed rounds, and in the round `also`."""
    return of_tally(run.given if also is None else with_round(run.given, also))


def of_tally(tally: Mapping[str, Mapping[str, Any]]) -> list[Share]:
    """The tally as it is shown."""
    return [
        Share(key, given["name"], len(given["devices"]), given["updates"], given["expected"], given["samples"])
        for key, given in tally.items()
    ]
