"""What stays on the device between two starts: the saved address, the device's identity and its keys.

Everything lies in one folder, `FEDPORTAL_HOME` or `~/.fedportal`, readable by its owner only:

    config.json                      url and api_key, as `fedportal login` saved them
    devices/<portal and identifier>/ private_key.pem   the device's Ed25519 key, made here, never sent
                                     edg_xxxxxxxx.json the device key, one per enrolment key
                                     variates/         what a run has it keep between rounds, see `variates`
                                     residuals/        what compressed updates left out, by run
                                     personal/         its own parts of models, and its own models, see `parts`
                                     installed/        versions its organization gave it, see `installed`
                                     masking.sqlite3   what it said in secure aggregation, and to whom, see `_journal`
                                     policy.toml       what its owner demands of that, see `_policy`
                                     edge/             what an edge of this name remembers, see `edge.store`
    models/                          the last downloaded models, by digest
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedwire.errors import FedportalError
from fedwire.messages import Registration, registration_message
from fedwire.routes import API

DEFAULT_URL = "http://127.0.0.1:8000"
# `edg_` and the eight characters after it name a key without giving it away.
KEY_ID_LENGTH = 12
# A key is changed for a fresh one after this share of its life.
ROTATE_AFTER = 2 / 3


@dataclass(frozen=True)
class DeviceRecord:
    """What the portal told this device when it registered."""

    id: str
    device_identifier: str
    org_id: str
    device_key: str
    key_id: str  # of the enrolment key it registered with
    rotate_at: str = ""  # when to ask for a fresh key, by this machine's clock in seconds; "": it does not expire


class Home:
    """The device's folder. It is made when something is first written to it."""

    def __init__(self, folder: str | Path | None = None) -> None:
        chosen = folder or os.environ.get("FEDPORTAL_HOME") or Path.home() / ".fedportal"
        self.folder = Path(chosen).expanduser()

    def settings(self) -> dict[str, Any]:
        """What `save_settings` saved; empty when nothing was."""
        return _read_json(self.folder / "config.json")

    def save_settings(self, **values: str) -> Path:
        """Keep url, api_key, … for the next start; values given before stay. Returns the file."""
        path = self.folder / "config.json"
        _write_private(path, json.dumps({**self.settings(), **values}, indent=2))
        return path

    def url(self, given: str | None = None) -> str:
        """The portal's address: the given one, FEDPORTAL_URL, the saved one, or this machine's port 8000."""
        return clean_url(given or os.environ.get("FEDPORTAL_URL") or self.settings().get("url") or DEFAULT_URL)

    def api_key(self, given: str | None = None) -> str:
        """The key: the given one, FEDPORTAL_API_KEY or the saved one; "" when there is none."""
        return str(given or os.environ.get("FEDPORTAL_API_KEY") or self.settings().get("api_key") or "").strip()

    def least_records(self, given: int | None = None) -> int:
        """This device's own floor: the given one, FEDPORTAL_LEAST_RECORDS or the saved one; 0 when there is none."""
        said = next(
            (
                value
                for value in (given, os.environ.get("FEDPORTAL_LEAST_RECORDS"), self.settings().get("least_records"))
                if value not in (None, "")
            ),
            0,
        )
        if not str(said).isascii() or not str(said).isdigit():
            raise FedportalError("field_invalid", field="least_records", reason=f"{said!r} is not a whole number.")
        return int(said)

    def ca_file(self, given: str | Path | None = None) -> str | None:
        """The file of further trusted certificates: the given one, FEDPORTAL_CA_FILE or the saved one."""
        return str(given or os.environ.get("FEDPORTAL_CA_FILE") or self.settings().get("ca_file") or "") or None

    @property
    def models(self) -> Path:
        """Where downloaded models are kept."""
        return self.folder / "models"

    def device(self, url: str, identifier: str) -> DeviceFolder:
        """The folder of one device at one portal."""
        name = hashlib.sha256(f"{url}\n{identifier}".encode()).hexdigest()[:24]
        return DeviceFolder(self.folder / "devices" / name, identifier)


