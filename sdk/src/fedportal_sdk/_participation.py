"""What came of taking part, as callers get it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedwire.messages import Evaluation


@dataclass
class Participation:
    """What came of taking part. `state`: the run's last known state, or "left" when this device ended it."""

    rounds: int = 0  # training rounds answered
    runs: list[str] = field(default_factory=list)
    state: str = "left"
    result_version: str | None = None
    evaluation: Evaluation | None = None  # the last report this device sent
    samples: int = 0  # rows trained on in the last round
    seconds: float = 0.0  # spent on training, all rounds
