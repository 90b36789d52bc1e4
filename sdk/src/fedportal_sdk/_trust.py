"""Keys that people trust: an organization's root, a device's certificate, and the members that a device has seen.

The root is made by whoever answers for the organization, on a machine of theirs, and never leaves it. A certificate is
a file that goes from there to the device; the portal is no part of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedportal_sdk._config import write_private
from fedportal_sdk._journal import FileJournal
from fedwire.errors import FedportalError
from fedwire.masking import roots
from fedwire.masking.roots import Certificate, Entry
from fedwire.masking.statements import Advert, refused

ROOT = "root_key.pem"
FORMER = "root_key.former.pem"  # the one before, which signs that another takes its place
CERTIFICATE = "certificate.json"


def root_key(home: Path, *, make: bool = False, name: str = ROOT) -> Ed25519PrivateKey:
    """The organization's root in this folder; `make`: where there is none. Raises `not_configured`."""
    path = home / name
    if make and not path.exists():
        fresh = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, fresh, keep_existing=True)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise FedportalError("not_configured", what=f"root key in {path}", variable="FEDPORTAL_HOME")
    return key


def public(key: Ed25519PrivateKey) -> str:
    """The half that others may have, hexadecimal."""
    return key.public_key().public_bytes_raw().hex()


def read_certificate(path: Path) -> Certificate:
    """The certificate in a file. Raises `field_invalid`."""
    try:
        return Certificate(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise FedportalError("field_invalid", field="certificate", reason=f"{path} holds none.") from error


class Trust:
    """What one device shows of itself, and what it demands of others. `journal` remembers the members that it saw."""

    def __init__(self, journal: FileJournal, clock: Callable[[], float] = time.time) -> None:
        self._journal, self._clock = journal, clock
        self.path = journal.path.parent / CERTIFICATE

    def certificate(self) -> dict[str, Any] | None:
        """This device's certificate, as it is sent; None when it has none."""
        return asdict(read_certificate(self.path)) if self.path.exists() else None

    def check(self, federation: str, document: Mapping[str, Any], roster: Sequence[Advert], *, certified: bool) -> None:
        """Raises `masking_refused` for a list of members that is not the one that was seen, with more at its end; and,
        where they are to be `certified`, for a roster whose devices are not.

        The first list is trusted, and remembered; nothing but a longer one takes its place. A device that was reset has
        another key than before: it is known by that from here on if its organization certified it since.
        """
        name = f"members of {federation}"
        before = self._journal.pinned(name)
        given = document.get("members") or []
        if not given:
            if before or certified:
                raise refused("there is no list of members to compare certificates with.")
            return
        entries = [Entry(**entry) for entry in given]
        members = roots.listed(federation, entries)
        length, _, head = before.partition(" ")
        roots.check_grown(entries, head, int(length or 0))
        found = {device: Certificate(**value) for device, value in (document.get("certificates") or {}).items()}
        if certified:
            roots.check_certified(members, roster, found, self._clock())
        if not self._journal.repin(name, before, f"{members.length} {members.head}"):
            raise refused("another process of this device has seen another list of members.")
        self._journal.renew(roots.certified_keys(members, roster, found, self._clock()))
