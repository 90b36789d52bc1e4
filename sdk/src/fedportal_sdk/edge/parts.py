"""An edge's round as its devices meet it: their part of the portal's task, its files, and how it is told of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedportal_sdk.edge.enrolment import Member
from fedportal_sdk.edge.store import Store
from fedportal_sdk.edge.uploads import stored_bytes
from fedwire.errors import FedportalError
from fedwire.messages import Task
from fedwire.states import TaskKind
from fedwire.tensors import Manifest

CODEC = "codec."
SEED_BITS = 32


@dataclass
class Open:
    """The round that devices work for. `expected`: who was there when it opened."""

    task: Task
    manifest: Manifest
    folder: Path
    deadline: float
    closing: bool = False
    expected: set[str] = field(default_factory=set)
    quorum_at: float | None = None
    idle_at: float | None = None

    @property
    def id(self) -> str:
        """The portal's task."""
        return self.task["id"]

    def update(self, part: str, sha256: str) -> Path:
        """The whole update of a part. Another one lies beside the one before, which goes once nothing names it."""
        return self.folder / f"{part}.{sha256}.update"

    @property
    def model(self) -> Path:
        """The file of the model that the task starts from."""
        return self.folder / "model.safetensors"


@dataclass(frozen=True)
class Part:
    """One device's part in the open round. `upload`: the SHA-256 of its whole update, "" before it is there."""

    id: str
    state: str
    upload: str
    open: Open

    @property
    def staging(self) -> Path:
        """Where its update grows."""
        return self.open.folder / f"{self.id}.part"


def device_task(current: Open, part: str, member: Member, now: float, least_records: int) -> dict[str, Any]:
    """What a device behind the edge gets to see of the portal's task.

    The codec is left out: updates travel as float32 within the organization, so that the mean is rounded once. The seed
    is the device's own, the same for another attempt.
    """
    task, left = current.task, current.deadline - now
    training: dict[str, Any] = {name: value for name, value in task["training"].items() if name != "codec"}
    if "requires" in training:
        training["requires"] = [name for name in training["requires"] if not name.startswith(CODEC)]
    if "seed" in training:
        training["seed"] = seed_for(training["seed"], member.identifier)
    # An edge takes uploads only.
    shape: dict[str, Any] = {name: value for name, value in task["answer"].items() if name != "inline_bytes"}
    trains = task["kind"] == TaskKind.TRAIN
    shape["update_bytes"] = current.manifest.update_bytes if trains else 0
    shape["least_records"] = max(shape.get("least_records", 0), least_records)
    return {
        **task,
        "id": part,
        "deadline": iso(current.deadline),
        "seconds_left": round(left, 3),
        "training": training,
        "answer": shape,
    }


def seed_for(seed: int, identifier: str) -> int:
    """The seed of a device's work behind an edge whose own seed is `seed`."""
    digest = hashlib.sha256(f"{seed}\n{identifier}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def check_upload(current: Open, part: str, stored: str, said: str) -> None:
    """Raises `upload_incomplete` or `digest_mismatch` unless the update that an answer speaks of is there."""
    if current.task["kind"] != TaskKind.TRAIN:
        return
    if not stored:
        have = stored_bytes(current.folder / f"{part}.part")
        raise FedportalError("upload_incomplete", stored=have, expected=current.manifest.update_bytes)
    if said != stored:
        raise FedportalError("digest_mismatch")


def lay(model: bytes | Path, place: Path) -> None:
    """Put the model where devices get it: a link where the file system allows, else a copy."""
    draft = place.with_suffix(".part")
    draft.unlink(missing_ok=True)
    if isinstance(model, bytes):
        draft.write_bytes(model)
    else:
        try:
            os.link(model, draft)
        except OSError:
            shutil.copyfile(model, draft)
    with contextlib.suppress(FileNotFoundError):
        draft.replace(place)


def iso(seconds: float) -> str:
    """The moment in ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def told(store: Store) -> Mapping[str, Any] | None:
    """The open round as `fedportal edge status` tells of it; None without one."""
    row = store.one("SELECT * FROM rounds WHERE state IN ('open', 'closing') ORDER BY opened_at DESC")
    if row is None:
        return None
    task = json.loads(row["content"])
    counts = store.all("SELECT state, COUNT(*) AS n FROM parts WHERE round = ? GROUP BY state", [row["task"]])
    return {
        "model": task.get("model_name") or task["model"],
        "run": task["run"],
        "kind": task["kind"],
        "round": task["round"],
        "state": row["state"],
        "deadline": iso(row["deadline"]),
        "devices": {one["state"]: one["n"] for one in counts},
    }
