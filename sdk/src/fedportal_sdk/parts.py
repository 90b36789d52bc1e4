"""What a device keeps of models of its own: its part of a run between rounds, and the models for use.

Both lie in the device's own folder. A part is bound to run, model and device; what does not fit is as if it were not
there, and the device begins anew from the common model: nothing that others compute depends on it. A model for use is
written whenever the device has trained or measured it, one for each model of the portal, and stays when the run is over
until it is forgotten or a later run replaces it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk._shelf import SUFFIX, Shelf, hashed, only_one, write
from fedwire.errors import FedportalError
from fedwire.headers import MAX_HEADER, parse_header, parse_metadata, write_header
from fedwire.messages import Task
from fedwire.tensors import Manifest, decode_model, spec_of

log = logging.getLogger("fedportal")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class OwnModel:
    """A model of this device's own, as it lies in the file at `path`. The arrays are read-only."""

    path: Path
    run: str
    model: str
    model_name: str
    round: int  # that of the common model it was made of
    architecture: Any  # as described, None without one

    @property
    def arrays(self) -> Arrays:
        """The tensors by name."""
        return decode_model(self.path)[1]


class Parts:
    """The own parts and own models of one device, in `folder`; `device` is its name at the portal."""

    def __init__(self, folder: Path, device: str) -> None:
        self._shelf = Shelf(folder / "parts")
        self._models = folder / "models"
        self._device = device

    def own(self, task: Task, manifest: Manifest) -> Arrays | None:
        """This device's part after the round that counted last; None before the first, or when it is lost."""
        counted = task.get("counted_round", 0)
        if not counted:
            return None
        content = self._shelf.read(task["run"], counted)
        found = _decoded(content, self._bound(task, manifest), manifest) if content is not None else None
        if found is None:
            log.warning("This device's own part of run %s is lost. It begins anew.", task["run"])
        return found

    def keep(self, task: Task, manifest: Manifest, own: Arrays) -> None:
        """Write down, synced, what this device's part is if the answer to this task counts."""
        content = _encoded(own, manifest, self._bound(task, manifest))
        self._shelf.keep(task["run"], task["round"], task.get("counted_round", 0), content)

    def keep_model(self, task: Task, manifest: Manifest, arrays: Arrays) -> None:
        """Write down this device's own model, for use."""
        about = {
            "fedportal": "personal",
            "run": task["run"],
            "model": task["model"],
            "model_name": task.get("model_name", ""),
            "round": str(task["round"]),
            "architecture": json.dumps(task["architecture"]),
        }
        write(self._file(task["model"]), _encoded(arrays, manifest, about))

    def forget(self, run: str) -> None:
        """The run is over: remove this device's part of it. Its model stays for use."""
        self._shelf.forget(run)

    def model(self, model: str | None = None) -> OwnModel:
        """The own model of `model` (id or name); the only one there is without. Raises no_personal_model,
        ambiguous_name."""
        found = [one for one in self.models() if model in (None, one.model, one.model_name)]
        return only_one(found, model, "no_personal_model", lambda one: f"{one.model} ({one.model_name})")

    def models(self) -> list[OwnModel]:
        """All own models that can be read, by name."""
        paths = sorted(self._models.glob(f"*{SUFFIX}"))
        found = [one for path in paths if (one := _about(path)) is not None]
        return sorted(found, key=lambda one: (one.model_name, one.model))

    def remove(self, found: OwnModel) -> None:
        """Forget this own model, and this device's part of its run."""
        found.path.unlink(missing_ok=True)
        self._shelf.forget(found.run)

    def _file(self, model: str) -> Path:
        return self._models / f"{hashed(model)}{SUFFIX}"

    def _bound(self, task: Task, manifest: Manifest) -> dict[str, str]:
        model = hashlib.sha256(manifest.model_header()).hexdigest()
        return {"fedportal": "personal part", "run": task["run"], "device": self._device, "model": model}


def _encoded(arrays: Arrays, manifest: Manifest, about: dict[str, str]) -> Sequence[bytes | memoryview]:
    """A safetensors file in pieces, the tensors in the manifest's order."""
    named = {spec.name: spec for spec in manifest.tensors}
    there = [name for name in named if name in arrays]
    values = {name: np.ascontiguousarray(arrays[name]) for name in there}
    specs = [spec_of(name, values[name], named[name].role) for name in there]
    return [write_header(specs, about), *(values[name].tobytes() for name in there)]


def _decoded(content: bytes, about: dict[str, str], manifest: Manifest) -> Arrays | None:
    """The tensors; None for a file that is damaged or of something else."""
    try:
        _, start = parse_header(content, total=len(content))
        said = parse_metadata(content[:start])
        _, arrays = decode_model(content)
    except FedportalError:
        return None
    shapes = {spec.name: spec.shape for spec in manifest.tensors}
    fits = all(shapes.get(name) == array.shape for name, array in arrays.items())
    return arrays if fits and all(said.get(name) == value for name, value in about.items()) else None


def _about(path: Path) -> OwnModel | None:
    try:
        with open(path, "rb") as file:
            head = file.read(MAX_HEADER + 8)
        _, start = parse_header(head, total=path.stat().st_size)
        said = parse_metadata(head[:start])
        architecture = json.loads(said["architecture"])
        return OwnModel(path, said["run"], said["model"], said["model_name"], int(said["round"]), architecture)
    except (OSError, KeyError, ValueError, FedportalError):
        return None
