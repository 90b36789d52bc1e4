"""A simulated device: the SDK's own loop over rows that were drawn for it, with a character of its own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk._door import DeviceDoor
from fedportal_sdk._http import Http
from fedportal_sdk._loop import Loop
from fedportal_sdk._retry import Flag, Patience
from fedportal_sdk.data import Table
from fedportal_sdk.local import Arrays, TableWork, Trained
from fedportal_sdk.parts import Parts
from fedportal_sdk.simulation import characters
from fedportal_sdk.simulation.characters import Character
from fedportal_sdk.simulation.rows import Dataset, Holding
from fedportal_sdk.simulation.wishes import Phase, Settings
from fedportal_sdk.trainers import Tick, trainer_for
from fedportal_sdk.variates import Variates
from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.messages import Answer, Receipt, Task
from fedwire.tensors import Float32

# Whoever dropped out comes back when its task is over for certain.
LATER = 0.5
# What the loop tells of, and what that is called here.
OUTCOMES = {"answered": "answered", "declined": "declined", "closed": "late"}


class Vanished(Exception):
    """The device dropped out in the middle of its task."""


@dataclass(frozen=True)
class Point:
    """A model that was handed out, measured on the test set. `at`: seconds since the run began, by the run's clock."""

    round: int  # training rounds behind it
    digest: str
    at: float
    accuracy: float | None
    loss: float


class Gauge:
    """Measures every model once, when the first device gets it. Threads may share one."""

    def __init__(self, data: Dataset, architecture: Architecture) -> None:
        self._data = data
        self._architecture = architecture
        self._trainer = trainer_for(architecture)
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self.points: list[Point] = []

    def measure(self, task: Task, arrays: Arrays, at: float) -> None:
        """Note how good the model is that comes with this task."""
        digest = task["base_digest"]
        with self._lock:
            if not digest or digest in self._seen:
                return
            self._seen.add(digest)
        rows = as_taken(self._data.test_rows, self._architecture, arrays)
        report = self._trainer.evaluate(arrays, rows, self._data.test_labels)
        samples = max(report["samples"], 1)
        accuracy = None if self._data.numbers else report["correct"] / samples
        point = Point(max(task["round"] - 1, 0), digest, at, accuracy, report["loss_sum"] / samples)
        with self._lock:
            self.points.append(point)


def as_taken(rows: NDArray[np.float64], architecture: Architecture, arrays: Arrays) -> Float32:
    """The rows as the model takes them: standardised where it says how."""
    if not architecture.standardise:
        return rows.astype(np.float32)
    mean, deviation = (arrays[f"standardise.{name}"].astype(np.float64) for name in ("mean", "std"))
    return ((rows - mean) / deviation).astype(np.float32)


class Rows(TableWork):
    """A device's own rows: it trains on all of them, and reports on its share of the test set.

    `taken`: when the device took its task, by the run's clock.
    """

    def __init__(self, place: int, data: Dataset, holding: Holding, character: Character, gauge: Gauge, seed: int):
        features = np.concatenate([data.rows[holding.rows], data.test_rows[holding.test_rows]])
        labels = np.concatenate([data.labels[holding.rows], data.test_labels[holding.test_rows]]).astype(np.float64)
        columns = tuple(f"column {number}" for number in range(features.shape[1]))
        super().__init__(Table(features, labels, columns, "target", "the simulated rows", named=False))
        self._aside = np.arange(len(features)) >= len(holding.rows)
        self._by_place = ~self._aside
        self._place, self._character, self._gauge, self._seed = place, character, gauge, seed
        self.taken = 0.0

    def measure(self, task: Task, arrays: Arrays) -> None:
        """Have the model that came with the task measured."""
        self._gauge.measure(task, arrays, self.taken)

    def train(
        self, task: Task, arrays: Arrays, tick: Tick, shift: Float32 | None = None, own: Arrays | None = None
    ) -> Trained:
        """As every device does; an attacker then claims something else."""
        # The portal's seed goes by the device's name, which is another in every simulation.
        seed = characters.local_seed(self._seed, self._place, task["round"])
        task = {**task, "training": {**task["training"], "seed": seed}}
        attack = self._character.attack
        trained = super().train(task, arrays, tick, shift, own)
        if attack is None:
            return trained
        weights = characters.poisoned(attack, arrays, trained.arrays, self._seed, self._place, task["round"])
        return replace(trained, arrays=weights)

    def _data_for(self, architecture: Architecture) -> tuple[Any, Any]:
        features, labels = super()._data_for(architecture)
        if self._character.kind == "label-flip":
            flipped = characters.turned(labels, architecture.classes)
            labels = np.where(self._aside, labels, flipped).astype(labels.dtype)
        return features, labels


