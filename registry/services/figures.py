"""What is known of a version before it goes to devices: one figure for each check of its gate, or why there is none.

A version that a run made carries what that run measured. The floor above may know more: of a version that devices began
to train from, for they measure first what they get, and of one that they were asked to compute with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedportal.common import blobs
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import decode_model
from registry.comparison import MOST_READ, Comparison, compare
from registry.delivery import probing
from registry.delivery.gates import Figure, Limits
from registry.models import GateReport, ModelVersion

# Seconds to wait while another pair of files is compared.
PATIENCE = 60.0
# More than so much to read, or a picture's convolutions to compute, is left to a worker.
AT_ONCE = 16 << 20
GONE = "a file of a version is gone"
# What devices measured of a version that carries no metrics: as a version has them, empty where nobody did.
Source = Callable[[ModelVersion], Mapping[str, Any]]
_sources: dict[Source, str] = {}


def register(source: Source, how: str) -> None:
    """Ask `source` too what devices measured of a version, after those that were registered before; `how` they did."""
    _sources[source] = how


def quick(version: ModelVersion, limits: Limits, serving: ModelVersion | None) -> bool:
    """Whether the figures are there in a moment, so that nobody has to wait for a worker."""
    checks = limits.checks()
    images = bool(version.architecture) and version.architecture["kind"] == "cnn"
    if "latency" in checks and _timed(version) is None and (images or version.size > AT_ONCE):
        return False
    compares = serving is not None and ("drift" in checks or "cosine" in checks)
    return not compares or version.size + (serving.size if serving else 0) <= AT_ONCE


def of(
    version: ModelVersion, limits: Limits, serving: ModelVersion | None, *, remeasure: bool = False
) -> Mapping[str, Figure] | None:
    """A figure for each check of these limits. None while this process is busy with other files.

    A time that was measured before is taken over, unless it is to be measured anew.
    """
    checks = limits.checks()
    found: dict[str, Figure] = {"size": Figure(float(version.size))}
    if "quality" in checks or "gap" in checks:
        metrics, how = _measured(version, limits.metric)
        quality, gap = _quality(version, metrics, limits.metric, how), _gap(version, metrics, limits.metric, how)
        found |= {"quality": quality, "gap": gap}
    if "drift" in checks or "cosine" in checks:
        drift = _drift(version, serving)
        if drift is None:
            return None
        found |= drift
    if "latency" in checks:
        found["latency"] = _latency(version, None if remeasure else _timed(version))
    return found


def _measured(version: ModelVersion, metric: str) -> tuple[Mapping[str, Any], str]:
    """What devices measured of the version, and how where that was not by the run that made it: what the first source
    says that knows this metric, or else the first that knows any."""
    known: list[tuple[Mapping[str, Any], str]] = [(version.metrics, "")] if version.metrics else []
    for source, how in _sources.items():
        if any(_number(metrics.get(metric)) is not None for metrics, _ in known):
            break
        if found := source(version):
            known.append((found, how))
    fitting = [one for one in known if _number(one[0].get(metric)) is not None]
    return [*fitting, *known, ({}, "")][0]


def _quality(version: ModelVersion, metrics: Mapping[str, Any], metric: str, how: str) -> Figure:
    value = _number(metrics.get(metric))
    return Figure(value, how) if value is not None else Figure(None, _unmeasured(version, metrics))


def _gap(version: ModelVersion, metrics: Mapping[str, Any], metric: str, how: str) -> Figure:
    value = _number(metrics.get("fairness", {}).get(metric, {}).get("gap"))
    if value is not None:
        return Figure(value, how)
    if _number(metrics.get(metric)) is None:
        return Figure(None, _unmeasured(version, metrics))
    return Figure(None, "fewer than two organizations measured it")


def _unmeasured(version: ModelVersion, metrics: Mapping[str, Any]) -> str:
    if metrics:
        return "it was measured with other metrics"
    if version.origin == ModelVersion.Origin.PUSHED:
        return "it was pushed, and no run that began with it has measured it"
    return "no device of its run held out rows"


def _drift(version: ModelVersion, serving: ModelVersion | None) -> dict[str, Figure] | None:
    """How far the weights are from those that are rolled out; None while other files are compared."""
    if serving is None:
        first = Figure(None, "nothing is rolled out yet", void=True)
        return {"drift": first, "cosine": first}
    if version.size + serving.size > MOST_READ:
        large = Figure(None, "the two files are too large to be compared here")
        return {"drift": large, "cosine": large}
    try:
        found = compare(serving, version, PATIENCE)
    except FileNotFoundError:
        return {"drift": Figure(None, GONE), "cosine": Figure(None, GONE)}
    if found is None:
        return None
    return {"drift": _apart(found, found.share), "cosine": _apart(found, found.cosine)}


def _apart(found: Comparison, value: float | None) -> Figure:
    if value is not None:
        return Figure(value)
    if found.distance is None:
        return Figure(None, "its tensors are not those of the version that is rolled out")
    return Figure(None, "the weights of one of the two are all zero")


def _latency(version: ModelVersion, before: float | None) -> Figure:
    if before is not None:
        return Figure(before)
    if not version.architecture:
        return Figure(None, "its architecture is not described, so the portal cannot compute with it")
    try:
        described = Architecture.parse(version.architecture)
        if probing.numbers(described) > probing.MOST_NUMBERS:
            return Figure(None, "a batch of its inputs is too large to be computed here")
        return Figure(probing.latency(described, decode_model(blobs.path(version.blob))[1]))
    except FileNotFoundError:
        return Figure(None, GONE)
    except FedportalError as error:
        return Figure(None, error.message)


def _timed(version: ModelVersion) -> float | None:
    """What was measured for an earlier report: a time would differ whenever it is taken."""
    for checks in GateReport.objects.filter(version=version).values_list("checks", flat=True):
        for check in checks:
            if check["name"] == "latency" and check["figure"] is not None:
                return float(check["figure"])
    return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
