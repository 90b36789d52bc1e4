"""What a device does with a task where a caller's own functions train and measure; see `fedportal_sdk.local`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk import personal
from fedportal_sdk.local import Arrays, Refusal, Trained, least_of
from fedportal_sdk.slicing import Names, named, with_slices
from fedportal_sdk.trainers import Plan, Tick
from fedportal_sdk.trainers.torch import arrays_of, state_dict_of
from fedwire import metrics, reports
from fedwire.errors import FedportalError
from fedwire.histograms import Scale, scale_of
from fedwire.messages import Evaluation, Statistics, Task
from fedwire.personal import LOCAL
from fedwire.slices import disclosed
from fedwire.tensors import Float32

LocalTrainFn = Callable[[dict[str, Any]], tuple[Mapping[str, Any], int, Mapping[str, float] | None]]
EvaluateFn = Callable[[dict[str, Any]], Any]
MOST_METRICS = 50
NOTHING_HELD_OUT: Evaluation = {"samples": 0, "loss_sum": 0.0, "correct": 0}


class FunctionWork:
    """Asks the caller's own functions. With `framework="torch"` they get and may give torch tensors, else arrays."""

    # Functions know nothing of a task but its model; with a part of it that stays here they need not know either.
    abilities: ClassVar[frozenset[str]] = frozenset({LOCAL})

    def __init__(self, train_fn: LocalTrainFn, evaluate_fn: EvaluateFn | None, framework: str) -> None:
        if framework not in ("numpy", "torch"):
            raise FedportalError("field_invalid", field="framework", reason="it is numpy or torch.")
        self._train_fn = train_fn
        self._evaluate_fn = evaluate_fn
        self._framework = framework
        self._samples = 1

    @property
    def records(self) -> None:
        """Not known before the function has said it."""
        return None

    def statistics(self, task: Task) -> Statistics:
        """Refused: functions see models, not columns."""
        raise Refusal("this device trains with a function of its own and has no columns to describe")

    def train(
        self, task: Task, arrays: Arrays, tick: Tick, shift: Float32 | None = None, own: Arrays | None = None
    ) -> Trained:
        """Call the functions with copies they may change. Raises samples_invalid for a count that is none.

        Where a part of the model stays on this device, the function gets the model with this device's own part in it,
        and gives it back so.
        """
        report = None
        if task["answer"]["metrics"] and self._evaluate_fn:
            report = self._report(task, arrays)
        state, samples, measured = self._train_fn(self._state(personal.joined(arrays, own)))
        limit = task["answer"]["max_samples"]
        if isinstance(samples, bool) or not isinstance(samples, int | np.integer) or not 1 <= samples <= limit:
            raise FedportalError("samples_invalid", samples=samples, limit=limit)
        self._samples = int(samples)
        weights, stays = arrays_of(state), personal.staying(task)
        kept = {name: array for name, array in weights.items() if name in stays} if stays else None
        return Trained(weights, self._samples, report, _plain_metrics(measured), own=kept)

    def own_model(self, task: Task, arrays: Arrays, own: Arrays | None, tick: Tick) -> Arrays | None:
        """The model with this device's own part in it; None when it has none yet."""
        return personal.joined(arrays, own) if own else None

    def plan(self, task: Task) -> Plan:
        """What the task asks for; how much is done of it is the function's."""
        return Plan.of(task["training"], task["round"])

    def unusable(self, task: Task) -> list[FedportalError]:
        """Nothing is known: the rows are the function's."""
        return []

    def unable(self, task: Task, arrays: Arrays) -> list[FedportalError]:
        """Whether the weights can be given to the functions at all."""
        try:
            self._state(arrays)
        except FedportalError as error:
            return [error]
        return []

    def evaluate(self, task: Task, arrays: Arrays) -> tuple[int, Evaluation]:
        """What `evaluate_fn` reports; without one, that nothing was held out."""
        return self._samples, self._report(task, arrays) if self._evaluate_fn else dict(NOTHING_HELD_OUT)  # type: ignore[return-value]

    def _report(self, task: Task, arrays: Arrays) -> Evaluation:
        found = self._evaluate_fn(self._state(arrays)) if self._evaluate_fn else None
        if isinstance(found, tuple | list) and len(found) == 3:
            found = dict(zip(("scores", "labels", "losses"), found, strict=True))
        if not isinstance(found, Mapping):
            raise FedportalError("metrics_invalid", reason="evaluate_fn gives (scores, labels, losses) or a report")
        least = least_of(task)
        by_row = found.keys() & {"scores", "logits"}
        report = _measured(found, least, scale_of(task["answer"])) if by_row else disclosed(reports.parse(found), least)
        return reports.parse(report, least_slice=least)  # what the portal would refuse is said here

    def _state(self, arrays: Arrays) -> dict[str, Any]:
        if self._framework == "torch":
            return state_dict_of(arrays)
        return {name: np.array(array) for name, array in arrays.items()}


def _measured(found: Mapping[str, Any], least: int, scale: Scale) -> Evaluation:
    """The report on what an `evaluate_fn` gave row by row: scores or logits, labels, losses; perhaps further ones."""
    how: dict[str, Any] = {"logits": "logits" in found, "scale": scale}
    said = {"scores": found.get("logits", found.get("scores")), **{k: found.get(k, ()) for k in ("labels", "losses")}}
    rows: dict[str, Any] = dict(arrays_of(said))
    values = arrays_of(found.get("named", {}))
    pairs = {name: dict(zip(("scores", "labels"), pair, strict=True)) for name, pair in found.get("scored", {}).items()}
    scored: dict[str, Any] = {name: tuple(arrays_of(pair).values()) for name, pair in pairs.items()}
    whole = metrics.evaluation(**rows, **how, named=values, scored=scored)

    def part(mask: NDArray[np.bool_]) -> Evaluation:
        within = {name: value[mask] for name, value in values.items()}
        return metrics.evaluation(**{name: value[mask] for name, value in rows.items()}, **how, named=within)

    slices: dict[str, Names] = {
        name: named(name, names, whole["samples"]) for name, names in found.get("slices", {}).items()
    }
    return with_slices(whole, slices, least, part)


def _plain_metrics(measured: Mapping[str, Any] | None) -> dict[str, float]:
    """The finite numbers among the caller's metrics, at most fifty."""
    numbers: dict[str, float] = {}
    for name, value in (measured or {}).items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number) and len(numbers) < MOST_METRICS:
            numbers[str(name)[:60]] = number
    return numbers
