"""What is signed in a session, in one spelling: JSON with sorted names and no spaces, bytes as hexadecimal.

A signature covers the protocol, the kind of the statement and all of its fields, so that none can stand for another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedwire.errors import FedportalError

PROTOCOL = "fp-sa/1"
KEY_BYTES, SIGNATURE_BYTES, DIGEST_BYTES = 32, 64, 32


def spelled(value: Any) -> bytes:
    """The one spelling of a JSON value. Raises ValueError for NaN and infinity, TypeError for what JSON has not."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of the spelling, hexadecimal."""
    return hashlib.sha256(spelled(value)).hexdigest()


def sign(key: Ed25519PrivateKey, kind: str, fields: Mapping[str, Any]) -> str:
    """The signature of a statement, hexadecimal."""
    return key.sign(_signed(kind, fields)).hex()


def is_signed(public: str, kind: str, fields: Mapping[str, Any], signature: str) -> bool:
    """Whether the key (hexadecimal) signed this statement. What is no key or no signature is none."""
    if not (is_hex(public, KEY_BYTES) and is_hex(signature, SIGNATURE_BYTES)):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            bytes.fromhex(signature), _signed(kind, fields)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def by_name(said: Any) -> dict[str, Any]:
    """The fields of a dataclass of words and numbers. `asdict` copies each, for the case that it is a list."""
    return {field.name: getattr(said, field.name) for field in fields(said)}


def is_hex(text: Any, length: int) -> bool:
    """Whether these are so many bytes in the one spelling that they have in statements: lower-case hexadecimal."""
    return isinstance(text, str) and len(text) == 2 * length and not text.strip("0123456789abcdef")


def _signed(kind: str, fields: Mapping[str, Any]) -> bytes:
    return spelled({"protocol": PROTOCOL, "kind": kind, "fields": dict(fields)})


@dataclass(frozen=True)
class Advert:
    """D0: who takes part, with which keys. All but the names are hexadecimal.

    `identity`: the device's Ed25519 key, its identity with the portal. `seal_key`, `mask_key`: X25519, made for this
    session. `commitment`: to the secret of its own mask, see `committed`.
    """

    device: str
    organization: str
    identity: str
    seal_key: str
    mask_key: str
    commitment: str
    signature: str = ""

    def fields(self, descriptor: str) -> dict[str, Any]:
        """What its signature covers; `descriptor` is the digest of the session's terms."""
        covered = {name: value for name, value in by_name(self).items() if name != "signature"}
        return covered | {"descriptor": descriptor}

    def is_spelled(self) -> bool:
        """Whether its keys and its commitment are spelled as such are, and the two keys are not the same."""
        keys = self.identity, self.seal_key, self.mask_key
        well = all(is_hex(key, KEY_BYTES) for key in keys) and is_hex(self.commitment, DIGEST_BYTES)
        return well and self.seal_key != self.mask_key

    def is_signed(self, descriptor: str) -> bool:
        return is_signed(self.identity, "advert", self.fields(descriptor), self.signature)


def committed(session: str, device: str, secret: bytes) -> str:
    """The commitment of a device to the secret of its own mask: SHA-256, hexadecimal."""
    return hashlib.sha256(b"\0".join([b"self", session.encode(), device.encode(), secret])).hexdigest()


def roster_digest(descriptor: str, adverts: Iterable[Advert]) -> str:
    """R: the digest of who takes part under which terms, in this order."""
    return digest({"descriptor": descriptor, "adverts": [by_name(advert) for advert in adverts]})


def shares_fields(session: str, roster: str, sealed: Mapping[str, str]) -> dict[str, Any]:
    """D1: the sealed shares of a device, by device."""
    return {"session": session, "roster": roster, "sealed": digest(dict(sealed))}


def masked_fields(session: str, roster: str, sharers: Iterable[str], vector: str) -> dict[str, Any]:
    """D2: the digest of a masked vector, and with whom it is masked."""
    return {"session": session, "roster": roster, "sharers": digest(list(sharers)), "vector": vector}


def survivors_fields(session: str, roster: str, survivors: Iterable[str]) -> dict[str, Any]:
    """D3: the one list of those whose vectors are in the sum."""
    return {"session": session, "roster": roster, "survivors": digest(list(survivors))}


def unmasking_fields(session: str, roster: str, given: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """D4: the shares that a device gives, by what they are shares of."""
    return {"session": session, "roster": roster, "given": digest({key: dict(value) for key, value in given.items()})}


def refused(reason: str) -> FedportalError:
    """The refusal of a session by a device, or of a device's part by the server."""
    return FedportalError("masking_refused", reason=reason)
