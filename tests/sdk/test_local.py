"""What a device does with a task over its own rows, and what leaves it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import data
from fedportal_sdk.functions import FunctionWork
from fedportal_sdk.local import Refusal, TableWork, standardised
from fedwire import metrics, statistics
from fedwire.architectures import MEAN, STD, Architecture
from fedwire.errors import FedportalError
from fedwire.histograms import BINS, EQUAL, LOGIT, scale_of

ARCHITECTURE = Architecture.parse({"kind": "logistic", "inputs": 3, "standardise": True})


def quiet(epoch: int, epochs: int) -> None:
    """A tick that does nothing."""


def task(kind: str = "train", architecture: Architecture | None = ARCHITECTURE, **training: Any) -> Any:
    return {
        "id": "tsk_1",
        "kind": kind,
        "round": 1,
        "architecture": architecture.spec() if architecture else None,
        "training": training,
        "answer": {"update_bytes": 0, "max_samples": 1000, "metrics": True, "scale": LOGIT},
    }


def patients(rows: int = 200, seed: int = 0) -> data.Table:
    """Rows far from zero and of different widths, so that only standardised ones can be learned."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 3)) * [1, 100, 0.01] + [50, -1000, 3]
    return data.load((features, np.where(features[:, 0] + features[:, 1] / 100 > 40, "M", "B")), "diagnosis")


def base_for(table: data.Table) -> dict[str, np.ndarray]:
    mean, std = statistics.mean_std(TableWork(table).statistics(task("statistics")))
    return {**ARCHITECTURE.initial(), MEAN: mean, STD: std}


def test_statistics_are_of_the_rows_trained_on() -> None:
    table = patients()
    found = TableWork(table).statistics(task("statistics"))
    rows = table.features[~data.held_out(table)]
    assert found["samples"] == len(rows)
    np.testing.assert_allclose(found["mean"], rows.mean(axis=0))
    np.testing.assert_allclose(found["m2"], rows.var(axis=0) * len(rows))


def test_standardised_rows_have_mean_zero_and_deviation_one() -> None:
    table = patients()
    rows = standardised(table.features[~data.held_out(table)], base_for(table))
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-4)


def test_training_measures_the_start_and_returns_better_weights() -> None:
    table = patients()
    work, base = TableWork(table), base_for(table)
    trained = work.train(task(epochs=30, learning_rate=0.5), base, quiet)
    aside = data.held_out(table)
    assert trained.samples == (~aside).sum()
    assert trained.evaluation is not None
    assert trained.evaluation["samples"] == aside.sum()
    assert trained.evaluation["loss_sum"] == pytest.approx(np.log(2) * aside.sum(), rel=1e-5)
    samples, after = work.evaluate(task("evaluate"), {**base, **trained.arrays})
    assert samples == trained.samples
    assert after["correct"] > 0.85 * after["samples"]