@dataclass
class Tally:
    """What became of tasks, counted; threads share one."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # codes
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, error: str = "") -> None:
        """One more of these."""
        with self._lock:
            self.counts[what] += 1
            if error:
                self.errors[error] += 1


class Post:
    """A thread's way to the portal: its connections, and the models that it keeps. Devices take turns at it."""

    def __init__(self, url: str, ca_file: str | None, stop: Flag, folder: Path, tag: str) -> None:
        self.http = Http(url, ca_file=ca_file)
        self.door = DeviceDoor(self.http, Patience(stop), folder, tag)

    def next_task(self, device: Device, wait: float) -> Task | None:
        """The device's next task, None when none came within `wait` seconds. Raises `Stopped`."""
        self.http.token = device.key
        return self.door.next_task(wait)

    def run_state(self, device: Device, run: str) -> str:
        """How the run stands; "" when the portal does not say, because the device never worked for it."""
        self.http.token = device.key
        return str(self.door.run_state(run).get("state", ""))


class Device:
    """One of the simulated devices."""

    def __init__(self, place: int, character: Character, work: Rows, settings: Settings) -> None:
        self.place, self.character = place, character
        self.identifier = self.id = self.key = ""
        self.away_until = 0.0  # by the real clock
        self.busy = False
        self.heard = 0.0  # when it last spoke, by the real clock
        self._work, self._dropout, self._seed = work, settings.dropout, settings.seed
        self._shift: Shift | None = None
        self._turn = 0
        self.end = self._next_end()

    @property
    def away(self) -> bool:
        """Whether it dropped out and has not come back."""
        return self.away_until > time.monotonic()

    def leave(self, seconds: float) -> None:
        """The device dropped out: nobody sees it for so long."""
        self.away_until = time.monotonic() + seconds
        self.end = self._next_end()

    def do(self, task: Task, post: Post, tally: Tally, stop: Flag, folder: Path, taken: float) -> bool:
        """Do the task and answer it, or drop out where that is drawn; whether it was answered.

        What the portal refuses is counted, not raised. Raises `Stopped`.
        """
        post.http.token = self.key
        self._work.taken = taken
        if self._shift is None:
            self._shift = Shift(post.door, self._work, self.character.kind, stop, tally, folder / str(self.place))
        end = self.end
        try:
            if end == "taken":
                raise Vanished
            answered = self._shift.take(task, post, end)
            self.end = self._next_end()
            return answered
        except Vanished:
            tally.count(f"dropped: {end}")
            self.leave(task["seconds_left"] + LATER)
        except FedportalError as error:
            tally.count("refused", error.code)
            self.end = self._next_end()
        return False

    def _next_end(self) -> Phase | None:
        """Where the device will drop out of its next task; None when it will not."""
        self._turn += 1
        return characters.falls_out(self._dropout, self._seed, self.place, self._turn)


class Shift(Loop):
    """The SDK's loop for one device, given its tasks one by one; it can drop out, and send nonsense."""

    def __init__(self, door: DeviceDoor, work: Rows, kind: str, stop: Any, tally: Tally, folder: Path) -> None:
        super().__init__(
            door,
            work,
            Variates(folder / "variates"),
            Parts(folder / "personal", folder.name),
            model=None,
            rounds=None,
            forever=True,
            stop=stop,
            tell=self._told,
            renew=lambda: None,
            busy=_NOBODY_LOOKS,
            residuals=folder / "residuals",
        )
        self._rows, self._kind, self._tally = work, kind, tally
        self._post: Post | None = None
        self._end: Phase | None = None
        self._answered = False

    def take(self, task: Task, post: Post, end: Phase | None) -> bool:
        """Do this task at this post; whether it was answered.

        Raises `Vanished`, and `FedportalError` for what the portal refuses.
        """
        self._door, self._post, self._end, self._answered = post.door, post, end, False
        self._take(task)
        return self._answered

    def _work_on(self, task: Task, arrays: Any) -> tuple[Answer, memoryview | None]:
        self._rows.measure(task, arrays)
        return super()._work_on(task, arrays)

    def _bring(self, task: Task, answer: Answer, content: memoryview | None) -> Receipt:
        if self._kind == "nonsense" and content is not None:
            content = characters.nonsense(content)
            answer["sha256"] = hashlib.sha256(content).hexdigest()
        if self._end == "upload" and content is not None:
            self._half(task, content)
        if self._end == "answer" and content is not None:
            self._door.upload(task["id"], content, answer["sha256"], lambda *_: None)
        if self._end is not None:
            raise Vanished
        return super()._bring(task, answer, content)

    def _half(self, task: Task, content: memoryview) -> None:
        """Send one half of the update, and nothing more."""
        assert self._post is not None
        half = bytes(content[: len(content) // 2])
        headers = {
            "Upload-Offset": "0",
            "Upload-Complete": "?0",
            "Upload-Digest": hashlib.sha256(content).hexdigest(),
            "Content-Length": str(len(half)),
        }
        self._post.http.send("PUT", routes.TASK_UPDATE.format(task=task["id"]), body=half, headers=headers)

    def _told(self, event: str, **values: Any) -> None:
        outcome = OUTCOMES.get(event)
        if outcome is None:
            return
        self._answered = event == "answered"
        kind = values.get("kind", "")
        self._tally.count(f"{outcome}: {kind}" if outcome == "answered" else outcome)


# Heartbeats are the fleet's business, not each device's.
_NOBODY_LOOKS = threading.Event()
