"""How far organizations, and slices of the data, are apart at the newest model, as tables.

`static/js/fairness.js` draws the same from the same numbers; change both together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedportal.common.axes import shown

MEASURES = (("accuracy", "Accuracy"), ("auc", "AUC"), ("loss", "Loss"))
MISSING = "–"


def fairness(curves: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, Any] | None:
    """{"number", "rows"}: for each measure the worst organization, its gap to the whole, and the spread."""
    point = _newest(curves, "fairness")
    if point is None:
        return None
    rows = [
        {
            "measure": title,
            "worst": names.get(spread["worst"], spread["worst"]) if _apart(measure, spread) else MISSING,
            **{name: shown(measure, spread[name]) for name in ("gap", "least", "most", "deviation")},
        }
        for measure, title in MEASURES
        if (spread := point["fairness"].get(measure))
    ]
    return {"number": point["number"], "rows": rows}


def slices(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each slicing {"name", "number", "gap", "rows"}; `gap` says for whom the model does worse, and by how much."""
    point = _newest(curves, "slices")
    if point is None:
        return []
    return [
        {"name": name, "number": point["number"], "gap": _gap(found["fairness"]), "rows": _rows(found["parts"])}
        for name, found in point["slices"].items()
    ]


def _apart(measure: str, spread: Mapping[str, Any]) -> bool:
    """Whether one sees a difference, without which nobody is the worst."""
    return shown(measure, spread["least"]) != shown(measure, spread["most"])


def _newest(curves: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    return next((point for point in reversed(curves) if point.get(name)), None)


def _gap(fairness: Mapping[str, Any]) -> str:
    """The first measure that has a spread which one sees says it."""
    for measure, title in MEASURES:
        if (spread := fairness.get(measure)) and _apart(measure, spread):
            word = "higher" if measure == "loss" else "lower"
            return f"{title} is {word} by {shown(measure, spread['gap'])} for {spread['worst']} than for all together."
    return ""


def _rows(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "value": value,
            "samples": ratios["samples"],
            **{name: MISSING if ratios[name] is None else shown(name, ratios[name]) for name, _ in MEASURES},
        }
        for value, ratios in parts.items()
    ]
