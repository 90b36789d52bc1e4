"""The arithmetic of an edge: the same as if its devices had taken part one by one."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedportal_sdk.edge import combine
from fedportal_sdk.edge.combine import Piece, fold, mean_of
from fedwire.errors import FedportalError
from training.aggregation import strategies
from training.aggregation.transforms import Update

HEAD = b"head" * 16


def piece(folder: Path, values: object, samples: int, **reports: float) -> Piece:
    """An update in a file, named by its digest."""
    content = HEAD + np.asarray(values, "<f4").tobytes()
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}-{samples}"
    path.write_bytes(content)
    return Piece(path, digest, samples, reports)


def folded(pieces: list[Piece], length: int) -> np.ndarray:
    out = np.full(length, np.nan, "<f4")
    fold(mean_of(pieces), len(HEAD), out)
    return out


def test_a_worked_example(tmp_path: Path) -> None:
    pieces = [piece(tmp_path, [1, 2, -4], 10), piece(tmp_path, [5, 2, 0], 30)]
    assert folded(pieces, 3).tolist() == [4, 2, -1]
    assert mean_of(pieces).samples == 40


def test_the_order_of_arrival_leaves_no_trace(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    pieces = [piece(tmp_path, draw.normal(size=100) * 10.0**n, 7 + n) for n in range(4)]
    results = {folded(list(order), 100).tobytes() for order in itertools.permutations(pieces)}
    assert len(results) == 1


def test_tiles_and_files_beyond_those_kept_open_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    pieces = [piece(tmp_path, draw.normal(size=1000), 5 + n) for n in range(5)]
    whole = folded(pieces, 1000)
    monkeypatch.setattr(combine, "TILE", 64)
    monkeypatch.setattr(combine, "MOST_OPEN", 2)
    assert folded(pieces, 1000).tobytes() == whole.tobytes()


def test_sums_are_rounded_once(tmp_path: Path) -> None:
    """In float32 the small number would be lost beside the large ones, and products would be rounded too."""
    pieces = [piece(tmp_path, [1e8], 1), piece(tmp_path, [1.0], 1), piece(tmp_path, [-1e8], 1)]
    assert folded(pieces, 1)[0] == np.float32(1 / 3)
    rows = np.random.default_rng(5).normal(size=(3, 500)).astype("<f4").astype("f8")
    exact = (7 * rows[0] + 11 * rows[1] + 13 * rows[2]) / 31
    found = folded([piece(tmp_path, row, n) for row, n in zip(rows, (7, 11, 13), strict=True)], 500)
    assert np.count_nonzero(found != exact.astype("<f4")) <= 1  # where float64 itself is in doubt


def test_a_mean_that_is_no_number_is_refused(tmp_path: Path) -> None:
    most = float(np.finfo(np.float32).max)
    with pytest.raises(FedportalError) as caught:
        folded(
            [piece(tmp_path, [most], 1, normaliser=1.0, steps=1), piece(tmp_path, [-most], 1, normaliser=9, steps=9)], 1
        )
    assert caught.value.code == "not_finite"


def test_a_file_that_is_too_short_is_no_update(tmp_path: Path) -> None:
    short = piece(tmp_path, [1, 2], 1)
    with pytest.raises(OSError, match="ends before"):
        folded([short], 3)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", ["fedavg", "fednova"])
def test_an_edge_before_the_portal_changes_nothing(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Σ wᵢ·Δᵢ by the portal's own weights: of all devices, and of an edge's mean beside the others."""
    folder = tmp_path_factory.mktemp("pieces")
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count = data.draw(st.integers(2, 6))
    behind = data.draw(st.integers(1, count))
    steps = [data.draw(st.integers(1, 40)) for _ in range(count)]
    pieces = []
    for tau in steps:
        reports = {"steps": tau, "normaliser": tau * 1.5} if name == "fednova" else {}
        pieces.append(piece(folder, draw.normal(size=8), data.draw(st.integers(1, 500)), **reports))
    flat = portals(name, pieces, 8)
    mean = mean_of(pieces[:behind])
    out = np.empty(8, "<f4")
    fold(mean, len(HEAD), out)
    edge = piece(folder, out, mean.samples, **mean.reports)
    np.testing.assert_allclose(portals(name, [edge, *pieces[behind:]], 8), flat, rtol=2e-5, atol=2e-6)


def portals(name: str, pieces: list[Piece], length: int) -> np.ndarray:
    """What the portal's strategy makes of these updates."""
    strategy = strategies.find(name)
    updates = [Update(one.path, one.sha256, one.samples, None, one.reports) for one in pieces]
    weights = strategy.weights(updates, strategy.checked({}))
    rows = [np.frombuffer(one.path.read_bytes()[len(HEAD) :], "<f4").astype("f8") for one in pieces]
    total = np.zeros(length)
    for weight, row in zip(weights, rows, strict=True):
        total += weight * row
    return total
