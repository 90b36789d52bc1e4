"""Server optimizers by hand, against float64, and what they remember from round to round."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fedwire.errors import FedportalError
from fedwire.tensors import parse_header
from tests.aggregation.conftest import Folder, Rows, manifest_of
from training.aggregation.assembly import write_weights
from training.aggregation.layout import BLOCK, TILE
from training.aggregation.memory import StateFiles
from training.aggregation.strategies import FEDAVG, find

PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ADAPTIVE = ("fedadam", "fedadagrad", "fedyogi")
ALL = ("fedavgm", *ADAPTIVE)
Vectors = list[np.ndarray]
Step = Callable[[np.ndarray, Vectors, dict[str, float]], tuple[np.ndarray, Vectors]]


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def vectors_in(path: Path) -> list[list[float]]:
    """The state vectors of a file."""
    content = path.read_bytes()
    found, start = parse_header(content, total=len(content))
    return np.frombuffer(content, "<f4", offset=start).reshape(len(found.tensors), -1).tolist()


class Server:
    """A model that goes through rounds, with what its strategy remembers."""

    def __init__(self, folder: Folder, strategy: str, base: np.ndarray, threads: int = 1, **parameters: float) -> None:
        self.folder, self.strategy, self.parameters = folder, find(strategy), parameters
        self.weights, self.threads = base, threads
        self.state: Path | None = None
        self.digests: list[tuple[str, str]] = []

    def round(self, *rows: tuple[np.ndarray, int]) -> list[float]:
        files = StateFiles(self.state, self.folder.fresh())
        self.weights, digests, _ = self.folder.aggregate(
            self.weights, rows, strategy=self.strategy, state=files, threads=self.threads, **self.parameters
        )
        assert digests.state == hashlib.sha256(files.out.read_bytes()).hexdigest()
        self.state = files.out
        self.digests.append((digests.digest, digests.state))
        return self.weights.tolist()


# -- by hand


def test_worked_example_of_momentum(folder: Folder) -> None:
    server = Server(folder, "fedavgm", f32(10, 20), server_learning_rate=0.5, server_momentum=0.5)
    # m = (4, -8): half of it is added; then m = (2, -4) + (2, 0).
    assert server.round((f32(4, -8), 7)) == [12.0, 16.0]
    assert server.round((f32(2, 0), 7)) == [14.0, 14.0]
    assert vectors_in(server.state) == [[4.0, -4.0]]


def test_worked_example_of_adagrad(folder: Folder) -> None:
    # v begins at τ² = 1/4. Δ = 3/2: v = 1/4 + 9/4 = 10/4.
    server = Server(folder, "fedadagrad", f32(0), tau=0.5, server_learning_rate=1)
    (first,) = server.round((f32(1.5), 1))
    assert first == pytest.approx(1.5 / (2.5**0.5 + 0.5), rel=1e-6)
    # Δ = 1/2 √6: v = 2.5 + 1.5 = 4, the step is Δ / 2.5.
    (second,) = server.round((f32(1.5**0.5), 1))
    assert second - first == pytest.approx(1.5**0.5 / 2.5, rel=1e-6)
    assert vectors_in(server.state)[1] == pytest.approx([4.0])


def test_worked_example_of_adam(folder: Folder) -> None:
    # β₁ = β₂ = 1/2, τ = 1: v = (1 + 7)/2 = 4, m = √7/2, the step is m / (2 + 1). No bias is corrected.
    server = Server(folder, "fedadam", f32(0), tau=1, server_learning_rate=1, beta1=0.5, beta2=0.5)
    (first,) = server.round((f32(7**0.5), 1))
    assert first == pytest.approx(7**0.5 / 2 / 3, rel=1e-6)
    assert vectors_in(server.state)[1] == pytest.approx([4.0])


def test_worked_example_of_yogi(folder: Folder) -> None:
    # v = 1, Δ² = 4: v grows by (1-β₂)·4 = 1 to 2; then Δ² = 1: v falls by (1-β₂)·1.
    server = Server(folder, "fedyogi", f32(0), tau=1, server_learning_rate=1, beta1=0, beta2=0.75)
    (first,) = server.round((f32(2), 1))
    assert first == pytest.approx(2 / (2**0.5 + 1), rel=1e-6)
    (second,) = server.round((f32(1), 1))
    assert second - first == pytest.approx(1 / (1.75**0.5 + 1), rel=1e-6)


@pytest.mark.parametrize("strategy", ALL)
def test_an_update_of_zeros_after_the_first_round_leaves_the_model_as_it_is(folder: Folder, strategy: str) -> None:
    server = Server(folder, strategy, f32(1, -2, 3))
    assert server.round((f32(0, 0, 0), 5)) == [1.0, -2.0, 3.0]


def test_momentum_without_momentum_is_federated_averaging_to_the_bit(folder: Folder) -> None:
    generator = np.random.default_rng(3)
    base = generator.standard_normal(500, dtype=np.float32)
    rows = [(generator.standard_normal(500, dtype=np.float32), n) for n in (3, 4, 50)]
    plain = folder.aggregate(base, rows, strategy=FEDAVG)[1]
    server = Server(folder, "fedavgm", base, server_momentum=0, server_learning_rate=1)
    server.round(*rows)
    assert server.digests[0][0] == plain.digest


# -- against the formulas in float64


def momentum(delta: np.ndarray, state: Vectors, p: dict[str, float]) -> tuple[np.ndarray, Vectors]:
    m = p["server_momentum"] * state[0] + delta
    return p["server_learning_rate"] * m, [m]


def adaptive(moment: Callable[[np.ndarray, np.ndarray, dict[str, float]], np.ndarray]) -> Step:
    def step(delta: np.ndarray, state: Vectors, p: dict[str, float]) -> tuple[np.ndarray, Vectors]:
        m = p["beta1"] * state[0] + (1 - p["beta1"]) * delta
        v = moment(state[1], delta**2, p)
        return p["server_learning_rate"] * m / (np.sqrt(v) + p["tau"]), [m, v]

    return step


STEPS: dict[str, Step] = {
    "fedavgm": momentum,
    "fedadagrad": adaptive(lambda v, square, p: v + square),
    "fedadam": adaptive(lambda v, square, p: p["beta2"] * v + (1 - p["beta2"]) * square),
    "fedyogi": adaptive(lambda v, square, p: v - (1 - p["beta2"]) * square * np.sign(v - square)),
}


def plain(strategy: str, base: np.ndarray, rounds: Sequence[Rows], given: dict[str, float]) -> np.ndarray:
    """The model after these rounds, computed in float64."""
    p = find(strategy).checked(given)
    weights = base.astype(np.float64)
    state = [np.zeros_like(weights), np.full_like(weights, p.get("tau", 0) ** 2)]
    for rows in rounds:
        total = sum(samples for _, samples in rows)
        delta = sum(vector.astype(np.float64) * samples / total for vector, samples in rows)
        move, state = STEPS[strategy](np.asarray(delta), state, p)
        weights = weights + move
    return weights


@some.composite
def histories(draw: some.DrawFn) -> tuple[np.ndarray, list[Rows]]:
    """A base and the updates of one to four rounds, of the size that training gives."""
    generator = np.random.default_rng(draw(some.integers(0, 2**32)))
    length, scale = draw(some.integers(1, 30)), draw(some.sampled_from([1e-3, 0.1, 3.0]))
    vector = lambda: (scale * generator.standard_normal(length)).astype(np.float32)  # noqa: E731
    rounds = [
        [(vector(), int(generator.integers(1, 10_000))) for _ in range(draw(some.integers(1, 4)))]
        for _ in range(draw(some.integers(1, 4)))
    ]
    return vector(), rounds


@PROPERTY
@given(some.sampled_from(ALL), histories(), some.floats(0.01, 1), some.sampled_from([0.0, 0.5, 0.9]))
def test_rounds_are_those_of_the_formula(
    shared_folder: Folder, strategy: str, history: tuple, rate: float, share: float
) -> None:
    base, rounds = history
    name = "server_momentum" if strategy == "fedavgm" else "beta1"
    given_values = {"server_learning_rate": rate, name: share}
    server = Server(shared_folder, strategy, base, **given_values)
    for rows in rounds:
        server.round(*rows)
    np.testing.assert_allclose(server.weights, plain(strategy, base, rounds, given_values), rtol=2e-6, atol=2e-6)


@PROPERTY
@given(histories(), some.floats(0.01, 1))
def test_no_coordinate_moves_further_than_the_rate_where_nothing_is_remembered(
    shared_folder: Folder, history: tuple, rate: float
) -> None:
    """With β₁ = 0, |Δ| / (√v + τ) < 1 for Adagrad, whose v holds Δ²."""
    base, rounds = history
    server = Server(shared_folder, "fedadagrad", base, server_learning_rate=rate, beta1=0)
    for rows in rounds:
        before = server.weights.astype(np.float64)
        server.round(*rows)
        assert (np.abs(server.weights - before) <= rate * (1 + 1e-5) + 1e-6).all()


# -- the same whatever happens


@pytest.mark.parametrize("strategy", ALL)
def test_threads_and_order_leave_no_trace_in_model_and_state(folder: Folder, strategy: str) -> None:
    length = 2 * BLOCK + TILE + 7
    generator = np.random.default_rng(0)
    base = generator.standard_normal(length, dtype=np.float32)
    rows = [(generator.standard_normal(length, dtype=np.float32), int(n)) for n in generator.integers(1, 1000, 3)]
    seen = set()
    for threads, order in ((1, rows), (3, rows[::-1])):
        server = Server(folder, strategy, base, threads=threads)
        server.round(*order)
        server.round(*order)
        seen.add(tuple(server.digests))
    assert len(seen) == 1


def test_a_round_computed_again_gives_the_same_bytes(folder: Folder) -> None:
    base, rows = f32(1, 2, 3), [(f32(0.1, -0.2, 0.3), 3), (f32(1, 1, -1), 9)]
    server = Server(folder, "fedyogi", base)
    server.round(*rows)
    before, weights = server.state, server.weights
    server.round(*rows)
    server.state, server.weights = before, weights
    server.round(*rows)
    assert server.digests[1] == server.digests[2]


def test_a_second_moment_that_overflows_is_refused_although_the_model_would_stay_finite(folder: Folder) -> None:
    with pytest.raises(FedportalError) as refused:
        Server(folder, "fedadagrad", f32(0, 0)).round((f32(1e30, 0), 1))
    assert refused.value.code == "not_finite"


def test_a_strategy_that_remembers_needs_a_file_for_it(folder: Folder) -> None:
    with pytest.raises(ValueError, match="remembers"):
        folder.aggregate(f32(1), [(f32(1), 1)], strategy=find("fedadam"))


def test_a_strategy_that_remembers_nothing_writes_no_state(folder: Folder) -> None:
    files = StateFiles(None, folder.fresh())
    digests = folder.aggregate(f32(1), [(f32(1), 1)], state=files)[1]
    assert digests.state == ""
    assert not files.out.exists()
    assert FEDAVG.state_bytes(FEDAVG.checked({}), 10) == 0


def test_memory_does_not_grow_with_what_is_remembered(folder: Folder) -> None:
    vector = np.ones(8 * BLOCK, np.float32)
    server = Server(folder, "fedadam", vector)
    server.round((vector, 1))
    manifest, files = manifest_of(len(vector)), StateFiles(server.state, folder.fresh())
    base, updates = folder.model(manifest, vector), [folder.update(manifest, vector, 1)]
    values = server.strategy.checked({})
    tracemalloc.start()
    try:
        write_weights(server.strategy, values, manifest, base, updates, folder.fresh(), state=files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < vector.nbytes / 8


@pytest.mark.parametrize("strategy", ALL)
def test_the_length_of_the_state_is_known_before_it_is_written(folder: Folder, strategy: str) -> None:
    server = Server(folder, strategy, np.zeros(100, np.float32))
    server.round((np.ones(100, np.float32), 1))
    assert server.state is not None
    assert server.state.stat().st_size == server.strategy.state_bytes(server.strategy.checked({}), 100)
