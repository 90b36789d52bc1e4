"""What noise is worth: ε for a δ, of everything that an organization's rows were used for.

A round adds Gaussian noise of `noise` times the clip to a sum in which each unit (a device, an organization or a
record) takes part with the probability `rate`. Two data sets are neighbours when one has one unit more than the other
(add or remove). Nothing is gained by sampling unless devices toss the coin themselves and nobody learns who took part;
whoever cannot promise that accounts for a rate of 1.

Rounds that were planned are composed by privacy loss distributions (Meiser and Mohammadi, CCS 2018; Koskela et al.,
AISTATS 2020), whose bound is tight; those that are chosen as one goes, by Rényi divergences, whose sums may be looked
at any time (Feldman and Zrnic, NeurIPS 2021, arXiv:2008.11193). Both by the library dp-accounting. Rounds of the rate 1
add up to one Gaussian mechanism, for which there is a formula (Balle and Wang, ICML 2018, arXiv:1805.06530).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

# The library warns of orders of the divergence that it leaves out; the others bound ε as well.
logging.getLogger("absl").setLevel(logging.ERROR)

# Noise and rate → how many rounds.
Sampled = tuple[tuple[tuple[float, float], int], ...]
# ε is sought up to this and told as infinite beyond, to this part of itself.
MOST_EPSILON = 1e6
PRECISION = 1e-7
# The grid on which privacy losses are added up: this fine, or this part of ε.
FINEST_LOSS, LOSS_SHARE, USUAL_DELTA = 4e-5, 5e-5, 1e-5
# Noise beyond this is no training. Noise for a target is found to this part of itself.
LEAST_NOISE, MOST_NOISE, CALIBRATION = 1e-2, 1e5, 1e-4
# How much less noise planned rounds may need than others: tried first, then more of it each time.
NARROWER = 1.1
# Orders beside those of the library, for much noise: there large ones are the best.
ORDERS = [1 + number / 10 for number in range(1, 100)] + list(range(11, 64)) + [128, 256, 512, 1024, 2048, 4096]


@dataclass(frozen=True)
class Mechanism:
    """So many rounds of noise. `noise`: σ over the clip. `rate`: with what probability a unit takes part in a round.

    Raises ValueError for a noise that is not positive, a rate beyond (0, 1], or fewer than no rounds.
    """

    noise: float
    rate: float = 1.0
    rounds: int = 1

    def __post_init__(self) -> None:
        if not (self.noise > 0 and math.isfinite(self.noise) and 0 < self.rate <= 1 and self.rounds >= 0):
            raise ValueError(f"there is no such mechanism: {self}")


def epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """ε of rounds that were planned before the first of them, tight; 0 for none. Raises ValueError unless 0 < δ < 1."""
    _check(delta)
    whole, sampled = _merged(mechanisms)
    if not sampled:
        return _gaussian_epsilon(whole, delta)
    return _planned(whole, tuple(sorted(sampled.items())), delta)


def running_epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """ε of rounds each of which was chosen with the earlier ones in view; 0 for none. Never less than `epsilon`.

    Raises ValueError unless 0 < δ < 1.
    """
    _check(delta)
    whole, sampled = _merged(mechanisms)
    if not whole and not sampled:
        return 0.0
    if not sampled:
        return max(min(_at(order, order * whole * whole / 2, delta) for order in ORDERS), 0.0)
    parts = [(rounds, _divergences(*kind)) for kind, rounds in sampled.items()]
    sums = (
        (order, order * whole * whole / 2 + sum(rounds * part[place] for rounds, part in parts))
        for place, order in enumerate(ORDERS)
    )
    return max(min(_at(order, total, delta) for order, total in sums), 0.0)


def noise_for(target: float, delta: float, rate: float = 1.0, rounds: int = 1) -> float:
    """The least noise with which so many planned rounds have at most this ε.

    Raises ValueError where none does, or for a target that is not positive.
    """
    if not target > 0 or rounds < 1:
        raise ValueError("a target is positive, and there is a round at least")

    def spent(noise: float) -> float:
        return epsilon([Mechanism(noise, rate, rounds)], delta)

    def running(noise: float) -> float:
        return running_epsilon([Mechanism(noise, rate, rounds)], delta)

    if rate == 1 or running(MOST_NOISE) > target:
        if spent(MOST_NOISE) > target:
            raise ValueError("no noise is enough for this")
        return _least(lambda noise: spent(noise) <= target, LEAST_NOISE, MOST_NOISE, CALIBRATION)
    # What is enough for rounds that are chosen as one goes costs little to find, and is a little more than what is
    # enough for planned ones: the tight bound, a second each time, is asked only between the two.
    high = _least(lambda noise: running(noise) <= target, LEAST_NOISE, MOST_NOISE, CALIBRATION)
    low, part = high, NARROWER
    while low > LEAST_NOISE and spent(low) <= target:
        high, low, part = low, max(low / part, LEAST_NOISE), part * part
    return _crossing(spent, target, low, high)


def rounds_left(before: Iterable[Mechanism], each: Mechanism, budget: float, delta: float) -> int:
    """How often the budget is enough for `each` again, as rounds that are chosen as one goes."""
    past = list(before)

    def fits(rounds: int) -> bool:
        return running_epsilon([*past, replace(each, rounds=rounds * each.rounds)], delta) <= budget

    if not fits(1):
        return 0
    most = 1
    while fits(2 * most):
        most *= 2
    least, beyond = most, 2 * most
    while beyond - least > 1:
        middle = (least + beyond) // 2
        least, beyond = (middle, beyond) if fits(middle) else (least, middle)
    return least


def _check(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError("δ lies between 0 and 1")


def _merged(mechanisms: Iterable[Mechanism]) -> tuple[float, Counter[tuple[float, float]]]:
    """All rounds of the rate 1 as one: the square root of the sum of 1/noise²; and how many of each other kind."""
    squares, sampled = 0.0, Counter[tuple[float, float]]()
    for one in mechanisms:
        if one.rate == 1:
            squares += one.rounds / one.noise**2
        elif one.rounds:
            sampled[one.noise, one.rate] += one.rounds
    return math.sqrt(squares), sampled


@lru_cache(maxsize=256)
def _divergences(noise: float, rate: float) -> tuple[float, ...]:
    """The Rényi divergence of one sampled round at each of ORDERS, ∞ where the library does not know it. The first call
    loads the library."""
    from dp_accounting import dp_event  # noqa: PLC0415  (with SciPy half a second and 80 MB; see test_imports)
    from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415

    accountant = RdpAccountant(ORDERS)
    accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)))
    return tuple(float(value) for value in accountant.rdp)


@lru_cache(maxsize=256)
def _planned(whole: float, sampled: Sampled, delta: float) -> float:
    return float(_composed(whole, sampled).get_epsilon(delta))


@lru_cache(maxsize=8)
def _composed(whole: float, sampled: Sampled) -> Any:
    """The library's accountant, with these rounds in it; an ε of it for another δ costs next to nothing."""
    from dp_accounting import dp_event  # noqa: PLC0415
    from dp_accounting.pld import PLDAccountant  # noqa: PLC0415

    # A loss is rounded up, to a part of ε that the bound does not feel: a finer grid for much ε would take minutes.
    together = [Mechanism(noise, rate, rounds) for (noise, rate), rounds in sampled]
    around = running_epsilon([*together, Mechanism(1 / whole)] if whole else together, USUAL_DELTA)
    accountant = PLDAccountant(value_discretization_interval=max(FINEST_LOSS, around * LOSS_SHARE))
    if whole:
        accountant.compose(dp_event.GaussianDpEvent(1 / whole))
    for (noise, rate), rounds in sampled:
        accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)), rounds)
    return accountant


