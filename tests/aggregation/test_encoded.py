"""Encoded updates are combined as they lie, a tile at a time, with the same result as their decoded numbers."""

from __future__ import annotations

import hashlib
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fedwire import codecs
from fedwire.codecs import Codec, Int8, Sketch, TopK
from fedwire.tensors import Float32, Manifest, decode_model, flatten
from tests.aggregation.conftest import Folder, manifest_of
from tests.wire.encoded import every, generator, normal
from training.aggregation import kernels
from training.aggregation.assembly import Digests, vectors_of, write_model
from training.aggregation.kernels import Encoded, Vector
from training.aggregation.layout import BLOCK, TILE, Layout, Range
from training.aggregation.strategies import FEDAVG
from training.aggregation.transforms import Update

LENGTH = 2 * TILE + 1234
CODECS = every(LENGTH)


def stored(folder: Folder, codec: Codec, values: Float32, samples: int) -> Update:
    """An encoded update as the portal keeps it."""
    content, path = codec.encode(values, generator(samples)).tobytes(), folder.fresh()
    path.write_bytes(content)
    return Update(path, hashlib.sha256(content).hexdigest(), samples)


def combined(
    folder: Folder, codec: Codec | None, updates: list[Update], length: int = LENGTH, threads: int = 1
) -> tuple[Float32, Digests]:
    """The weights that follow zeros after these updates."""
    manifest, out = manifest_of(length), folder.fresh()
    base = folder.model(manifest, np.zeros(length, np.float32))
    digests = write_model(
        FEDAVG,
        FEDAVG.checked({}),
        manifest=manifest,
        base=base,
        updates=updates,
        out=out,
        threads=threads,
        codec=codec,
    )
    return flatten(manifest, decode_model(out, manifest)[1]), digests


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_result_is_that_of_the_decoded_numbers_bit_for_bit(folder: Folder, codec: Codec) -> None:
    rows = [(normal(LENGTH, seed), 10 * seed) for seed in (1, 2, 3)]
    updates = [stored(folder, codec, values, samples) for values, samples in rows]
    expected: Float32 | None = None
    for update in sorted(updates, key=lambda update: update.sha256):
        decoded = codec.decode(np.frombuffer(update.path.read_bytes(), np.uint8))
        part = decoded * np.float32(update.samples / 60)
        expected = part if expected is None else expected + part
    assert expected is not None
    assert combined(folder, codec, updates)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_order_of_arrival_and_number_of_threads_leave_no_trace(folder: Folder, codec: Codec) -> None:
    updates = [stored(folder, codec, normal(LENGTH, seed), seed) for seed in (1, 2, 3)]
    found = {combined(folder, codec, list(order))[1] for order in itertools.permutations(updates)}
    assert len(found) == 1


@pytest.mark.parametrize("codec", [Int8(3 * BLOCK + 5), TopK(3 * BLOCK + 5, 9000)], ids=lambda codec: codec.name)
def test_blocks_shared_among_threads_give_the_same(folder: Folder, codec: Codec) -> None:
    updates = [stored(folder, codec, normal(codec.numbers, seed), seed) for seed in (1, 2)]
    found = {combined(folder, codec, updates, codec.numbers, threads)[1] for threads in (1, 2, 3)}
    assert len(found) == 1


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_any_part_may_be_read_open_or_not(folder: Folder, codec: Codec) -> None:
    update = stored(folder, codec, normal(LENGTH, 1), 1)
    whole = codec.decode(np.frombuffer(update.path.read_bytes(), np.uint8))
    vector, into = Encoded(update.path, codec), np.empty(TILE, np.float32)
    for part in (Range(0, TILE), Range(5, 6), Range(TILE - 3, TILE + 9), Range(2 * TILE, LENGTH)):
        assert vector.read(part, into).tobytes() == whole[part.start : part.stop].tobytes()
        with vector.opened():
            assert vector.read(part, into).tobytes() == whole[part.start : part.stop].tobytes()


def test_more_files_than_may_be_open_at_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Sketch(300, 3, 60, 5, 1)
    updates = [stored(folder, codec, normal(300, seed), seed) for seed in range(1, 8)]
    together = combined(folder, codec, updates, 300)[1]
    monkeypatch.setattr(kernels, "MOST_OPEN", 2)
    assert combined(folder, codec, updates, 300)[1] == together


def test_a_file_that_is_too_short_is_noticed(folder: Folder) -> None:
    codec = TopK(300, 10)
    update = stored(folder, codec, normal(300, 1), 1)
    update.path.write_bytes(update.path.read_bytes()[:-1])
    with pytest.raises(kernels.Truncated):
        combined(folder, codec, [update], 300)


def test_plain_updates_are_read_as_ever(tmp_path: Path) -> None:
    manifest: Manifest = manifest_of(10)
    update = Update(tmp_path / "update", "0" * 64, 1)
    for codec in (None, codecs.of(None, manifest)):
        (vector,) = vectors_of([update], Layout.of(manifest), codec)
        assert type(vector) is Vector


@pytest.mark.parametrize("name", ["int8", "topk"])
def test_memory_grows_neither_with_the_updates_nor_with_the_model(folder: Folder, name: str) -> None:
    length = 2 * BLOCK
    codec: Codec = Int8(length) if name == "int8" else TopK(length, length // 100)
    updates = [stored(folder, codec, normal(length, seed), seed) for seed in range(1, 9)]

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            combined_without_reading(folder, codec, updates[:count], length)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(2), peak(8)
    assert many - few < 200_000
    assert many < 4 * length / 4


def combined_without_reading(folder: Folder, codec: Codec, updates: list[Update], length: int) -> None:
    manifest = manifest_of(length)
    base = folder.path / "base"
    if not base.exists():
        base.write_bytes(manifest.model_header() + bytes(4 * length))
    write_model(
        FEDAVG, FEDAVG.checked({}), manifest=manifest, base=base, updates=updates, out=folder.fresh(), codec=codec
    )
