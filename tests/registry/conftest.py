"""What the registry's tests share: a store of their own, and files that people push."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from registry import files

Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> Iterator[Path]:
    """An empty data folder; what it holds afterwards can be looked at."""
    settings.FEDPORTAL_DATA_DIR = tmp_path / "data"
    files.manifest_of.cache_clear()
    yield tmp_path / "data"
    files.manifest_of.cache_clear()


def everything_in(folder: Path) -> list[str]:
    """The files below `folder`, by relative path."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def arrays() -> Arrays:
    """A small model as a person has it: weights of several shapes, and a counter."""
    generator = np.random.default_rng(3)
    return {
        "net.weight": generator.normal(size=(4, 3)).astype(np.float32),
        "net.bias": generator.normal(size=4).astype(np.float32),
        "scale": np.array(0.5, np.float32),
        "norm.num_batches_tracked": np.array(12, np.int64),
    }
