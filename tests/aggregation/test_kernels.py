"""Where the work is cut, and rows read side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.aggregation.kernels import Rows, Truncated, Vector
from training.aggregation.layout import BLOCK, TILE, Range, block_length


@pytest.mark.parametrize("length", [1, TILE - 1, TILE, 5 * TILE + 3, BLOCK, 20 * BLOCK + 7, 900 * BLOCK])
def test_blocks_are_whole_tiles_and_where_there_are_as_many_sixteen_of_them(length: int) -> None:
    block = block_length(length)
    assert block % TILE == 0
    assert TILE <= block <= BLOCK
    assert block == TILE or length // block >= 16


def test_rows_side_by_side_are_what_the_files_hold(tmp_path: Path) -> None:
    content = np.arange(30, dtype=np.float32).reshape(3, 10)
    vectors = []
    for number, row in enumerate(content):
        path = tmp_path / str(number)
        path.write_bytes(b"head" + row.tobytes())
        vectors.append(Vector(path, 4, 10))
    rows = Rows(vectors, [1.0] * 3, 10)
    assert rows.matrix(Range(2, 5)).tolist() == content[:, 2:5].tolist()
    assert rows.matrix(Range(0, 10)).tolist() == content.tolist()
    assert rows.matrix(Range(9, 10)).tolist() == content[:, 9:].tolist()
    with pytest.raises(Truncated):
        rows.matrix(Range(5, 12))
