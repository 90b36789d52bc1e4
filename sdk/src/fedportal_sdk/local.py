"""What a device does with a task, without knowing how it came: statistics, training, evaluation over its own rows.

`TableWork` does it for described architectures and rows of numbers; `fedportal_sdk.functions` asks those a caller gave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk import personal
from fedportal_sdk.data import Float64, Table, by_place, features_for, held_out, labels_for
from fedportal_sdk.parts import OwnModel
from fedportal_sdk.slicing import Slices, slices_of, with_slices
from fedportal_sdk.trainers import Plan, Tick, Trainer, private, trainer_for
from fedwire import effort, gradients, metrics, statistics
from fedwire.architectures import MEAN, STD, Architecture
from fedwire.errors import FedportalError
from fedwire.histograms import scale_of
from fedwire.messages import Evaluation, Statistics, Task
from fedwire.personal import ABILITIES
from fedwire.slices import floor_of
from fedwire.tensors import Float32

Arrays = Mapping[str, NDArray[Any]]
# With so many rows it is tried whether a model can be computed here at all.
ROWS_TRIED = 8


class Refusal(Exception):
    """This device cannot do this task. The reason travels to the portal, so it names nothing of the data."""


@dataclass(frozen=True)
class Trained:
    """The outcome of local training: all weights by name, the number of rows, and what was measured on the way."""

    arrays: Mapping[str, Any]
    samples: int
    evaluation: Evaluation | None = None  # of the model before training, on held-out rows
    metrics: dict[str, float] = field(default_factory=dict)
    reports: dict[str, float] = field(default_factory=dict)  # what the task asks for in answer["reports"]
    own: Arrays | None = None  # what this device keeps of a model of its own, see `fedportal_sdk.personal`


class Work(Protocol):
    """Does tasks. Raises `Refusal` for what it cannot do and `FedportalError` for what is wrong with data or result."""

    @property
    def abilities(self) -> frozenset[str]:
        """What of training["requires"] this kind of work can do."""

    @property
    def records(self) -> int | None:
        """How many rows this device trains on; None when that is known only after training."""

    def statistics(self, task: Task) -> Statistics:
        """Mean and M2 of every input column over the rows trained on."""

    def train(
        self, task: Task, arrays: Arrays, tick: Tick, shift: Float32 | None = None, own: Arrays | None = None
    ) -> Trained:
        """Train locally, beginning with `arrays`; `shift` [P] is added to the gradient of every step. `own`: what this
        device kept of a model of its own."""

    def own_model(self, task: Task, arrays: Arrays, own: Arrays | None, tick: Tick) -> Arrays | None:
        """This device's own model when it received `arrays`; None when it has none yet."""

    def plan(self, task: Task) -> Plan:
        """How much is trained, and how, as far as the task says it."""

    def unusable(self, task: Task) -> list[FedportalError]:
        """What is wrong with this device's rows for the task's model; each is told, not only the first."""

    def unable(self, task: Task, arrays: Arrays) -> list[FedportalError]:
        """Why the model cannot be built here with these weights and give finite numbers."""

    def evaluate(self, task: Task, arrays: Arrays) -> tuple[int, Evaluation]:
        """The number of rows that stand for this device, and the report of `arrays` on held-out rows."""


@dataclass(frozen=True)
class Prepared:
    """Rows as one model wants them: standardised float32, labels as numbers, in training and held-out rows."""

    architecture: Architecture
    trainer: Trainer
    rows: Float32
    labels: NDArray[Any]
    held_out_rows: Float32
    held_out_labels: NDArray[Any]

    def local(self, tick: Tick) -> personal.Local:
        """Training on these rows."""
        return personal.Local(self.trainer, self.rows, self.labels, tick)


