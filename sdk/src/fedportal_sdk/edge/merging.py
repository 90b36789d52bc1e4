"""One answer out of many: what an edge says of its devices' work, in sums and means.

Everything that the portal would have merged anyway is merged here by the same functions (`fedwire.metrics`,
`fedwire.statistics`), which are associative: merging in groups first changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedportal_sdk.local import Refusal
from fedwire import answers, histograms, metrics, reports, statistics
from fedwire.errors import FedportalError
from fedwire.messages import Answer, Evaluation, Task
from fedwire.slices import disclosed, floor_of

Said = Mapping[str, Any]  # one device's answer, checked
MOST_METRICS = 50


def merged(task: Task, found: Sequence[Said]) -> Answer:
    """The answer to the portal's task out of at least one device's, without what belongs to an update.

    Raises `Refusal` where the whole is more than an answer may stand for.
    """
    samples, limit = sum(said["samples"] for said in found), task["answer"]["max_samples"]
    if samples > limit:
        raise Refusal(f"the devices behind this edge have more rows than the {limit:,} an answer may stand for")
    # An edge may stand behind an edge. A device that claims to be too many makes the whole answer no worse.
    devices = min(sum(said.get("devices", 1) for said in found), answers.MAX_DEVICES)
    answer: Answer = {"samples": samples, "devices": devices}
    if told := [said["evaluation"] for said in found if "evaluation" in said]:
        answer["evaluation"] = evaluation_of(task, told)
    if counted := [said["statistics"] for said in found if "statistics" in said]:
        answer["statistics"] = statistics.merge(sorted(counted, key=lambda said: answers.digest(dict(said))))
    if measured := _means(found):
        answer["metrics"] = measured
    if shares := [said["work_share"] for said in found if "work_share" in said]:
        answer["work_share"] = min(shares)
    if seconds := [said["seconds"] for said in found if "seconds" in said]:
        answer["seconds"] = max(seconds)  # they work at the same time
    return answer


def evaluation_of(task: Task, told: Sequence[Evaluation]) -> Evaluation:
    """The reports as one, with those slices only that may be told of the whole.

    A slice that each device may tell of is large enough; but rows of devices that told of no slices are left over, and
    there may be too few of them.
    """
    least = floor_of(task["answer"].get("least_records", 0))
    whole = _as_one(metrics.merge(told))
    if "slices" in whole:
        whole["slices"] = {
            name: {part: _as_one(inner) for part, inner in parts.items()} for name, parts in whole["slices"].items()
        }
    return reports.parse(disclosed(whole, least), max_samples=task["answer"]["max_samples"], least_slice=least)


def _as_one(whole: Evaluation) -> Evaluation:
    """As one device could have said it: devices may have named different things, more than one may name, and some may
    have counted no scores or no classes, which one counts of all its rows or of none."""
    bins = histograms.by_scale(whole).values()
    if bins and sum(sum(high) + sum(low) for high, low in bins) != whole["samples"]:
        for field in ("positives", "negatives", "scale", "other_scale"):
            whole.pop(field, None)  # type: ignore[misc]
    if "confusion" in whole and sum(whole["confusion"]) != whole["samples"]:
        del whole["confusion"]
    for field, most in (("sums", reports.MAX_SUMS), ("histograms", reports.MAX_HISTOGRAMS)):
        if field in whole:
            whole[field] = dict(sorted(whole[field].items())[:most])  # type: ignore[literal-required]
    if "over" in whole:
        whole["over"] = {name: count for name, count in whole["over"].items() if name in whole.get("sums", {})}
    return whole


def _means(found: Sequence[Said]) -> dict[str, float]:
    """The trainers' own numbers, each as the mean over the rows of the devices that gave it."""
    names = sorted({name for said in found for name in said.get("metrics", {})})[:MOST_METRICS]
    means = {}
    for name in names:
        giving = [said for said in found if name in said.get("metrics", {})]
        rows = sum(said["samples"] for said in giving)
        if rows:
            means[name] = math.fsum(said["metrics"][name] * (said["samples"] / rows) for said in giving)
    return means


def check_statistics(task: Task, said: Said) -> None:
    """Raises `metrics_invalid` for statistics of another width than the model's."""
    expected = (task["architecture"] or {}).get("inputs")
    got = len(said["statistics"]["mean"])
    if isinstance(expected, int) and got != expected:
        raise FedportalError("metrics_invalid", reason=f"the statistics have {got} columns, the model has {expected}.")
