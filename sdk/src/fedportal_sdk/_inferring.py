"""What a device does with a plan of inference: run the model over its rows, and answer with the agreed cells or not.

Nothing of single rows leaves, and where the plan says so the cells get noise here. Noise is drawn once: an answer is on
the disk before it is sent, and a device that was started again sends the same one.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk._config import sync
from fedportal_sdk._door import DeviceDoor
from fedportal_sdk._journal import FileJournal
from fedportal_sdk._policy import DevicePolicy
from fedportal_sdk._retry import Stop, Stopped
from fedportal_sdk.local import Prepared, Refusal, TableWork, Work
from fedportal_sdk.trainers.dense import sigmoid, softmax
from fedwire import inference
from fedwire.errors import FedportalError
from fedwire.inference import Asked
from fedwire.messages import Answer, Task

T = TypeVar("T")
Remote = Callable[[Callable[[], Any]], Any]
log = logging.getLogger("fedportal")

FOLDER = "inference"
# Answers that are so old belong to tasks that are long over.
KEPT_SECONDS = 45 * 86_400.0
PASSED = frozenset({"task_closed", "answer_differs", "not_found"})
MOST_ID = 40


class Inferrer:
    """Takes tasks of the kind `infer`. `model`: id or name of the only model that this device works for; None: any."""

    def __init__(
        self,
        door: DeviceDoor,
        work: Work,
        folder: Path,
        *,
        policy: Callable[[], DevicePolicy],
        model: str | None,
        least_records: int,
        stop: Stop,
        tell: Callable[..., None],
    ) -> None:
        self._door, self._work, self._stop, self._tell = door, work, stop, tell
        self._policy, self._model, self._least_records = policy, model, least_records
        self._journal, self._answers = FileJournal(folder), _Answers(folder / FOLDER)

    def take(self, task: Task, remote: Remote) -> None:
        """Answer the task, or decline it with the reason. `remote` makes each call to the portal.

        Raises what ends taking part; a task that was closed meanwhile is passed over.
        """
        named = {"task": task["id"], "model": task["model"]}
        try:
            try:
                asked, work = self._allowed(task)
                answer = self._answers.of(task["id"], asked)
                if answer is None:
                    answer = self._counted(task, asked, work, remote, named)
                else:
                    self._spend(task)
            except Stopped:
                raise
            except (Refusal, FedportalError) as refused:
                if getattr(refused, "code", "") in PASSED:
                    raise
                # Of an error only the code leaves: its sentence may quote the data.
                reason = refused.code if isinstance(refused, FedportalError) else str(refused)
                log.warning("A plan of inference is declined: %s", refused)
                self._decline(task, remote, reason, named)
                return
            except Exception as error:
                # One plan that cannot be answered must not end what the device does for others.
                log.exception("A plan of inference failed")
                self._decline(task, remote, f"the inference failed ({type(error).__name__})", named)
                return
            self._send(task, remote, answer, named)
        except FedportalError as error:
            if error.code not in PASSED:
                raise
            self._tell("closed", reason=error.message, **named)

    def _allowed(self, task: Task) -> tuple[Asked, TableWork]:
        """What is asked for, and the rows. Raises `Refusal` for what this device does not answer as things are now,
        also when it did before: what was kept may be of yesterday, and the policy and the rows of today."""
        if not isinstance(self._work, TableWork):
            raise Refusal("an edge, or a device with a function of its own, answers no plans of inference")
        if self._model is not None and self._model not in (task["model"], task.get("model_name")):
            raise Refusal("this device works for another model at the moment")
        plan = task.get("inference")
        if plan is None:
            raise Refusal("this task does not say what it asks for")
        asked = inference.asked_of(plan["asked"])
        self._check_policy(asked, plan["federation"])
        rows = self._work.held_out_records + (self._work.records if asked.rows == inference.ALL else 0)
        floors = (task["answer"].get("least_records", 0), self._least_records, asked.least_count)
        if rows < max(floors):
            raise Refusal("this device has fewer rows than its organization, its own floor or the plan asks for")
        return asked, self._work

    def _counted(self, task: Task, asked: Asked, work: TableWork, remote: Remote, named: dict[str, Any]) -> Answer:
        """The answer, written down. Raises `Refusal`, and what is wrong with the rows."""

        def progress(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Stopped
            self._tell("downloading", done=done, total=total, **named)

        arrays = remote(lambda: self._door.model(task, progress).arrays)
        prepared = work.prepared(task, arrays)
        if prepared.architecture.classes != asked.classes:
            raise Refusal("the plan is not about the classes of its model")
        cells = self._cells(asked, prepared, arrays)
        self._spend(task)
        answer: Answer = {"samples": 0, "inference": inference.noised(asked, cells)}
        self._answers.keep(task["id"], asked, answer)
        return answer

    def _spend(self, task: Task) -> None:
        """Count the plan, once. Raises `Refusal` when that is more than the policy allows in a day."""
        if not self._journal.spend(task["id"], f"inference {task['model']}", self._policy().inferences_a_day):
            raise Refusal("this device's own policy allows no further plan over this model today")

    def _cells(self, asked: Asked, prepared: Prepared, arrays: Any) -> NDArray[np.int64]:
        rows, labels = prepared.held_out_rows, prepared.held_out_labels
        if asked.rows == inference.ALL:
            rows, labels = np.concatenate([prepared.rows, rows]), np.concatenate([prepared.labels, labels])
        outputs = prepared.trainer.forward(arrays, rows)
        if not np.isfinite(outputs).all():
            raise FedportalError("not_finite")
        return inference.cells_of(asked, *_read(outputs, asked.classes), labels)

    def _check_policy(self, asked: Asked, federation: str) -> None:
        """Raises `Refusal` for what this device's own file does not allow, whatever its organization consented to."""
        policy = self._policy()
        if not policy.inference:
            raise Refusal("this device's own policy allows no inference")
        if policy.only_masked:
            raise Refusal("this device's own policy lets nothing leave that is not masked")
        allowed = policy.masking.federations
        if allowed and federation not in allowed:
            raise Refusal("this device's own policy does not name this federation")
        if asked.least_count < policy.least_inference_count:
            raise Refusal("this device's own policy asks for cells of more rows")
        if asked.noise < policy.least_own_noise:
            raise Refusal("this device's own policy asks for more noise")

    def _send(self, task: Task, remote: Remote, answer: Answer, named: dict[str, Any]) -> None:
        try:
            remote(lambda: self._door.answer(task["id"], answer))
        except FedportalError as error:
            if error.status != 400:
                raise
            self._decline(task, remote, error.code, named)  # it would be refused again
            return
        self._tell("inferred", cells=len(answer["inference"]), **named)

    def _decline(self, task: Task, remote: Remote, reason: str, named: dict[str, Any]) -> None:
        self._tell("declined", reason=reason, **named)
        remote(lambda: self._door.decline(task["id"], reason))


