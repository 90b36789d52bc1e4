"""What Opacus' PRV accountant says of sampled rounds: `python -m tests.privacy.prv` writes its figures down anew.

Opacus (1.5.4, Gopi, Lee and Wutschitz, NeurIPS 2021, arXiv:2106.02848) needs minutes for all of them, and brings what
nothing else here needs; so it is installed by hand where the figures are to be made, and the tests read the file.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = Path(__file__).with_name("prv_figures.json")
NOISES, RATES, ROUNDS, DELTAS = (0.6, 1.0, 2.0, 4.0), (0.001, 0.01, 0.1), (1, 100, 10_000), (1e-5, 1e-6)
# How far the bounds may be from the estimate: this part of ε, or this much.
PART, LEAST_ERROR = 0.004, 2e-5


@dataclass(frozen=True)
class Figure:
    """ε of so many rounds lies between `lower` and `upper`, most likely at `estimate`."""

    noise: float
    rate: float
    rounds: int
    delta: float
    lower: float
    estimate: float
    upper: float


def figures() -> list[Figure]:
    """What was written down."""
    return [Figure(**one) for one in json.loads(FILE.read_text())]


def measured(noise: float, rate: float, rounds: int, delta: float) -> Figure:
    """What Opacus says now."""
    from opacus.accountants.prv import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(noise, rate, rounds)]

    def bounds(error: float) -> tuple[float, float, float]:
        composed = accountant._get_dprv(error, delta / 1000)
        return tuple(float(value) for value in composed.compute_epsilon(delta, delta / 1000, error))

    around = bounds(0.1)[1]
    lower, estimate, upper = bounds(max(PART * around, LEAST_ERROR))
    return Figure(noise, rate, rounds, delta, lower, estimate, upper)


def main() -> None:
    """Write the figures."""
    found = [measured(*kind) for kind in itertools.product(NOISES, RATES, ROUNDS, DELTAS)]
    lines = ",\n".join(json.dumps(asdict(one)) for one in found)
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
