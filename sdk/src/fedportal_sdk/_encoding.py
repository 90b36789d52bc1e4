"""Updates in fewer bytes: encoding them, and remembering what a codec left out until it travels with a later one.

With error feedback (Stich, Cordonnier and Jaggi 2018, arXiv:1809.07599) a device sends encode(Δ + e) and keeps
e ← Δ + e - decode(…), the residual. It is kept on disk for each run: `after-<round>.f32` is the residual once the
answer of that round was acknowledged. Whoever answers round n begins with the newest residual of a round before n, so a
repeated attempt sends the same bytes. Until the acknowledgement a new residual waits beside them with the answer it
belongs to; a device that was killed in between asks the portal whether that answer counts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedportal_sdk._config import write_private
from fedwire import codecs
from fedwire.codecs import Bytes, Codec
from fedwire.errors import FedportalError
from fedwire.messages import Answer, Task
from fedwire.tensors import Float32, Manifest

log = logging.getLogger("fedportal")

# Of each run the residuals before and after the last round; of the runs those that were trained in lately.
KEPT_ROUNDS = 2
KEPT_RUNS = 4
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AFTER = re.compile(r"after-([0-9]{1,9})\.f32")
# Says whether the answer to a task of that id was acknowledged.
Acknowledged = Callable[[str, Answer], bool]


class Encoder:
    """Encodes one device's updates. `folder` keeps its residuals; `acknowledged` asks the portal for a lost receipt."""

    def __init__(self, folder: Path, acknowledged: Acknowledged) -> None:
        self._folder = folder
        self._acknowledged = acknowledged
        self._residual: Float32 | None = None  # of the update encoded last
        self._held = ""  # the task whose answer is on its way

    def encode(self, task: Task, manifest: Manifest, delta: Float32) -> Bytes | None:
        """The file for this update; None when the task asks for no codec. The same task and update give the same file.

        Raises `codec_unusable`, `codec_overflow`, `not_finite`.
        """
        self._residual, self._held = None, ""
        plan = task["training"].get("codec")
        if plan is None:
            return None
        codec = codecs.of(plan, manifest)
        random = codecs.draws(task["training"].get("seed", 0), task["round"])
        if not plan.get("feedback"):
            return codec.encode(delta, random)
        memory = Memory(self._folder, task["run"])
        memory.settle(task, self._acknowledged)
        before = memory.before(task["round"], len(delta))
        wanted = delta if before is None else delta + before
        content, sent = fitted(codec, wanted, random)
        self._residual = wanted - sent
        return content

    def read_back(self, task: Task, manifest: Manifest, content: memoryview, delta: Float32) -> Float32:
        """What the portal reads of the update Δ that was written as `content`."""
        plan = task["training"].get("codec")
        return delta if plan is None else codecs.of(plan, manifest).decode(np.frombuffer(content, np.uint8))

    def hold(self, task: Task, answer: Answer) -> None:
        """The update that was encoded last is about to be sent with this answer."""
        if self._residual is not None:
            Memory(self._folder, task["run"]).hold(task, answer, self._residual)
            self._residual, self._held = None, task["id"]

    def commit(self, task: Task) -> None:
        """The answer was acknowledged: what it left out is what the next update begins with."""
        if self._held == task["id"]:
            self._held = ""
            Memory(self._folder, task["run"]).commit()
            tidy(self._folder)


class Memory:
    """The residuals of one run on disk."""

    def __init__(self, folder: Path, run: str) -> None:
        if not _NAME.fullmatch(run):
            raise FedportalError("bad_request", reason="The portal's task names no run.")
        self.folder = folder / run
        self._note = self.folder / "waiting.json"
        self._waiting = self.folder / "waiting.f32"

    def before(self, number: int, length: int) -> Float32 | None:
        """The newest residual of a round before `number`; None without one of `length` finite numbers."""
        rounds = [found for found in self._rounds() if found < number]
        if not rounds:
            return None
        values = np.fromfile(self._after(max(rounds)), "<f4")
        if len(values) != length or not np.isfinite(values).all():
            log.warning("What run %s had left out is not usable any more; it is forgotten.", self.folder.name)
            return None
        return values

    def hold(self, task: Task, answer: Answer, residual: Float32) -> None:
        """Write down the residual that counts once `answer` is acknowledged. On return it is safely on disk."""
        self.forget()
        write_private(self._waiting, residual.tobytes())
        note = {"task": task["id"], "round": task["round"], "answer": answer}
        write_private(self._note, json.dumps(note).encode())

    def commit(self) -> None:
        """What waits counts now. Rounds before the last two are forgotten."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            number = int(json.loads(self._note.read_bytes())["round"])
            self._waiting.replace(self._after(number))
        self.forget()
        for number in sorted(self._rounds())[:-KEPT_ROUNDS]:
            self._after(number).unlink(missing_ok=True)

    def settle(self, task: Task, acknowledged: Acknowledged) -> None:
        """Before `task` is done: a residual that waits counts if its answer does, which the portal knows."""
        try:
            note: dict[str, Any] = json.loads(self._note.read_bytes())
            waits = note["task"] != task["id"] and self._waiting.exists() and acknowledged(note["task"], note["answer"])
        except (OSError, ValueError, KeyError, TypeError):
            waits = False
        self.commit() if waits else self.forget()

    def forget(self) -> None:
        """Nothing waits any more."""
        self._note.unlink(missing_ok=True)
        self._waiting.unlink(missing_ok=True)

    def _after(self, number: int) -> Path:
        return self.folder / f"after-{number}.f32"

    def _rounds(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return [int(match[1]) for path in self.folder.iterdir() if (match := _AFTER.fullmatch(path.name))]


def fitted(codec: Codec, wanted: Float32, random: np.random.Generator) -> tuple[Bytes, Float32]:
    """The file for `wanted` and what it says.

    A sketch says more than it knows when the update is not sparse: its noise would grow in the residual without end.
    So it is scaled by ⟨wanted, sent⟩ / ⟨sent, sent⟩ if that is below one, after which the residual is never longer than
    `wanted`.
    """
    content = codec.encode(wanted, random)
    sent = codec.decode(content)
    if codec.late:
        length = _product(sent, sent)
        share = max(_product(wanted, sent) / length, 0.0) if length else 1.0
        if share < 1:
            content = codec.encode(wanted * np.float32(share), random)
            sent = codec.decode(content)
    return content, sent


def _product(one: Float32, other: Float32) -> float:
    """⟨one, other⟩, summed in one order whatever the number of threads."""
    return float(np.add.reduce(one * other, dtype=np.float64))


def tidy(folder: Path) -> None:
    """Forget the residuals of all but the runs that were trained in last."""
    runs = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: os.stat(path).st_mtime)
    for path in runs[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)
