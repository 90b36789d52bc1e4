"""From the combined update to the new model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedwire.tensors import Float32


class ServerStep(Protocol):
    """Writes the new weights of one tile over the combined update. It changes nothing else."""

    def tile(self, base: Float32, update: Float32) -> None:
        """`update` becomes the new weights that follow `base`."""


@dataclass(frozen=True)
class Add:
    """new = base + Δ: a server step with learning rate 1."""

    def tile(self, base: Float32, update: Float32) -> None:
        """Add the base."""
        np.add(base, update, out=update)
