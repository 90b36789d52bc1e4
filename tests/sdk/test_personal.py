"""A device's own model: trained by the formulas of the papers, kept on its disk, and never a part of what it sends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import data
from fedportal_sdk.functions import FunctionWork
from fedportal_sdk.local import TableWork, measured
from fedportal_sdk.parts import Parts
from fedportal_sdk.trainers import DenseTrainer, Plan
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.personal import norms, travelling
from fedwire.tensors import decode_model, flatten, unflatten
from tests.sdk.test_client import MANIFEST as ONE_LAYER
from tests.sdk.test_client import Portal, Start, csv_file, start
from tests.sdk.test_client import task as portal_task

__all__ = ["csv_file", "start"]

ARCHITECTURE = Architecture.parse({"kind": "mlp", "inputs": 3, "hidden": [5, 4], "classes": 3})
MANIFEST = ARCHITECTURE.manifest()
HEAD = ("layers.4.bias", "layers.4.weight")
BODY = tuple(spec.name for spec in MANIFEST.weights if spec.name not in HEAD)
SGD = {"epochs": 2, "learning_rate": 0.1, "batch_size": 16, "momentum": 0.5, "weight_decay": 0.01, "seed": 7}
Arrays = dict[str, np.ndarray]


def quiet(epoch: int, epochs: int) -> None:
    """A tick that does nothing."""


def task(*requires: str, kind: str = "train", number: int = 1, counted: int = 0, **training: Any) -> Any:
    local = {"local": list(HEAD)} if "local" in requires else {}
    return {
        "id": "tsk_1",
        "kind": kind,
        "run": "run_1",
        "model": "mod_1",
        "model_name": "radiology-v1",
        "round": number,
        "counted_round": counted,
        "architecture": ARCHITECTURE.spec(),
        "training": {**SGD, "requires": list(requires), **local, **training},
        "answer": {"update_bytes": 0, "max_samples": 1000, "metrics": True},
    }


def patients(rows: int = 120) -> data.Table:
    random = np.random.default_rng(3)
    features = random.normal(size=(rows, 3))
    return data.load((features, np.digitize(features[:, 0] + features[:, 1], [-0.5, 0.5])), "diagnosis")


TABLE = patients()
ASIDE = data.held_out(TABLE, 0)
ROWS, LABELS = TABLE.features[~ASIDE], data.labels_for(TABLE, ARCHITECTURE, None)[~ASIDE]
BASE = ARCHITECTURE.initial(1)


def some_head(seed: int = 5) -> Arrays:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=BASE[name].shape).astype(np.float32) for name in HEAD}


def exactly(
    start: Arrays, plan: Plan, *, frozen: tuple[str, ...] = (), near: Arrays | None = None, mu: float = 0.0
) -> Arrays:
    """Mini-batch descent in float64, as `Plan` says it."""
    trainer, places = DenseTrainer(ARCHITECTURE), unflatten(MANIFEST, np.arange(MANIFEST.parameters))
    still = np.concatenate([np.ravel(places[name]) for name in frozen]) if frozen else np.array([], int)
    x = flatten(MANIFEST, start).astype(np.float64)
    anchor, velocity = flatten(MANIFEST, near or start).astype(np.float64), np.zeros(MANIFEST.parameters)
    for batch in plan.batches(len(ROWS), quiet):
        slope = trainer.gradient(x, ROWS[batch], LABELS[batch]) + plan.weight_decay * x + mu * (x - anchor)
        slope[still] = 0
        velocity = plan.momentum * velocity + slope
        x = x - plan.learning_rate * velocity
    return unflatten(MANIFEST, x)


def assert_near(found: Any, exact: Arrays) -> None:
    assert set(found) == set(exact)
    for name, array in exact.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6, rtol=1e-6, err_msg=name)


def test_fedper_trains_body_and_head_together_and_keeps_the_head() -> None:
    asked, own = task("local"), some_head()
    done = TableWork(TABLE).train(asked, BASE, quiet, own=own)
    exact = exactly({**BASE, **own}, Plan.of(asked["training"], 1))
    assert_near(done.arrays, exact)
    assert_near(done.own, {name: exact[name] for name in HEAD})


def test_fedrep_trains_the_head_first_and_then_the_body_alone() -> None:
    asked, own = task("fedrep", "local", head_epochs=3), some_head()
    done = TableWork(TABLE).train(asked, BASE, quiet, own=own)
    plan = Plan.of(asked["training"], 1)
    head = exactly({**BASE, **own}, replace(plan, epochs=3), frozen=BODY)
    exact = exactly(head, plan, frozen=HEAD)
    assert_near(done.arrays, exact)
    assert np.abs(head["layers.0.weight"] - BASE["layers.0.weight"]).max() == 0
    assert_near(done.own, {name: head[name] for name in HEAD})


def test_ditto_trains_the_common_model_and_beside_it_its_own_near_it() -> None:
    asked = task("ditto", personal_epochs=3, **{"lambda": 0.7})
    work, plan = TableWork(TABLE), Plan.of(asked["training"], 1)
    first = work.train(asked, BASE, quiet)
    assert_near(first.arrays, exactly(BASE, plan))
    begun = exactly(BASE, replace(plan, epochs=3), mu=0.7)
    assert_near(first.own, begun)  # v begins as the model received
    moved = {name: array + np.float32(0.1) for name, array in BASE.items()}
    second = work.train({**asked, "round": 2}, moved, quiet, own=first.own)
    assert_near(second.arrays, exactly(moved, replace(plan, round=2)))
    assert_near(second.own, exactly(first.own, replace(plan, epochs=3, round=2), near=moved, mu=0.7))  # type: ignore[arg-type]


def test_fine_tuning_is_some_more_passes_from_the_model_received() -> None:
    asked = task("finetune", kind="evaluate", personal_epochs=4)
    found = TableWork(TABLE).own_model(asked, BASE, None, quiet)
    assert_near(found, exactly(BASE, replace(Plan.of(asked["training"], 1), epochs=4)))
    assert TableWork(TABLE).train(asked, BASE, quiet).own is None


def test_fedbn_keeps_weights_biases_and_running_statistics_of_its_own() -> None:
    architecture = Architecture.parse({**ARCHITECTURE.spec(), "batch_norm": True})
    manifest, base = architecture.manifest(), architecture.initial(1)
    stays = norms(manifest)
    asked = {**task("local"), "architecture": architecture.spec()}
    asked["training"]["local"] = list(stays)
    work = TableWork(TABLE)
    first = work.train(asked, base, quiet)
    assert first.own is not None
    assert set(first.own) == set(stays)
    assert all(first.own[name].tobytes() != base[name].tobytes() for name in stays)
    # The next common model comes with the normalisation that the run began with; this device puts its own in.
    common = {name: array if name in stays else array + np.float32(0.01) for name, array in base.items()}
    plan = Plan.of(asked["training"], 1)
    with_own = {**common, **first.own}
    labels = data.labels_for(TABLE, architecture, None)[~ASIDE]
    expected = DenseTrainer(architecture).train(with_own, ROWS.astype(np.float32), labels, plan, quiet)
    second = work.train(asked, common, quiet, own=first.own)
    assert {n: a.tobytes() for n, a in second.arrays.items()} == {n: a.tobytes() for n, a in expected.items()}


def test_before_it_has_trained_a_device_has_no_model_of_its_own() -> None:
    work, own = TableWork(TABLE), some_head()
    assert work.own_model(task("local"), BASE, None, quiet) is None
    model = work.own_model(task("local"), BASE, own, quiet)
    assert model is not None
    assert all(model[name] is own[name] for name in HEAD)
    assert all(model[name] is BASE[name] for name in BODY)


@pytest.mark.parametrize("requires", [("ditto",), ("fedrep", "local")])
@pytest.mark.parametrize("value", [None, "3", True, -1, float("nan")])
def test_an_unusable_number_of_passes_is_refused(requires: tuple[str, ...], value: Any) -> None:
    asked = task(*requires, head_epochs=value, personal_epochs=value, **{"lambda": 0.1})
    with pytest.raises(FedportalError) as refused:
        TableWork(TABLE).train(asked, BASE, quiet)
    assert refused.value.code == "field_invalid"


def test_a_function_gets_the_model_with_this_devices_part_in_it() -> None:
    seen: list[Arrays] = []

    def train(state: Arrays) -> tuple[Arrays, int, None]:
        seen.append(state)
        return {name: array + 1 for name, array in state.items()}, 10, None

    work, own = FunctionWork(train, None, "numpy"), some_head()
    done = work.train(task("local"), BASE, quiet, own=own)
    assert all(np.array_equal(seen[0][name], own[name]) for name in HEAD)
    assert all(np.array_equal(seen[0][name], BASE[name]) for name in BODY)
    assert done.own is not None
    assert set(done.own) == set(HEAD)
    assert np.array_equal(done.own[HEAD[0]], own[HEAD[0]] + 1)
    # What needs more than a model with a part in it is declined: the loop asks for abilities first.
    assert work.abilities == {"local"}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path / "personal", "hospital-001")


def test_a_part_is_what_the_portal_says_counted_and_survives_restarts(parts: Parts, tmp_path: Path) -> None:
    first, second = some_head(1), some_head(2)
    assert parts.own(task("local"), MANIFEST) is None
    parts.keep(task("local"), MANIFEST, first)
    parts.keep(task("local", number=2, counted=1), MANIFEST, second)
    again = Parts(tmp_path / "personal", "hospital-001")
    for counted, head in ((1, first), (2, second)):
        found = again.own(task("local", number=3, counted=counted), MANIFEST)
        assert found is not None
        assert {name: array.tobytes() for name, array in found.items()} == {n: a.tobytes() for n, a in head.items()}
    assert again.own(task("local", number=3), MANIFEST) is None  # no answer counted


def test_a_part_of_something_else_is_as_if_it_were_not_there(parts: Parts, tmp_path: Path) -> None:
    parts.keep(task("local"), MANIFEST, some_head())
    later = task("local", number=2, counted=1)
    assert parts.own(later, MANIFEST) is not None
    assert parts.own({**later, "run": "run_2"}, MANIFEST) is None
    assert parts.own(later, Architecture.parse({**ARCHITECTURE.spec(), "hidden": [6, 4]}).manifest()) is None
    assert Parts(tmp_path / "personal", "hospital-002").own(later, MANIFEST) is None
    (path,) = tmp_path.rglob("1.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    assert parts.own(later, MANIFEST) is None


def test_only_its_owner_may_read_what_is_kept(parts: Parts, tmp_path: Path) -> None:
    parts.keep(task("local"), MANIFEST, some_head())
    parts.keep_model(task("local"), MANIFEST, BASE)
    for path in tmp_path.rglob("*.safetensors"):
        assert path.stat().st_mode & 0o077 == path.parent.stat().st_mode & 0o077 == 0


def test_a_model_for_use_stays_when_the_run_is_over_until_it_is_forgotten(parts: Parts, tmp_path: Path) -> None:
    own = {**BASE, **some_head()}
    parts.keep(task("local"), MANIFEST, some_head())
    parts.keep_model(task("local"), MANIFEST, own)
    parts.forget("run_1")
    assert not list(tmp_path.rglob("1.safetensors"))
    for name in (None, "mod_1", "radiology-v1"):
        found = parts.model(name)
        assert (found.run, found.model, found.model_name, found.round) == ("run_1", "mod_1", "radiology-v1", 1)
        assert {name: array.tobytes() for name, array in found.arrays.items()} == {n: own[n].tobytes() for n in own}
    with pytest.raises(FedportalError, match="no model of its own of other"):
        parts.model("other")
    parts.keep_model({**task("local"), "model": "mod_2"}, MANIFEST, own)
    with pytest.raises(FedportalError) as refused:
        parts.model("radiology-v1")
    assert refused.value.code == "ambiguous_name"
    parts.remove(parts.model("mod_1"))
    assert parts.model("radiology-v1").model == "mod_2"


def test_a_model_for_use_is_measured_on_the_rows_that_are_held_out(parts: Parts) -> None:
    trained = DenseTrainer(ARCHITECTURE).train(BASE, ROWS.astype(np.float32), LABELS, Plan(epochs=200), quiet)
    parts.keep_model(task("local"), MANIFEST, trained)
    found = measured(parts.model(), TABLE)
    assert found["samples"] == int(ASIDE.sum())
    assert found["accuracy"] is not None
    assert found["accuracy"] > 0.8


def staying_task(number: int, kind: str = "train") -> dict[str, Any]:
    """A task of a run in which the bias stays on the device."""
    local = travelling(ONE_LAYER, ["layers.0.bias"])
    training = {"epochs": 1, "learning_rate": 0.1, "batch_size": 8, "seed": number, "requires": ["local"]}
    return portal_task(
        kind,
        number,
        counted_round=number - 1,
        training={**training, "local": ["layers.0.bias"]},
        answer={"update_bytes": local.update_bytes, "max_samples": 1000, "metrics": True},
    )


def test_the_head_is_in_no_byte_that_leaves_and_outlives_the_process(start: Start, csv_file: Path) -> None:
    portal = Portal(staying_task(1))
    before = start(portal)
    before.train("radiology-v1", csv_file, "diagnosis", rounds=1)
    client = start(portal, url=before.url)  # the device was started again
    portal.tasks = [staying_task(2), staying_task(3, "evaluate")]
    client.train("radiology-v1", csv_file, "diagnosis")
    kept = client.personal_model().arrays["layers.0.bias"]
    assert kept[0] != 0  # it was trained, from zero
    for content in portal.updates:
        assert len(content) == travelling(ONE_LAYER, ["layers.0.bias"]).update_bytes
        assert b"bias" not in content
        assert kept.tobytes() not in content
    first, second, last = portal.answers
    assert "personal" not in first  # nothing of its own yet
    assert second["personal"]["samples"] == second["evaluation"]["samples"]
    assert second["personal"]["loss_sum"] != second["evaluation"]["loss_sum"]
    assert "personal" in last
    assert not list(Path(client.home.folder).rglob("parts/*/*"))  # the run is over
    ratios = client.evaluate_personal("radiology-v1", csv_file, "diagnosis")
    assert ratios["loss"] == pytest.approx(last["personal"]["loss_sum"] / last["personal"]["samples"])
    saved = client.save_personal(None, csv_file.with_name("mine.safetensors"))
    assert decode_model(saved)[1]["layers.0.bias"].tobytes() == kept.tobytes()
    client.forget_personal()
    with pytest.raises(FedportalError) as gone:
        client.personal_model()
    assert gone.value.code == "no_personal_model"


def test_a_function_of_ones_own_declines_what_needs_more_than_a_part(start: Start) -> None:
    asked = staying_task(1)
    asked["training"]["requires"] = ["ditto"]
    portal = Portal(asked)
    start(portal).train_from_remote("radiology-v1", lambda state: (state, 1, None), 1)
    assert portal.declined == ["this device's SDK, or its own training function, does not know ditto"]
