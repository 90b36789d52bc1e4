"""The rows that simulated devices hold, and those that every model is measured on.

Rows are made, or taken from scikit-learn's small data sets where that is installed. 70 % are trained on and spread over
the devices; the rest is the test set, of which every device holds a share to report on.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.simulation.wishes import Settings, Skew
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError

Rows = NDArray[np.float64]
Labels = NDArray[Any]
Places = NDArray[np.int64]

TRAINED_ON = 0.7
CLASSES, INPUTS = 10, 20
# With this noise around centres of unit variance in each column, ten classes are told apart about 19 times in 20.
NOISE = 1.6
# Beside the seed these keep what is drawn for different ends apart.
MADE, SPLIT, SPREAD = 1, 2, 3


@dataclass(frozen=True)
class Dataset:
    """Rows to train on and rows to measure on; classes are numbered from 0, in float64 where they are measurements."""

    rows: Rows  # [n, d]
    labels: Labels  # [n]
    test_rows: Rows
    test_labels: Labels

    @property
    def numbers(self) -> bool:
        """Whether the target is a number and no class."""
        return self.labels.dtype.kind == "f"


@dataclass(frozen=True)
class Holding:
    """What one device holds: the numbers of its rows in the training rows and in the test rows."""

    rows: Places
    test_rows: Places


def architecture_of(settings: Settings) -> dict[str, Any]:
    """The described model that fits the settings' data where nobody brought one."""
    known: Mapping[str, dict[str, Any]] = {
        "synthetic": {"kind": "logistic", "inputs": INPUTS, "classes": CLASSES},
        "digits": {"kind": "logistic", "inputs": 64, "classes": 10},
        "breast-cancer": {"kind": "logistic", "inputs": 30, "classes": 2, "standardise": True},
    }
    return known[settings.data]


def load(settings: Settings, architecture: Architecture) -> Dataset:
    """The settings' data as the architecture takes them.

    Raises `package_missing` without scikit-learn, `data_shape` and `data_classes` for data that the model does not
    take, and `field_invalid` when there is less than a row for every device.
    """
    if settings.data == "synthetic":
        rows, labels = _made(settings, architecture)
    else:
        rows, labels = _known(settings.data)
        if rows.shape[1] != architecture.inputs:
            raise FedportalError("data_shape", expected=architecture.inputs, got=rows.shape[1])
        if len(set(labels.tolist())) != architecture.classes:
            found = len(set(labels.tolist()))
            raise FedportalError("data_classes", target=settings.data, got=found, expected=architecture.classes)
    order = _random(settings, SPLIT).permutation(len(rows))
    cut = int(TRAINED_ON * len(rows))
    if cut < settings.devices:
        reason = f"{settings.data} has {cut} rows to train on, less than one for each of {settings.devices} devices."
        raise FedportalError("field_invalid", field="devices", reason=reason)
    train, test = order[:cut], order[cut:]
    return Dataset(rows[train], labels[train], rows[test], labels[test])


def spread(settings: Settings, data: Dataset) -> list[Holding]:
    """Who holds what: every device at least one row to train on, every test row with exactly one device."""
    random = _random(settings, SPREAD)
    if data.numbers and settings.skew.kind != "iid":
        raise FedportalError("field_invalid", field="skew", reason="the model predicts numbers; only iid spreads them.")
    parts = parted(data.labels, settings.devices, settings.skew, random)
    tests = np.array_split(random.permutation(len(data.test_rows)), settings.devices)
    return [Holding(np.sort(own), np.sort(test)) for own, test in zip(parts, tests, strict=True)]


def parted(labels: Labels, devices: int, skew: Skew, random: np.random.Generator) -> list[Places]:
    """The places of `labels` in one part for each device, none empty, none in two parts.

    `dirichlet`: of each class the devices get shares drawn from Dir(α, …, α) (Hsu et al. 2019, arXiv:1909.06335);
    small α means few classes each. `classes`: each device gets k classes, dealt so that all classes have holders as
    nearly as often; rows of a class without a holder belong to nobody.
    """
    if skew.kind == "iid":
        return [part.astype(np.int64) for part in np.array_split(random.permutation(len(labels)), devices)]
    classes = [random.permutation(np.flatnonzero(labels == value)) for value in np.unique(labels)]
    if skew.kind == "dirichlet":
        shares = [random.dirichlet(np.full(devices, skew.amount)) for _ in classes]
    else:
        holders = _dealt(len(classes), devices, int(skew.amount), random)
        shares = [holding / max(holding.sum(), 1) for holding in holders.astype(float)]
    parts: list[list[Places]] = [[] for _ in range(devices)]
    for places, share in zip(classes, shares, strict=True):
        if share.sum() > 0:
            cuts = np.round(np.cumsum(share)[:-1] * len(places)).astype(int)
            for part, own in zip(parts, np.split(places, cuts), strict=True):
                part.append(own)
    return _nobody_empty([np.concatenate(part) if part else np.empty(0, np.int64) for part in parts])


def _dealt(classes: int, devices: int, each: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """[classes, devices]: who holds which class, `each` different ones to a device, dealt from shuffled decks."""
    if each > classes:
        reason = f"there are {classes} classes; a device cannot hold {each}."
        raise FedportalError("field_invalid", field="skew", reason=reason)
    held = np.zeros((classes, devices), bool)
    deck: list[int] = []
    for device in range(devices):
        while held[:, device].sum() < each:
            deck = deck or random.permutation(classes).tolist()
            place = next((i for i, one in enumerate(deck) if not held[one, device]), None)
            if place is None:  # what is left of the deck it has already
                deck = random.permutation(classes).tolist() + deck
            else:
                held[deck.pop(place), device] = True
    return held


def _nobody_empty(parts: list[Places]) -> list[Places]:
    """A device without rows gets one of whoever has most."""
    sizes = np.array([len(part) for part in parts])
    for empty in np.flatnonzero(sizes == 0):
        richest = int(np.argmax(sizes))
        parts[empty], parts[richest] = parts[richest][-1:], parts[richest][:-1]
        sizes[empty], sizes[richest] = 1, sizes[richest] - 1
    return parts


def _made(settings: Settings, architecture: Architecture) -> tuple[Rows, Labels]:
    """Rows around a centre for each class, or numbers along one direction for a model that predicts numbers."""
    random = _random(settings, MADE)
    count = math.ceil(settings.devices * settings.rows / TRAINED_ON) + 1
    if architecture.kind == "linear":
        rows = random.normal(size=(count, architecture.inputs))
        direction = random.normal(size=architecture.inputs) / math.sqrt(architecture.inputs)
        return rows, rows @ direction + 0.1 * random.normal(size=count)
    centres = random.normal(size=(architecture.classes, architecture.inputs))
    labels = random.permutation(np.arange(count) % architecture.classes)
    return centres[labels] + NOISE * random.normal(size=(count, architecture.inputs)), labels.astype(np.int64)


def _known(name: str) -> tuple[Rows, Labels]:
    """A data set of scikit-learn; digits are scaled to 0 … 1."""
    try:
        sets: Any = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise FedportalError("package_missing", what=f"The data set {name}", package="scikit-learn") from error
    rows, labels = sets.load_digits(return_X_y=True) if name == "digits" else sets.load_breast_cancer(return_X_y=True)
    scale = 16.0 if name == "digits" else 1.0
    return np.asarray(rows, np.float64) / scale, np.asarray(labels, np.int64)


def _random(settings: Settings, end: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([settings.seed, end]))
