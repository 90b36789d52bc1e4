"""Noise that protects: discrete Gaussian, from the operating system's randomness, in whole numbers.

A draw of floating-point noise tells by its last bits what it was added to (Mironov 2012; Jin et al. 2022), and an
exact sampler tells by its time what it drew (ibid.). So numbers are brought to a grid of whole numbers first, and noise
is looked up in a table of the cumulative distribution: a binary search of always the same number of steps for each
draw, over words of a cipher's stream. There is no seed. The discrete Gaussian and what it is worth: Canonne, Kamath,
Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020, arXiv:2004.00010.
"""

from __future__ import annotations

import math
import secrets
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from fedwire.masking import streams

# The table ends where what lies beyond has a probability below 2⁻⁶⁴: at nine standard deviations and a half.
TAIL = 9.5
# Tables larger than this do not stay in the cache; a grid that is finer gains nothing.
MOST_SIGMA = 4096.0
# Of a composition of draws the finer part has a standard deviation of so many steps of the coarser one. The sum is then
# off by less than e⁻³¹⁵, for this is more than twice the smoothing parameter of the whole numbers.
OVERLAP = 4.0
BLOCK = 1 << 16
# Keeps 60 bits of the smallest probability of a table; a power of two, so a float64 loses nothing by it.
_SCALE = 2.0**124


def discrete_gaussian(sigma: float, count: int) -> NDArray[np.int64]:
    """`count` draws of P(x) ∝ exp(-x²/2σ²) over the whole numbers.

    Each draw is within `error_of(σ, 1)` of the distribution in total variation; whoever states a δ adds that of all.
    Raises ValueError for σ beyond (0, MOST_SIGMA].
    """
    if not 0.0 < sigma <= MOST_SIGMA:
        raise ValueError(f"no table for the standard deviation {sigma}")
    table, key = _cumulative(sigma), secrets.token_bytes(streams.KEY_BYTES)
    words = np.zeros(count, "<u8")
    streams.add(words, key)
    found = np.empty(count, np.int64)
    for start in range(0, count, BLOCK):
        stop = start + BLOCK
        found[start:stop] = _looked_up(table, words[start:stop])
    np.minimum(found, 2 * _reach(sigma), out=found)  # the largest word is at most the filling too
    found -= _reach(sigma)
    return found


def _looked_up(table: NDArray[np.uint64], words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many of the table's numbers, one less than a power of two and sorted, are at most each word. The steps are
    the same whatever the words are, which numpy's own search does not promise."""
    place = np.zeros(len(words), np.int64)
    step = (len(table) + 1) // 2
    while step:
        place += step * (table[place + (step - 1)] <= words)
        step //= 2
    return place


def error_of(sigma: float, count: int) -> float:
    """By how much the δ of `count` draws is larger than that of the distribution itself: the table's probabilities are
    those of float64, cut to 64 bits."""
    return count * (2.0**-52 + (2 * _reach(sigma) + 1) * 2.0**-64)


def wide_gaussian(sigma: float, count: int) -> NDArray[np.int64]:
    """`count` draws as `discrete_gaussian` gives them, of any standard deviation up to 2⁵⁰.

    Where there is no table a draw is x₀ + k₁·x₁ + …, each part from a table of its own: if the finer part is wide
    compared with the steps k of the coarser one, the sum is a discrete Gaussian whose variance is that of both together
    (Peikert, CRYPTO 2010; used like this by Micciancio and Walter, "Gaussian Sampling over the Integers", CRYPTO 2017).
    So a grid may be as fine as a ring has bits, and rounding to it costs next to no sensitivity.
    """
    found = np.zeros(count, np.int64)
    for step, part in _parts(sigma):
        found += step * discrete_gaussian(part, count)
    return found


def wide_error_of(sigma: float, count: int) -> float:
    """`error_of` for `wide_gaussian`: the parts' errors add up, and the composition's own is too small to count."""
    return sum(error_of(part, count) for _, part in _parts(sigma))


def furthest(sigma: float) -> int:
    """No draw of `wide_gaussian` is larger than this, nor smaller than its opposite."""
    return sum(step * _reach(part) for step, part in _parts(sigma))


def _parts(sigma: float) -> list[tuple[int, float]]:
    """Steps, and the standard deviation of the draw that is multiplied with each: Σ (step·part)² = σ²."""
    if not 0.0 < sigma <= 2.0**50:
        raise ValueError(f"no noise of the standard deviation {sigma}")
    found = []
    while sigma > MOST_SIGMA:
        step = math.ceil(sigma / MOST_SIGMA)
        found.append((step, math.sqrt((sigma / step) ** 2 - OVERLAP**2)))
        sigma = OVERLAP * step
    return [*found, (1, sigma)]


def _reach(sigma: float) -> int:
    return math.ceil(TAIL * sigma) + 1


@lru_cache(maxsize=8)
def _cumulative(sigma: float) -> NDArray[np.uint64]:
    """For each whole number but the largest, the probability of it and all below, of 2⁶⁴.

    Probabilities are those of float64's exponential function, each within one unit of its last place; from there on all
    is whole numbers. What is above a number is as much as what is below its opposite.
    """
    reach = _reach(sigma)
    weights = np.exp(-(np.arange(reach, -1, -1, dtype=np.float64) ** 2) / (2 * sigma * sigma))  # of -reach … 0
    below = list(accumulate(int(weight) for weight in weights * _SCALE))
    total = 2 * below[-1] - int(_SCALE)
    lower = [(some << 64) // total for some in below[:-1]]  # up to -1
    upper = [2**64 - 1 - some for some in reversed(lower)]
    below_all = [*lower, *upper]
    # Filled up to one less than a power of two with what no word but the very largest reaches.
    filled = below_all + [2**64 - 1] * ((1 << len(below_all).bit_length()) - 1 - len(below_all))
    table: NDArray[np.uint64] = np.array(filled, np.uint64)
    table.flags.writeable = False
    return table
