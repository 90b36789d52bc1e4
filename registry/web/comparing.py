"""Two versions of a model beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from federations.web.page import page
from registry import selectors
from registry.comparison import MOST_READ
from registry.comparison import compare as compared
from registry.models import ModelVersion
from registry.web.charts import measured

# Larger files are read only when somebody asks for it: a page should not take seconds by itself.
AT_ONCE = 32 << 20
MOST_TENSORS = 200
# Three digits, and more where two values would look the same.
MOST_DIGITS = 6
# The measure, its name, and which way is better.
MEASURES = (("accuracy", "Accuracy", 1), ("auc", "AUC", 1), ("loss", "Loss", -1))


@page()
def compare(request: Any, model: str) -> HttpResponse:
    """What is different between the versions `before` and `after`; by default the latest and the one it came from."""
    found = selectors.find_model(request.actor, model)
    numbers = list(selectors.versions_of(found).values_list("version", flat=True))
    after = _chosen(request, found, request.GET.get("after", "") or (numbers[0] if numbers else ""))
    before = _chosen(request, found, request.GET.get("before", "") or _default(after, numbers))
    context: dict[str, Any] = {"model": found, "numbers": numbers, "before": before, "after": after}
    if before is not None and after is not None:
        context |= {
            "measures": [row for name, title, way in MEASURES if (row := _measure(before, after, name, title, way))],
            "places": _places(before, after),
            "settings": _settings(before, after),
            "sides": [(side, selectors.lineage(side), selectors.parameters(side)) for side in (before, after)],
            "large": before.size + after.size > 2 * AT_ONCE and not request.GET.get("measure"),
            "beyond": before.size + after.size > MOST_READ,
        }
        if not context["large"] and not context["beyond"] and (difference := compared(before, after)):
            context |= {"difference": difference, "tensors": difference.differences[:MOST_TENSORS]}
    return render(request, "registry/compare.html", context)


def _chosen(request: Any, model: Any, number: str) -> ModelVersion | None:
    return selectors.told(request.actor, [selectors.find_version(model, number)])[0] if number else None


def _default(after: ModelVersion | None, numbers: list[str]) -> str:
    """What the version came from, or else the one before it."""
    if after is None:
        return ""
    if after.parent is not None:
        return str(after.parent.version)
    older = numbers[numbers.index(after.version) + 1 :]
    return older[0] if older else after.version


def _measure(
    before: ModelVersion, after: ModelVersion, name: str, title: str, way: int, organization: str = ""
) -> dict[str, Any] | None:
    one, other = _value(before, name, organization), _value(after, name, organization)
    if one is None and other is None:
        return None
    digits = 3
    change = other - one if one is not None and other is not None else None
    while change and digits < MOST_DIGITS and not round(change, digits):
        digits += 1
    row = {"title": title, "before": _shown(one, digits), "after": _shown(other, digits), "difference": "", "word": ""}
    if change is not None:
        row["difference"] = f"{change:+.{digits}f}" if round(change, digits) else f"{0:.{digits}f}"
        if abs(change) >= 0.0005:
            row["word"] = "better" if change * way > 0 else "worse"
    return row


def _value(version: ModelVersion, name: str, organization: str) -> float | None:
    if not organization:
        return measured(version, name)
    value = version.metrics.get("organizations", {}).get(organization, {}).get(name)
    return float(value) if isinstance(value, (int, float)) else None


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _places(before: ModelVersion, after: ModelVersion) -> list[dict[str, Any]]:
    """The accuracy, or else the loss, of each organization that measured one of them."""
    names = {row["id"]: row["name"] for side in (before, after) for row in side.lineage.get("organizations", [])}
    rows = []
    for key, name in sorted(names.items(), key=lambda pair: pair[1]):
        for measure, title, way in MEASURES:
            if row := _measure(
                before, after, measure, f"{name}, {title.lower() if title != 'AUC' else title}", way, key
            ):
                rows.append(row)
                break
    return rows


def _settings(before: ModelVersion, after: ModelVersion) -> list[tuple[str, Any, Any]]:
    """What the two runs were told, where it is not the same."""
    one, other = _told(before), _told(after)
    names = [*one, *(name for name in other if name not in one)]
    return [
        (name.replace("_", " ").capitalize(), _word(one.get(name, "–")), _word(other.get(name, "–")))
        for name in names
        if one.get(name) != other.get(name)
    ]


def _word(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _told(version: ModelVersion) -> dict[str, Any]:
    lineage: Mapping[str, Any] = version.lineage
    config = lineage.get("config", {})
    told = {"strategy": lineage.get("strategy"), "rounds": lineage.get("rounds"), **config.get("parameters", {})}
    told |= {name: config.get(name) for name in ("seed", "standardise")}
    return {name: value for name, value in told.items() if value is not None}
