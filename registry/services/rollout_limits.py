"""What a rollout may be asked to be: its shares, its schedule, and the limits beyond which a version is unwell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from federations.models import Organization
from federations.services import policies
from fedwire.errors import FedportalError
from registry.delivery.placement import WHOLE

MAX_STEPS = 20
MAX_WAIT = 30 * 24 * 3600
MAX_WINDOW = 24 * 3600
MAX_LEAST = 1_000_000
Steps = Sequence[tuple[int, int]]


def check_shares(share: int, target: int, increment: int, steps: Steps) -> None:
    """Raises `field_invalid` for what no rollout can have: shares in hundredths of a percent, steps that rise."""
    for field, value in (("share", share), ("target", target), ("increment", increment)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= WHOLE:
            raise FedportalError("field_invalid", field=field, reason="it must be above 0 % and at most 100 %.")
    if len(steps) > MAX_STEPS:
        raise FedportalError("field_invalid", field="schedule", reason=f"it has more than {MAX_STEPS} steps.")
    before = 0
    for at, wait in steps:
        if not before < at <= WHOLE:
            raise FedportalError("field_invalid", field="schedule", reason="its shares must rise, up to 100 %.")
        if not 0 <= wait <= MAX_WAIT:
            raise FedportalError(
                "field_invalid", field="schedule", reason="it waits longer than 30 days, or less than 0."
            )
        before = at


def settled(organization: Organization, said: dict[str, Any]) -> dict[str, Any]:
    """The limits of a new rollout: what was said, the organization's policy for the rest. Raises `field_invalid`."""
    policy = policies.of(organization)
    limits = {"auto_rollback": policy.auto_rollback, "error_rate": policy.rollback_error_rate}
    limits |= {name: value for name, value in said.items() if value is not None}
    ranges = {
        "window_seconds": (10, MAX_WINDOW),
        "least": (1, MAX_LEAST),
        "error_rate": (0, 1),
        "latency_ms": (0, 1e7),
        "accuracy": (0, 1),
    }
    for name, value in limits.items():
        if name == "auto_rollback":
            fits = isinstance(value, bool)
        elif name not in ranges:
            raise FedportalError("field_invalid", field=name, reason="there is no such limit.")
        else:
            low, high = ranges[name]
            whole = name in ("window_seconds", "least")
            fits = not isinstance(value, bool) and isinstance(value, int if whole else (int, float))
            fits = fits and math.isfinite(value) and low <= value <= high
        if not fits:
            raise FedportalError("field_invalid", field=name, reason="it is outside what a limit can be.")
    return limits
