"""SCAFFOLD and FedDyn: the server's mean of variates, by hand and in long runs with the device's own arithmetic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fedportal_sdk.variates import feddyn_after, feddyn_shift, scaffold_after, scaffold_shift
from fedwire.codecs import Codec, Float16, Int8, draws
from fedwire.vectors import decode_vector
from tests.aggregation.conftest import Folder, manifest_of
from training.aggregation import variates
from training.aggregation.assembly import write_model
from training.aggregation.memory import StateFiles
from training.aggregation.strategies import FEDAVG, find
from training.aggregation.transforms import Update
from training.aggregation.variates import Cohort

PROPERTY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


@dataclass
class Server:
    """A model of zeros that goes through rounds of a strategy with variates."""

    folder: Folder
    strategy: str
    parameters: dict[str, float]
    weights: np.ndarray
    state: Path | None = None
    known: set[int] = field(default_factory=set)

    def round(self, rows: dict[int, tuple[np.ndarray, int]], threads: int = 1, codec: Codec | None = None) -> str:
        """Updates, or their files with a `codec`, and numbers of steps by device; the digest of the model."""
        found, manifest = find(self.strategy), manifest_of(len(self.weights))
        updates = [
            replace(
                self.folder.update(manifest, update, 1) if codec is None else self.encoded(update),
                reports={"steps": steps},
            )
            for update, steps in rows.values()
        ]
        files = StateFiles(self.state, self.folder.fresh(), Cohort(len(self.known), len(self.known | rows.keys())))
        base, out = self.folder.model(manifest, self.weights), self.folder.fresh()
        values = found.checked(self.parameters)
        digests = write_model(
            found,
            values,
            manifest=manifest,
            base=base,
            updates=updates,
            out=out,
            state=files,
            threads=threads,
            codec=codec,
        )
        self.weights = np.frombuffer(out.read_bytes()[-4 * len(self.weights) :], "<f4")
        self.state, self.known = files.out, self.known | rows.keys()
        return digests.digest + digests.state

    def encoded(self, content: np.ndarray) -> Update:
        """An encoded update as the portal keeps it."""
        path = self.folder.fresh()
        path.write_bytes(content.tobytes())
        return Update(path, hashlib.sha256(content.tobytes()).hexdigest(), 1)

    @property
    def mean(self) -> np.ndarray:
        assert self.state is not None
        return decode_vector(self.state, len(self.weights))


def test_worked_example_of_scaffold(folder: Folder) -> None:
    server = Server(folder, "scaffold", {"learning_rate": 0.5, "server_learning_rate": 2}, f32(0, 0))
    # Two devices, 1 and 4 steps of rate ½: c₁ = -Δ₁/½, c₂ = -Δ₂/2. The model moves by twice the plain mean.
    server.round({1: (f32(1, 0), 1), 2: (f32(4, 8), 4)})
    assert server.weights.tolist() == [5.0, 8.0]
    assert server.mean.tolist() == [(-2 - 2) / 2, (0 - 4) / 2]
    # Device 1 again: c₁ changes by -c - Δ/½ = (2, 2) - (2, 0), the mean of the two by half of that.
    server.round({1: (f32(1, 0), 1)})
    assert server.mean.tolist() == [-2.0, -1.0]
    # A third arrives: of three variates the mean is (2·c + (-c - Δ/½))/3.
    server.round({3: (f32(0, 1), 1)})
    np.testing.assert_allclose(server.mean, [-2 / 3, (-1 - 2) / 3], rtol=1e-6)


def test_worked_example_of_dynamic_regularization(folder: Folder) -> None:
    server = Server(folder, "feddyn", {"alpha": 0.5}, f32(0, 0))
    # h = -½·(mean of Δ) = (-1, -2); w = mean - h/½.
    server.round({1: (f32(4, 0), 1), 2: (f32(0, 8), 1)})
    assert server.mean.tolist() == [-1.0, -2.0]
    assert server.weights.tolist() == [4.0, 8.0]
    # One of the two: h = (-1, -2) - ½·(2, 0)/2, w moves by Δ - h/½.
    server.round({2: (f32(2, 0), 1)})
    assert server.mean.tolist() == [-1.5, -2.0]
    assert server.weights.tolist() == [4 + 2 + 3, 8 + 0 + 4]


@some.composite
def participations(draw: some.DrawFn) -> list[list[int]]:
    """Who of five devices answers in each of a few rounds."""
    return draw(
        some.lists(some.lists(some.integers(0, 4), min_size=1, max_size=5, unique=True), min_size=1, max_size=6)
    )


@PROPERTY
@given(participations(), some.integers(0, 2**32), some.sampled_from(["scaffold", "feddyn"]))
def test_the_server_knows_the_mean_of_what_devices_keep_whoever_takes_part(
    shared_folder: Folder, rounds: list[list[int]], seed: int, strategy: str
) -> None:
    generator = np.random.default_rng(seed)
    server = Server(shared_folder, strategy, {"learning_rate": 0.25} if strategy == "scaffold" else {}, f32(0, 0, 0))
    own: dict[int, np.ndarray] = {}
    for who in rounds:
        rows = {i: (generator.standard_normal(3, dtype=np.float32), int(generator.integers(1, 9))) for i in who}
        common = server.mean.astype(np.float64) if server.state else np.zeros(3)
        for device, (delta, steps) in rows.items():
            before = own.get(device, np.zeros(3))
            if strategy == "scaffold":
                own[device] = scaffold_after(before, common, delta.astype(np.float64), steps, 0.25)
            else:
                own[device] = feddyn_after(before, delta.astype(np.float64), 0.1)
        server.round(rows)
        np.testing.assert_allclose(server.mean, np.mean(list(own.values()), axis=0), atol=2e-5)


@pytest.mark.parametrize("strategy", ["scaffold", "feddyn"])
@pytest.mark.parametrize("codec", [Int8(3), Float16(3)], ids=lambda codec: codec.name)
def test_the_server_knows_the_mean_also_where_updates_are_encoded(folder: Folder, strategy: str, codec: Codec) -> None:
    generator = np.random.default_rng(1)
    server = Server(folder, strategy, {"learning_rate": 0.25} if strategy == "scaffold" else {}, f32(0, 0, 0))
    own: dict[int, np.ndarray] = {}
    for number, who in enumerate(([0, 1, 2], [1], [0, 3], [2, 3, 1])):
        common = server.mean.astype(np.float64) if server.state else np.zeros(3)
        rows = {}
        for device in who:
            written = codec.encode(generator.standard_normal(3, dtype=np.float32), draws(device, number))
            read, before = codec.decode(written).astype(np.float64), own.get(device, np.zeros(3))
            rows[device] = (written, device + 1)
            if strategy == "scaffold":
                own[device] = scaffold_after(before, common, read, device + 1, 0.25)
            else:
                own[device] = feddyn_after(before, read, 0.1)
        server.round(rows, codec=codec)
        np.testing.assert_allclose(server.mean, np.mean(list(own.values()), axis=0), atol=2e-5)


def test_threads_and_order_leave_no_trace_in_encoded_updates_either(folder: Folder) -> None:
    codec = Int8((1 << 20) + 5)
    numbers = np.random.default_rng(0)
    rows = {
        i: (codec.encode(numbers.standard_normal(codec.numbers, dtype=np.float32), draws(i, 1)), i + 1)
        for i in range(3)
    }
    for strategy in ("scaffold", "feddyn"):
        forward, backward = (Server(folder, strategy, {}, np.zeros(codec.numbers, np.float32)) for _ in range(2))
        for _ in range(2):
            digest = forward.round(rows, codec=codec)
            assert digest == backward.round(dict(reversed(rows.items())), threads=3, codec=codec)


def test_threads_and_order_leave_no_trace(folder: Folder) -> None:
    length = 3 << 20
    generator = np.random.default_rng(0)
    rows = {i: (generator.standard_normal(length, dtype=np.float32), i + 1) for i in range(3)}
    for strategy in ("scaffold", "feddyn"):
        forward, backward = (Server(folder, strategy, {}, np.zeros(length, np.float32)) for _ in range(2))
        for _ in range(2):
            digest = forward.round(rows)
            assert digest == backward.round(dict(reversed(rows.items())), threads=3)


# -- long runs on quadratics: device i minimises Σ aᵢ·(x - bᵢ)²/2 by gradient descent, exactly

CURVES = np.array([[1.0, 4.0], [3.0, 0.5], [0.2, 2.0]])
PLACES = np.array([[0.0, 1.0], [5.0, -3.0], [-2.0, 0.5]])
STEPS = (3, 10, 6)
RATE = 0.05
OPTIMUM = (CURVES * PLACES).sum(axis=0) / CURVES.sum(axis=0)


def trained(device: int, start: np.ndarray, shift: np.ndarray, steps: int, pull: float = 0.0) -> np.ndarray:
    """The update of one device."""
    x = start
    for _ in range(steps):
        x = x - RATE * (CURVES[device] * (x - PLACES[device]) + pull * (x - start) + shift)
    return x - start


def weights_of(strategy: str, **parameters: float) -> Sequence[float]:
    found = find(strategy)
    updates = [Update(Path("unread"), str(i), 1, 1.0, {"steps": steps}) for i, steps in enumerate(STEPS)]
    return found.weights(updates, found.checked(parameters))


def folded(folding: variates.Folding, state: np.ndarray, deltas: np.ndarray, first: bool) -> np.ndarray:
    updates = [Update(Path("unread"), str(i), 1, 1.0, {"steps": steps}) for i, steps in enumerate(STEPS)]
    fold = folding(updates, Cohort(0 if first else 3, 3))
    return fold.keep * state + np.asarray(fold.weights) @ deltas


def test_scaffold_reaches_the_optimum_where_averaging_stalls() -> None:
    averaged = np.zeros(2)
    for _ in range(600):
        deltas = np.stack([trained(i, averaged, np.zeros(2), steps) for i, steps in enumerate(STEPS)])
        averaged = averaged + np.asarray(weights_of("fedavg")) @ deltas
    assert np.abs(averaged - OPTIMUM).max() > 0.05

    x, common, own = np.zeros(2), np.zeros(2), np.zeros((3, 2))
    for number in range(600):
        shifts = [scaffold_shift(own[i], common) for i in range(3)]
        deltas = np.stack([trained(i, x, shifts[i], steps) for i, steps in enumerate(STEPS)])
        own = np.stack([scaffold_after(own[i], common, deltas[i], steps, RATE) for i, steps in enumerate(STEPS)])
        common = folded(variates.scaffold(RATE), common, deltas, number == 0)
        np.testing.assert_allclose(common, own.mean(axis=0), atol=1e-9)
        x = x + np.asarray(weights_of("scaffold")) @ deltas
    np.testing.assert_allclose(x, OPTIMUM, atol=1e-6)


def test_scaffold_keeps_the_gradients_of_the_steps() -> None:
    """cᵢ⁺ is the mean of the gradients on the way, whatever the variates were before."""
    generator = np.random.default_rng(4)
    own, common, start = generator.standard_normal((3, 2))
    delta = trained(1, start, scaffold_shift(own, common), 7)
    x, gradients = start, []
    for _ in range(7):
        gradients.append(CURVES[1] * (x - PLACES[1]))
        x = x - RATE * (gradients[-1] + common - own)
    np.testing.assert_allclose(scaffold_after(own, common, delta, 7, RATE), np.mean(gradients, axis=0), rtol=1e-9)


def test_dynamic_regularization_reaches_the_optimum() -> None:
    alpha, x, h, own = 0.5, np.zeros(2), np.zeros(2), np.zeros((3, 2))
    for number in range(400):
        deltas = np.stack([trained(i, x, feddyn_shift(own[i]), 400, alpha) for i in range(3)])
        own = np.stack([feddyn_after(own[i], deltas[i], alpha) for i in range(3)])
        h = folded(variates.feddyn(alpha), h, deltas, number == 0)
        x = x + deltas.mean(axis=0) - h / alpha
    np.testing.assert_allclose(x, OPTIMUM, atol=1e-6)


def read_back(codec: Codec, deltas: np.ndarray, number: int) -> np.ndarray:
    """What the portal reads of these updates."""
    return np.stack(
        [codec.decode(codec.encode(one.astype(np.float32), draws(i, number))) for i, one in enumerate(deltas)]
    ).astype(np.float64)


@pytest.mark.parametrize("codec", [Int8(2), Float16(2)], ids=lambda codec: codec.name)
def test_encoded_updates_reach_the_optimum_too(codec: Codec) -> None:
    x, common, own = np.zeros(2), np.zeros(2), np.zeros((3, 2))
    for number in range(600):
        shifts = [scaffold_shift(own[i], common) for i in range(3)]
        deltas = np.stack([trained(i, x, shifts[i], steps) for i, steps in enumerate(STEPS)])
        sent = read_back(codec, deltas, number)
        own = np.stack([scaffold_after(own[i], common, sent[i], steps, RATE) for i, steps in enumerate(STEPS)])
        common = folded(variates.scaffold(RATE), common, sent, number == 0)
        x = x + np.asarray(weights_of("scaffold")) @ sent
    np.testing.assert_allclose(x, OPTIMUM, atol=1e-5)

    alpha, x, h, own = 0.5, np.zeros(2), np.zeros(2), np.zeros((3, 2))
    for number in range(400):
        deltas = np.stack([trained(i, x, feddyn_shift(own[i]), 400, alpha) for i in range(3)])
        sent = read_back(codec, deltas, number)
        own = np.stack([feddyn_after(own[i], sent[i], alpha) for i in range(3)])
        h = folded(variates.feddyn(alpha), h, sent, number == 0)
        x = x + sent.mean(axis=0) - h / alpha
    np.testing.assert_allclose(x, OPTIMUM, atol=1e-5)


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_strategies_with_variates_say_what_they_need(name: str) -> None:
    strategy = find(name)
    assert strategy.needs_device_state
    assert strategy.device_half(strategy.checked({}))["requires"] == [name]
    assert "momentum" not in find("scaffold").checked({})
    assert not FEDAVG.needs_device_state
