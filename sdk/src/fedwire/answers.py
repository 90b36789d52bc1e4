"""What a device answers, read strictly: JSON without NaN, counts that are counts, sums that are finite.

The portal reads its devices' answers with this, and so does an edge that stands between it and them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fedwire import checks, effort, inference, reports, statistics
from fedwire.errors import FedportalError
from fedwire.messages import INLINE_BYTES, Statistics
from fedwire.slices import floor_of
from fedwire.states import TaskKind

MAX_BYTES = 256 << 10
MAX_COLUMNS = 100_000
MAX_NAMES = 64
MAX_SUM = 1e30
_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_STEPS = 10**9
# As many devices may stand behind one answer.
MAX_DEVICES = 100_000
# A normaliser is compared with its bounds after both ends computed in float64.
SLACK = 1e-6
REPORTS = ("steps", "normaliser", "base_loss")
FIELDS = (
    "sha256",
    "samples",
    "devices",
    "work_share",
    "evaluation",
    "personal",
    "statistics",
    "metrics",
    "seconds",
    "ready",
    "masking",
    *REPORTS,
)


def parse(body: bytes) -> dict[str, Any]:
    """The object in `body`. Raises `body_too_large`, or `bad_request` for anything but a plain JSON object."""
    if len(body) > MAX_BYTES:
        raise FedportalError("body_too_large", limit=MAX_BYTES)
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FedportalError("bad_request", reason="The body is not JSON.") from error
    if not isinstance(value, dict):
        raise FedportalError("bad_request", reason="The body is not a JSON object.")
    return value


def content_of(answer: dict[str, Any]) -> bytes | None:
    """Take the update out of the answer that it came in; None where none did. Raises `field_invalid`."""
    text = answer.pop("content", None)
    if text is None:
        return None
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise FedportalError("field_invalid", field="content", reason="it is not base64.") from error
    if len(content) > INLINE_BYTES:
        raise FedportalError("field_invalid", field="content", reason=f"it is longer than {INLINE_BYTES} bytes.")
    return content


def digest(answer: dict[str, Any]) -> str:
    """SHA-256 of the answer in one spelling, so that a repetition is known whatever its spaces and order."""
    text = json.dumps(answer, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check(
    answer: dict[str, Any],
    *,
    kind: str,
    limit: int,
    least_records: object = None,
    needed: Sequence[str] = (),
    individual: bool = False,
) -> dict[str, Any]:
    """The known fields of `answer`, checked.

    Raises `samples_invalid`, `records_too_few`, `metrics_invalid`, `inference_invalid` or `field_invalid`. `limit`: the
    most samples. A training or statistics answer needs at least one sample, and every answer needs `least_records` of
    them, the floor of the device's organization; so does every slice of a report, 10 without one. `needed` names those
    of REPORTS that must be there. `individual`: the answer must be that of one device.
    """
    known = {name: answer[name] for name in FIELDS if answer.get(name) is not None}
    known["samples"] = _samples(answer.get("samples"), limit, least=int(kind in (TaskKind.TRAIN, TaskKind.STATISTICS)))
    if isinstance(least_records, int) and known["samples"] < least_records:
        raise FedportalError("records_too_few", least=least_records)
    if "sha256" in known and not (isinstance(known["sha256"], str) and _SHA256.fullmatch(known["sha256"])):
        raise FedportalError("field_invalid", field="sha256", reason="it is not 64 lower-case hexadecimal digits.")
    if "devices" in known:
        _check_devices(known["devices"], individual)
    slice_floor = floor_of(least_records if isinstance(least_records, int) else 0)
    for name in ("evaluation", "personal"):
        if name in known:
            known[name] = reports.parse(known[name], max_samples=limit, least_slice=slice_floor)
    _add_of_kind(known, answer, kind)
    if "statistics" in known:
        known["statistics"] = _statistics(known["statistics"], limit)
    if "metrics" in known:
        known["metrics"] = _named(known["metrics"], "metrics")
    if "seconds" in known and not (_finite(known["seconds"]) and 0 <= known["seconds"] <= 1e8):
        raise FedportalError("field_invalid", field="seconds", reason="it is not a duration.")
    _check_masking(known, kind)
    if "work_share" in known:
        known["work_share"] = effort.checked(known["work_share"])
    _check_reports(known, needed)
    return known


def _add_of_kind(known: dict[str, Any], answer: Mapping[str, Any], kind: str) -> None:
    """What the answer to a task of this kind has to bring, checked."""
    if kind == TaskKind.CHECK:
        known["check"] = checks.parse(answer.get("check"))
    if kind == TaskKind.STATISTICS and "statistics" not in known:
        raise _wrong("the statistics are missing")
    if kind == TaskKind.INFER:
        known["inference"] = inference.whole_numbers(answer.get("inference"))


def check_local_work(training: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Raises `field_invalid` for steps or a normaliser that this training over so many rows cannot have had.

    A device that claims few steps makes its update count for more, so it is held to what it was asked to do, or to the
    share of it that it says it does (`fedwire.effort`). An answer
    that stands for k devices tells of their mean, weighted by rows: Σ nᵢτᵢ/n. As τᵢ > E·(nᵢ/b - 1) and Σ nᵢ² ≥ n²/k,
    that is more than E·(n/(k·b) - 1), and at most what one device with all the rows would have done.
    """
    if "steps" not in answer:
        return
    steps, rows, parts = answer["steps"], answer["samples"], answer.get("devices", 1)
    epochs, batch = training.get("epochs", 1), training.get("batch_size", 1)
    least, most = max(1, epochs * (rows // batch)), epochs * -(-rows // batch)
    if parts > 1:
        least = max(1, epochs * (rows // (parts * batch) - 1))
    share = answer.get("work_share", 1.0)
    # Behind an edge it is that of the device that did least.
    least, most = max(1, effort.steps_of(least, share)), effort.steps_of(most, share if parts == 1 else 1.0)
    if not least <= steps <= most:
        reason = f"{epochs} passes over {rows} rows in batches of {batch} are {least} to {most} steps."
        raise FedportalError("field_invalid", field="steps", reason=reason)
    # The steps of several devices are told as a whole number, their mean need not be one.
    spare = 1 if parts > 1 else 0
    highest = (steps + spare) / (1 - training.get("momentum", 0.0))
    if not steps * (1 - SLACK) <= answer.get("normaliser", steps) <= highest * (1 + SLACK):
        reason = f"for {steps} steps with this momentum it lies between {steps} and {highest:.10g}."
        raise FedportalError("field_invalid", field="normaliser", reason=reason)


def _check_masking(known: Mapping[str, Any], kind: str) -> None:
    """Raises `field_invalid` for what is no part of secure aggregation; what a step asks for, its floor checks."""
    if not isinstance(known.get("ready", True), bool):
        raise FedportalError("field_invalid", field="ready", reason="it is neither true nor false.")
    if not isinstance(known.get("masking", {}), dict) or (kind == TaskKind.SECAGG and "masking" not in known):
        raise FedportalError("field_invalid", field="masking", reason="it is not the object that the step asks for.")


def _check_devices(value: Any, individual: bool) -> None:
    """Raises `field_invalid` for a number of devices that is none, or more than one where each must be seen alone."""
    if not _count(value, MAX_DEVICES) or not value:
        raise FedportalError("field_invalid", field="devices", reason=f"it is not a number from 1 to {MAX_DEVICES}.")
    if individual and value > 1:
        reason = "the run's strategy looks at every device's update by itself."
        raise FedportalError("field_invalid", field="devices", reason=reason)


def _check_reports(known: dict[str, Any], needed: Sequence[str]) -> None:
    """Raises `field_invalid` for a report that is missing or cannot be."""
    for name in needed:
        if name not in known:
            raise FedportalError("field_invalid", field=name, reason="the run's strategy needs it.")
    if "steps" in known and not (_count(known["steps"], MAX_STEPS) and known["steps"]):
        raise FedportalError("field_invalid", field="steps", reason="it is not a number of steps.")
    if "normaliser" in known and not (_finite(known["normaliser"]) and known["normaliser"] > 0):
        raise FedportalError("field_invalid", field="normaliser", reason="it is not a number above 0.")
    if "base_loss" in known and not (_finite(known["base_loss"]) and known["base_loss"] >= 0):
        raise FedportalError("field_invalid", field="base_loss", reason="it is not a number of at least 0.")


def _samples(value: Any, limit: int, least: int) -> int:
    if not _count(value, limit) or value < least:
        raise FedportalError("samples_invalid", samples=_short(value), limit=limit)
    return int(value)


def _statistics(value: Any, limit: int) -> Statistics:
    columns = len(value["mean"]) if isinstance(value, dict) and isinstance(value.get("mean"), list) else 0
    if not 0 < columns <= MAX_COLUMNS:
        raise _wrong(f"statistics.mean is not a list of 1 to {MAX_COLUMNS} numbers")
    # Whether these are as many columns as the model has is for the floor that made the task to say.
    return statistics.parse(value, columns=columns, max_samples=limit)


def _named(value: Any, what: str) -> dict[str, float]:
    if not isinstance(value, dict) or len(value) > MAX_NAMES:
        raise _wrong(f"{what} is not an object of at most {MAX_NAMES} numbers")
    for name, number in value.items():
        if not 0 < len(name) <= 60 or not name.isprintable() or not _finite(number):
            raise _wrong(f"{what}.{name[:60]!r} is {_short(number)}")
    return {name: float(number) for name, number in value.items()}


def _count(value: Any, limit: int) -> bool:
    return type(value) is int and 0 <= value <= limit


def _finite(value: Any) -> bool:
    # The bound comes first: an integer too large for a float must not raise.
    return type(value) in (int, float) and -MAX_SUM <= value <= MAX_SUM and math.isfinite(value)


def _short(value: Any) -> str:
    return repr(value)[:40]


def _wrong(reason: str) -> FedportalError:
    return FedportalError("metrics_invalid", reason=reason + ".")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
