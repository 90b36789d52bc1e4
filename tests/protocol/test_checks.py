"""What the door measures while bytes pass, whatever the pieces they come in."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedportal.door.checks import ROW, Checks, Floats
from fedwire.codecs import Codec
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, TensorSpec, check_update_header, encode_update
from tests.wire.encoded import Forged, every, forged, generator, normal

SHAPE = Manifest.of([TensorSpec("w", "F32", (500,))])
HEADER = SHAPE.update_header()


def body(seed: int = 0) -> bytes:
    return encode_update(SHAPE, {"w": np.random.default_rng(seed).normal(size=500).astype("<f4")})


def checks(total: int = SHAPE.update_bytes) -> Checks:
    return Checks(
        total=total,
        header=HEADER,
        explain=lambda head, total: check_update_header(head, SHAPE, total=total),
        float32_finite=True,
    )


def fed(pieces: list[bytes]) -> Checks:
    """The checks after these pieces."""
    measured = checks()
    for piece in pieces:
        measured.feed(piece)
        assert measured.storable or not measured.header_seen
    return measured


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % len(content) for place in places), len(content)]
    return [content[start:stop] for start, stop in pairwise(edges)]


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_digest_and_norm_do_not_depend_on_the_pieces(places: list[int]) -> None:
    content = body()
    measured = fed(cut(content, places))
    assert measured.header_seen
    assert measured.sha256 == hashlib.sha256(content).hexdigest()
    vector = np.frombuffer(content, "<f4", offset=len(HEADER)).astype(np.float64)
    assert measured.norm == pytest.approx(float(np.linalg.norm(vector)), rel=1e-6)


@given(st.lists(st.integers(0, 12 * ROW + 400), max_size=8))
@settings(max_examples=50)
def test_the_norm_is_the_same_to_the_bit_however_the_pieces_are_cut(places: list[int]) -> None:
    content = np.random.default_rng(3).normal(size=3 * ROW + 100).astype("<f4").tobytes()
    whole, pieces = Floats(), Floats()
    whole.feed(memoryview(content))
    for piece in cut(content, places):
        pieces.feed(memoryview(piece))
    assert pieces.norm == whole.norm


@given(
    st.lists(st.integers(0, 10_000), max_size=20),
    st.integers(0, 499),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)
@settings(max_examples=200)
def test_no_number_that_is_none_slips_through(places: list[int], at: int, number: float) -> None:
    content = bytearray(body())
    start = len(HEADER) + 4 * at
    content[start : start + 4] = np.float32(number).tobytes()
    with pytest.raises(FedportalError) as refused:
        fed(cut(bytes(content), places))
    assert refused.value.code == "not_finite"


@given(st.lists(st.integers(0, 10_000), max_size=10), st.integers(0, len(HEADER) - 1), st.integers(1, 255))
@settings(max_examples=200)
def test_a_header_with_any_byte_changed_is_refused_before_it_is_stored(places: list[int], at: int, by: int) -> None:
    content = bytearray(body())
    content[at] ^= by
    with pytest.raises(FedportalError) as refused:
        fed(cut(bytes(content), places))
    assert refused.value.status == 400


def test_more_than_the_whole_is_refused() -> None:
    measured = checks()
    measured.feed(body())
    with pytest.raises(FedportalError) as refused:
        measured.feed(b"x")
    assert refused.value.code == "length_wrong"


@pytest.mark.parametrize("size", [1, 7, ROW - 1, ROW, ROW + 1, 5 * ROW + 3])
def test_the_norm_is_right_across_rows(size: int) -> None:
    values = np.random.default_rng(size).normal(scale=1e-3, size=size).astype("<f4")
    floats = Floats()
    floats.feed(memoryview(values.tobytes()))
    assert floats.norm == pytest.approx(float(np.linalg.norm(values.astype(np.float64))), rel=1e-6)


@pytest.mark.parametrize("value", [3.4e38, 1e20, 1e-30, 0.0])
def test_very_large_and_very_small_numbers_are_numbers(value: float) -> None:
    floats = Floats()
    floats.feed(memoryview(np.full(3 * ROW + 5, value, "<f4").tobytes()))
    expected = float(np.float32(value)) * (3 * ROW + 5) ** 0.5
    assert floats.norm == pytest.approx(expected, rel=1e-5, abs=1e-20)


def test_the_sign_of_a_number_that_is_none_does_not_cancel() -> None:
    floats = Floats()
    with pytest.raises(FedportalError):
        floats.feed(memoryview(np.array([np.inf, -np.inf], "<f4").tobytes()))


@pytest.mark.parametrize("codec", every(5000), ids=lambda codec: codec.name)
@given(places=st.lists(st.integers(0, 30_000), max_size=20))
@settings(max_examples=30, deadline=None)
def test_encoded_numbers_are_measured_in_whatever_pieces(codec: Codec, places: list[int]) -> None:
    content = codec.encode(normal(5000), generator(1))
    measured = Checks(total=codec.nbytes, header=codec.header, explain=codec.explain, codec=codec)
    for piece in cut(content.tobytes(), places):
        measured.feed(piece)
    assert measured.sha256 == hashlib.sha256(content).hexdigest()
    assert (measured.norm is None) == codec.late
    expected = np.linalg.norm(codec.decode(content).astype(np.float64))
    assert measured.measure(lambda: content) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("wrong", list(forged()), ids=lambda wrong: wrong.name)
def test_forged_encoded_content_is_refused_while_it_passes(wrong: Forged) -> None:
    checks = Checks(
        total=max(len(wrong.content), 8), header=wrong.codec.header, explain=wrong.codec.explain, codec=wrong.codec
    )
    if wrong.code in ("length_wrong", "not_safetensors"):
        return  # the announced length says so before
    with pytest.raises(FedportalError) as refused:
        checks.feed(wrong.content)
    assert refused.value.code == wrong.code
