"""An answer no longer than the portal reads: where the parts of its reports make it longer, less is told of them.

A report counts its scores in some hundred bins, and it may have eighty slices that do so too. Of those the AUC goes
first, then the slices themselves; of a device's own model before the common one.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from fedwire import metrics
from fedwire.answers import MAX_BYTES
from fedwire.messages import Answer, AnswerShape, Evaluation

BINS = frozenset(("positives", "negatives", "scale", "other_scale"))


def fitted(answer: Answer) -> Answer:
    """The answer, shortened as far as it has to be; the same for the same."""
    steps: tuple[Callable[[Evaluation], Evaluation], ...] = (_counted, _whole)
    for shorten in steps:
        for name in ("personal", "evaluation"):
            report: Evaluation = answer.get(name, {})  # type: ignore[assignment]
            if "slices" not in report or length(answer) <= MAX_BYTES:
                continue
            answer = {**answer, name: shorten(report)}  # type: ignore[misc]
    return answer


def fits_in(answer: Answer, content: memoryview, shape: AnswerShape) -> bool:
    """Whether the update may come in the answer to a task of this shape, and there is room for it."""
    return len(content) <= shape.get("inline_bytes", 0) and length(answer) + 2 * len(content) <= MAX_BYTES


def length(answer: Answer) -> int:
    """How many bytes the answer takes as it is sent."""
    return len(json.dumps(answer, separators=(",", ":")))


def _counted(report: Evaluation) -> Evaluation:
    """The report with slices that count classes instead of scores."""
    slices = {name: {part: _plain(inner) for part, inner in parts.items()} for name, parts in report["slices"].items()}
    return {**report, "slices": slices}


def _plain(part: Evaluation) -> Evaluation:
    counts = metrics.confusion(part)
    left: Evaluation = {name: value for name, value in part.items() if name not in BINS}  # type: ignore[assignment]
    # What a caller's own function reports may count right answers otherwise than its scores do.
    if counts is not None and counts[0] + counts[3] == part["correct"]:
        left["confusion"] = counts
    return left


def _whole(report: Evaluation) -> Evaluation:
    """The report without its slices."""
    return {name: value for name, value in report.items() if name != "slices"}  # type: ignore[return-value]
