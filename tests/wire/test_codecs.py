"""How updates are written in fewer bytes: by hand, to the byte, and whatever the numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from fedwire import codecs
from fedwire.codecs import Float16, Int8, Plain, Sketch, TopK
from fedwire.codecs.topk import largest
from fedwire.errors import FedportalError
from fedwire.headers import parse_header
from fedwire.tensors import Float32, Manifest, TensorSpec, encode_update
from tests.wire.encoded import Forged, admit, every, forged, generator, normal, part_of, ranges

FORGED = list(forged())
MANIFEST = Manifest.of(
    [TensorSpec("b", "F32", (3,)), TensorSpec("a", "F32", (2, 2)), TensorSpec("n", "I64", (), "buffer")]
)
PROPERTY = settings(max_examples=60, deadline=None)


def vectors(most: int = 3000) -> some.SearchStrategy[Float32]:
    return arrays(np.float32, some.integers(1, most), elements=some.floats(-1e4, 1e4, width=32))


# --- worked examples -------------------------------------------------------------------------------------------------


def test_halves_are_the_nearest_ones_ties_to_even() -> None:
    codec = Float16(4)
    got = codec.decode(codec.encode(np.float32([1 / 3, -2, 1 + 2**-11, 65_519]), generator()))
    assert got.tolist() == [0.333251953125, -2.0, 1.0, 65504.0]


def test_whole_numbers_of_a_scale_by_hand() -> None:
    codec = Int8(4)
    scales, values = codec.parts(codec.encode(np.float32([254, -2, 1, 0]), generator(3)))
    draws = generator(3).random(4)
    assert scales.tolist() == [2.0]
    assert values.tolist() == [127, -1, int(0.5 + draws[2]), 0]


def test_the_largest_three_of_seven_by_hand() -> None:
    codec = TopK(7, 3)
    content = codec.encode(np.float32([1, -8, 0, 2, 4, -2, 0.5]), generator())
    assert [part.tolist() for part in codec.parts(content)] == [[8.0], [3], [1, 3, 4], [-1.0, 0.25, 0.5]]
    assert codec.decode(content).tolist() == [0, -8, 0, 2, 4, 0, 0]  # of 2 and -2 the first


def test_a_sketch_with_a_column_for_each_heavy_number_gives_them_back() -> None:
    codec = Sketch(1000, 5, 200, 3, 1)
    values = np.zeros(1000, np.float32)
    values[[7, 500, 999]] = 4, -9, 2
    assert codec.decode(codec.encode(values, generator())).tolist() == values.tolist()


def test_a_plain_codec_writes_the_update_as_ever() -> None:
    values = normal(7)
    rows = {"a": values[:4].reshape(2, 2), "b": values[4:]}
    plain = codecs.of(None, MANIFEST)
    assert plain.encode(values, generator()).tobytes() == encode_update(MANIFEST, rows)
    assert (plain.header, plain.nbytes) == (MANIFEST.update_header(), MANIFEST.update_bytes)
    assert codecs.of_header(plain.header) is None


# --- to the byte -----------------------------------------------------------------------------------------------------

GOLDEN = {
    "float16": ({"name": "float16"}, 206, "ddd55d46b560601930ec346a9e1196efb6d5dbe2f0636db7def7bd3795ba84df"),
    "int8": ({"name": "int8"}, 203, "83b3d6f1b6ea20789ea048c6c5fa517f58deff4025e7c70cc80a97d237d72b7a"),
    "topk": ({"name": "topk", "kept": 2}, 400, "05cc3d7e086206c2e161e83ba8f3ad5943ac5154b372077e04f628b0118c7b52"),
    "sketch": (
        {"name": "sketch", "rows": 3, "columns": 2, "kept": 2, "seed": 7},
        216,
        "8044971fd3a94b6095791043c7774a2135fabc58d9c3e1a0257f9e2d6cb8d2ec",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_are_the_ones_of_the_protocol(name: str) -> None:
    plan, length, digest = GOLDEN[name]
    codec = codecs.of(plan, MANIFEST)
    content = codec.encode(np.float32([1, -2, 0.5, 0, 0.25, -4, 3]), generator(7, 3)).tobytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (length, digest)


@pytest.mark.parametrize("codec", every(5000), ids=lambda codec: codec.name)
def test_header_length_and_places_are_known_before_the_first_number(codec: codecs.Codec) -> None:
    content = codec.encode(normal(5000), generator()).tobytes()
    found, start = parse_header(content, total=len(content))
    assert (found.tensors, start) == (codec.specs, len(codec.header))
    assert start % 64 == 0
    assert len(content) == codec.nbytes
    again = codecs.of_header(codec.header)
    assert again is not None
    assert (type(again), again.header, again.nbytes) == (type(codec), codec.header, codec.nbytes)


def test_one_hundredth_of_the_numbers_takes_a_forty_fifth_of_the_bytes_or_less() -> None:
    for numbers in (50_000, 208_330, 25_000_000):
        assert 4 * numbers / TopK(numbers, numbers // 100).nbytes >= 45
    assert 4 * 208_330 / Int8(208_330).nbytes >= 3.9


# --- properties ------------------------------------------------------------------------------------------------------


@PROPERTY
@given(vectors())
def test_whole_numbers_are_within_one_scale_of_the_truth(values: Float32) -> None:
    codec = Int8(len(values))
    content = codec.encode(values, generator(1))
    scales = np.repeat(codec.parts(content)[0], 1024)[: len(values)].astype(np.float64)
    assert (np.abs(codec.decode(content).astype(np.float64) - values) <= scales * (1 + 1e-5)).all()


def test_stochastic_rounding_is_right_on_average() -> None:
    """The mean of n draws is off by less than six standard errors; one draw's deviation is at most half a scale."""
    values, codec, draws = normal(1024, 5), Int8(1024), 2000
    total = np.zeros(1024)
    for draw in range(draws):
        content = codec.encode(values, generator(9, draw))
        total += codec.decode(content)
    scale = float(codec.parts(content)[0][0])
    assert np.abs(total / draws - values).max() < 6 * scale / 2 / np.sqrt(draws)
    nearest = np.rint(values / scale) * scale
    assert np.abs(nearest - values).max() > 0.4 * scale  # which rounding to the nearest is not


