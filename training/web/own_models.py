"""Devices' own models beside the common one at the newest model where both were measured, as a table.

`static/js/own.js` draws the same from the same numbers; change both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedportal.common.axes import shown
from training.aggregation import strategies
from training.models import Run

MEASURES = (("accuracy", "Accuracy", False), ("auc", "AUC", False), ("loss", "Loss", True))
MODELS = (("common", "Common"), ("personal", "Own"))
MISSING = "–"
COMPROMISE = (
    "The common model is a compromise between all devices. It does worst where a device's rows are unlike those of the "
    "others, for instance because only it has certain classes or a certain machine. A device's own model fits its own "
    "rows and stays near the common one."
)
PART = (
    "A part of the model stays on each device. The common model has in its place what the run began with, which was "
    "never trained, so by itself it does badly, worst where the device's own part has moved furthest. Whoever uses the "
    "published version trains that part first; a device that took part has its own."
)


def own_models(run: Run, curves: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, Any] | None:
    """{"why", "number", "rows"}: for each measure the common model and devices' own; None where devices have none.

    `number` is None until a device measured a model of its own.
    """
    strategy = strategies.find(run.strategy)
    if not strategy.personal:
        return None
    why = PART if strategy.staying is not None else COMPROMISE
    point = next((point for point in reversed(curves) if point.get("personal")), None)
    if point is None:
        return {"why": why, "number": None, "rows": []}
    rows = [row for measure in MEASURES for row in _rows(point, names, *measure)]
    return {"why": why, "number": point["number"], "rows": rows}


def _rows(point: Mapping[str, Any], names: Mapping[str, str], measure: str, title: str, less: bool) -> Any:
    for which, label in MODELS:
        ratios = point["personal"] if which == "personal" else point
        if ratios[measure] is None:
            continue
        apart = point.get("devices", {}).get(which, {}).get(measure)
        yield {
            "measure": title,
            "model": label,
            "all": shown(measure, ratios[measure]),
            "organization": _worst(ratios["organizations"], names, measure, less),
            "mean": shown(measure, apart["mean"]) if apart else MISSING,
            "device": f"{shown(measure, apart['most' if less else 'least'])} {apart['worst']}" if apart else MISSING,
        }


def _worst(organizations: Mapping[str, Any], names: Mapping[str, str], measure: str, less: bool) -> str:
    there = [(row[measure], names.get(key, key)) for key, row in organizations.items() if row[measure] is not None]
    if not there:
        return MISSING
    value, name = min(there, key=lambda row: (-row[0] if less else row[0], row[1]))
    return f"{shown(measure, value)} {name}"