class DeviceFolder:
    """One device's Ed25519 key, and the device keys it got with it."""

    def __init__(self, folder: Path, identifier: str) -> None:
        self.folder = folder
        self.identifier = identifier

    def private_key(self) -> Ed25519PrivateKey:
        """The device's key; made at the first call, and the same for every process ever after."""
        path = self.folder / "private_key.pem"
        if not path.exists():
            fresh = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            _write_private(path, fresh.decode(), keep_existing=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise FedportalError("not_configured", what=f"Ed25519 key in {path}", variable="FEDPORTAL_HOME")
        return key

    def record(self, key_id: str) -> DeviceRecord | None:
        """What the registration with this enrolment key gave, if there was one; for "" the latest registration."""
        paths = [self.folder / f"{key_id}.json"] if key_id else sorted(self.folder.glob("edg_*.json"), key=_written)
        values = _read_json(paths[-1]) if paths else {}
        try:
            needed = {name: str(values[name]) for name in DeviceRecord.__dataclass_fields__ if name != "rotate_at"}
            return DeviceRecord(**needed, rotate_at=str(values.get("rotate_at", "")))
        except KeyError:
            return None

    def keep(self, record: DeviceRecord) -> DeviceRecord:
        """Keep what the portal answered. On return it is safely on disk."""
        _write_private(self.folder / f"{record.key_id}.json", json.dumps(asdict(record), indent=2))
        return record

    def registration(self, key_id: str, nonce: str | None = None) -> Registration:
        """A registration signed by the device's own key, with a fresh nonce unless one is given."""
        private_key = self.private_key()
        nonce = nonce or secrets.token_hex(16)
        public_key = private_key.public_key().public_bytes_raw().hex()
        message = registration_message(
            key_id=key_id, device_identifier=self.identifier, public_key=public_key, nonce=nonce
        )
        return {
            "device_identifier": self.identifier,
            "public_key": public_key,
            "nonce": nonce,
            "signature": private_key.sign(message).hex(),
        }


def key_id_of(api_key: str) -> str:
    """The public part of an enrolment key. Raises `key_invalid` for what cannot be one."""
    if len(api_key) <= KEY_ID_LENGTH or not api_key.startswith("edg_") or not api_key[4:KEY_ID_LENGTH].isalnum():
        raise FedportalError("key_invalid")
    return api_key[:KEY_ID_LENGTH]


def clean_url(url: str) -> str:
    """The portal's base address without a trailing slash or `/api/v1`. Raises `field_invalid`."""
    cleaned = url.strip().rstrip("/").removesuffix(API).rstrip("/")
    try:
        parts = urlsplit(cleaned)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise FedportalError("field_invalid", field="url", reason=f"{url!r} is not an http or https address.")
    return cleaned


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _written(path: Path) -> float:
    return path.stat().st_mtime


def _write_private(path: Path, text: str, *, keep_existing: bool = False) -> None:
    write_private(path, text.encode(), keep_existing=keep_existing)


def write_private(path: Path, content: bytes, *, keep_existing: bool = False) -> None:
    """Write the file whole or not at all, readable by its owner only; with `keep_existing` the first writer wins."""
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if keep_existing:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    else:
        draft.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Let what was renamed in the folder survive a power cut, where the system can say so of folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rotate_at(answer: Mapping[str, Any]) -> str:
    """When to change the key that came with `answer`, by this machine's clock; "" when it does not expire.

    The life of the key is the difference of two times of the portal, so it matters little what this machine's clock
    says.
    """
    try:
        ends = datetime.fromisoformat(answer["key_expires_at"])
        life = (ends - datetime.fromisoformat(answer["server_time"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return ""
    return str(round(time.time() + life * ROTATE_AFTER, 3))
