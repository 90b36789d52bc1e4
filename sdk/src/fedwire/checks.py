"""What a device finds out about itself before a run: codes of the catalogue and four numbers, nothing of its data.

`failed` are the reasons for which it could not train this model, `warned` what it should see to and can train with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

from fedwire.errors import FedportalError

# Codes that say what is the matter; a device may give further ones of the catalogue.
TOO_FEW, NO_MEMORY, CLOCK, OLD = "records_too_few", "memory_short", "clock_off", "sdk_old"
NO_ARCHITECTURE = "architecture_missing"
# A clock that is further off is told.
MOST_CLOCK_SECONDS = 60.0
# Weights, those that training began with, gradient, momentum and update.
COPIES = 5
MOST_CODES = 20
_CODE = re.compile(r"[a-z][a-z_]{0,39}")
_VERSION = re.compile(r"[0-9A-Za-z.+\-]{1,40}")


class Asked(TypedDict):
    """What a check task says beside the model; inside `Task`."""

    least_records: int  # the floor of the device's organization
    sdk_version: str  # of the SDK that the portal brings


class Report(TypedDict):
    """What a device answers."""

    failed: list[str]
    warned: list[str]
    sdk_version: str
    clock_seconds: NotRequired[float]  # how far this device's clock is ahead of the portal's
    memory_mb: NotRequired[int]  # free on this device, where the system says it


def memory_needed(model_bytes: int, rows: int, inputs: int) -> int:
    """About so many bytes training takes: COPIES of the model, the rows as numbers of four bytes, and a batch of them
    on its way through."""
    return COPIES * model_bytes + 2 * 4 * rows * inputs


def is_older(own: str, other: str) -> bool:
    """Whether the version `own` comes before `other`; False where either is not three numbers."""
    try:
        one, two = (tuple(int(part) for part in version.split(".")[:3]) for version in (own, other))
    except ValueError:
        return False
    return one < two


def parse(value: Any) -> Report:
    """The report in `value`, read strictly; unknown fields are dropped. Raises `field_invalid`."""
    if not isinstance(value, dict):
        raise _wrong("it is not an object.")
    version = value.get("sdk_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise _wrong("sdk_version is not a version.")
    report: Report = {"failed": _codes(value, "failed"), "warned": _codes(value, "warned"), "sdk_version": version}
    clock, memory = value.get("clock_seconds"), value.get("memory_mb")
    if clock is not None:
        # The bound comes first: an integer too large for a float must not raise.
        if type(clock) not in (int, float) or abs(clock) > 1e10 or not math.isfinite(clock):
            raise _wrong("clock_seconds is not a number of seconds.")
        report["clock_seconds"] = float(clock)
    if memory is not None:
        if type(memory) is not int or not 0 <= memory < 1 << 40:
            raise _wrong("memory_mb is not a whole number of megabytes.")
        report["memory_mb"] = memory
    return report


def _codes(value: dict[str, Any], name: str) -> list[str]:
    codes: Sequence[Any] = value.get(name) or []
    if not isinstance(codes, list) or len(codes) > MOST_CODES:
        raise _wrong(f"{name} is not a list of at most {MOST_CODES} codes.")
    if not all(isinstance(code, str) and _CODE.fullmatch(code) for code in codes):
        raise _wrong(f"{name} holds something that is no code.")
    return list(dict.fromkeys(codes))


def _wrong(reason: str) -> FedportalError:
    return FedportalError("field_invalid", field="check", reason=reason)
