"""What the federated model is held against: each hospital alone, and all rows in one place.

The same trainer, learning rate, batch size and number of passes as in the federation; each model standardises with the
statistics of the rows it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploy.demo.patients import Rows
from fedportal_sdk.trainers import Plan, trainer_for
from fedwire import metrics, statistics
from fedwire.architectures import MEAN, STD, Architecture
from fedwire.metrics import Ratios
from fedwire.tensors import decode_model


def alone(architecture: Architecture, plan: Plan, rows: Rows, held_out: Rows) -> Ratios:
    """Train on `rows` only; how the model does on the rows set aside."""
    mean, std = statistics.mean_std(statistics.of(rows.features))
    arrays: dict[str, Any] = {**architecture.initial(plan.seed), MEAN: mean, STD: std}
    trainer = trainer_for(architecture)
    trained = trainer.train(arrays, _inputs(rows, arrays), _labels(rows), plan, lambda *_: None)
    return measured(architecture, {**arrays, **trained}, held_out)


def of_file(architecture: Architecture, path: Path, held_out: Rows) -> Ratios:
    """How the model in this file does on the rows set aside."""
    return measured(architecture, decode_model(path)[1], held_out)


def measured(architecture: Architecture, arrays: Mapping[str, Any], held_out: Rows) -> Ratios:
    """Loss, accuracy and AUC on the rows set aside."""
    report = trainer_for(architecture).evaluate(arrays, _inputs(held_out, arrays), _labels(held_out))
    return metrics.ratios(report)


def together(hospitals: Mapping[str, Rows]) -> Rows:
    """All rows in one place, which is what the hospitals may not do."""
    return Rows(
        np.concatenate([rows.features for rows in hospitals.values()]),
        np.concatenate([rows.diagnoses for rows in hospitals.values()]),
    )


def _inputs(rows: Rows, arrays: Mapping[str, Any]) -> Any:
    return ((rows.features - arrays[MEAN]) / arrays[STD]).astype(np.float32)


def _labels(rows: Rows) -> Any:
    return (rows.diagnoses == "M").astype(np.int64)