class TableWork:
    """Trains described architectures on a table. `labels`: the classes' order; `seed` chooses the held-out rows.

    `slices`: parts of the held-out rows on which it reports beside the whole. `share`: of the steps that a task
    asks for, on a machine that cannot do all of them. Raises data_slices, field_invalid.
    """

    abilities: ClassVar[frozenset[str]] = (
        ABILITIES | {"proximal", "steps", "base_loss", "scaffold", "feddyn"} | {gradients.ABILITY}
    )

    def __init__(
        self, table: Table, labels: Sequence[Any] | None = None, seed: int = 0, slices: Slices = None, share: float = 1
    ) -> None:
        self._share = effort.checked(share)
        self._table = table
        self._labels = labels
        self._aside, self._by_place = held_out(table, seed), by_place(table, seed)
        self._slices = {name: rows[self._aside] for name, rows in slices_of(table, slices).items()}
        self._kept: tuple[Any, Prepared] | None = None
        self._taken: tuple[Architecture, Float64, NDArray[Any]] | None = None

    @property
    def records(self) -> int:
        """How many rows this device trains on: all but those that are held out."""
        return int((~self._aside).sum())

    @property
    def held_out_records(self) -> int:
        """How many rows this device measures on, and does not train on."""
        return int(self._aside.sum())

    def statistics(self, task: Task) -> Statistics:
        """Mean and M2 of every input column over the rows trained on."""
        features, _ = self._data_for(self._architecture(task))
        return statistics.of(features[~self._aside])

    def train(
        self, task: Task, arrays: Arrays, tick: Tick, shift: Float32 | None = None, own: Arrays | None = None
    ) -> Trained:
        """Measure `arrays` on the held-out rows if the task asks for it, then train from them on the others."""
        prepared = self.prepared(task, arrays)
        report = None
        if task["answer"]["metrics"]:
            report = self._report(task, arrays, prepared)
        plan = self.plan(task)
        reports = _reports(task["answer"].get("reports", ()), prepared, arrays, plan)
        if plan.share < 1:
            reports["work_share"] = plan.share
        if (asked := private.Asked.of(task["training"])) is not None:
            rows, labels = self._hidden(task, prepared, shift)
            hidden = private.trained(prepared.trainer, arrays, rows, labels, plan, asked, tick)
            return Trained(hidden, max(len(rows), 1), report, reports=reports)
        if personal.asked(task):
            weights, own = personal.trained(prepared.local(tick), task, plan, arrays, own)
            return Trained(weights, len(prepared.rows), report, reports=reports, own=own)
        weights = prepared.trainer.train(arrays, prepared.rows, prepared.labels, plan, tick, shift)
        return Trained(weights, len(prepared.rows), report, reports=reports)

    def _hidden(self, task: Task, prepared: Prepared, shift: Float32 | None) -> tuple[Float32, NDArray[Any]]:
        """Rows and labels for training that hides single rows: rows that no other row chose. Raises `Refusal`."""
        if personal.asked(task) or task["answer"].get("reports") or shift is not None:
            raise Refusal("what its strategy asks of this device beside an update has no noise that hides single rows")
        if prepared.architecture.batch_norm:
            raise Refusal("batch normalisation mixes rows, so noise in gradients hides no single one")
        trained, measured = self._by_place[~self._aside], self._by_place[self._aside]
        rows = np.concatenate([prepared.rows[trained], prepared.held_out_rows[measured]])
        return rows, np.concatenate([prepared.labels[trained], prepared.held_out_labels[measured]])

    def plan(self, task: Task) -> Plan:
        """What the task asks for, or this device's own share of it if that is less."""
        plan = Plan.of(task["training"], task["round"])
        return replace(plan, share=min(plan.share, self._share))

    def own_model(self, task: Task, arrays: Arrays, own: Arrays | None, tick: Tick) -> Arrays | None:
        """This device's own model when it received `arrays`; None when it has none yet."""
        if personal.is_tuned(task):
            local = self.prepared(task, arrays).local(tick)
            return personal.tuned(local, task, Plan.of(task["training"], task["round"]), arrays)
        return personal.joined(arrays, own) if own else None

    def evaluate(self, task: Task, arrays: Arrays) -> tuple[int, Evaluation]:
        """The number of rows trained on, and the report of `arrays` on the held-out rows."""
        prepared = self.prepared(task, arrays)
        return len(prepared.rows), self._report(task, arrays, prepared)

    def unusable(self, task: Task) -> list[FedportalError]:
        """What is wrong with the columns, and with the target."""
        if not task["architecture"]:
            return [FedportalError("architecture_missing")]
        found: list[FedportalError] = []
        architecture = Architecture.parse(task["architecture"])
        for look in (
            lambda: features_for(self._table, architecture),
            lambda: labels_for(self._table, architecture, self._labels),
        ):
            try:
                look()
            except FedportalError as error:
                found.append(error)
        return found

    def unable(self, task: Task, arrays: Arrays) -> list[FedportalError]:
        """Whether a few rows go through the model. Nothing, where `unusable` has found something."""
        if self.unusable(task):
            return []
        try:
            prepared = self.prepared(task, arrays)
            few = slice(ROWS_TRIED)
            with np.errstate(all="ignore"):
                losses = prepared.trainer.losses(arrays, prepared.rows[few], prepared.labels[few])
        except FedportalError as error:
            return [error]
        except (KeyError, ValueError):
            return [FedportalError("tensor_names", reason="they do not fit the architecture")]
        return [] if np.isfinite(losses).all() else [FedportalError("not_finite")]

    def prepared(self, task: Task, arrays: Arrays) -> Prepared:
        """The rows as the task's model wants them; kept while architecture and standardisation stay the same."""
        buffers = [arrays[name].tobytes() for name in (MEAN, STD) if name in arrays]
        key = (task["architecture"], buffers)
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self._prepare(self._architecture(task), arrays))
        return self._kept[1]

    def _report(self, task: Task, arrays: Arrays, prepared: Prepared) -> Evaluation:
        """On the held-out rows, and on those slices of them that are large enough."""

        def part(mask: NDArray[np.bool_]) -> Evaluation:
            rows, labels = prepared.held_out_rows[mask], prepared.held_out_labels[mask]
            return prepared.trainer.evaluate(arrays, rows, labels, scale)

        scale = scale_of(task["answer"])
        whole = prepared.trainer.evaluate(arrays, prepared.held_out_rows, prepared.held_out_labels, scale)
        return with_slices(whole, self._slices, least_of(task), part)

    def _architecture(self, task: Task) -> Architecture:
        if not task["architecture"]:
            raise Refusal("the model has no described architecture; train it with train_from_remote")
        return Architecture.parse(task["architecture"])

    def _data_for(self, architecture: Architecture) -> tuple[Float64, NDArray[Any]]:
        """The model's columns and class numbers; kept, so that they are made once and a warning is said once.

        Both are asked for before the statistics too: rows that cannot be trained on do not count in these.
        """
        if self._taken is None or self._taken[0] != architecture:
            features = features_for(self._table, architecture)
            self._taken = (architecture, features, labels_for(self._table, architecture, self._labels))
        return self._taken[1:]

    def _prepare(self, architecture: Architecture, arrays: Arrays) -> Prepared:
        features, labels = self._data_for(architecture)
        rows = standardised(features, arrays) if architecture.standardise else features.astype(np.float32)
        aside = self._aside
        return Prepared(
            architecture, trainer_for(architecture), rows[~aside], labels[~aside], rows[aside], labels[aside]
        )


