"""FedAvg by hand, and what must hold for whatever devices send."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from fedwire.errors import FedportalError
from fedwire.tensors import digest_of
from tests.aggregation.conftest import Folder, manifest_of, reference
from training.aggregation import kernels
from training.aggregation.assembly import write_model
from training.aggregation.layout import BLOCK, TILE
from training.aggregation.strategies import FEDAVG

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def vectors(length: int) -> some.SearchStrategy[np.ndarray]:
    return arrays(np.float32, length, elements=some.floats(-1e6, 1e6, width=32))


@some.composite
def rounds(draw: some.DrawFn) -> tuple[np.ndarray, list[tuple[np.ndarray, int]]]:
    """A base and one to six updates with their sample counts."""
    length = draw(some.integers(1, 40))
    rows = draw(some.lists(some.tuples(vectors(length), some.integers(1, 10_000_000)), min_size=1, max_size=6))
    return draw(vectors(length)), rows


def test_worked_example_of_two_hospitals(folder: Folder) -> None:
    # 30 rows moved by (1, 2, 0, -4), 10 rows by (-3, 2, 8, 0): ¾ and ¼.
    new, _, _ = folder.aggregate(f32(10, 20, 30, 40), [(f32(1, 2, 0, -4), 30), (f32(-3, 2, 8, 0), 10)])
    assert new.tolist() == [10.0, 22.0, 32.0, 37.0]


def test_worked_example_of_equal_counts_is_the_plain_mean(folder: Folder) -> None:
    new, _, _ = folder.aggregate(f32(0, 0), [(f32(1, -2), 7), (f32(3, 6), 7)])
    assert new.tolist() == [2.0, 2.0]


def test_single_update_is_added_unchanged(folder: Folder) -> None:
    new, _, _ = folder.aggregate(f32(1, 2, 3), [(f32(0.5, -0.25, 8), 123)])
    assert new.tolist() == [1.5, 1.75, 11.0]


def test_tensors_that_are_not_averaged_are_copied_from_the_base(folder: Folder) -> None:
    base, rows = f32(1, 2, 3, 4), [(f32(1, 1, 1, 1), 2)]
    new, _, path = folder.aggregate(base, rows, counts=[7, 2**40])
    assert new.tolist() == [2.0, 3.0, 4.0, 5.0]
    assert np.frombuffer(path.read_bytes()[-16:], "<i8").tolist() == [7, 2**40]


def test_digests_are_of_the_file_and_of_its_tensors(folder: Folder) -> None:
    for length in (3, 2 * BLOCK + 5):
        _, digests, path = folder.aggregate(np.ones(length, np.float32), [(np.ones(length, np.float32), 1)], threads=2)
        assert digests.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert digests.digest == digest_of(path)


@PROPERTY
@given(rounds())
def test_result_is_the_reference_bit_for_bit(shared_folder: Folder, drawn: tuple) -> None:
    base, rows = drawn
    new, _, _ = shared_folder.aggregate(base, rows)
    assert new.tobytes() == reference(base, rows).tobytes()


@PROPERTY
@given(rounds(), some.randoms(use_true_random=False))
def test_order_of_arrival_leaves_no_trace(shared_folder: Folder, drawn: tuple, random) -> None:
    base, rows = drawn
    shuffled = random.sample(rows, len(rows))
    assert shared_folder.aggregate(base, rows)[1] == shared_folder.aggregate(base, shuffled)[1]


@PROPERTY
@given(rounds(), some.integers(1, 50))
def test_scaling_all_counts_changes_nothing(shared_folder: Folder, drawn: tuple, factor: int) -> None:
    base, rows = drawn
    scaled = [(vector, samples * factor) for vector, samples in rows]
    assert shared_folder.aggregate(base, rows)[1] == shared_folder.aggregate(base, scaled)[1]


@PROPERTY
@given(rounds())
def test_result_lies_between_the_extreme_updates(shared_folder: Folder, drawn: tuple) -> None:
    base, rows = drawn
    new, _, _ = shared_folder.aggregate(np.zeros_like(base), rows)
    stacked = np.stack([vector for vector, _ in rows]).astype(np.float64)
    slack = 1e-5 * np.abs(stacked).max(axis=0) + 1e-30
    assert (new >= stacked.min(axis=0) - slack).all()
    assert (new <= stacked.max(axis=0) + slack).all()


@PROPERTY
@given(vectors(5), some.integers(1, 5))
def test_updates_of_zeros_leave_the_model_as_it_is(shared_folder: Folder, base: np.ndarray, count: int) -> None:
    new, _, _ = shared_folder.aggregate(base, [(np.zeros_like(base), 3)] * count)
    assert (new == base).all()


def test_number_of_threads_leaves_no_trace(folder: Folder) -> None:
    length = 3 * BLOCK + TILE // 2 + 1
    generator = np.random.default_rng(0)
    base = generator.standard_normal(length, dtype=np.float32)
    rows = [(generator.standard_normal(length, dtype=np.float32), int(n)) for n in generator.integers(1, 1000, 5)]
    results = [folder.aggregate(base, rows, threads=threads)[1] for threads in (1, 2, 3, 8)]
    assert len(set(results)) == 1
    new, _, _ = folder.aggregate(base, rows, threads=2)
    assert new.tobytes() == reference(base, rows).tobytes()


def test_every_order_of_four_gives_one_digest(folder: Folder) -> None:
    generator = np.random.default_rng(1)
    base = generator.standard_normal(1000, dtype=np.float32)
    rows = [(generator.standard_normal(1000, dtype=np.float32), n) for n in (3, 50, 7, 11)]
    assert len({folder.aggregate(base, list(order))[1] for order in itertools.permutations(rows)}) == 1


def test_equal_updates_with_other_counts_do_not_depend_on_their_order(folder: Folder) -> None:
    vector = np.random.default_rng(2).standard_normal(99, dtype=np.float32)
    forward = folder.aggregate(vector, [(vector, 1), (vector, 1000), (-vector, 7)])
    backward = folder.aggregate(vector, [(-vector, 7), (vector, 1000), (vector, 1)])
    assert forward[1] == backward[1]


def test_more_files_than_may_be_open_at_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f32(i, -i, 1), i + 1) for i in range(9)]
    together = folder.aggregate(f32(1, 2, 3), rows)[1]
    monkeypatch.setattr(kernels, "MOST_OPEN", 2)
    assert folder.aggregate(f32(1, 2, 3), rows)[1] == together


def test_sum_that_overflows_is_refused(folder: Folder) -> None:
    largest = np.finfo(np.float32).max
    with pytest.raises(FedportalError) as refused:
        folder.aggregate(f32(largest, 0), [(f32(largest, 0), 1)])
    assert refused.value.code == "not_finite"


def test_nothing_to_combine_is_refused(folder: Folder) -> None:
    with pytest.raises(ValueError, match="nothing to combine"):
        folder.aggregate(f32(1, 2), [])


def test_file_that_is_too_short_is_noticed(folder: Folder) -> None:
    manifest = manifest_of(10)
    update = folder.update(manifest, np.ones(10, np.float32), 1)
    update.path.write_bytes(update.path.read_bytes()[:-4])
    with pytest.raises(kernels.Truncated):
        write_model(
            FEDAVG,
            FEDAVG.checked({}),
            manifest=manifest,
            base=folder.model(manifest, np.ones(10, np.float32)),
            updates=[update],
            out=folder.fresh(),
        )


def test_an_error_in_a_block_ends_all_threads(folder: Folder) -> None:
    passed = []

    def stop() -> None:
        passed.append(1)
        raise InterruptedError("the claim is lost")

    length = 8 * BLOCK
    with pytest.raises(InterruptedError):
        folder.aggregate(np.ones(length, np.float32), [(np.ones(length, np.float32), 1)], threads=2, on_block=stop)
    assert len(passed) <= 2


def test_memory_does_not_grow_with_the_number_of_updates(folder: Folder) -> None:
    import tracemalloc

    manifest = manifest_of(4 * BLOCK)
    vector = np.ones(4 * BLOCK, np.float32)
    base, updates = folder.model(manifest, vector), [folder.update(manifest, vector, n) for n in range(1, 13)]

    def peak(count: int) -> int:
        """With one thread: whether two hold their buffers at the same moment is chance."""
        tracemalloc.start()
        try:
            write_model(
                FEDAVG, {}, manifest=manifest, base=base, updates=updates[:count], out=folder.fresh(), threads=1
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(2), peak(12)
    assert many - few < 200_000
    assert many < vector.nbytes / 4
