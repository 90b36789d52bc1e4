"""Adding up masked vectors that lie in files, and what is left of the sum without its masks.

Numbers of a ring are added modulo its size, so neither order nor grouping changes a bit.
"""

from __future__ import annotations

import hashlib
import os
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

    Memory: the sum, 4 or 8 bytes a number, and one block, whatever the number of vectors. Raises OSError.
    """
    word, length = terms.ring.word, terms.parameters + 1
    total, piece = np.zeros(length, word), np.empty(min(BLOCK, length), word)
    for expected, path in vectors:
        if _add(total, path, piece) != expected:
            return expected
        on_vector()
    total.tofile(out)
    return None


def _add(total: NDArray[Any], path: Path, piece: NDArray[Any]) -> str:
    """Add the file's numbers to the sum, through `piece`; its SHA-256, or nothing when it is not there as a whole."""
    sha = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != total.nbytes:
                return ""
            for start in range(0, len(total), len(piece)):
                part = total[start : start + len(piece)]
                read = piece[: len(part)]
                if file.readinto(read.data.cast("B")) != read.nbytes:
                    return ""
                sha.update(read.data)
                np.add(part, read, out=part)
    except FileNotFoundError:
        return ""
    return sha.hexdigest()


def read(terms: Terms, path: Path) -> NDArray[Any]:
    """The sum [P + 1] that `fold` wrote. Raises OSError, EOFError."""
    total = np.fromfile(path, terms.ring.word)
    if len(total) != terms.parameters + 1:
        raise EOFError(f"{path.name} is no sum of this session")
    return total


def write_mean(terms: Terms, total: NDArray[Any], travels: Manifest, out: Path) -> int:
    """Write the weighted mean behind an unmasked sum as an update file; the sum of weights.

    Memory: one block, beside the sum. Raises ValueError when the sum cannot be one of honest vectors.
    """
    weights = terms.ring.weights(total)
    with open(out, "wb") as file:
        file.write(travels.update_header())
        for block in terms.ring.means(total, weights):
            file.write(block.data)
    return weights
