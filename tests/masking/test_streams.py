"""The streams that hide, against the published vectors of what they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedwire.masking import streams

KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")


def test_agreement_is_that_of_rfc_7748() -> None:
    private = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    )
    public = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert streams.agree(private, public).hex() == expected


def test_derived_keys_are_those_of_rfc_5869() -> None:
    salt, purpose = bytes(range(13)), bytes(range(0xF0, 0xFA))
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert streams.derived(b"\x0b" * 22, salt, purpose, 42).hex() == expected


def test_seal_is_that_of_rfc_8439() -> None:
    nonce = bytes.fromhex("070000004041424344454647")
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = ChaCha20Poly1305(bytes(range(0x80, 0xA0))).encrypt(nonce, text, bytes.fromhex("50515253c0c1c2c3c4c5c6c7"))
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"


def test_signature_is_that_of_rfc_8032() -> None:
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    expected = (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert key.sign(b"\x72").hex() == expected


def test_cipher_is_that_of_sp_800_38a() -> None:
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    found = Cipher(algorithms.AES(KEY), modes.CTR(counter)).encryptor()
    assert found.update(bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")).hex() == "874d6191b620e3261bef6864990db6ce"


@pytest.mark.parametrize("word", ["<u4", "<u8"])
@pytest.mark.parametrize("length", [0, 1, 3, 7, streams.BLOCK // 4, streams.BLOCK // 4 + 1, streams.BLOCK // 2 + 5])
def test_stream_is_the_cipher_over_counters_from_zero(word: str, length: int) -> None:
    vector = np.zeros(length, word)
    streams.add(vector, KEY)
    block = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    blocks = -(-vector.nbytes // 16)
    counters = b"".join(number.to_bytes(16, "big") for number in range(blocks))
    assert vector.tobytes() == block.update(counters)[: vector.nbytes]


@pytest.mark.parametrize("word", ["<u4", "<u8"])
def test_what_was_added_is_taken_off_also_beyond_the_ring(word: str) -> None:
    vector = np.full(100_000, -1, dtype=np.dtype(word).str.replace("u", "i")).view(word)
    before = vector.copy()
    streams.add(vector, KEY)
    assert (vector != before).mean() > 0.99
    streams.subtract(vector, KEY)
    assert (vector == before).all()


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), bytes(31), b""])
def test_key_of_low_order_or_none_is_refused(public: bytes) -> None:
    with pytest.raises(ValueError, match=r"public key|shared key"):
        streams.agree(X25519PrivateKey.generate(), public)


def test_seal_opens_for_its_key_and_place_only() -> None:
    key = bytes(range(32))
    sealed = streams.seal(key, b"share", b"here")
    assert streams.unseal(key, sealed, b"here") == b"share"
    for other, text, place in ((bytes(32), sealed, b"here"), (key, sealed[:-1], b"here"), (key, sealed, b"there")):
        with pytest.raises(ValueError, match="seal"):
            streams.unseal(other, text, place)