def test_reports_on_local_training_are_given_where_asked() -> None:
    table = patients()
    asked = task(epochs=3, batch_size=50, momentum=0.5)
    asked["answer"]["reports"] = ["steps", "normaliser", "base_loss"]
    trained = TableWork(table).train(asked, base_for(table), quiet)
    steps = 3 * -(-trained.samples // 50)
    assert trained.reports["steps"] == steps
    assert steps < trained.reports["normaliser"] < 2 * steps
    assert trained.reports["base_loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert TableWork(table).train(task(), base_for(table), quiet).reports == {}


def test_a_report_that_nobody_knows_is_not_invented() -> None:
    table = patients()
    asked = task()
    asked["answer"]["reports"] = ["mood"]
    with pytest.raises(Refusal, match="mood"):
        TableWork(table).train(asked, base_for(table), quiet)


def test_the_start_is_measured_only_where_asked() -> None:
    table = patients()
    asked = task()
    asked["answer"]["metrics"] = False
    assert TableWork(table).train(asked, base_for(table), quiet).evaluation is None


def test_other_standardisation_is_noticed() -> None:
    table = patients()
    work, base = TableWork(table), base_for(table)
    first = work.prepared(task(), base)
    assert work.prepared(task(), dict(base)) is first
    assert work.prepared(task(), {**base, MEAN: base[MEAN] + 1}) is not first


def test_another_number_of_columns_is_said_before_training() -> None:
    narrow = Architecture.parse({"kind": "logistic", "inputs": 2})
    for act in (
        lambda w: w.statistics(task("statistics", narrow)),
        lambda w: w.train(task("train", narrow), narrow.initial(), quiet),
    ):
        with pytest.raises(FedportalError) as caught:
            act(TableWork(patients()))
        assert (caught.value.code, caught.value.context) == ("data_shape", {"expected": 2, "got": 3})


def test_swapped_columns_give_the_same_answers_as_columns_in_order() -> None:
    """Statistics, training and evaluation all take them by name."""
    named = Architecture.parse({**ARCHITECTURE.spec(), "columns": ["a", "b", "c"], "labels": ["B", "M"]})
    table = replace(patients(), columns=("a", "b", "c"), named=True)
    swapped = replace(table, features=table.features[:, [2, 0, 1]], columns=("c", "a", "b"))
    works, base = [TableWork(each) for each in (table, swapped)], base_for(table)
    first, second = (work.statistics(task("statistics", named)) for work in works)
    assert first == second
    first, second = (work.train(task("train", named, epochs=3), base, quiet) for work in works)
    assert first.evaluation == second.evaluation
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)
    assert works[0].evaluate(task("evaluate", named), base) == works[1].evaluate(task("evaluate", named), base)


def test_columns_that_are_left_out_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    narrow = Architecture.parse({"kind": "logistic", "inputs": 2, "columns": ["c", "a"]})
    work = TableWork(replace(patients(), columns=("a", "b", "c"), named=True))
    for _ in range(3):
        work.train(task("train", narrow), narrow.initial(), quiet)
        work.statistics(task("statistics", narrow))
    assert [record.args for record in caplog.records] == [("b",)]


def test_a_model_without_architecture_is_left_to_others() -> None:
    with pytest.raises(Refusal):
        TableWork(patients()).train(task(architecture=None), {}, quiet)


def test_nothing_of_a_single_row_is_in_an_answer() -> None:
    """Sums over all held-out rows and histograms travel; row numbers, labels and values do not."""
    table = patients()
    trained = TableWork(table).train(task(), base_for(table), quiet)
    assert trained.evaluation is not None
    assert set(trained.evaluation) == {"samples", "loss_sum", "correct", "positives", "negatives", "scale"}


def test_scores_are_counted_on_the_scale_that_the_task_asks_for() -> None:
    table = patients()
    asked, unasked = task(), task()
    del unasked["answer"]["scale"]  # by a portal that knows equal bins only
    arrays = (np.array([0.9, 0.2]), np.array([1, 0]), np.array([0.1, 0.2]))
    for given, scale in ((asked, LOGIT), (unasked, EQUAL)):
        tables = TableWork(table).evaluate(given, base_for(table))[1]
        functions = FunctionWork(lambda s: (s, 1, None), lambda _: arrays, "numpy").evaluate(given, BASE)[1]
        for report in (tables, functions):
            assert (scale_of(report), len(report["positives"])) == (scale, BINS[scale])


def test_logits_may_stand_for_scores() -> None:
    found = {"logits": np.array([40.0, 50.0]), "labels": np.array([0, 1]), "losses": np.array([40.0, 0.0])}
    work = FunctionWork(lambda s: (s, 1, None), lambda s: found, "numpy")
    assert metrics.ratios(work.evaluate(task("evaluate"), BASE)[1])["auc"] == 1.0  # both probabilities round to 1


# -- functions of the caller


BASE = {"w": np.array([1.0, 2.0], np.float32)}


def test_a_function_gets_copies_it_may_change() -> None:
    BASE["w"].setflags(write=False)

    def train(state: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, float]]:
        state["w"] += 1
        return state, 7, {"loss": 0.5, "note": float("nan")}

    trained = FunctionWork(train, None, "numpy").train(task(architecture=None), BASE, quiet)
    assert (trained.samples, trained.metrics) == (7, {"loss": 0.5})
    assert trained.arrays["w"].tolist() == [2, 3]
    assert BASE["w"].tolist() == [1, 2]
    assert trained.evaluation is None


