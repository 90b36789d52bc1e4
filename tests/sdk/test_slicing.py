"""A device reports on parts of its held-out rows, as far as its organization's floor lets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import data
from fedportal_sdk.functions import FunctionWork
from fedportal_sdk.local import TableWork
from fedportal_sdk.slicing import slices_of
from fedwire import metrics
from fedwire.errors import FedportalError
from tests.sdk.test_local import base_for, patients, quiet, task


def asking(least: int = 0) -> Any:
    found = task()
    found["answer"]["least_records"] = least
    return found


def halves(table: data.Table) -> list[str]:
    """Which half of the table a row lies in."""
    return ["first" if row < len(table) / 2 else "second" for row in range(len(table))]


def test_slices_add_up_to_the_whole() -> None:
    table = patients()
    report = TableWork(table, slices={"half": halves}).train(asking(), base_for(table), quiet).evaluation
    assert report is not None
    parts = report["slices"]["half"]
    assert sorted(parts) == ["first", "second"]
    whole = metrics.merge(parts.values())
    assert {name: report[name] for name in ("samples", "correct", "positives")} == {  # type: ignore[literal-required]
        name: whole[name]  # type: ignore[literal-required]
        for name in ("samples", "correct", "positives")
    }
    assert whole["loss_sum"] == pytest.approx(report["loss_sum"])


def test_slice_below_the_organizations_floor_stays_on_the_device() -> None:
    table = patients()
    work, base = TableWork(table, slices={"half": halves}), base_for(table)
    sizes = [part["samples"] for part in work.evaluate(asking(), base)[1]["slices"]["half"].values()]
    assert "slices" in work.evaluate(asking(min(sizes)), base)[1]
    assert "slices" not in work.evaluate(asking(min(sizes) + 1), base)[1]


def test_column_of_text_names_slices_and_is_no_feature(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    rows = [f"{number},{'FM'[number % 2]},{number / 7},{number % 3 == 0:d}" for number in range(120)]
    path.write_text("\n".join(["age,sex,dose,diagnosis", *rows]))
    table = data.load(path, "diagnosis", ("sex", "dose"))
    assert table.columns == ("age", "dose")
    assert table.features[3].tolist() == [3, 3 / 7]
    assert slices_of(table, "sex")["sex"].tolist()[:3] == ["F", "M", "F"]
    assert slices_of(table, ["sex"])["sex"].tolist()[:1] == ["F"]
    with pytest.raises(FedportalError, match="120 different values"):
        slices_of(table, "dose")


def test_column_of_few_numbers_stays_a_feature_and_names_slices() -> None:
    table = data.load((np.array([[0.0, 5], [1, 6], [0, 7]]), [0, 1, 0]), "diagnosis")
    assert slices_of(table, "column 0")["column 0"].tolist() == ["0", "1", "0"]


def test_rows_without_a_name_are_in_no_slice() -> None:
    table = patients(4)
    assert slices_of(table, {"sex": ["F", None, float("nan"), " M "]})["sex"].tolist() == ["F", "", "", "M"]


@pytest.mark.parametrize(
    "slices",
    ["ward", {"half": ["first"]}, {str(number): halves for number in range(5)}, lambda table: range(len(table))],
    ids=["no such column", "too few names", "too many slicings", "too many values"],
)
def test_slices_that_cannot_be_are_refused_before_the_portal_hears_of_them(slices: Any) -> None:
    with pytest.raises(FedportalError) as refused:
        TableWork(patients(), slices=slices)
    assert refused.value.code == "data_slices"


class Measured:
    """What an `evaluate_fn` gives: 40 rows, row by row, with everything one may add."""

    def __init__(self, **more: Any) -> None:
        labels = np.arange(40) % 2
        self.found = {"scores": labels * 0.8 + 0.1, "labels": labels, "losses": np.full(40, 0.1), **more}

    def report(self, least: int = 0) -> Any:
        return FunctionWork(lambda state: (state, 1, None), lambda state: self.found, "numpy").evaluate(
            asking(least), {}
        )[1]


def test_function_adds_metrics_scores_and_slices_by_name() -> None:
    labels, sites = np.arange(40) % 2, ["north"] * 25 + ["south"] * 15
    measured = Measured(named={"dice": np.arange(40)}, scored={"fever": (1 - labels, labels)}, slices={"site": sites})
    report = measured.report()
    others = metrics.ratios(report)["others"]
    assert (others["dice"], others["auc_fever"]) == (19.5, 0.0)
    south = report["slices"]["site"]["south"]
    assert (south["samples"], metrics.ratios(south)["others"]["dice"]) == (15, 32.0)
    assert "slices" not in measured.report(least=16)


def test_ready_report_is_held_to_the_floor_too() -> None:
    part = metrics.evaluation([0.9] * 5, [1] * 5, [0.1] * 5)
    measured = Measured()
    measured.found = {**metrics.evaluation([0.9] * 40, [1] * 40, [0.1] * 40), "slices": {"site": {"north": part}}}
    assert "slices" not in measured.report()


def test_function_that_gives_something_else_is_told_what_is_wanted() -> None:
    measured = Measured()
    measured.found = [1, 2]  # type: ignore[assignment]
    with pytest.raises(FedportalError, match="or a report"):
        measured.report()
