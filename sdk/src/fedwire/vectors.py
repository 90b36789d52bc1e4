"""Files of flat vectors that stand beside a model: what a server or a device remembers from round to round.

A safetensors file of float32 vectors of one length P, called `vector.0`, `vector.1`, …, in this order, with the header
padded as a model's is. So its length and the place of every number follow from P and the count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedwire.headers import TensorSpec, write_header
from fedwire.tensors import Float32, Manifest, decode_model

ITEM = 4  # bytes of a float32


def vectors_header(parameters: int, count: int) -> bytes:
    """The header of a file of `count` vectors [P]: 8 length bytes, JSON, padding."""
    return write_header(_specs(parameters, count), {"fedportal": "vectors"})


def vectors_bytes(parameters: int, count: int) -> int:
    """The exact length of such a file."""
    return len(vectors_header(parameters, count)) + ITEM * parameters * count


def encode_vector(vector: Float32) -> bytes:
    """A file of the one vector [P]."""
    return vectors_header(len(vector), 1) + np.ascontiguousarray(vector, "<f4").tobytes()


def decode_vector(content: bytes | Path, parameters: int) -> Float32:
    """The vector [P] in a file of one, read-only; a path is mapped, not read. Raises what is wrong with the file."""
    specs = _specs(parameters, 1)
    _, arrays = decode_model(content, Manifest(specs))
    vector: Float32 = arrays[specs[0].name]
    return vector


def _specs(parameters: int, count: int) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(f"vector.{number}", "F32", (parameters,)) for number in range(count))