class _Answers:
    """The answers given, each in a file of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, task: str, asked: Asked) -> Answer | None:
        """What was answered to this task before; None when nothing was. Raises `Refusal` if the task asked for
        something else then: the policy would be held against a noise that the answer does not have."""
        try:
            kept = json.loads(self._path(task).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if kept.get("asked") != asked.as_json():
            raise Refusal("this device has answered this task when it asked for something else")
        found: Answer = kept["answer"]
        return found

    def keep(self, task: str, asked: Asked, answer: Answer) -> None:
        """Write it down for good, before returning. Raises `Refusal` where that is not possible."""
        path = self._path(task)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._prune()
            fresh = path.with_suffix(".new")
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                json.dump({"asked": asked.as_json(), "answer": answer}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            sync(self._folder)
        except OSError as error:
            raise Refusal("this device cannot write down what it answers") from error

    def _prune(self) -> None:
        old = time.time() - KEPT_SECONDS
        for path in self._folder.iterdir():
            if path.stat().st_mtime < old:
                path.unlink(missing_ok=True)

    def _path(self, task: str) -> Path:
        if not task.replace("_", "").isalnum() or len(task) > MOST_ID:
            raise Refusal("this is no id of a task")
        return self._folder / f"{task}.json"


def _read(outputs: NDArray[Any], classes: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Scores and predicted classes of what the last layer gives."""
    if classes > 2:
        chances = softmax(outputs.astype(np.float64))
        return chances.max(axis=1), chances.argmax(axis=1)
    if classes == 2:
        scores = sigmoid(outputs[:, 0].astype(np.float64))
        return scores, (scores > 0.5).astype(np.int64)
    return outputs[:, 0], np.zeros(len(outputs), np.int64)