def _at(order: float, divergence: float, delta: float) -> float:
    """ε of a Rényi divergence of this order, by Canonne, Kamath and Steinke (NeurIPS 2020, arXiv:2004.00010,
    proposition 12); 0 where the divergence alone bounds δ."""
    if delta**2 + math.expm1(-divergence) > 0:
        return 0.0
    return divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """ε of one Gaussian mechanism of the sensitivity μ over its standard deviation, by Balle and Wang:
    δ(ε) = Φ(μ/2 - ε/μ) - e^ε·Φ(-μ/2 - ε/μ)."""
    if mu == 0 or _gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    if _gaussian_delta(mu, MOST_EPSILON) > delta:
        return math.inf
    return _least(lambda found: _gaussian_delta(mu, found) <= delta, 0.0, MOST_EPSILON, PRECISION)


def _gaussian_delta(mu: float, found: float) -> float:
    second = _log_normal(-mu / 2 - found / mu)
    return math.exp(_log_normal(mu / 2 - found / mu)) - math.exp(min(found + second, 0.0))


def _log_normal(x: float) -> float:
    """log Φ(x), also far to the left, where Φ itself is too small for a float."""
    if x > -30:
        return math.log(math.erfc(-x / math.sqrt(2)) / 2)
    squared = x * x  # the asymptotic series, whose error is below the first term that is left out
    series = 1 - 1 / squared + 3 / squared**2 - 15 / squared**3
    return -squared / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log(series)


def _crossing(spent: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The least noise between these whose ε is at most the target; `low` has more, `high` has not.

    Over the logarithms ε is nearly a line, so a few steps of the Illinois method (Dowell and Jarratt, BIT 1971) do.
    """

    def over(noise: float) -> float:
        return math.log(max(spent(noise), 1e-300) / target)

    left, right = over(low), over(high)
    if left <= 0:  # not even the least noise is needed
        return low
    while high - low > CALIBRATION * high:
        share = left / (left - right) if math.isfinite(left) else 0.5
        # A little to the side from which the other end has not come near yet, so that both ends meet around the line.
        aside = CALIBRATION / 3 * (1 if abs(left) > abs(right) else -1)
        noise = min(max(low * (high / low) ** share * (1 - aside), low * (1 + CALIBRATION / 3)), high)
        found = over(noise)
        if found > 0:
            low, left, right = noise, found, right / 2
        else:
            high, right, left = noise, found, left / 2
    return high


def _least(enough: Callable[[float], bool], low: float, high: float, precision: float) -> float:
    """The smallest number between these that is enough, not less, and at most this part more."""
    while high - low > precision * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
