"""Whom an edge lets in: its own enrolment keys, and the devices that registered with them.

The rules are the portal's. A device's Ed25519 public key is its identity; registering again with the same pair is the
same device with a fresh key, whose first use ends the one before; another pair under a taken identifier is refused.
Keys are 256 random bits, so their SHA-256 is what is kept. The portal hears of none of this.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedportal_sdk._config import KEY_ID_LENGTH
from fedportal_sdk.edge.store import Store
from fedwire.errors import FedportalError
from fedwire.messages import Registered, registration_message
from fedwire.states import DeviceState

_ALPHABET = string.digits + string.ascii_letters
_KEY = re.compile(r"edg_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}")
_HEX = {length: re.compile(rf"[0-9a-f]{{{length}}}") for length in (32, 64, 128)}
MOST_FACTS = 4096  # bytes of JSON
MOST_NONCES = 100_000
# How exactly it is written down when a device was last heard of.
SEEN_SECONDS = 10.0


@dataclass(frozen=True)
class Member:
    """A device of this edge."""

    id: str
    identifier: str


class Enrolment:
    """Keys and devices in `store`. `organization` gives the id that devices are told; `now`: seconds since 1970."""

    def __init__(
        self, store: Store, organization: Callable[[], str] = str, now: Callable[[], float] = time.time
    ) -> None:
        self._store, self._organization, self._now = store, organization, now
        self._seen: dict[str, float] = {}

    # -- keys

    def make_key(self, name: str = "", *, days: int | None = None, most: int | None = None) -> str:
        """A fresh enrolment key, shown this once. It ends after `days` and enrols `most` devices; None: no limit."""
        text, now = _minted(), self._now()
        ends = now + days * 86400 if days is not None else None
        self._store.write(
            "INSERT INTO keys (id, name, secret, made_at, ends_at, most) VALUES (?, ?, ?, ?, ?, ?)",
            [text[:KEY_ID_LENGTH], name, _hash(text), now, ends, most],
        )
        return text

    def end_keys(self) -> int:
        """No enrolment key made so far enrols another device; how many were still good. Devices stay."""
        return self._store.write("UPDATE keys SET revoked_at = ? WHERE revoked_at IS NULL", [self._now()])

    # -- devices

    def register(self, token: str, said: Mapping[str, Any]) -> Registered:
        """Register a device, or give one that is registered a fresh key.

        Raises `not_authenticated`, `key_invalid`, `key_revoked`, `key_expired`, `field_invalid`, `invalid_name`,
        `signature_invalid`, `nonce_used`, `device_taken`, `device_inactive`, `enrolment_full`.
        """
        key = self._enrolling(token)
        identifier = said.get("device_identifier")
        if not isinstance(identifier, str) or not _IDENTIFIER.fullmatch(identifier):
            raise FedportalError("invalid_name", name=str(identifier)[:110])
        public_key, nonce = _hex(said, "public_key", 64), _hex(said, "nonce", 32)
        message = registration_message(
            key_id=key["id"], device_identifier=identifier, public_key=public_key, nonce=nonce
        )
        _check_signature(public_key, _hex(said, "signature", 128), message)
        fresh, facts = _minted(), _facts(said)
        with self._store.unit():
            self._use_nonce(nonce)
            device = self._entered(identifier, public_key, key)
            self._store.write(
                "UPDATE devices SET next_secret = ?, facts = ? WHERE id = ?", [_hash(fresh), facts, device]
            )
        return {
            "id": device,
            "device_identifier": identifier,
            "org_id": self._organization(),
            "device_key": fresh,
            "key_expires_at": None,
            "server_time": self._moment(),
        }

    def identify(self, token: str) -> Member:
        """The device of this key; the first use of a fresh key ends the one before.

        Raises `not_authenticated`, `key_invalid`, `device_inactive`.
        """
        if not token:
            raise FedportalError("not_authenticated")
        secret = _hash(token)
        row = self._store.one("SELECT * FROM devices WHERE secret = ? OR next_secret = ?", [secret, secret])
        if row is None or not _KEY.fullmatch(token):
            raise FedportalError("key_invalid")
        if row["state"] != DeviceState.ACTIVE:
            raise FedportalError("device_inactive", state=row["state"])
        if row["next_secret"] == secret:
            self._store.write(
                "UPDATE devices SET secret = next_secret, next_secret = '' WHERE next_secret = ?", [secret]
            )
        self.saw(row["id"])
        return Member(row["id"], row["identifier"])

    def rotate(self, member: Member) -> dict[str, Any]:
        """A fresh key for the device, shown this once."""
        fresh = _minted()
        self._store.write("UPDATE devices SET next_secret = ? WHERE id = ?", [_hash(fresh), member.id])
        return {"id": member.id, "device_key": fresh, "key_expires_at": None, "server_time": self._moment()}

    def heartbeat(self, member: Member, said: Mapping[str, Any]) -> dict[str, Any]:
        """The device is there and may say how it is. Raises `field_invalid`."""
        if said:
            row = self._store.one("SELECT facts FROM devices WHERE id = ?", [member.id])
            facts = _facts({**json.loads(row["facts"] if row else "{}"), **said})
            self._store.write("UPDATE devices SET facts = ? WHERE id = ?", [facts, member.id])
        return {"id": member.id, "state": str(DeviceState.ACTIVE), "server_time": self._moment()}

    def saw(self, device: str) -> None:
        """The device made itself heard."""
        now = self._now()
        if now - self._seen.get(device, 0.0) >= SEEN_SECONDS:
            self._seen[device] = now
            self._store.write("UPDATE devices SET seen_at = ? WHERE id = ?", [now, device])

    def is_active(self, device: str) -> bool:
        """Whether the device was not locked out."""
        row = self._store.one("SELECT state FROM devices WHERE id = ?", [device])
        return row is not None and row["state"] == DeviceState.ACTIVE

    def heard(self) -> dict[str, float]:
        """The ids of all devices that may take part, each with when it was last heard of, 0 for one that never was."""
        rows = self._store.all("SELECT id, seen_at FROM devices WHERE state = ? ORDER BY id", [DeviceState.ACTIVE])
        return {row["id"]: max(self._seen.get(row["id"], 0.0), row["seen_at"]) for row in rows}

    def listed(self) -> list[dict[str, Any]]:
        """Every device as the command line shows it."""
        rows = self._store.all("SELECT * FROM devices ORDER BY identifier")
        return [
            {
                "device_identifier": row["identifier"],
                "id": row["id"],
                "status": row["state"],
                "registered_at": _iso(row["made_at"]),
                "last_seen_at": _iso(row["seen_at"]) if row["seen_at"] else None,
                "sdk_version": json.loads(row["facts"]).get("sdk_version", ""),
            }
            for row in rows
        ]

    def revoke(self, identifier: str) -> None:
        """Lock the device out at once and for good. Raises `not_found`."""
        self._change(identifier, "UPDATE devices SET state = 'revoked' WHERE id = ?")

    def reset(self, identifier: str) -> None:
        """Let the identifier be registered with another key pair; its keys end. Raises `not_found`,
        `device_inactive`."""
        row = self._store.one("SELECT state FROM devices WHERE ? IN (identifier, id)", [identifier])
        if row is not None and row["state"] != DeviceState.ACTIVE:
            raise FedportalError("device_inactive", state=row["state"])
        self._change(identifier, "UPDATE devices SET public_key = '', secret = '-', next_secret = '' WHERE id = ?")

    # -- inside

    def _enrolling(self, token: str) -> Any:
        """The row of an enrolment key that is good. Raises what is wrong with it."""
        if not token:
            raise FedportalError("not_authenticated")
        row = self._store.one("SELECT * FROM keys WHERE id = ?", [token[:KEY_ID_LENGTH]])
        if not secrets.compare_digest(_hash(token), row["secret"] if row is not None else "") or row is None:
            raise FedportalError("key_invalid")
        if row["revoked_at"] is not None:
            raise FedportalError("key_revoked")
        if row["ends_at"] is not None and row["ends_at"] <= self._now():
            raise FedportalError("key_expired", expired_at=_iso(row["ends_at"]))
        return row

    def _entered(self, identifier: str, public_key: str, key: Any) -> str:
        """The id of the device, made if it is new. Call it inside a unit."""
        row = self._store.one("SELECT * FROM devices WHERE identifier = ?", [identifier])
        if row is not None:
            if row["state"] != DeviceState.ACTIVE:
                raise FedportalError("device_inactive", state=row["state"])
            if row["public_key"] not in ("", public_key):
                raise FedportalError("device_taken", identifier=identifier)
            self._store.write("UPDATE devices SET public_key = ? WHERE id = ?", [public_key, row["id"]])
            return str(row["id"])
        have = self._store.one("SELECT COUNT(*) AS n FROM devices WHERE enrolled_with = ?", [key["id"]])
        if key["most"] is not None and have is not None and have["n"] >= key["most"]:
            raise FedportalError("enrolment_full", limit=key["most"])
        fresh = new_id("dev")
        self._store.write(
            "INSERT INTO devices (id, identifier, public_key, enrolled_with, secret, state, made_at, seen_at)"
            " VALUES (?, ?, ?, ?, '-', ?, ?, 0)",
            [fresh, identifier, public_key, key["id"], DeviceState.ACTIVE, self._now()],
        )
        return fresh

    def _use_nonce(self, nonce: str) -> None:
        if not self._store.write("INSERT OR IGNORE INTO nonces (nonce, at) VALUES (?, ?)", [nonce, self._now()]):
            raise FedportalError("nonce_used")
        self._store.write("DELETE FROM nonces WHERE rowid <= (SELECT MAX(rowid) FROM nonces) - ?", [MOST_NONCES])

    def _change(self, identifier: str, statement: str) -> None:
        row = self._store.one("SELECT id FROM devices WHERE ? IN (identifier, id)", [identifier])
        if row is None:
            raise FedportalError("not_found", what="device")
        self._store.write(statement, [row["id"]])

    def _moment(self) -> str:
        return _iso(self._now())


def new_id(prefix: str) -> str:
    """A fresh id such as `dev_4f9…`."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


def _minted() -> str:
    """A fresh key of the shape that keys have."""
    parts = ("".join(secrets.choice(_ALPHABET) for _ in range(length)) for length in (8, 43, 6))
    return "edg_" + "_".join(parts)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _hex(said: Mapping[str, Any], field: str, length: int) -> str:
    value = said.get(field)
    if not isinstance(value, str) or not _HEX[length].fullmatch(value):
        raise FedportalError("field_invalid", field=field, reason=f"it must be {length} lower-case hexadecimal digits.")
    return value


def _facts(said: Mapping[str, Any]) -> str:
    """What the device says about its machine, as JSON. Raises `field_invalid`."""
    kept = {name: said[name] for name in ("platform", "os_version", "sdk_version", "capabilities") if name in said}
    text = json.dumps(kept)
    if len(text) > MOST_FACTS:
        raise FedportalError("field_invalid", field="capabilities", reason=f"at most {MOST_FACTS} bytes.")
    return text


def _check_signature(public_key: str, signature: str, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError) as error:
        raise FedportalError("signature_invalid") from error