@PROPERTY
@given(vectors(), some.data())
def test_exactly_the_largest_are_kept(values: Float32, data: some.DataObject) -> None:
    kept = data.draw(some.integers(1, len(values)))
    codec = TopK(len(values), kept)
    places = largest(values, kept)
    by_magnitude = sorted(range(len(values)), key=lambda place: (-abs(values[place]), place))
    assert places.tolist() == sorted(by_magnitude[:kept])
    decoded = codec.decode(codec.encode(values, generator()))
    top = float(np.abs(values).max())
    assert np.abs(decoded[places] - values[places]).max() <= top * 2**-11 + 1e-30
    assert not decoded[np.setdiff1d(np.arange(len(values)), places)].any()


@PROPERTY
@given(arrays(np.int16, 200), arrays(np.int16, 200))
def test_the_sketch_of_a_sum_is_the_sum_of_the_sketches(one: np.ndarray, other: np.ndarray) -> None:
    codec = Sketch(200, 3, 30, 10, 5)
    first, second, both = (
        codec.parts(codec.encode(values.astype(np.float32), generator()))[0]
        for values in (one, other, one.astype(np.int32) + other)
    )
    assert (first + second == both).all()


def test_an_estimate_is_off_by_no_more_than_the_tail_allows() -> None:
    """|estimate - x| ≤ 3·‖tail‖/√columns for nearly all places, with five rows."""
    numbers, columns = 20_000, 1000
    values = normal(numbers) * np.float32(0.01)
    values[:20] = 5
    codec = Sketch(numbers, 5, columns, 20, 3)
    found = codec.estimates(codec.parts(codec.encode(values, generator()))[0], 0, numbers)
    off = np.abs(found - values) > 3 * np.linalg.norm(values[20:]) / np.sqrt(columns)
    assert np.flatnonzero(codec.decode(codec.encode(values, generator()))).tolist() == list(range(20))
    assert off[:20].sum() == 0
    assert off.mean() < 0.02


@pytest.mark.parametrize("codec", every(2 * codecs.TILE + 77), ids=lambda codec: codec.name)
def test_any_range_is_read_as_the_whole_is(codec: codecs.Codec) -> None:
    content = codec.encode(normal(codec.numbers), generator())
    whole = codec.decode(content)
    assert np.isfinite(whole).all()
    for start, stop in ranges(codec.numbers):
        assert part_of(codec, content, start, stop).tobytes() == whole[start:stop].tobytes()


