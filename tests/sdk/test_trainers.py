"""Local training: right gradients, the same numbers as torch, the same bits every time."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedportal_sdk.trainers import DenseTrainer, Plan, norms, trainer_for
from fedportal_sdk.trainers.torch import TorchTrainer, arrays_of, build, state_dict_of
from fedwire import metrics
from fedwire.architectures import MEAN, STD, Architecture, Norm
from fedwire.errors import FedportalError
from fedwire.tensors import flatten, unflatten

torch = pytest.importorskip("torch")

SPECS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "inputs": 5},
    "logistic": {"kind": "logistic", "inputs": 5},
    "three classes": {"kind": "logistic", "inputs": 5, "classes": 3},
    "mlp": {"kind": "mlp", "inputs": 5, "hidden": [7, 4]},
    "mlp of twelve layers": {"kind": "mlp", "inputs": 5, "hidden": [4] * 5, "classes": 4},
    "mlp with batch normalisation": {"kind": "mlp", "inputs": 5, "hidden": [7, 4], "classes": 3, "batch_norm": True},
    "cnn": {"kind": "cnn", "inputs": [2, 8, 8], "channels": [3, 4], "hidden": [6], "classes": 3},
    "cnn of two classes": {"kind": "cnn", "inputs": [1, 4, 4], "channels": [2], "classes": 2, "standardise": True},
    "cnn with batch normalisation": {
        "kind": "cnn",
        "inputs": [2, 8, 8],
        "channels": [3],
        "hidden": [6],
        "classes": 3,
        "batch_norm": True,
    },
}
DENSE = [name for name in SPECS if not name.startswith("cnn")]
PLAIN = [name for name in DENSE if "normalisation" not in name]
NORMED = [name for name in SPECS if "normalisation" in name]


def quiet(epoch: int, epochs: int) -> None:
    """A tick that does nothing."""


def example(spec: dict[str, Any], rows: int = 40) -> tuple[Architecture, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """An architecture, random weights, rows and labels that can be learned."""
    architecture = Architecture.parse(spec)
    random = np.random.default_rng(5)
    arrays = {
        name: (array + 0.3 * random.normal(size=array.shape)).astype(np.float32) if name.startswith("layers") else array
        for name, array in architecture.initial(1).items()
    }
    x = random.normal(size=(rows, architecture.inputs)).astype(np.float32)
    signal = x[:, 0] + 0.5 * x[:, 1]
    if architecture.kind == "linear":
        return architecture, arrays, x, (3 * signal + 1).astype(np.float32)
    cuts = np.quantile(signal, np.linspace(0, 1, architecture.classes + 1)[1:-1])
    return architecture, arrays, x, np.searchsorted(cuts, signal).astype(np.int64)


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    architecture, arrays, x, y = example(SPECS[name], rows=9)
    trainer = DenseTrainer(architecture)
    flat = flatten(trainer.manifest, arrays).astype(np.float64)
    rows = x.astype(np.float64)
    analytic = trainer.gradient(flat, rows, y)
    step = 1e-6
    for index in range(len(flat)):
        shift = np.zeros_like(flat)
        shift[index] = step
        slope = (trainer.mean_loss(flat + shift, rows, y) - trainer.mean_loss(flat - shift, rows, y)) / (2 * step)
        assert analytic[index] == pytest.approx(slope, abs=1e-7, rel=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_the_torch_module_has_exactly_the_manifests_tensors(name: str) -> None:
    for standardise in (False, True):
        architecture = Architecture.parse({**SPECS[name], "standardise": standardise})
        state = build(architecture).state_dict()
        wanted = {spec.name: spec.shape for spec in architecture.manifest().tensors}
        assert {key: tuple(value.shape) for key, value in state.items()} == wanted


@pytest.mark.parametrize("name", DENSE)
def test_numpy_and_torch_say_the_same(name: str) -> None:
    architecture, arrays, x, y = example(SPECS[name])
    dense, other = DenseTrainer(architecture), TorchTrainer(architecture, "cpu")
    np.testing.assert_allclose(dense.forward(arrays, x), other.forward(arrays, x), atol=1e-5)
    np.testing.assert_allclose(dense.losses(arrays, x, y), other.losses(arrays, x, y), atol=1e-5)
    ours, theirs = (metrics.ratios(trainer.evaluate(arrays, x, y)) for trainer in (dense, other))
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert ours["accuracy"] == theirs["accuracy"]


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("extra", [{}, {"momentum": 0.9, "weight_decay": 0.01}])
def test_numpy_and_torch_train_alike(name: str, extra: dict[str, float]) -> None:
    architecture, arrays, x, y = example(SPECS[name])
    plan = Plan(epochs=3, learning_rate=0.05, batch_size=16, seed=7, **extra)
    ours = DenseTrainer(architecture).train(arrays, x, y, plan, quiet)
    theirs = TorchTrainer(architecture, "cpu").train(arrays, x, y, plan, quiet)
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key], atol=2e-5, err_msg=key)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("plan", [{"mu": 0.7}, {"mu": 2.0, "momentum": 0.5, "weight_decay": 0.01}, {}])
def test_numpy_and_torch_are_held_and_shifted_alike(name: str, plan: dict[str, float]) -> None:
    architecture, arrays, x, y = example(SPECS[name])
    shift = np.random.default_rng(2).standard_normal(architecture.manifest().parameters).astype(np.float32) / 10
    asked = Plan(epochs=3, learning_rate=0.05, batch_size=16, seed=7, **plan)
    ours = DenseTrainer(architecture).train(arrays, x, y, asked, quiet, shift)
    theirs = TorchTrainer(architecture, "cpu").train(arrays, x, y, asked, quiet, shift)
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key], atol=2e-5, err_msg=key)


@pytest.mark.parametrize("name", ["logistic", "cnn"])
def test_a_step_is_the_gradient_plus_pull_plus_shift(name: str) -> None:
    """Two full-batch steps: the first is not pulled, because it begins at w₀."""
    architecture, arrays, x, y = example(SPECS[name])
    trainer, manifest = trainer_for(architecture), architecture.manifest()
    shift = np.linspace(-1, 1, manifest.parameters).astype(np.float32)

    def after(**plan: Any) -> np.ndarray:
        asked = Plan(learning_rate=0.1, batch_size=len(x), **{"epochs": 1, **plan})
        return flatten(manifest, trainer.train(arrays, x, y, asked, quiet, shift)).astype(np.float64)

    def step(start: np.ndarray) -> np.ndarray:
        named = {**arrays, **unflatten(manifest, start.astype(np.float32))}
        asked = Plan(learning_rate=0.1, batch_size=len(x))
        return start - flatten(manifest, trainer.train(named, x, y, asked, quiet))

    start = flatten(manifest, arrays).astype(np.float64)
    first = start - step(start) - 0.1 * shift
    np.testing.assert_allclose(after(mu=3.0), first, atol=1e-6)
    second = first - step(first) - 0.1 * (3.0 * (first - start) + shift)
    np.testing.assert_allclose(after(mu=3.0, epochs=2), second, atol=2e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize(("rows", "epochs", "batch"), [(1, 1, 1), (10, 3, 4), (100, 2, 100)])
def test_the_normaliser_counts_how_often_each_gradient_counts(
    momentum: float, rows: int, epochs: int, batch: int
) -> None:
    plan = Plan(epochs=epochs, batch_size=batch, momentum=momentum)
    steps = sum(1 for _ in plan.batches(rows, quiet))
    assert plan.steps(rows) == steps
    # Gradients of 1: the velocity grows, and the weight moves by the sum of the velocities.
    velocity = moved = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1
        moved += velocity
    assert plan.normaliser(rows) == pytest.approx(moved, rel=1e-9)


def test_the_module_standardises_as_the_device_does() -> None:
    architecture, arrays, x, _ = example({**SPECS["mlp"], "standardise": True})
    arrays[MEAN], arrays[STD] = np.full(5, 2, np.float32), np.full(5, 4, np.float32)
    module = build(architecture)
    module.load_state_dict(state_dict_of(arrays))
    with torch.no_grad():
        whole = module(torch.from_numpy(x * 4 + 2)).numpy()
    np.testing.assert_allclose(whole, DenseTrainer(architecture).forward(arrays, x), atol=1e-5)


@pytest.mark.parametrize("name", SPECS)
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    architecture, arrays, x, y = example(SPECS[name])
    first, again = (
        trainer_for(architecture).train(arrays, x, y, Plan(epochs=2, batch_size=16, seed=3), quiet) for _ in range(2)
    )
    assert all(first[key].tobytes() == again[key].tobytes() for key in first)


def test_seed_round_and_epoch_each_change_the_order_of_rows() -> None:
    def order(plan: Plan) -> list[list[int]]:
        return [batch.tolist() for batch in plan.batches(50, quiet)]

    plans = [
        Plan(epochs=2, batch_size=50),
        Plan(epochs=2, batch_size=50, seed=1),
        Plan(epochs=2, batch_size=50, round=1),
    ]
    orders = [epoch for plan in plans for epoch in order(plan)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert all(sorted(epoch) == list(range(50)) for epoch in orders)


@pytest.mark.parametrize("name", SPECS)
def test_training_lowers_the_loss_and_leaves_its_start_alone(name: str) -> None:
    architecture, arrays, x, y = example(SPECS[name], rows=200)
    before = {key: value.copy() for key, value in arrays.items()}
    trainer = trainer_for(architecture)
    weights = trainer.train(arrays, x, y, Plan(epochs=20, learning_rate=0.1, batch_size=20), quiet)
    assert trainer.losses({**arrays, **weights}, x, y).mean() < 0.7 * trainer.losses(arrays, x, y).mean()
    assert all((arrays[key] == value).all() for key, value in before.items())


def test_read_only_weights_are_a_fine_start() -> None:
    architecture, arrays, x, y = example(SPECS["logistic"])
    for array in arrays.values():
        array.setflags(write=False)
    trainer_for(architecture).train(arrays, x, y, Plan(), quiet)


def test_every_epoch_is_told() -> None:
    architecture, arrays, x, y = example(SPECS["logistic"])
    told: list[tuple[int, int]] = []
    trainer_for(architecture).train(arrays, x, y, Plan(epochs=3), lambda *epoch: told.append(epoch))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_extreme_outputs_stay_finite() -> None:
    architecture = Architecture.parse(SPECS["logistic"])
    arrays = {name: np.full(a.shape, 500, np.float32) for name, a in architecture.initial().items()}
    rows = np.array([[9] * 5, [-9] * 5], np.float32)
    with np.errstate(all="raise", under="ignore"):
        losses = DenseTrainer(architecture).losses(arrays, rows, np.array([1, 1]))
    assert np.isfinite(losses).all()
    assert losses[0] == 0


@pytest.mark.parametrize(
    "training",
    [
        {"epochs": -1},
        {"batch_size": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": "fast"},
        {"momentum": 1.0},
        {"epochs": True},
    ],
)
def test_an_impossible_plan_is_refused(training: dict[str, Any]) -> None:
    with pytest.raises(FedportalError) as caught:
        Plan.of(training)
    assert caught.value.code == "field_invalid"


def test_a_plan_takes_what_the_task_says_and_ignores_the_rest() -> None:
    plan = Plan.of({"epochs": 2, "learning_rate": 1, "standardise": True, "momentum": None}, 7)
    assert plan == Plan(epochs=2, learning_rate=1.0, round=7)


def test_tensors_of_any_kind_become_arrays() -> None:
    state = {
        "a": torch.ones(2, dtype=torch.bfloat16),
        "b": torch.arange(3),
        "c": np.ones(1),
        "d": torch.ones(1, requires_grad=True),
    }
    arrays = arrays_of(state)
    assert [str(array.dtype) for array in arrays.values()] == ["float32", "int64", "float64", "float32"]


def test_a_normalisations_slopes_are_those_of_finite_differences() -> None:
    random = np.random.default_rng(3)
    values, target = random.normal(size=(6, 2)), random.normal(size=(6, 2))
    given = norms.Norm(*(random.normal(size=2) for _ in range(3)), random.random(2) + 0.5)

    def loss(norm: norms.Norm, x: np.ndarray, learns: bool) -> float:
        seen = (norms.learned if learns else norms.measured)(norm, x)
        return float((norms.applied(norm, seen) * target).sum())

    for learns in (True, False):
        into = norms.Norm(*(np.full(2, 9.0) for _ in range(4)))
        seen = (norms.learned if learns else norms.measured)(given, values)
        found = norms.slope(given, seen, into, target)
        step = 1e-6
        for place in np.ndindex(values.shape):
            shift = np.zeros_like(values)
            shift[place] = step
            slope = (loss(given, values + shift, learns) - loss(given, values - shift, learns)) / (2 * step)
            assert found[place] == pytest.approx(slope, abs=1e-7)
        for part in ("weight", "bias"):
            for column in range(2):
                more, less = (getattr(given, part).copy() for _ in range(2))
                more[column] += step
                less[column] -= step
                up, down = (given._replace(**{part: moved}) for moved in (more, less))
                slope = (loss(up, values, learns) - loss(down, values, learns)) / (2 * step)
                assert getattr(into, part)[column] == pytest.approx(slope, abs=1e-7)
        assert into.mean.tolist() == into.var.tolist() == [0, 0]  # batches move these, not gradients


@pytest.mark.parametrize("name", NORMED)
def test_running_statistics_move_with_batches_and_are_what_measuring_uses(name: str) -> None:
    architecture, arrays, x, y = example(SPECS[name])
    trainer, plan = trainer_for(architecture), Plan(epochs=5, learning_rate=1e-9, batch_size=20, momentum=0.5, mu=3.0)
    trained = trainer.train(arrays, x, y, plan, quiet)
    norm = next(step.name for step in architecture.steps if isinstance(step, Norm))
    for part in ("running_mean", "running_var"):
        assert np.abs(trained[f"{norm}.{part}"] - arrays[f"{norm}.{part}"]).max() > 0.05
    assert np.abs(trained[f"{norm}.weight"] - arrays[f"{norm}.weight"]).max() < 1e-6
    moved = {**arrays, f"{norm}.running_mean": arrays[f"{norm}.running_mean"] + 1}
    assert np.abs(trainer.losses(moved, x, y) - trainer.losses(arrays, x, y)).max() > 1e-3
    below = {**arrays, f"{norm}.running_var": np.full_like(arrays[f"{norm}.running_var"], -1.0)}
    assert np.isfinite(trainer.losses(below, x, y)).all()


@pytest.mark.parametrize("name", NORMED)
def test_a_batch_of_one_row_is_normalised_by_what_was_seen_before(name: str) -> None:
    architecture, arrays, x, y = example(SPECS[name], rows=9)
    trained = trainer_for(architecture).train(arrays, x[:1], y[:1], Plan(batch_size=1), quiet)
    for key, array in trained.items():
        assert np.isfinite(array).all()
        if key.endswith(("running_mean", "running_var")):
            assert array.tobytes() == arrays[key].tobytes()


@pytest.mark.parametrize("name", [*NORMED, "mlp", "cnn"])
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(name: str) -> None:
    architecture, arrays, x, y = example(SPECS[name])
    head = {key for key in arrays if key.startswith(f"{architecture.last}.")}
    plan = Plan(epochs=2, momentum=0.5, weight_decay=0.1, mu=1.0)
    for frozen in (head, set(arrays) - head):
        trained = trainer_for(architecture).train(arrays, x, y, plan, quiet, anchor=arrays, frozen=frozen)
        same = {key for key, array in trained.items() if array.tobytes() == arrays[key].tobytes()}
        assert same == frozen & trained.keys()


@pytest.mark.parametrize("name", ["logistic", "mlp", "cnn"])
def test_training_may_be_pulled_towards_other_weights_than_it_begins_with(name: str) -> None:
    """One full-batch step: w - rate·(g + mu·(w - anchor))."""
    architecture, arrays, x, y = example(SPECS[name])
    manifest, trainer = architecture.manifest(), trainer_for(architecture)
    anchor = {key: array - np.float32(0.5) for key, array in arrays.items()}
    plan = Plan(learning_rate=0.1, batch_size=len(x))
    free, pulled = (
        flatten(manifest, trainer.train(arrays, x, y, replace(plan, mu=mu), quiet, anchor=anchor)) for mu in (0.0, 2.0)
    )
    np.testing.assert_allclose(pulled - free, np.full(manifest.parameters, -0.1 * 2.0 * 0.5), atol=1e-6)


# --- less work -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "rows", "epochs", "batch", "steps"),
    [(1.0, 10, 3, 4, 9), (0.5, 10, 3, 4, 5), (0.1, 10, 3, 4, 1), (0.1, 100, 1, 10, 1), (0.3, 100, 1, 10, 3)],
)
def test_a_share_takes_the_first_steps_and_no_others(
    share: float, rows: int, epochs: int, batch: int, steps: int
) -> None:
    plan = Plan(epochs=epochs, batch_size=batch, seed=5, round=2, share=share)
    whole = [one.tolist() for one in replace(plan, share=1.0).batches(rows, quiet)]
    assert [one.tolist() for one in plan.batches(rows, quiet)] == whole[:steps]
    assert plan.steps(rows) == steps
    assert plan.normaliser(rows) == pytest.approx(steps)


@pytest.mark.parametrize("name", ["logistic", "mlp", "cnn"])
def test_half_of_two_passes_is_one_pass_bit_for_bit(name: str) -> None:
    architecture, weights, rows, labels = example(SPECS[name])
    trainer = trainer_for(architecture)
    one, half = Plan(epochs=1, batch_size=7, seed=3), Plan(epochs=2, batch_size=7, seed=3, share=0.5)
    found = [trainer.train(weights, rows, labels, plan, quiet) for plan in (one, half)]
    assert all(found[0][tensor].tobytes() == found[1][tensor].tobytes() for tensor in found[0])


@pytest.mark.parametrize("share", [0.0, 0.05, 1.5, "half"])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(FedportalError) as refused:
        Plan.of({"share": share})
    assert refused.value.context["field"] == "share"