def measured(own: OwnModel, table: Table, labels: Sequence[Any] | None = None, seed: int = 0) -> metrics.Ratios:
    """How a device's own model does on the held-out rows of the table. Raises architecture_invalid without one."""
    architecture, arrays = Architecture.parse(own.architecture), own.arrays
    features, targets = features_for(table, architecture), labels_for(table, architecture, labels)
    aside = held_out(table, seed)
    wanted = standardised(features, arrays) if architecture.standardise else features.astype(np.float32)
    return metrics.ratios(trainer_for(architecture).evaluate(arrays, wanted[aside], targets[aside]))


def least_of(task: Task) -> int:
    """The fewest rows of a slice that the device's organization lets anybody learn of."""
    return floor_of(task["answer"].get("least_records", 0))


def _reports(asked: Sequence[str], prepared: Prepared, arrays: Arrays, plan: Plan) -> dict[str, float]:
    """Those of the reports on local training that are asked for. Raises `Refusal` for one that is not known."""
    rows = len(prepared.rows)
    known: dict[str, Callable[[], float]] = {
        "steps": lambda: plan.steps(rows),
        "normaliser": lambda: plan.normaliser(rows),
        "base_loss": lambda: float(prepared.trainer.losses(arrays, prepared.rows, prepared.labels).mean(dtype="f8")),
    }
    if unknown := sorted(set(asked) - known.keys()):
        raise Refusal(f"this device's SDK cannot report {', '.join(unknown)}")
    reports = {name: known[name]() for name in asked}
    if not all(map(math.isfinite, reports.values())):
        raise FedportalError("not_finite")
    return reports


def standardised(features: NDArray[np.float64], arrays: Arrays) -> Float32:
    """(x - mean) / std by the model's buffers, column by column, as float32."""
    mean, std = arrays[MEAN].astype(np.float64), arrays[STD].astype(np.float64)
    return ((features - mean) / std).astype(np.float32)
