"""The versions of models that a device's organization gave it: each whole and checked, changed at once, the last kept.

    <folder>/<model>/<sha256>.safetensors    files under their digests, never changed
                     current.json            which of them is in use, and which was before

A file is on the disk, synced, before `current.json` names it, and that is replaced as a whole. So a machine that loses
power at any moment has the one version or the other when it comes back, and never a half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from fedportal_sdk._shelf import SUFFIX, hashed, only_one, sync_folder, write
from fedwire.errors import FedportalError
from fedwire.latencies import counted

CURRENT = "current.json"
PIECE = 1 << 20


@dataclass(frozen=True)
class InstalledModel:
    """A version of a model as it lies in the file at `path`, which stays until another follows the next one."""

    model: str
    name: str
    version: str
    sha256: str
    path: Path
    architecture: Any = None  # as described, None without one


class Installed:
    """What lies in `folder`, which is made when something is first installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(
        self, model: str, name: str, version: str, sha256: str, content: bytes | Path, architecture: Any = None
    ) -> InstalledModel:
        """Use this version from now on; the one before stays beside it. The same again changes nothing.

        Raises `digest_mismatch` for content that is not what it is to be, and OSError; then everything is as before.
        """
        folder = self._folder / hashed(model)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store(folder, sha256, content)
        before = _noted(folder)
        fresh = {"model": model, "name": name, "version": version, "sha256": sha256, "architecture": architecture}
        if before is not None and before["sha256"] == sha256:
            fresh["previous"] = before.get("previous", "")
        else:
            fresh["previous"] = before["sha256"] if before is not None else ""
        if fresh != before:
            write(folder / CURRENT, [json.dumps(fresh).encode()])
            sync_folder(folder)
        _tidy(folder, {sha256, str(fresh["previous"])})
        return _model(folder, fresh)

    def remove(self, model: str) -> None:
        """Use no version of the model any more. Nothing happens where there is none."""
        folder = self._folder / hashed(model)
        with contextlib.suppress(FileNotFoundError):
            (folder / CURRENT).unlink()
            sync_folder(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def find(self, model: str | None = None) -> InstalledModel:
        """The version in use of `model` (id or name); of the only one there is without. Raises not_installed,
        ambiguous_name."""
        found = [one for one in self.all() if model in (None, one.model, one.name)]
        return only_one(found, model, "not_installed", lambda one: f"{one.model} ({one.name} {one.version})")

    def all(self) -> list[InstalledModel]:
        """Every model that is installed, by name."""
        folders = [path.parent for path in self._folder.glob(f"*/{CURRENT}")]
        found = [_model(folder, noted) for folder in folders if (noted := _noted(folder)) is not None]
        return sorted(found, key=lambda one: (one.name, one.model))

    def _store(self, folder: Path, sha256: str, content: bytes | Path) -> None:
        """Have the file under its digest, synced. One that lies there already is looked at again."""
        target = folder / f"{sha256}{SUFFIX}"
        if target.exists() and _digest(target) == sha256:
            return
        part = folder / f"{sha256}.part"
        try:
            with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as file:
                if isinstance(content, Path):
                    with open(content, "rb") as source:
                        shutil.copyfileobj(source, file, PIECE)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise FedportalError("digest_mismatch")
            os.replace(part, target)
            sync_folder(folder)
        finally:
            part.unlink(missing_ok=True)


class HealthCounts(TypedDict, total=False):
    """What a device tells of a version since its last report; what is left out is 0."""

    count: int  # predictions
    errors: int  # of which failed
    latencies_ms: Iterable[float]  # how long they took
    latencies: Sequence[int]  # the same where they are counted already, by `fedwire.latencies`
    judged: int  # predictions whose outcome is known
    right: int  # of which were right
    batch: str  # the report's own id: the same again counts once
    version: str  # which they are of, the installed one without


def health_report(found: InstalledModel, counts: HealthCounts) -> dict[str, Any]:
    """The report of these counts as the portal takes it. Its own id lets a repetition count once."""
    about = {"batch": counts.get("batch") or secrets.token_hex(16), "model": found.model}
    about["version"] = counts.get("version") or found.version
    numbers = {name: counts.get(name, 0) for name in ("count", "errors", "judged", "right")}
    return {**about, **numbers, "latencies": counts.get("latencies") or counted(counts.get("latencies_ms", ()))}


def _noted(folder: Path) -> dict[str, Any] | None:
    """What `current.json` says, if its file is there."""
    try:
        found = json.loads((folder / CURRENT).read_bytes())
        return found if _model(folder, found).path.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _model(folder: Path, noted: dict[str, Any]) -> InstalledModel:
    sha256 = str(noted["sha256"])
    path = folder / f"{sha256}{SUFFIX}"
    return InstalledModel(noted["model"], noted["name"], noted["version"], sha256, path, noted.get("architecture"))


def _tidy(folder: Path, keep: set[str]) -> None:
    """Remove older versions, and what an update began that was never finished because the power went."""
    for path in [*folder.glob(f"*{SUFFIX}"), *folder.glob("*.part")]:
        if path.suffix == ".part" or path.stem not in keep:
            with contextlib.suppress(OSError):  # what is left over is no reason to refuse what is there
                path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
