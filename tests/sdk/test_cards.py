"""The text beside a pulled model."""

from __future__ import annotations

from typing import Any

from fedportal_sdk.cli import cards

LABEL = {"sentences": ["The portal sees every update by itself.", "No noise is added."]}
SPENT = {
    "organization": {"name": "acme | <b>"},
    "rounds": 5,
    "epsilon": 2.34567,
    "delta": 1e-05,
    "adjacency": "with and without one device",
    "accountant": "tight",
}


def version(**more: Any) -> dict[str, Any]:
    return {"version": "2.0.0", "digest": "ab12", "lineage": {}, "label": None, "metrics": {}, **more}


def test_a_trained_version_carries_the_label_of_its_run() -> None:
    lineage = {"sentence": "aggregated from 5 rounds", "run": "run_1", "strategy": "fedavg", "parents": ["1.0.0"]}
    text = cards.text("radiology-v1", version(lineage=lineage, label=LABEL), "radiology-v1-2.0.0.safetensors")
    assert text.startswith("# radiology-v1 2.0.0\n\nAggregated from 5 rounds.\n")
    assert "* The portal sees every update by itself.\n* No noise is added.\n" in text
    assert "* File: `radiology-v1-2.0.0.safetensors`" in text
    assert "versions before it have labels of their own" in text
    assert "ε" not in text


def test_what_was_spent_is_a_table_in_which_names_stay_names() -> None:
    text = cards.text("m", version(label=LABEL, lineage={"privacy_spent": [SPENT]}), "m.pt")
    assert r"| acme \| &lt;b> | 5 | 2.346 | 1e-05 | with and without one device | tight |" in text


def test_an_epsilon_beyond_use_is_no_number() -> None:
    text = cards.text("m", version(label=LABEL, lineage={"privacy_spent": [{**SPENT, "epsilon": None}]}), "m.pt")
    assert "| beyond use |" in text


def test_a_version_that_was_pushed_claims_nothing() -> None:
    text = cards.text("m", version(lineage={"sentence": "pushed"}), "m.pt")
    assert "The portal knows nothing of that: no run made this version." in text


def test_measures_are_there_when_somebody_measured() -> None:
    text = cards.text("m", version(metrics={"accuracy": 0.9123456789, "auc": None, "samples": 40}), "m.pt")
    assert "| accuracy | 0.912346 |\n| samples | 40 |" in text
    assert "auc" not in text
    assert "held-out" not in cards.text("m", version(), "m.pt")
