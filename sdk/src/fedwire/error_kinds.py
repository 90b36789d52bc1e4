"""What a row of the catalogue of errors says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorKind:
    """One row of the catalogue. `sentence` and `next_step` may name values as `{value}`."""

    status: int
    sentence: str
    next_step: str