def test_a_function_may_speak_torch() -> None:
    torch = pytest.importorskip("torch")

    def train(state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
        assert isinstance(state["w"], torch.Tensor)
        return {"w": torch.nn.Parameter(state["w"] * 2)}, 3, None

    trained = FunctionWork(train, None, "torch").train(task(architecture=None), BASE, quiet)
    assert trained.arrays["w"].tolist() == [2, 4]


def test_an_evaluation_may_be_arrays_or_a_report() -> None:
    report = {"samples": 2, "loss_sum": 1.0, "correct": 1}
    arrays = (np.array([0.9, 0.2]), np.array([1, 1]), np.array([0.1, 1.6]))
    for given, correct in ((report, 1), (arrays, 1)):
        work = FunctionWork(lambda s: (s, 1, None), lambda s, given=given: given, "numpy")
        assert work.evaluate(task("evaluate"), BASE)[1]["correct"] == correct


def test_without_an_evaluation_nothing_was_held_out() -> None:
    samples, report = FunctionWork(lambda s: (s, 1, None), None, "numpy").evaluate(task("evaluate"), BASE)
    assert (samples, report["samples"]) == (1, 0)


@pytest.mark.parametrize("samples", [0, -1, 1001, 1.5, True, None])
def test_an_absurd_number_of_samples_stays_on_the_device(samples: Any) -> None:
    with pytest.raises(FedportalError) as caught:
        FunctionWork(lambda s: (s, samples, None), None, "numpy").train(task(architecture=None), BASE, quiet)
    assert caught.value.code == "samples_invalid"


def test_functions_cannot_describe_columns() -> None:
    with pytest.raises(Refusal):
        FunctionWork(lambda s: (s, 1, None), None, "numpy").statistics(task("statistics"))


def test_an_unknown_framework_is_refused() -> None:
    with pytest.raises(FedportalError):
        FunctionWork(lambda s: (s, 1, None), None, "abacus")


# -- importing


def test_importing_the_sdk_loads_neither_torch_nor_django_nor_the_portal() -> None:
    loaded = loaded_by("from fedportal_sdk import *")
    assert {"fedwire", "numpy"} <= loaded
    assert not {"torch", "django", "fedportal", "federations", "registry", "training", "rich", "pandas"} & loaded


def test_the_command_line_loads_numpy_only_for_those_who_compute() -> None:
    """To load it takes longer than most commands do."""
    assert "numpy" not in loaded_by("from fedportal_sdk.cli import federations, main, team")


def loaded_by(line: str) -> set[str]:
    """The packages that a fresh Python has loaded after this line."""
    code = f"{line}\nimport sys; print(*(name.partition('.')[0] for name in sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_a_device_does_its_share_and_says_so_with_all_its_rows() -> None:
    table = patients()
    asked = {**task(epochs=4, batch_size=16), "answer": {"max_samples": 1000, "metrics": False, "reports": ["steps"]}}
    rows = TableWork(table).records
    full, half = TableWork(table), TableWork(table, share=0.5)
    whole, part = (work.train(asked, base_for(table), quiet) for work in (full, half))
    assert (whole.samples, part.samples) == (rows, rows)
    assert whole.reports == {"steps": 4 * -(-rows // 16)}
    assert part.reports == {"steps": 2 * -(-rows // 16), "work_share": 0.5}


def test_the_smaller_share_counts() -> None:
    work = TableWork(patients(), share=0.5)
    assert work.plan(task(share=0.25)).share == 0.25
    assert work.plan(task(share=0.75)).share == 0.5
    with pytest.raises(FedportalError) as refused:
        TableWork(patients(), share=0.05)
    assert refused.value.context["field"] == "work_share"
