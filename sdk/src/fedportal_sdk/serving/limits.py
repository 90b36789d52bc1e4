"""What a server of a model takes and gives at most."""

from __future__ import annotations

from dataclasses import dataclass, fields

from fedwire.errors import FedportalError


@dataclass(frozen=True)
class Limits:
    """Of one request. Raises `field_invalid` for numbers below 1."""

    prompt_tokens: int = 8192
    output_tokens: int = 1024
    rows: int = 4096

    def __post_init__(self) -> None:
        for one in fields(self):
            if getattr(self, one.name) < 1:
                raise FedportalError("field_invalid", field=f"max_{one.name}", reason="it must be at least 1.")
