"""An edge at the portal: one device, whose work is to have its own devices work and to add up what they send.

Everything else (waiting, uploading, receipts, restarts, codecs) is what every device does, see `fedportal_sdk._loop`.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fedportal_sdk._loop import PASSED, Loop
from fedportal_sdk._retry import Stopped
from fedportal_sdk.edge.combine import Mean, fold, mean_of
from fedportal_sdk.edge.merging import merged
from fedportal_sdk.edge.rounds import Rounds
from fedportal_sdk.edge.terms import Terms, Verdict, decide, reserve
from fedportal_sdk.local import Refusal
from fedwire import codecs
from fedwire.errors import FedportalError
from fedwire.messages import Answer, Task
from fedwire.states import TaskKind
from fedwire.tensors import Float32

log = logging.getLogger("fedportal")

KINDS = (TaskKind.STATISTICS, TaskKind.TRAIN, TaskKind.EVALUATE)
# How often it is looked whether the round is complete, and whether the portal still waits for it.
LOOK_SECONDS = 0.25
ASK_SECONDS = 5.0
TOO_FEW = "fewer devices answered than this edge asks for"


class EdgeWork:
    """What an edge has in place of a `Work`: its devices' rounds, and the terms it holds them to.

    `tell_devices(n)` is called when the number of its devices changes. There are no rows, so of all that a work does
    a loop that works on no task itself asks for the abilities and the number of rows only.
    """

    # What its devices may do for it. Whoever keeps something from round to round has no place behind a mean.
    abilities: ClassVar[frozenset[str]] = frozenset({"proximal", "steps"})
    records: ClassVar[None] = None

    def __init__(self, rounds: Rounds, terms: Terms, tell_devices: Callable[[int], None]) -> None:
        self.rounds, self.terms, self.tell_devices = rounds, terms, tell_devices


class EdgeLoop(Loop):
    """A loop whose work is an `EdgeWork`. It goes on after a task that failed: its devices wait for it."""

    _told = -1

    @property
    def _edge(self) -> EdgeWork:
        work: Any = self._work
        assert isinstance(work, EdgeWork), "an edge's loop has an edge's work"
        return work

    def _next(self) -> Task | None:
        """The next task, asked for only while enough devices are there: the portal would wait for others in vain."""
        edge, waited = self._edge, False
        while (there := edge.rounds.present()) < edge.terms.least_devices:
            if not waited:
                waited = True
                self._tell("alone", there=there, least=edge.terms.least_devices)
            if self._stop.is_set():
                raise Stopped
            edge.rounds.wait(LOOK_SECONDS)
        if there != self._told:
            self._told = there
            edge.tell_devices(there)
        return super()._next()

    def _take(self, task: Task) -> None:
        """Work on the task. Whoever ends the edge for another reason finds the round as it was at the next start."""
        try:
            super()._take(task)
        except FedportalError as error:
            if error.status != 400:
                raise
            log.warning("Round %s came to nothing: %s", task["round"], error.message)
            self._tell("failed", reason=error.message, round=task["round"])
        if not self._stop.is_set():
            self._edge.rounds.end(task["id"])

    def _decline(self, task: Task, reason: str) -> None:
        self._edge.rounds.end(task["id"], reason)
        if reason not in PASSED:  # there is nothing to decline any more
            super()._decline(task, reason)

    def _checked(self, task: Task) -> Answer:
        """Refused: an edge trains nothing by itself, and devices behind it decline for themselves what they cannot."""
        raise Refusal("an edge does not check the devices behind it")

    def _work_on(self, task: Task, arrays: Any) -> tuple[Answer, memoryview | None]:
        """What the devices make of the task, as one answer. Raises `Refusal` for what a mean cannot be used for."""
        self._check_usable(task)
        rounds, began = self._edge.rounds, time.monotonic()
        model = self._door.model_file(task, lambda done, total: None) if task["base_digest"] else None
        rounds.open(task, model, _deadline(task))
        self._collect(task)
        found = rounds.close()
        answer = merged(task, found)
        self._tell("adding", devices=len(found), samples=answer["samples"], round=task["round"])
        if task["kind"] != TaskKind.TRAIN:
            answer.pop("seconds", None)
            return answer, None
        mean = mean_of(rounds.pieces(found))
        content = self._update_of(task, mean)
        answer["sha256"] = hashlib.sha256(content).hexdigest()
        answer.setdefault("seconds", round(time.monotonic() - began, 6))
        asked = task["answer"].get("reports", ())
        answer.update({name: value for name, value in mean.reports.items() if name in asked})  # type: ignore[typeddict-item]
        self._encoder.hold(task, answer)
        return answer, content

    def _check_usable(self, task: Task) -> None:
        if task["answer"].get("individual"):
            raise Refusal("the strategy must see each device's update (needs_individual_updates); an edge sends a mean")
        if task.get("masking") is not None:
            raise Refusal("secure aggregation is among single devices; an edge sends a mean of many")
        required = task["training"].get("requires", ())
        if unknown := sorted(set(required) - codecs.ABILITIES - self._edge.abilities):
            raise Refusal(f"the strategy requires {', '.join(unknown)} of each device, which a mean of devices has not")
        if task["kind"] not in KINDS:
            raise Refusal(f"this edge's SDK does not know tasks of kind {task['kind']}")

    def _collect(self, task: Task) -> None:
        """Wait until the round is complete. Raises `Refusal`, and `task_closed` when the portal went on without it."""
        edge, asked, told = self._edge, time.monotonic(), (-1, -1)
        while True:
            if self._stop.is_set():
                raise Stopped
            standing = edge.rounds.standing()
            if (now := (standing.answered, standing.unfinished)) != told:
                told = now
                self._tell("collecting", answered=now[0], unfinished=now[1], round=task["round"], kind=task["kind"])
            verdict = decide(edge.terms, standing)
            if verdict is Verdict.CLOSE:
                return
            if verdict is Verdict.GIVE_UP:
                raise Refusal(TOO_FEW)
            edge.rounds.wait(LOOK_SECONDS)
            if time.monotonic() - asked >= ASK_SECONDS:
                asked = time.monotonic()
                self._look_whether_wanted(task)

    def _look_whether_wanted(self, task: Task) -> None:
        """The portal hands an unfinished task out again, with the time that is left. Raises `task_closed`."""
        again = self._remote(lambda: self._door.next_task(0))
        if again is None or again["id"] != task["id"]:
            raise FedportalError("task_closed", task=task["id"], state="expired")
        self._edge.rounds.extend(_deadline(again))

    def _update_of(self, task: Task, mean: Mean) -> memoryview:
        """The edge's update, as the task's codec writes it; plain it is a mapped file and not in memory."""
        manifest = self._door.manifest(task)
        header = manifest.update_header()
        path = self._edge.rounds.result
        plain = np.memmap(path, np.uint8, "w+", shape=(manifest.update_bytes,))
        plain[: len(header)] = np.frombuffer(header, np.uint8)
        delta: Float32 = plain[len(header) :].view("<f4").view(np.ndarray)
        try:
            fold(mean, len(header), delta)
        except OSError as error:
            raise Refusal("an update of a device is no longer on the edge's disk") from error
        encoded = self._encoder.encode(task, manifest, delta)
        return (plain.view(np.ndarray) if encoded is None else encoded).data


def _deadline(task: Task) -> float:
    """When the devices must have answered, in seconds since 1970 by this machine's clock."""
    left = float(task["seconds_left"])
    return time.time() + left - reserve(left)
