"""Taking part: wait for a task, do it, answer it, until the run is over."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from fedportal_sdk import _masking, personal, preflight
from fedportal_sdk._aside import Aside
from fedportal_sdk._door import DeviceDoor, update_of
from fedportal_sdk._encoding import Encoder
from fedportal_sdk._fitting import fits_in
from fedportal_sdk._masking import Masking
from fedportal_sdk._participation import Participation
from fedportal_sdk._retry import Stop, Stopped
from fedportal_sdk.local import Refusal, Trained, Work
from fedportal_sdk.parts import Parts
from fedportal_sdk.variates import Drift, Variates, ability_of
from fedwire import codecs, grids
from fedwire.errors import FedportalError
from fedwire.messages import Answer, Evaluation, Receipt, Task
from fedwire.states import TaskKind, is_final
from fedwire.tensors import Float32

T = TypeVar("T")
Tell = Callable[..., None]
log = logging.getLogger("fedportal")
_named = _masking.named  # what names a task in an event

LONGEST_WAIT = 25.0
# A pause after an answer that came although there was nothing to say.
EARLY_SECONDS = 2.0
# The round went on without this answer, or has it already: nothing to mend, on to the next task.
PASSED = frozenset({"task_closed", "answer_differs", "not_found"})
# The trouble is the run's and not this device's: decline, and take part again next time.
RUNS_FAULT = frozenset({"not_finite", "codec_overflow"})
# The portal does not have the update that the answer speaks of.
NOT_THERE = frozenset({"upload_incomplete", "digest_mismatch"})
RENEWABLE = frozenset({"key_expired", "key_invalid"})
# What a task may require of a device in training["requires"], beyond what its kind of work can do; anything else needs
# a newer SDK.
ABILITIES: frozenset[str] = codecs.ABILITIES | _masking.ABILITIES | {grids.ABILITY}


class Loop:
    """One call of `train` or `train_from_remote`.

    `model`: id or name of the only model to work for, None for any. `rounds`: leave after so many training rounds.
    `forever`: do not leave when a run ends. `renew` fetches a fresh device key, `refresh` does so while the present one
    still is good, if it will end soon. `least_records`: this device's own floor, which no portal lowers.
    `residuals`: where it is kept what compressed updates left out. `tell(event, **values)` is told of everything that
    happens. `masking`: its part in secure aggregation; without it, it declines that. `asides`: who takes other kinds.
    """

    def __init__(
        self,
        door: DeviceDoor,
        work: Work,
        variates: Variates,
        parts: Parts,
        *,
        model: str | None,
        rounds: int | None,
        forever: bool,
        stop: Stop,
        tell: Tell,
        renew: Callable[[], object],
        refresh: Callable[[], object] = lambda: None,
        least_records: int = 0,
        busy: threading.Event,
        residuals: Path,
        masking: Masking | None = None,
        asides: Mapping[str, Aside] = MappingProxyType({}),
    ) -> None:
        self._door, self._work, self._variates, self._parts = door, work, variates, parts
        self._model, self._rounds, self._forever = model, rounds, forever
        self._stop, self._tell, self._renew, self._busy = stop, tell, renew, busy
        self._refresh, self._least_records = refresh, least_records
        self._encoder = Encoder(residuals, self._acknowledged)
        self._masking, self._asides = masking, asides
        self._wait, self._waiting = LONGEST_WAIT, False
        self._running = ""  # the run this device works for at the moment
        self.result = Participation()

    def run(self) -> Participation:
        """Take part until the run ends, `rounds` are done or `stop` is set. Raises what a person has to mend."""
        try:
            while not self._enough():
                task = self._next()
                if task is not None:
                    self._take(task)
                elif self._over():
                    break
        except Stopped:
            self._tell("stopped")
        return self.result

    def _next(self) -> Task | None:
        """The next task; None when none came. Never asks again at once after an answer that came too early."""
        self._refresh()
        began = time.monotonic()
        try:
            task = self._remote(lambda: self._door.next_task(self._wait))
        except FedportalError as error:
            if error.code != "conflict":
                raise
            log.warning("Another process takes part as this device; the portal serves whoever asks last.")
            task = None
        if task is None and time.monotonic() - began < self._wait / 2:
            self._stop.wait(EARLY_SECONDS * (0.5 + random.random()))  # noqa: S311 (no secret)
        return task

    def _enough(self) -> bool:
        return self._rounds is not None and self.result.rounds >= self._rounds

    def _over(self) -> bool:
        """Whether the run has ended, asked when no task came for a while."""
        if not self._waiting:
            self._waiting = True
            self._tell("waiting", run=self._running)
            if not self.result.runs:
                log.warning("No run asks for this device yet. Waiting for one of %s.", self._model or "any model")
        self._wait = min(LONGEST_WAIT, self._wait * 2)
        if not self._running:
            return False
        found = self._remote(lambda: self._door.run_state(self._running))
        if not found or not is_final("run", found["state"]):
            return False
        self.result.state = found["state"]
        self.result.result_version = found.get("result_version") or None
        self._tell("finished", run=self._running, state=found["state"], result_version=self.result.result_version)
        self._variates.forget(self._running)
        self._parts.forget(self._running)
        _masking.forget(self._masking)
        self._running = ""
        return not self._forever

    def _take(self, task: Task) -> None:
        self._waiting = False
        if (aside := self._asides.get(task["kind"])) is not None:
            return aside.take(task, self._remote)
        if self._model is not None and self._model not in (task["model"], task.get("model_name")):
            self._decline(task, "this device works for another model at the moment")
            return None
        self._wait = 1.0
        self._running = task["run"]
        if task["run"] not in self.result.runs:
            self.result.runs.append(task["run"])
        self._tell("task", **_named(task))
        self._busy.set()
        try:
            self._do(task)
        except FedportalError as error:
            if error.code not in PASSED:
                raise
            self._tell("closed", reason=error.message, **_named(task))
        finally:
            self._busy.clear()

    def _do(self, task: Task) -> None:
        arrays: Any = {}
        try:
            if task["kind"] == TaskKind.CHECK:
                self._send(task, self._checked(task), None)
                return
            if task["kind"] == TaskKind.SECAGG:
                masking = _masking.of(self._masking)
                with masking.answering(task):
                    self._send(task, *masking.step(task, self._remote(lambda: self._door.document(task))))
                return
            self._check_floor(task, self._work.records)
            if task["base_digest"]:
                arrays = self._remote(lambda: self._door.model(task, self._progress("downloading", task))).arrays
        except Refusal as refusal:
            self._decline(task, str(refusal))
            return
        try:
            answer, content = self._work_on(task, arrays)
            if not answer.get("ready"):  # which stands for no number of rows
                self._check_floor(task, answer["samples"])
        except Refusal as refusal:
            self._decline(task, str(refusal))
            return
        except FedportalError as error:
            # Its sentence may quote the data; only the code leaves the device.
            self._decline(task, error.code)
            if error.code not in RUNS_FAULT:
                raise
            return
        except Stopped:
            raise
        except Exception as error:
            self._decline(task, f"the local training failed ({type(error).__name__})")
            raise
        self._send(task, answer, content)

    def _checked(self, task: Task) -> Answer:
        """What this device finds out about itself; what of it quotes the data is only logged here."""
        ahead = preflight.ahead_of(task)
        found = preflight.examined(
            task,
            self._work,
            lambda: self._remote(lambda: self._door.model(task, self._progress("downloading", task))).arrays,
            least_records=self._least_records,
            ahead=ahead,
        )
        for error in (*found.failed, *found.warned):
            log.warning("Preflight: %s %s", error.message, error.next_step)
        self._tell("checked", failed=[error.code for error in found.failed], **_named(task))
        return {"samples": 0, "check": found.report()}

    def _work_on(self, task: Task, arrays: Any) -> tuple[Answer, memoryview | None]:
        """The answer, and the update that belongs to it."""
        unknown = sorted(set(task["training"].get("requires", ())) - ABILITIES - self._work.abilities)
        if unknown:
            raise Refusal(f"this device's SDK, or its own training function, does not know {', '.join(unknown)}")
        started = time.perf_counter()
        if task["kind"] == TaskKind.STATISTICS:
            found = self._work.statistics(task)
            return {"samples": found["samples"], "statistics": found}, None
        own = self._parts.own(task, self._door.manifest(task)) if personal.keeps(task) else None
        if task["kind"] == TaskKind.EVALUATE:
            return self._evaluated(task, arrays, own), None
        if task["kind"] != TaskKind.TRAIN:
            raise Refusal(f"this device's SDK does not know tasks of kind {task['kind']}")
        _masking.check(self._masking, task)
        return self._trained(task, arrays, own, started)

    def _evaluated(self, task: Task, arrays: Any, own: Any) -> Answer:
        """What the model received, and this device's own, do on held-out rows. Its own is kept for use."""
        samples, report = self._work.evaluate(task, arrays)
        answer: Answer = {"samples": samples, "evaluation": report}
        if (measured := self._measured(task, arrays, own, keep=True)) is not None:
            answer["personal"] = measured
        return answer

    def _trained(self, task: Task, arrays: Any, own: Any, started: float) -> tuple[Answer, memoryview | None]:
        """The answer to a training task that was begun at `started`, and its update."""
        drift = self._drift(task)
        measured = self._measured(task, arrays, own) if task["answer"]["metrics"] else None
        trained = self._work.train(task, arrays, self._tick(task), drift.shift if drift else None, own)
        content, delta = self._update(task, arrays, trained.arrays)
        self._keep(task, arrays, trained)
        if drift is not None:
            # Before the answer leaves: the portal's next task says whether it counted.
            read = self._encoder.read_back(task, self._door.manifest(task), content, delta)
            vector = drift.after(read, trained.samples)
            self._variates.keep(task["run"], task["round"], task.get("counted_round", 0), vector)
        if masked := task.get("masking") is not None:
            self._check_floor(task, trained.samples)
            answer = _masking.of(self._masking).keep(task, delta, trained.samples)
        else:
            answer = {"samples": trained.samples, "sha256": hashlib.sha256(content).hexdigest()}
        answer["seconds"] = round(time.perf_counter() - started, 6)
        if trained.evaluation is not None:
            answer["evaluation"] = trained.evaluation
        if measured is not None:
            answer["personal"] = measured
        if trained.metrics and not masked and not {"noise", "gradients"} & task["training"].keys():
            answer["metrics"] = trained.metrics
        answer.update(trained.reports)  # type: ignore[typeddict-item]
        self._encoder.hold(task, answer)
        return answer, None if masked else content

    def _measured(self, task: Task, arrays: Any, own: Any, *, keep: bool = False) -> Evaluation | None:
        """The report of this device's own model, if it has one and holds rows out; `keep`: for use."""
        model = self._work.own_model(task, arrays, own, self._tick(task)) if personal.asked(task) else None
        if model is None:
            return None
        if keep:
            self._parts.keep_model(task, self._door.manifest(task), model)
        _, report = self._work.evaluate(task, model)
        return report if report["samples"] else None

    def _keep(self, task: Task, arrays: Any, trained: Trained) -> None:
        """Write down what stays here, before the answer leaves: the portal's next task says whether it counted."""
        if not personal.asked(task):
            return
        manifest = self._door.manifest(task)
        own = trained.own or {}
        personal.check_finite(own)
        if own:
            self._parts.keep(task, manifest, own)
        self._parts.keep_model(task, manifest, {**arrays, **trained.arrays, **own})

    def _drift(self, task: Task) -> Drift | None:
        """The correction that the task's strategy asks for, from what this device kept. Raises `Refusal`."""
        ability = ability_of(task)
        if ability is None:
            return None
        own = self._variates.own(task["run"], task.get("counted_round", 0), self._door.manifest(task).parameters)
        common = self._remote(lambda: self._door.state(task, self._progress("downloading", task)))
        return Drift(ability, own, common, self._work.plan(task))

    def _update(self, task: Task, arrays: Any, trained: Any) -> tuple[memoryview, Float32]:
        """The update file of `trained`, as the task's codec writes it, and the update itself: without what stays."""
        stays = personal.staying(task)
        manifest = self._door.travelling(task, stays)
        plain = update_of(manifest, arrays, {name: array for name, array in trained.items() if name not in stays})
        delta = plain[len(manifest.update_header()) :].view("<f4")
        grids.release(delta, task["training"].get("noise"))  # before anything else reads the update
        encoded = self._encoder.encode(task, manifest, delta)
        return (plain if encoded is None else encoded).data, delta

    def _acknowledged(self, task_id: str, answer: Answer) -> bool:
        """Whether the portal has this answer, given before this device was started again."""
        try:
            self._remote(lambda: self._door.answer(task_id, answer))
        except FedportalError as error:
            if error.code in PASSED | NOT_THERE or error.status == 400:
                return False
            raise
        return True

    def _check_floor(self, task: Task, records: int | None) -> None:
        """Raises `Refusal` for fewer rows than the organization's policy or this device's own floor asks for.

        The reason travels; how many rows there are does not.
        """
        asked = task["answer"].get("least_records", 0)
        for floor, whose in ((asked, "its organization's policy asks for"), (self._least_records, "its own floor")):
            if records is not None and records < floor:
                log.warning("This device trains on %d rows; the floor is %d. It declines.", records, floor)
                raise Refusal(f"this device trains on fewer rows than {whose}")

    def _send(self, task: Task, answer: Answer, content: memoryview | None) -> None:
        try:
            receipt = self._bring(task, answer, content)
        except FedportalError as error:
            if error.status == 400:  # the portal refuses the content: it would refuse it again
                self._decline(task, error.code)
            raise
        self._encoder.commit(task)
        self.result.evaluation = answer.get("evaluation", self.result.evaluation)
        if _masking.counts(task, answer):
            self.result.rounds += 1
            self.result.samples = answer["samples"]
            self.result.seconds += answer.get("seconds", 0.0)
        self._tell("answered", receipt=receipt, seconds=answer.get("seconds"), **_named(task))

    def _bring(self, task: Task, answer: Answer, content: memoryview | None) -> Receipt:
        """Upload and answer; a second time when the portal does not have what the answer speaks of."""
        progress = self._progress("uploading", task)
        again = content is not None
        within = content if content is not None and fits_in(answer, content, task["answer"]) else None
        while True:
            if content is not None and within is None:
                self._remote(lambda: self._door.upload(task["id"], content, answer["sha256"], progress))
            try:
                return self._remote(lambda: self._door.answer(task["id"], answer, within))
            except FedportalError as error:
                if not again or error.code not in NOT_THERE:
                    raise
                again = False

    def _decline(self, task: Task, reason: str) -> None:
        self._tell("declined", reason=reason, **_named(task))
        try:
            self._remote(lambda: self._door.decline(task["id"], reason))
        except FedportalError as error:
            if error.code not in PASSED:
                raise

    def _remote(self, call: Callable[[], T]) -> T:
        """The result of `call`; with a fresh key once more when the portal no longer accepts the device's key."""
        try:
            return call()
        except FedportalError as error:
            if error.code not in RENEWABLE:
                raise
            log.warning("%s Registering again.", error.message)
            self._renew()
        return call()

    def _tick(self, task: Task) -> Callable[[int, int], None]:
        named = _named(task)

        def tick(epoch: int, epochs: int) -> None:
            if self._stop.is_set():
                raise Stopped
            self._tell("training", epoch=epoch, epochs=epochs, **named)

        return tick

    def _progress(self, event: str, task: Task) -> Callable[[int, int], None]:
        named = _named(task)

        def progress(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Stopped
            self._tell(event, done=done, total=total, **named)

        return progress
