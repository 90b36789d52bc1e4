"""Reports with many parts still make an answer that the portal reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fedportal_sdk._fitting import fitted, length
from fedwire import answers, metrics
from fedwire.slices import MAX_PARTS, MAX_SLICINGS


def report(seed: int, rows: int = 20, **more: Any) -> Any:
    """On 20 times so many rows, in slices of so many."""
    draw = np.random.default_rng(seed)
    scores, labels = draw.random((MAX_PARTS, rows)), draw.random((MAX_PARTS, rows)) > 0.5
    parts = [metrics.evaluation(*one, np.ones(rows), **more) for one in zip(scores, labels, strict=True)]
    slices = {f"by {name}": {f"part {n}": part for n, part in enumerate(parts)} for name in range(MAX_SLICINGS)}
    return {**metrics.evaluation(scores.ravel(), labels.ravel(), np.ones(scores.size)), "slices": slices}


def read(answer: Any) -> Any:
    """As the portal reads what leaves."""
    said = answers.parse(json.dumps(answer, separators=(",", ":")).encode())
    return answers.check(said, kind="train", limit=10_000)


def test_an_answer_that_is_short_enough_stays_as_it_is() -> None:
    answer: Any = {"samples": 400, "evaluation": report(1)}
    assert length(answer) < answers.MAX_BYTES
    assert fitted(answer) is answer


def test_the_slices_of_a_devices_own_model_are_told_without_their_scores_first() -> None:
    answer: Any = {"samples": 400, "evaluation": report(1), "personal": report(2)}
    assert length(answer) > answers.MAX_BYTES
    said = read(fitted(answer))
    assert said["evaluation"] == answer["evaluation"]
    for before, after in zip(parts_of(answer["personal"]), parts_of(said["personal"]), strict=True):
        told = metrics.ratios(after)
        assert told["auc"] is None
        assert {**told, "auc": metrics.ratios(before)["auc"]} == metrics.ratios(before)


def test_slices_that_are_too_long_even_so_are_not_told() -> None:
    names = {f"{'a' * 50} {number}": np.ones(20) for number in range(50)}
    answer: Any = {"samples": 400, "evaluation": report(1, named=names), "personal": report(2, named=names)}
    said = read(fitted(answer))
    assert "slices" not in said["personal"]
    assert said["personal"]["positives"] == answer["personal"]["positives"]


def parts_of(found: Any) -> list[Any]:
    return [part for parts in found["slices"].values() for part in parts.values()]