def test_a_plain_update_is_read_by_ranges_across_its_tensors() -> None:
    plain, values = Plain(MANIFEST), normal(7)
    content = plain.encode(values, generator())
    for start in range(7):
        for stop in range(start + 1, 8):
            assert part_of(plain, content, start, stop).tolist() == values[start:stop].tolist()


@pytest.mark.parametrize("pieces", [7, 1000, 1 << 20])
@pytest.mark.parametrize("codec", [*every(70_001), Plain(MANIFEST)], ids=lambda codec: codec.name)
def test_norm_is_that_of_the_decoded_numbers_in_whatever_pieces(codec: codecs.Codec, pieces: int) -> None:
    content = codec.encode(normal(codec.numbers), generator())
    expected = np.linalg.norm(codec.decode(content).astype(np.float64))
    found = admit(codec, content.tobytes(), pieces)
    assert found == pytest.approx(float(expected), rel=1e-6)
    assert found == admit(codec, content.tobytes())


@pytest.mark.parametrize("codec", every(3000), ids=lambda codec: codec.name)
def test_the_same_draws_give_the_same_bytes_and_zeros_stay_zeros(codec: codecs.Codec) -> None:
    values = normal(3000)
    assert codec.encode(values, generator(4, 2)).tobytes() == codec.encode(values, generator(4, 2)).tobytes()
    nothing = codec.encode(np.zeros(3000, np.float32), generator())
    assert not codec.decode(nothing).any()
    assert admit(codec, nothing.tobytes()) == 0


@pytest.mark.parametrize("tiny", [1e-45, 1e-43, 3e-39])
def test_numbers_near_zero_are_written_too(tiny: float) -> None:
    values = np.float32([tiny, -tiny, 0])
    for codec in (Int8(3), TopK(3, 2)):
        assert np.abs(codec.decode(codec.encode(values, generator())) - values).max() <= tiny


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", FORGED, ids=lambda wrong: wrong.name)
@pytest.mark.parametrize("pieces", [7, 1 << 20])
def test_forged_content_is_refused_with_its_code(wrong: Forged, pieces: int) -> None:
    with pytest.raises(FedportalError) as refused:
        admit(wrong.codec, wrong.content, pieces)
    assert refused.value.code == wrong.code
    assert refused.value.status == 400


@pytest.mark.parametrize("codec", every(100), ids=lambda codec: codec.name)
def test_what_is_not_finite_is_not_encoded(codec: codecs.Codec) -> None:
    for number in (np.nan, np.inf, -np.inf):
        values = normal(100)
        values[50] = number
        with pytest.raises(FedportalError) as refused:
            codec.encode(values, generator())
        assert refused.value.code == "not_finite"


@pytest.mark.parametrize(
    ("codec", "values"),
    [(Float16(2), [65_520, 0]), (Int8(2), [np.finfo(np.float32).max, 0]), (Sketch(2, 1, 1, 1, 0), [3e38, 3e38])],
    ids=["float16", "int8", "sketch"],
)
def test_numbers_too_large_for_the_codec_are_refused_and_not_cut(codec: codecs.Codec, values: list[float]) -> None:
    if codec.name == "sketch":
        values = [
            value * sign[0]
            for value, (_, sign) in zip(values, [*codec._hashed(0, 1), *codec._hashed(1, 2)], strict=True)
        ]
    with pytest.raises(FedportalError) as refused:
        codec.encode(np.float32(values), generator())
    assert refused.value.code == "codec_overflow"


@pytest.mark.parametrize(
    "plan",
    [
        {"name": "zip"},
        {"name": "topk"},
        {"name": "topk", "kept": 0},
        {"name": "topk", "kept": 8},
        {"name": "topk", "kept": 1.0},
        {"name": "sketch", "rows": 2, "columns": 5, "kept": 1, "seed": 1},
        {"name": "sketch", "rows": 3, "columns": 0, "kept": 1, "seed": 1},
        {"name": "sketch", "rows": 3, "columns": 5, "kept": 1, "seed": -1},
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, object]) -> None:
    with pytest.raises(FedportalError) as refused:
        codecs.of(plan, MANIFEST)
    assert refused.value.code == "codec_unusable"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"kept":"9"', b'"kept":"x"'),
        (b'"numbers":"99"', b'"nombres":"99"'),
        (b'"topk"', b'"tank"'),
        (b'"kept":"9"', b'"kept":"8"'),
    ],
)
def test_a_header_that_describes_no_codec_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(FedportalError) as refused:
        codecs.of_header(TopK(99, 9).header.replace(old, new))
    assert refused.value.code == "codec_unusable"
