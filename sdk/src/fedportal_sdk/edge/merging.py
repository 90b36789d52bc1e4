"""One answer out of many: what an edge says of its devices' work, in sums and means.

Everything that the portal would have merged anyway is merged here by the same functions (`fedwire.metrics`,
`fedwire.statistics`), which are associative: merging in groups first changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedportal_sdk.local import Refusal
from fedwire import answers, metrics, reports, statistics
from fedwire.errors import FedportalError
from fedwire.messages import Answer, Evaluation, Task
from fedwire.slices import disclosed, floor_of

Said = Mapping[str, Any]  # one device's answer, checked
MOST_METRICS = 50


def merged(task: Task, found: Sequence[Said]) -> Answer:
    """The answer to the portal's task out of at least one device's, without what belongs to an update.

    Raises `Refusal` where the whole is more than an answer may stand for.
    """
    ordered = sorted(found, key=lambda said: answers.digest(dict(said)))
    samples, limit = sum(said["samples"] for said in ordered), task["answer"]["max_samples"]
    if samples > limit:
        raise Refusal(f"the devices behind this edge have more rows than the {limit:,} an answer may stand for")
    # An edge may stand behind an edge.
    answer: Answer = {"samples": samples, "devices": sum(said.get("devices", 1) for said in ordered)}
    if told := [said["evaluation"] for said in ordered if "evaluation" in said]:
        answer["evaluation"] = evaluation_of(task, told)
    if counted := [said["statistics"] for said in ordered if "statistics" in said]:
        answer["statistics"] = statistics.merge(counted)
    if measured := _means(ordered):
        answer["metrics"] = measured
    if shares := [said["work_share"] for said in ordered if "work_share" in said]:
        answer["work_share"] = min(shares)
    if seconds := [said["seconds"] for said in ordered if "seconds" in said]:
        answer["seconds"] = max(seconds)  # they work at the same time
    return answer


def evaluation_of(task: Task, told: Sequence[Evaluation]) -> Evaluation:
    """The reports as one, with those slices only that may be told of the whole.

    A slice that each device may tell of is large enough; but rows of devices that told of no slices are left over, and
    there may be too few of them.
    """
    least = floor_of(task["answer"].get("least_records", 0))
    whole = _within_limits(metrics.merge(told))
    return reports.parse(disclosed(whole, least), max_samples=task["answer"]["max_samples"], least_slice=least)


def _within_limits(whole: Evaluation) -> Evaluation:
    """At most as many names as one report may have: devices may have named different things."""
    for field, most in (("sums", reports.MAX_SUMS), ("histograms", reports.MAX_HISTOGRAMS)):
        if field in whole:
            whole[field] = dict(sorted(whole[field].items())[:most])  # type: ignore[literal-required]
    if "over" in whole:
        whole["over"] = {name: count for name, count in whole["over"].items() if name in whole.get("sums", {})}
    return whole


def _means(ordered: Sequence[Said]) -> dict[str, float]:
    """The trainers' own numbers, each as the mean over the rows of the devices that gave it."""
    names = sorted({name for said in ordered for name in said.get("metrics", {})})[:MOST_METRICS]
    found = {}
    for name in names:
        giving = [said for said in ordered if name in said.get("metrics", {})]
        rows = sum(said["samples"] for said in giving)
        if rows:
            found[name] = math.fsum(said["metrics"][name] * (said["samples"] / rows) for said in giving)
    return found


def check_statistics(task: Task, said: Said) -> None:
    """Raises `metrics_invalid` for statistics of another width than the model's."""
    expected = (task["architecture"] or {}).get("inputs")
    got = len(said["statistics"]["mean"])
    if isinstance(expected, int) and got != expected:
        raise FedportalError("metrics_invalid", reason=f"the statistics have {got} columns, the model has {expected}.")
