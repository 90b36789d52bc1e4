"""How a run protects what its devices send: whether only sums are seen, and what noise is added. Pure.

`config["privacy"]` of a run holds what `Protection.as_json` gives; a run without it is `OPEN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

# What the portal sees of updates: each; only the sum of all; only the sums of groups of devices.
PLAIN, SECURE, GROUPED = "plain", "secure", "grouped"
SUMS = (PLAIN, SECURE, GROUPED)
# Who adds noise: nobody; the portal, to the sum; each device, to its update, enough by itself; each device, its share
# of what the sum needs; each device, to the gradients that it trains with (DP-SGD).
NONE, CENTRAL, LOCAL, DISTRIBUTED, RECORDS = "none", "central", "local", "distributed", "records"
MECHANISMS = (NONE, CENTRAL, LOCAL, DISTRIBUTED, RECORDS)
FIXED, ADAPTIVE = "fixed", "adaptive"
CLIPPINGS = (FIXED, ADAPTIVE)
# Whose presence ε is about.
UNIT_DEVICE, UNIT_RECORD = "device", "record"
DEFAULT_CLIP = 10.0
DEFAULT_DELTA = 1e-5


@dataclass(frozen=True)
class Protection:
    """`clip`: the largest L2 norm of an update as a whole (of a record's gradient, where the mechanism is "records").
    `noise`: the standard deviation of the noise in the sum, over the clip; 0 without a mechanism. `rate`: with what
    probability a row comes in a step, where the mechanism is "records"; 0 elsewhere. `quantile`: which part of the
    updates an adaptive clip is to leave as they are.

    Of secure sums: no sum is of fewer than `least_devices` devices or `least_organizations` organizations, `bits` is
    the size of the ring, `most_weight` the largest weight of a device (1 under noise, whose sensitivity it would
    multiply), and cohorts larger than `group` are added up in groups of about that many.
    """

    sums: str = PLAIN
    mechanism: str = NONE
    clip: float = DEFAULT_CLIP
    noise: float = 0.0
    rate: float = 0.0
    delta: float = DEFAULT_DELTA
    clipping: str = FIXED
    quantile: float = 0.5
    least_devices: int = 10
    least_organizations: int = 3
    bits: int = 32
    most_weight: int = 1
    group: int = 128

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Protection:
        """That of the run with this configuration."""
        stored = config.get("privacy") or {}
        return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name in stored})

    def as_json(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return asdict(self)

    @property
    def hides(self) -> bool:
        """Whether the portal sees sums only."""
        return self.sums != PLAIN

    @property
    def spends(self) -> bool:
        """Whether rounds cost ε."""
        return self.mechanism != NONE

    @property
    def counted(self) -> str:
        """What a device counts for in a sum, as a sentence."""
        if self.mechanism != NONE or self.most_weight == 1:
            return "In a sum every device counts the same, however many rows it has."
        return f"In a sum a device counts for its rows, and for {self.most_weight:,} at most."

    @property
    def unit(self) -> str:
        """Whose presence ε is about."""
        return UNIT_RECORD if self.mechanism == RECORDS else UNIT_DEVICE


OPEN = Protection()
