"""Less local work for devices that cannot do all of it: a share of the steps that a task asks for.

An update still stands for all of the device's rows, so the mean weighs it as any other; strategies that go by steps get
those that were taken.
"""

from __future__ import annotations

import math
from typing import Any

from fedwire.errors import FedportalError

# Less is not believed: where updates are scaled by the steps behind them, it would make one count for too much.
LEAST_SHARE = 0.1
_DIGITS = 9


def steps_of(full: int, share: float) -> int:
    """How many of `full` steps a device takes that does this share of them: at least one, if there is any to take."""
    return math.ceil(round(full * share, _DIGITS))


def checked(value: Any, field: str = "work_share") -> float:
    """`value` as a share from LEAST_SHARE to 1. Raises `field_invalid`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_SHARE <= value <= 1:
        reason = f"it must be a number from {LEAST_SHARE:g} to 1."
        raise FedportalError("field_invalid", field=field, reason=reason)
    return float(value)
