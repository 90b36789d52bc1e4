"""Streams of numbers that hide a vector, and the keys they come from.

A stream is AES-128 in counter mode (NIST SP 800-38A) from a zero counter, read as little-endian words of the ring; a
key is used for one stream and never again. Keys follow by HKDF-SHA256 (RFC 5869) from what two devices agree on by
X25519 (RFC 7748), bound to the session, to both of them, to the roster, and to the model that they train: devices
that were given different models have masks that do not cancel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

KEY_BYTES = 16
SEAL_BYTES = 32
TAG_BYTES = 16  # by which a sealed message is longer
# So many bytes of a stream exist at a time; they stay in the processor's cache.
BLOCK = 1 << 18
_ZERO_COUNTER = bytes(16)
_ZERO_NONCE = bytes(12)  # each key seals one message
_EMPTY = memoryview(bytes(BLOCK))


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """What both have in common, 32 bytes. Raises ValueError for a public key of low order, or none at all."""
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def derived(secret: bytes, salt: bytes, purpose: bytes, length: int) -> bytes:
    """A key for one purpose: HKDF-SHA256."""
    return HKDF(hashes.SHA256(), length, salt, purpose).derive(secret)


def seal(key: bytes, message: bytes, known: bytes) -> bytes:
    """The message for whoever has the key, which seals nothing else; TAG_BYTES longer. `known` is not sent with it."""
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, message, known)


def unseal(key: bytes, sealed: bytes, known: bytes) -> bytes:
    """The message. Raises ValueError when it was not sealed with this key for this place."""
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, known)
    except InvalidTag as error:
        raise ValueError("the seal does not hold") from error


def add(vector: NDArray[Any], key: bytes) -> None:
    """Add the key's stream to the vector (uint32 or uint64), in place and modulo its ring."""
    _fold(vector, key, np.add)


def subtract(vector: NDArray[Any], key: bytes) -> None:
    """Take the key's stream off the vector."""
    _fold(vector, key, np.subtract)


def draws(key: bytes, count: int) -> NDArray[np.uint32]:
    """The first `count` words of 32 bits of the key's stream."""
    found = np.zeros(count, "<u4")
    add(found, key)
    return found


def _fold(vector: NDArray[Any], key: bytes, fold: Any) -> None:
    word = vector.dtype.newbyteorder("<")
    each = BLOCK // word.itemsize
    encryptor = Cipher(algorithms.AES(key), modes.CTR(_ZERO_COUNTER)).encryptor()
    stream = bytearray(BLOCK + len(_ZERO_COUNTER) - 1)
    for start in range(0, len(vector), each):
        part = vector[start : start + each]
        size = len(part) * word.itemsize
        encryptor.update_into(_EMPTY[:size], stream)
        fold(part, np.frombuffer(stream, word, len(part)), out=part)
