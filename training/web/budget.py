"""The page of an organization's privacy budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from federations import permissions
from federations.web.page import may, one_page, own_organization, page
from fedportal.common.axes import Axis, margin
from training import spending
from training.wording import exact

WIDTH, HEIGHT, RIGHT, TOP, BOTTOM = 640, 200, 8, 12, 24
# Above the highest value, so that a line at the cap is seen.
HEADROOM = 1.05


@page()
def budget(request: Any) -> HttpResponse:
    """What was spent, on what, and how far the rest goes."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view", organization)
    found = spending.of(organization)
    rows = one_page(request, spending.runs(organization))
    told = spending.told(organization, rows.object_list)
    rows.object_list = [row | {"delta": exact(row["delta"])} for row in told]
    context = {
        "budget": found | {"delta": exact(found["delta"])},
        "rows": rows,
        "plans": spending.plans(organization),
        "chart": chart(spending.history(organization, found["delta"]), found["epsilon"]),
        "percent": None if found["used"] is None else round(100 * found["used"]),
        "may_set": may(request, "organization.set_policy", organization),
    }
    return render(request, "training/budget.html", context)


def chart(points: Sequence[Mapping[str, Any]], cap: float | None) -> dict[str, Any] | None:
    """How spending grew, as SVG geometry and as a table; None while nothing was spent."""
    if not points:
        return None
    values, moments = [point["epsilon"] for point in points], [_seconds(point) for point in points]
    scale = Axis(0.0, HEADROOM * max(*values, cap or 0.0, 1e-9))
    ticks = [(value, f"{value:.3g}") for value in scale.ticks()]
    left = margin([label for _, label in ticks])
    first, span = moments[0], max(moments[-1] - moments[0], 1.0)
    places = [
        (left + (at - first) / span * (WIDTH - left - RIGHT), _y(value, scale))
        for at, value in zip(moments, values, strict=True)
    ]
    steps = [f"{places[0][0]:.1f},{_y(0.0, scale):.1f}"]  # what is spent stays until the next round adds to it
    for (x, y), (_, before) in zip(places, [(0.0, _y(0.0, scale)), *places[:-1]], strict=True):
        steps += [f"{x:.1f},{before:.1f}", f"{x:.1f},{y:.1f}"]
    rounds = points[-1]["rounds"]
    of = "" if cap is None else f" of {cap:g}"
    return {
        "line": " ".join(steps),
        "end": {"x": round(places[-1][0], 1), "y": round(places[-1][1], 1)},
        "cap": None if cap is None else round(_y(cap, scale), 1),
        "ticks": [{"y": round(_y(value, scale), 1), "label": label} for value, label in ticks],
        "left": left,
        "right": WIDTH - RIGHT,
        "first": _day(points[0]),
        "last": _day(points[-1]),
        "summary": f"ε {values[-1]:.3g}{of} after {rounds} round{'' if rounds == 1 else 's'}",
        "rows": [{"at": _day(point), **point} for point in reversed(points)],
    }


def _y(value: float, scale: Axis) -> float:
    return HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - BOTTOM - TOP)


def _seconds(point: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(point["at"]).timestamp()


def _day(point: Mapping[str, Any]) -> str:
    return f"{datetime.fromisoformat(point['at']):%d %b %Y %H:%M}".lstrip("0")
