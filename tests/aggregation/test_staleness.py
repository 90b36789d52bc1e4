"""Answers to older models: FedBuff and FedAsync by hand and by their papers, and what must not change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fedwire import codecs
from fedwire.tensors import decode_model, flatten
from tests.aggregation.conftest import Folder, Rows, manifest_of
from training.aggregation.assembly import write_model
from training.aggregation.kernels import MOST_OPEN, Vector, opened
from training.aggregation.layout import TILE, Range
from training.aggregation.memory import StateFiles
from training.aggregation.staleness import Discounted, Rebased, polynomial
from training.aggregation.strategies import STRATEGIES, find
from training.aggregation.transforms import Update

PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# An update, how stale it is, and the model it began from (None: the present one).
Stale = Sequence[tuple[np.ndarray, int, np.ndarray | None]]
numbers = some.floats(-100, 100, width=32)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def stale(folder: Folder, base: np.ndarray, answers: Stale, exponent: float) -> list[Update]:
    manifest = manifest_of(len(base))
    return [
        replace(
            folder.update(manifest, vector, 1),
            discount=polynomial(staleness, exponent),
            base=None if began is None else folder.model(manifest, began),
        )
        for vector, staleness, began in answers
    ]


def after(
    folder: Folder,
    strategy: str,
    base: np.ndarray,
    updates: Sequence[Update],
    *,
    threads: int = 1,
    codec: codecs.Codec | None = None,
    **parameters: float,
) -> tuple[list[float], str]:
    """The model after these updates, and its digest."""
    manifest, found, out = manifest_of(len(base)), find(strategy), folder.fresh()
    digests = write_model(
        found,
        found.checked(parameters),
        manifest=manifest,
        base=folder.model(manifest, base),
        updates=updates,
        out=out,
        state=StateFiles(None, folder.fresh()),
        threads=threads,
        codec=codec,
    )
    return flatten(manifest, decode_model(out, manifest)[1]).tolist(), digests.digest


def test_the_discount_falls_with_the_staleness() -> None:
    assert [polynomial(tau, 0.5) for tau in (0, 3, 8)] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert [polynomial(tau, 0) for tau in (0, 1, 50)] == [1.0, 1.0, 1.0]
    assert polynomial(1, 2) == 0.25


def test_equal_updates_from_different_models_leave_no_trace_of_their_order(folder: Folder) -> None:
    draw = np.random.default_rng(2)
    base, same = draw.normal(size=50).astype("f4"), np.zeros(50, np.float32)
    updates = stale(folder, base, [(same, 1, draw.normal(size=50).astype("f4")) for _ in range(4)], 0.0)
    digests = {after(folder, "fedasync", base, [updates[n] for n in order])[1] for order in permutations(range(4))}
    assert len(digests) == 1


def test_so_many_files_are_kept_open_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(8))
    vectors = [Discounted(Rebased(Vector(path, 0, 2), Vector(path, 0, 2), Vector(path, 0, 2)), 0.5) for _ in range(300)]
    before = len(os.listdir("/proc/self/fd"))
    with opened(vectors):
        assert len(os.listdir("/proc/self/fd")) - before <= MOST_OPEN
        assert vectors[-1].read(Range(0, 2), np.empty(2, np.float32)).tolist() == [0.0, 0.0]


def test_fedbuff_by_hand(folder: Folder) -> None:
    # s(0) = 1, s(3) = 1/2: 10 + (2·1 + 4·½)/2 = 12, and 20 + (6·1 + 2·½)/2 = 23.5; with η = ½ half as far.
    base, answers = f32(10, 20), [(f32(2, 6), 0, None), (f32(4, 2), 3, None)]
    updates = stale(folder, base, answers, 0.5)
    assert after(folder, "fedbuff", base, updates)[0] == [12.0, 23.5]
    assert after(folder, "fedbuff", base, updates, server_learning_rate=0.5)[0] == [11.0, 21.75]


def test_fedasync_by_hand(folder: Folder) -> None:
    # The device began at 6 and came to 8; the model is 10 now. s(3) = ½, α = ½: ¾·10 + ¼·8 = 9.5.
    updates = stale(folder, f32(10), [(f32(2), 3, f32(6))], 0.5)
    assert after(folder, "fedasync", f32(10), updates, alpha=0.5)[0] == [9.5]


def test_fedasync_with_all_the_weight_takes_the_model_of_the_device(folder: Folder) -> None:
    updates = stale(folder, f32(10, -3), [(f32(2, 1), 7, f32(6, 4))], 0.0)
    assert after(folder, "fedasync", f32(10, -3), updates, alpha=1)[0] == [8.0, 5.0]


@given(
    base=some.lists(numbers, min_size=3, max_size=3),
    began=some.lists(numbers, min_size=3, max_size=3),
    delta=some.lists(numbers, min_size=3, max_size=3),
    staleness=some.integers(0, 40),
    exponent=some.floats(0, 3),
    alpha=some.floats(0.01, 1),
)
@PROPERTY
def test_fedasync_is_the_papers_mixture(
    shared_folder: Folder, base: Any, began: Any, delta: Any, staleness: int, exponent: float, alpha: float
) -> None:
    x, x_tau = np.array(base), np.array(began if staleness else base)
    weight = alpha * (1 + staleness) ** -exponent
    wanted = (1 - weight) * x + weight * (x_tau + np.array(delta))
    answer = (f32(*delta), staleness, f32(*began) if staleness else None)
    updates = stale(shared_folder, f32(*base), [answer], exponent)
    found, _ = after(shared_folder, "fedasync", f32(*base), updates, alpha=alpha)
    assert found == pytest.approx(wanted.tolist(), rel=1e-5, abs=1e-4)


@given(
    answers=some.lists(
        some.tuples(some.lists(numbers, min_size=2, max_size=2), some.integers(0, 20)), min_size=1, max_size=6
    ),
    exponent=some.floats(0, 3),
    rate=some.floats(0.1, 3),
)
@PROPERTY
def test_fedbuff_is_the_papers_sum(shared_folder: Folder, answers: Any, exponent: float, rate: float) -> None:
    base = f32(1, -1)
    wanted = base + rate / len(answers) * sum(np.array(d) * (1 + tau) ** -exponent for d, tau in answers)
    updates = stale(shared_folder, base, [(f32(*d), tau, None) for d, tau in answers], exponent)
    found, digest = after(shared_folder, "fedbuff", base, updates, server_learning_rate=rate)
    assert found == pytest.approx(wanted.tolist(), rel=1e-4, abs=1e-3)
    assert after(shared_folder, "fedbuff", base, updates[::-1], server_learning_rate=rate)[1] == digest


@given(rows=some.lists(some.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=6))
@PROPERTY
def test_a_buffer_of_fresh_answers_is_averaging_with_equal_rows(shared_folder: Folder, rows: Any) -> None:
    base, answers = f32(1, 2, 3), [(f32(*row), 0, None) for row in rows]
    updates = stale(shared_folder, base, answers, 0.7)
    assert after(shared_folder, "fedbuff", base, updates) == after(shared_folder, "fedavg", base, updates)


@pytest.mark.parametrize("name", [name for name, one in STRATEGIES.items() if one.asynchronous and one.synchronous])
def test_fresh_answers_leave_no_trace_of_the_schedule(folder: Folder, name: str) -> None:
    base = f32(1, 2, 3, 4, 5)
    generator = np.random.default_rng(3)
    rows: Rows = [(generator.standard_normal(5).astype(np.float32), 1) for _ in range(7)]
    reports = {"steps": 4, "normaliser": 4.0, "base_loss": 1.0}
    manifest = manifest_of(5)
    plain = [replace(folder.update(manifest, vector, 1), reports=reports) for vector, _ in rows]
    fresh = [replace(one, discount=polynomial(0, 0.5)) for one in plain]
    assert after(folder, name, base, plain) == after(folder, name, base, fresh)


def test_a_rule_that_chooses_sees_answers_as_long_as_they_count(folder: Folder) -> None:
    # 8 counts half of itself: the median of 1, 3 and 4 is 3, not that of 1, 3 and 8 with a discount afterwards.
    updates = stale(folder, f32(0), [(f32(1), 0, None), (f32(8), 3, None), (f32(3), 0, None)], 0.5)
    assert after(folder, "median", f32(0), updates)[0] == [3.0]
    further = stale(folder, f32(0), [(f32(1), 0, None), (f32(8), 3, None), (f32(6), 0, None)], 0.5)
    assert after(folder, "median", f32(0), further)[0] == [4.0]


def test_equal_updates_of_different_age_have_one_order(folder: Folder) -> None:
    base = f32(0.1, 0.2)
    twins = stale(folder, base, [(f32(0.3, 7), 5, None), (f32(0.3, 7), 0, None), (f32(0.3, 7), 2, None)], 0.5)
    digests = {after(folder, "fedbuff", base, order)[1] for order in (twins, twins[::-1], [twins[1], *twins[::2]])}
    assert len(digests) == 1


def test_threads_and_files_of_many_tiles_leave_no_trace(folder: Folder) -> None:
    length = 3 * TILE + 17
    generator = np.random.default_rng(5)
    base, began, *sent = (generator.standard_normal(length).astype(np.float32) for _ in range(4))
    updates = stale(folder, base, [(sent[0], 2, began)], 0.5)
    weight = np.float32(0.6)
    one, digest = after(folder, "fedasync", base, updates)
    assert after(folder, "fedasync", base, updates, threads=3)[1] == digest
    s = np.float32(polynomial(2, 0.5))
    assert one == (base + weight * (s * ((began - base) + sent[0]))).tolist()


def test_an_encoded_update_is_rebased_too(folder: Folder, tmp_path: Path) -> None:
    base, began, delta = f32(10, 10), f32(6, 6), f32(2, 4)
    manifest = manifest_of(2)
    codec = codecs.of({"name": "float16"}, manifest)
    path = tmp_path / "encoded"
    path.write_bytes(codec.encode(delta, np.random.default_rng(1)))
    update = Update(path, "0" * 64, 1, base=folder.model(manifest, began), discount=polynomial(3, 0.5))
    assert after(folder, "fedasync", base, [update], codec=codec, alpha=0.5)[0] == [9.5, 10.0]


def test_what_may_be_chosen_for_which_schedule() -> None:
    both = {name for name, one in STRATEGIES.items() if one.asynchronous and one.synchronous}
    assert {"fedavg", "fedavgm", "fedadam", "fedprox", "fednova", "median", "krum", "fedbuff"} <= both
    assert not both & {"scaffold", "feddyn", "qfedavg", "fedasync"}
    assert find("fedasync").schedules == ("asynchronous",)
    assert find("scaffold").schedules == ("synchronous",)
