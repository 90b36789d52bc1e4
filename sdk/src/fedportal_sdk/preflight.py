"""Whether this device could train a model, looked at before any training: data, rows, memory, model, clock, SDK.

What is found are codes and a few numbers (`fedwire.checks`); sentences that quote the data stay on this device.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from fedportal_sdk.local import Arrays, Work
from fedwire import checks
from fedwire.architectures import STD, Architecture
from fedwire.errors import FedportalError
from fedwire.messages import Task
from fedwire.tensors import Manifest
from fedwire.version import VERSION

MEMORY = Path("/proc/meminfo")


@dataclass
class Found:
    """What is the matter, in full: `failed` and `warned` hold errors with their values, which stay here."""

    failed: list[FedportalError] = field(default_factory=list)
    warned: list[FedportalError] = field(default_factory=list)
    clock_seconds: float | None = None
    memory_mb: int | None = None

    def report(self) -> checks.Report:
        """What of it leaves the device."""
        report: checks.Report = {
            "failed": [error.code for error in self.failed],
            "warned": [error.code for error in self.warned],
            "sdk_version": VERSION,
        }
        if self.clock_seconds is not None:
            report["clock_seconds"] = round(self.clock_seconds, 1)
        if self.memory_mb is not None:
            report["memory_mb"] = self.memory_mb
        return report


def examined(
    task: Task, work: Work, model: Callable[[], Arrays], *, least_records: int = 0, ahead: float | None = None
) -> Found:
    """What stands in the way of training the task's model here. `model` gives its weights, and is not called when there
    is no memory for them. `least_records`: this device's own floor. `ahead`: by how many seconds this clock is ahead of
    the portal's, where it is known."""
    asked: Mapping[str, Any] = task.get("check", {})
    found = Found(clock_seconds=ahead, memory_mb=free_memory_mb())
    _look_at_machine(found, str(asked.get("sdk_version", "")))
    floor = max(int(asked.get("least_records", 0)), least_records)
    if work.records is not None and work.records < floor:
        found.failed.append(FedportalError(checks.TOO_FEW, least=floor))
    found.failed += work.unusable(task)
    if not _lacks_memory(found, task, work):
        try:
            found.failed += work.unable(task, model())
        except FedportalError as error:
            if error.status != 400:  # the portal, and not the model, is the matter
                raise
            found.failed.append(error)
    known = {error.code: error for error in reversed(found.failed)}
    found.failed = [error for error in found.failed if known[error.code] is error]
    return found


def ahead_of(task: Task, received: float | None = None) -> float:
    """By how many seconds this machine's clock is ahead of the portal's, when the task came at `received` (now)."""
    then = datetime.fromisoformat(task["deadline"]).timestamp() - task["seconds_left"]
    return (time.time() if received is None else received) - then


def blank(manifest: Manifest) -> Arrays:
    """A model of this shape that was never trained."""
    return {
        spec.name: (np.ones if spec.name == STD else np.zeros)(
            spec.shape, np.int64 if spec.dtype.startswith("I") else np.float32
        )
        for spec in manifest.tensors
    }


def free_memory_mb() -> int | None:
    """How many megabytes programs can still get, None where the system does not say."""
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") >> 20
        except (AttributeError, ValueError, OSError):
            return None


def _look_at_machine(found: Found, portal: str) -> None:
    off = abs(found.clock_seconds or 0.0)
    if off > checks.MOST_CLOCK_SECONDS:
        found.warned.append(FedportalError(checks.CLOCK, seconds=round(off)))
    if portal and checks.is_older(VERSION, portal):
        found.warned.append(FedportalError(checks.OLD, own=VERSION, other=portal))


def _lacks_memory(found: Found, task: Task, work: Work) -> bool:
    inputs = Architecture.parse(task["architecture"]).inputs if task["architecture"] else 0
    size = Manifest.from_json(task["manifest"]).model_bytes
    needed = checks.memory_needed(size, work.records or 0, inputs) >> 20
    if found.memory_mb is None or found.memory_mb >= needed:
        return False
    found.failed.append(FedportalError(checks.NO_MEMORY, free=found.memory_mb, needed=needed))
    return True
