"""Adding up masked vectors that lie in files, and what is left of the sum without its masks.

Numbers of a ring are added modulo its size, so neither order nor grouping changes a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire.masking.terms import Terms
from fedwire.tensors import Manifest

# Numbers that are added at a time: they stay in the processor's cache.
BLOCK = 1 << 16


def fold(
    terms: Terms, vectors: Iterable[tuple[str, Path]], out: Path, on_vector: Callable[[], None] = lambda: None
) -> str | None:
    """Write the sum [P + 1] of the vectors (SHA-256, file) to `out`; the first digest whose file is not there, or not
    that: then nothing is written. `on_vector` is called after each, and may raise.

    Memory: the sum, 4 or 8 bytes a number, whatever the number of vectors. Raises OSError.
    """
    word, length = terms.ring.word, terms.parameters + 1
    total = np.zeros(length, word)
    for expected, path in vectors:
        try:
            vector = np.memmap(path, word, "r")
        except (FileNotFoundError, ValueError):  # an empty or cut file cannot be mapped
            return expected
        if len(vector) != length:
            return expected
        sha = hashlib.sha256()
        for start in range(0, length, BLOCK):
            part, piece = total[start : start + BLOCK], vector[start : start + BLOCK]
            sha.update(piece.data)
            np.add(part, piece, out=part)
        if sha.hexdigest() != expected:
            return expected
        on_vector()
    total.tofile(out)
    return None


def read(terms: Terms, path: Path) -> NDArray[Any]:
    """The sum [P + 1] that `fold` wrote. Raises OSError, EOFError."""
    total = np.fromfile(path, terms.ring.word)
    if len(total) != terms.parameters + 1:
        raise EOFError(f"{path.name} is no sum of this session")
    return total


def write_mean(terms: Terms, total: NDArray[Any], travels: Manifest, out: Path) -> int:
    """Write the weighted mean behind an unmasked sum as an update file; the sum of weights.

    Raises ValueError when the sum cannot be one of honest vectors.
    """
    mean, weights = terms.ring.decode(total)
    with open(out, "wb") as file:
        file.write(travels.update_header())
        file.write(mean.data)
    return weights
