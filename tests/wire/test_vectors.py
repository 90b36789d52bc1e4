"""Files of flat vectors: golden bytes, lengths, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from fedwire.errors import FedportalError
from fedwire.tensors import parse_header
from fedwire.vectors import decode_vector, encode_vector, vectors_bytes, vectors_header


def test_the_smallest_file_has_these_bytes() -> None:
    """Golden: the file in docs/protocol.md."""
    text = b'{"__metadata__":{"fedportal":"vectors"},"vector.0":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    header = text + b" " * (-(len(text) + 8) % 64)
    expected = len(header).to_bytes(8, "little") + header + bytes.fromhex("0000003f000000c0")
    assert encode_vector(np.array([0.5, -2], np.float32)) == expected


@pytest.mark.parametrize("length", [1, 7, 1000])
def test_a_vector_survives_its_file(length: int) -> None:
    vector = np.random.default_rng(length).standard_normal(length, dtype=np.float32)
    content = encode_vector(vector)
    assert len(content) == vectors_bytes(length, 1)
    assert decode_vector(content, length).tobytes() == vector.tobytes()


def test_several_vectors_lie_one_behind_the_other() -> None:
    found, start = parse_header(vectors_header(5, 2), total=vectors_bytes(5, 2))
    assert [(spec.name, spec.shape) for spec in found.tensors] == [("vector.0", (5,)), ("vector.1", (5,))]
    assert start + 40 == vectors_bytes(5, 2)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (encode_vector(np.zeros(3, np.float32)), "tensor_shape"),
        (encode_vector(np.zeros(2, np.float32))[:-1], "not_safetensors"),
        (vectors_header(2, 2) + bytes(16), "tensor_names"),
        (b"", "not_safetensors"),
    ],
)
def test_another_file_is_refused(content: bytes, code: str) -> None:
    with pytest.raises(FedportalError) as refused:
        decode_vector(content, 2)
    assert refused.value.code == code
