"""Reports on held-out rows that come from outside, read strictly: counts that are counts, sums that are finite, names
that are few and printable, and parts that fit into their whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedwire.histograms import BINS, EQUAL, LOGIT, Scale, by_scale
from fedwire.messages import Evaluation, Histograms
from fedwire.metrics import invalid
from fedwire.slices import MAX_PARTS, MAX_SLICINGS

MAX_SUMS = 50
MAX_HISTOGRAMS = 20
MAX_NAME = 60
MAX_SAMPLES = 10_000_000
# Beyond what float32 losses of that many rows add up to, squared errors included; and squares of it are still numbers.
MOST_SUM = 1e100


def parse(value: Any, *, max_samples: int = MAX_SAMPLES, least_slice: int = 0) -> Evaluation:
    """The report in `value`; unknown fields are dropped. Raises `metrics_invalid`.

    `least_slice`: the fewest rows that a slice may stand for, and so may the rows that are in none of its siblings:
    what the whole and its slices leave over would otherwise tell of fewer.
    """
    report = _plain(value, max_samples)
    if "histograms" in value:
        report["histograms"] = _histograms(value["histograms"], report)
    if "slices" in value:
        report["slices"] = _slices(value["slices"], report, least_slice)
    return report


def _plain(value: Any, max_samples: int) -> Evaluation:
    """The report without its parts."""
    if not isinstance(value, Mapping):
        raise invalid("the evaluation is not an object")
    samples = _count(value, "samples", max_samples)
    report: Evaluation = {
        "samples": samples,
        "loss_sum": _finite("loss_sum", value.get("loss_sum")),
        "correct": _count(value, "correct", samples),
    }
    if value.keys() & {"positives", "negatives", "scale"}:
        bins = _bins(value, samples)
        if _rows(bins) != samples:
            raise invalid("the histograms do not count every sample once")
        report.update(bins)
    if "confusion" in value:
        report["confusion"] = _confusion(value["confusion"], report)
    if "sums" in value:
        report["sums"] = _sums(value["sums"])
    if "over" in value:
        report["over"] = _over(value["over"], report)
    return report


def _count(value: Mapping[str, Any], field: str, most: int) -> int:
    number = value.get(field)
    if type(number) is not int or not 0 <= number <= most:
        raise invalid(f"`{field}` must be a whole number from 0 to {most}")
    return number


def _finite(field: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise invalid(f"`{field}` must be a number")
    try:
        number = float(number)
    except OverflowError:
        raise invalid(f"`{field}` is too large") from None
    if not math.isfinite(number):
        raise invalid(f"`{field}` is NaN or infinite")
    if abs(number) > MOST_SUM:
        raise invalid(f"`{field}` is too large")
    return number


def _counts(value: Any, field: str, length: int, most: int) -> list[int]:
    if not isinstance(value, list) or len(value) != length:
        raise invalid(f"`{field}` must be a list of {length} counts")
    if not all(type(count) is int and 0 <= count <= most for count in value):
        raise invalid(f"`{field}` must hold whole numbers from 0 to {most}")
    return list(value)


def _bins(value: Mapping[str, Any], most: int) -> Histograms:
    """The histograms in `value`, on the scale that it names; with `other_scale` those of further rows."""
    if "scale" not in value:
        return _bins_on(EQUAL, value, most)
    if value["scale"] != LOGIT:
        raise invalid(f'`scale` must be "{LOGIT}" or absent')
    found: Histograms = {**_bins_on(LOGIT, value, most), "scale": LOGIT}
    if "other_scale" in value:  # of devices that differ in age, behind one edge
        if not isinstance(value["other_scale"], Mapping):
            raise invalid("`other_scale` is not an object")
        found["other_scale"] = _bins_on(EQUAL, value["other_scale"], most)
    return found


def _bins_on(scale: Scale, value: Mapping[str, Any], most: int) -> Histograms:
    return {
        "positives": _counts(value.get("positives"), "positives", BINS[scale], most),
        "negatives": _counts(value.get("negatives"), "negatives", BINS[scale], most),
    }


def _rows(bins: Any, *, positive: bool = False) -> int:
    """How many rows histograms count on both scales; `positive`: those of class 1 only."""
    return sum(sum(high) + (0 if positive else sum(low)) for high, low in by_scale(bins).values())


def _confusion(value: Any, report: Evaluation) -> list[int]:
    counts = _counts(value, "confusion", 4, report["samples"])
    if sum(counts) != report["samples"] or counts[0] + counts[3] != report["correct"]:
        raise invalid("`confusion` does not count every sample once, or other right answers than `correct`")
    if "positives" in report and counts[2] + counts[3] != _rows(report, positive=True):
        raise invalid("`confusion` and the histograms count different classes")
    return counts


def _sums(value: Any) -> dict[str, float]:
    _check_names(value, "sums", MAX_SUMS)
    return {name: _finite(name, number) for name, number in value.items()}


def _over(value: Any, report: Evaluation) -> dict[str, int]:
    _check_names(value, "over", MAX_SUMS)
    if not set(value) <= set(report.get("sums", {})):
        raise invalid("`over` names what is not among the sums")
    return {name: _count(value, name, report["samples"]) for name in value}


def _histograms(value: Any, report: Evaluation) -> dict[str, Histograms]:
    """Further scores: each may cover some of the rows, none more than there are."""
    _check_names(value, "histograms", MAX_HISTOGRAMS)
    found: dict[str, Histograms] = {}
    for name, pair in value.items():
        if not isinstance(pair, Mapping):
            raise invalid(f"`{name}` in `histograms` is not an object")
        found[name] = _bins(pair, report["samples"])
        if _rows(found[name]) > report["samples"]:
            raise invalid(f"`{name}` in `histograms` counts more rows than there are")
    return found


def _slices(value: Any, report: Evaluation, least: int) -> dict[str, dict[str, Evaluation]]:
    _check_names(value, "slices", MAX_SLICINGS)
    found: dict[str, dict[str, Evaluation]] = {}
    for name, parts in value.items():
        _check_names(parts, f"slices.{name}", MAX_PARTS)
        found[name] = {part: _plain(inner, report["samples"]) for part, inner in parts.items()}
        left = report["samples"] - sum(inner["samples"] for inner in found[name].values())
        if left < 0 or report["correct"] < sum(inner["correct"] for inner in found[name].values()):
            raise invalid(f"the slices by {name} count more than the whole")
        if 0 < left < least or any(inner["samples"] < least for inner in found[name].values()):
            raise invalid(f"the slices by {name} tell of fewer than {least} rows")
    return found


def _check_names(value: Any, field: str, most: int) -> None:
    if not isinstance(value, Mapping) or len(value) > most:
        raise invalid(f"`{field}` must be an object of at most {most} names")
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise invalid(f"a name in `{field[:MAX_NAME]}` is not usable")
