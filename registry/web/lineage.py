"""The lineage of versions for the page: `registry.picture` with the addresses that its boxes lead to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from federations.permissions import Actor
from fedportal.common.axes import shown
from registry import selectors, wording
from registry.models import ModelVersion
from registry.picture import Box, Run, Step, draw
from registry.web.charts import measured


def lineage(actor: Actor, rows: Sequence[ModelVersion], here: ModelVersion | None = None) -> dict[str, Any]:
    """What `registry/parts/lineage.html` shows of these versions, oldest first, as `selectors.told` gave them."""
    inside = selectors.federations_seen_from_inside(actor)
    seen = {_run(row)["run"] for row in rows if _run(row) and _run(row).get("federation", {}).get("id") in inside}
    names = {row.version for row in rows}
    # A version that is not in the list but was trained from is drawn too, without its own past.
    before = {
        row.parent.version: Step(row.parent.version, "")
        for row in rows
        if row.parent and row.parent.version not in names
    }
    picture = draw([*before.values(), *map(_step, rows)], here.version if here else "")
    model = rows[-1].model.public_id if rows else ""
    return {"picture": picture, "boxes": [(box, _address(box, model, seen)) for box in picture.boxes]} if rows else {}


def _step(row: ModelVersion) -> Step:
    told = _run(row)
    quality = next(
        (
            f"{name} {shown(name, value)}"
            for name in ("accuracy", "auc", "loss")
            if (value := measured(row, name)) is not None
        ),
        "",
    )
    day = f"{row.created_at:%d %b %Y}".lstrip("0")
    if not told:
        return Step(row.version, selectors.sentence(row), day)
    run = Run(
        reference=told["run"],
        title=f"{told['strategy']}, {wording.counted(told['rounds'], 'round')}",
        note=f"in {told['federation']['name']}" if "federation" in told else "in another federation",
        givers=wording.givers(told),
    )
    return Step(row.version, quality or "not measured", day, row.parent.version if row.parent else None, run)


def _run(row: ModelVersion) -> dict[str, Any]:
    """What a run noted; {} for a version that no run made."""
    noted: dict[str, Any] = row.lineage if row.lineage.get("run") else {}
    return noted


def _address(box: Box, model: str, seen: set[str]) -> str:
    """Where a box leads; "" for what the reader may not open."""
    if box.kind == "version":
        return f"/models/{model}/versions/{box.reference}"
    return f"/runs/{box.reference}" if box.reference in seen else ""
