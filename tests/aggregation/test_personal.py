"""Personalization at the server: what stays on devices is neither read nor changed, and devices' reports are merged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedwire import codecs, metrics
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.messages import Evaluation
from fedwire.personal import travelling
from fedwire.tensors import Float32, Manifest, TensorSpec, decode_model, encode_model, encode_update, flatten, unflatten
from fedwire.vectors import vectors_bytes
from tests.aggregation.conftest import Folder
from training.aggregation import own_models, sharding
from training.aggregation.assembly import Digests, Recipe, write_model
from training.aggregation.drift import relative_change
from training.aggregation.layout import BLOCK, TILE, Layout, Range
from training.aggregation.memory import StateFiles
from training.aggregation.own_models import LEAST_ROWS, Reported
from training.aggregation.staying import HEAD, NORMS
from training.aggregation.strategies import FEDAVG, FEDAVGM, STRATEGIES
from training.aggregation.strategies.personal import FEDPER, PERSONAL
from training.aggregation.strategy import Strategy
from training.aggregation.transforms import Update

SMALL = Manifest.of(
    [
        TensorSpec("a", "F32", (2,)),
        TensorSpec("b", "F32", (3,)),
        TensorSpec("c", "F32", (1,)),
        TensorSpec("d", "F32", (2,)),
        TensorSpec("mean", "F32", (2,), "buffer"),
    ]
)
# Pieces that begin and end within tiles and blocks.
LARGE = Manifest.of(
    [
        TensorSpec("a", "F32", (TILE + 7,)),
        TensorSpec("b", "F32", (13,)),
        TensorSpec("c", "F32", (2 * BLOCK + 5,)),
        TensorSpec("d", "F32", (TILE // 2,)),
        TensorSpec("e", "F32", (3,)),
    ]
)


def normal(length: int, seed: int) -> Float32:
    return np.random.default_rng(seed).standard_normal(length).astype(np.float32)


class Made:
    """A base model, updates without what stays, and the next model."""

    def __init__(self, folder: Folder, manifest: Manifest, local: tuple[str, ...], base: Float32) -> None:
        self.folder, self.manifest, self.local = folder, manifest, local
        self.travels = travelling(manifest, local)
        self.base = folder.fresh()
        arrays = {**unflatten(manifest, base), **{spec.name: np.full(spec.shape, 9.0) for spec in manifest.buffers}}
        self.base.write_bytes(encode_model(manifest, arrays))

    def update(self, vector: Float32, samples: int) -> Update:
        content = encode_update(self.travels, unflatten(self.travels, vector))
        path = self.folder.fresh()
        path.write_bytes(content)
        return Update(path, hashlib.sha256(content).hexdigest(), samples)

    def write(
        self, updates: list[Update], threads: int = 1, strategy: Strategy = FEDAVG, state: StateFiles | None = None
    ) -> tuple[dict[str, np.ndarray], Digests, Path]:
        out = self.folder.fresh()
        digests = write_model(
            strategy, strategy.checked({}), manifest=self.manifest, base=self.base, updates=updates, out=out,
            threads=threads, state=state, local=self.local,
        )  # fmt: skip
        return decode_model(out, self.manifest)[1], digests, out


def test_worked_example_of_a_head_that_stays(folder: Folder) -> None:
    base = np.array([1, 2, 10, 20, 30, 100, 7, 8], np.float32)
    made = Made(folder, SMALL, ("b", "d"), base)
    # What travels is (a, c): ¾ of the first and ¼ of the second.
    new, _, _ = made.write(
        [made.update(np.array([4, 0, 8], np.float32), 30), made.update(np.array([0, 4, 0], np.float32), 10)]
    )
    assert new["a"].tolist() == [4, 3]
    assert new["c"].tolist() == [106]
    assert (new["b"].tolist(), new["d"].tolist(), new["mean"].tolist()) == ([10, 20, 30], [7, 8], [9, 9])


@pytest.mark.parametrize("local", [("b",), ("a", "d"), ("b", "d", "e"), ("e",), ("c",)])
def test_what_stays_is_the_bases_bit_for_bit_and_the_rest_is_averaged(folder: Folder, local: tuple[str, ...]) -> None:
    base = normal(LARGE.parameters, 0)
    made = Made(folder, LARGE, local, base)
    rows = [(normal(made.travels.parameters, seed), 10 * seed) for seed in (1, 2, 3)]
    updates = [made.update(vector, samples) for vector, samples in rows]
    new, digests, _ = made.write(updates)
    before = unflatten(LARGE, base)
    exact = flatten(made.travels, before).astype(np.float64)
    exact += sum(vector.astype(np.float64) * (samples / 60) for vector, samples in rows)
    np.testing.assert_allclose(flatten(made.travels, new), exact, atol=1e-6, rtol=1e-6)
    for name in local:
        assert new[name].tobytes() == before[name].tobytes()
    assert made.write(updates[::-1], threads=3)[1] == digests


def test_parts_of_several_workers_leave_the_same_in_place(folder: Folder) -> None:
    made = Made(folder, LARGE, ("b", "d"), normal(LARGE.parameters, 0))
    updates = [made.update(normal(made.travels.parameters, seed), seed) for seed in (1, 2)]
    recipe = Recipe(FEDAVG, FEDAVG.checked({}), LARGE, made.base, updates, local=made.local)
    found = [(within, folder.fresh()) for within in sharding.parts(made.travels.parameters, 3)]
    for within, path in reversed(found):
        sharding.write_part(recipe, [], within, path, 1, lambda: None)
    assert sharding.join(recipe, found, folder.fresh(), 1, lambda: None) == made.write(updates)[1]


def test_what_a_server_remembers_is_as_long_as_what_travels(folder: Folder) -> None:
    made = Made(folder, SMALL, ("b",), np.zeros(SMALL.parameters, np.float32))
    state = StateFiles(None, folder.fresh())
    made.write([made.update(np.ones(5, np.float32), 1)], strategy=FEDAVGM, state=state)
    assert state.out.stat().st_size == vectors_bytes(5, 1) == FEDAVGM.state_bytes(FEDAVGM.checked({}), 5)


def test_codecs_write_what_travels(folder: Folder) -> None:
    made = Made(folder, SMALL, ("b",), np.zeros(SMALL.parameters, np.float32))
    codec = codecs.of({"name": "topk", "kept": 2}, made.travels)
    content = codec.encode(np.array([1, -5, 0, 0, 3], np.float32), codecs.draws(1, 1)).tobytes()
    path, out = folder.fresh(), folder.fresh()
    path.write_bytes(content)
    update = Update(path, hashlib.sha256(content).hexdigest(), 1)
    write_model(
        FEDPER, FEDPER.checked({}), manifest=SMALL, base=made.base, updates=[update], out=out, codec=codec, local=("b",)
    )
    new = decode_model(out, SMALL)[1]
    assert {name: np.rint(new[name]).tolist() for name in "abcd"} == {
        "a": [0, -5],
        "b": [0, 0, 0],
        "c": [0],
        "d": [0, 3],
    }


def test_how_far_a_model_moved_is_of_what_travels(folder: Folder) -> None:
    made = Made(folder, SMALL, ("b", "d"), np.array([3, 4, 1e6, 1e6, 1e6, 0, 1e6, 1e6], np.float32))
    _, _, out = made.write([made.update(np.array([0, 0, 10], np.float32), 1)])
    assert relative_change(SMALL, made.base, out, local=made.local) == pytest.approx(2)


def test_places_of_a_range_are_those_of_its_pieces() -> None:
    layout = Layout.of(SMALL, ("b",))
    start = len(SMALL.model_header())
    found = [(piece.numbers.start, piece.numbers.stop, piece.position - start) for piece in layout.places(Range(1, 4))]
    assert found == [(1, 2, 4), (2, 4, 20)]  # behind the three numbers of b
    assert list(layout.rest()) == [(0, start), (start + 8, start + 20), (start + 32, start + 40)]
    with pytest.raises(ValueError, match="averaged"):
        Layout.of(SMALL, ("a", "b", "c", "d"))


def refusal(pattern: object, staying: object = HEAD, architecture: Architecture | None = None) -> FedportalError:
    with pytest.raises(FedportalError) as refused:
        staying.names(pattern, SMALL, architecture)  # type: ignore[attr-defined]
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", "config.local")
    return refused.value


def test_the_head_is_the_last_layer_unless_a_pattern_says_otherwise() -> None:
    architecture = Architecture.parse({"kind": "mlp", "inputs": 3, "hidden": [4, 5], "standardise": True})
    assert HEAD.names("", architecture.manifest(), architecture) == ("layers.4.bias", "layers.4.weight")
    assert HEAD.names("layers.2.*", architecture.manifest(), architecture) == ("layers.2.bias", "layers.2.weight")
    assert HEAD.names("layers.4.*, standardise.*", architecture.manifest(), architecture) == (
        "layers.4.bias",
        "layers.4.weight",
    )
    assert HEAD.names("a, c, mean", SMALL, None) == ("a", "c", "mean")  # a function of one's own may train buffers


def test_what_cannot_stay_is_refused_with_what_to_do() -> None:
    assert "name its last layer by a pattern" in refusal(None).message
    assert "no batch normalisation" in refusal("", NORMS).message
    assert "no tensor of the model is called like 'z*'" in refusal("z*").message
    assert "nothing would be averaged; name fewer, or take a model of several layers" in refusal("*").message
    for unusable in (7, "a\nb", "x" * 2000):
        assert "a pattern of tensor names" in refusal(unusable).message


def test_every_strategy_of_personalization_says_what_it_needs() -> None:
    assert {strategy.name for strategy in PERSONAL} == {"fedbn", "fedper", "fedrep", "ditto", "finetune"}
    for strategy in PERSONAL:
        assert STRATEGIES[strategy.name] is strategy
        assert strategy.personal
        assert strategy.device_half(strategy.checked({}))["requires"]
        assert (strategy.schema()["local"] is not None) == (strategy.staying is not None)
    assert not any(strategy.personal for name, strategy in STRATEGIES.items() if STRATEGIES[name] not in PERSONAL)


def report(right: int, rows: int, loss: float = 1.0) -> Evaluation:
    """Of so many rows of class 1, `right` are named so."""
    return metrics.evaluation([0.9] * right + [0.1] * (rows - right), [1] * rows, [loss] * rows)


def test_worked_example_of_own_models_beside_the_common_one() -> None:
    found = own_models.compared(
        [
            Reported("acme", "one", report(20, 20), report(20, 20)),
            Reported("acme", "two", report(5, 20), report(18, 20)),
            Reported("metro", "three", report(6, 10), report(9, 10)),
        ]
    )
    assert found["personal"]["overall"]["accuracy"] == 47 / 50
    assert found["personal"]["organizations"]["acme"]["accuracy"] == 38 / 40
    assert found["personal"]["fairness"]["accuracy"]["worst"] == "metro"
    common, own = found["devices"]["common"]["accuracy"], found["devices"]["personal"]["accuracy"]
    assert common == {
        "count": 3, "mean": pytest.approx((1 + 0.25 + 0.6) / 3), "least": 0.25, "most": 1.0, "worst": "two",
        "organization": "acme",
    }  # fmt: skip
    assert (own["least"], own["worst"], own["mean"]) == (0.9, "three", pytest.approx(2.8 / 3))
    assert found["devices"]["common"]["loss"]["worst"] == "one"  # equal values: the first by name


def test_a_device_with_few_rows_counts_in_the_whole_and_is_not_told_of_by_itself() -> None:
    few = Reported("acme", "tiny", report(0, LEAST_ROWS - 1), report(0, LEAST_ROWS - 1))
    found = own_models.compared([few, Reported("acme", "one", report(10, 10), report(10, 10))])
    assert found["personal"]["overall"]["samples"] == 10 + LEAST_ROWS - 1
    assert found["devices"]["personal"]["accuracy"]["worst"] == "one"
    assert "devices" not in own_models.compared([few])
    assert own_models.compared([]) == {}
