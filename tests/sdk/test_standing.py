"""How a run stands, in words."""

from __future__ import annotations

from typing import Any

import pytest

from fedportal_sdk.cli import standing


def point(accuracy: float | None, rows: int, *organizations: str) -> dict[str, Any]:
    """A point of the curves, measured on so many rows of these organizations."""
    ratios = {"accuracy": accuracy, "auc": None, "loss": None, "samples": rows}
    return {**ratios, "others": {}, "organizations": dict.fromkeys(organizations, ratios)}


def snapshot(*curves: dict[str, Any], waiting: dict[str, str] | None = None) -> dict[str, Any]:
    """A run in its second round."""
    run = {"id": "run_1", "model": {"name": "radiology-v1"}, "federation": {"name": "consortium"}, "strategy": "fedavg"}
    run |= {"word": "running", "current_round": 1, "total_rounds": 3, "progress": 0.3, "reason": "", "plan": {}}
    return {
        "run": {**run, "result_version": None},
        "round": {"waiting": waiting},
        "contributions": [],
        "curves": list(curves),
    }


@pytest.mark.parametrize(
    ("curves", "told"),
    [
        ([point(0.5, 30, "acme")], "accuracy 0.5000"),
        ([point(0.5, 30, "acme"), point(0.75, 30, "acme")], "accuracy 0.7500 (+0.2500 in the last round)"),
        ([point(1.0, 10, "acme"), point(0.9, 30, "acme", "metro")], "accuracy 0.9000 (measured on other rows than"),
        ([point(1.0, 30, "acme"), point(0.9, 30, "metro")], "accuracy 0.9000 (measured on other rows than"),
        ([point(0.5, 30, "acme"), point(None, 0), point(0.25, 30, "acme")], "accuracy 0.2500 (-0.2500"),
    ],
)
def test_a_change_is_told_only_where_the_same_rows_measured(curves: list[dict[str, Any]], told: str) -> None:
    assert f"  {told}" in standing.described(snapshot(*curves)).plain


def test_a_line_says_what_a_run_waits_for_but_not_each_straggler() -> None:
    sentence = "Waiting for 2 more devices until noon."
    assert standing.line(snapshot(waiting={"sentence": sentence, "word": "waiting"})).endswith(f"running. {sentence}")
    assert standing.line(snapshot(waiting={"sentence": "Waiting for hospital-001."})) == "round 1 / 3: running"
