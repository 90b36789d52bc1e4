"""The rows of three hospitals, from the Wisconsin breast-cancer data that scikit-learn carries.

569 patients, 30 measurements each, `diagnosis` M or B. A quarter is set aside first, at random in each class: the
pooled held-out rows on which every model is measured. The rest goes to three unequal hospitals that see different
patients: north is a screening centre (mostly benign, mostly small nuclei), south a general hospital, west an oncology
clinic (mostly malignant, mostly large nuclei). A fixed seed draws all of it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

SEED = 20
TARGET = "diagnosis"
LABELS = ("B", "M")  # benign is class 0
HELD_OUT = 0.25
HOSPITALS = ("north-hospital", "south-hospital", "west-hospital")
# How likely a patient comes to north, south and west, by diagnosis and by whether the nuclei are large.
CHANCES = {
    ("B", False): (0.75, 0.22, 0.03),
    ("B", True): (0.40, 0.45, 0.15),
    ("M", False): (0.25, 0.35, 0.40),
    ("M", True): (0.05, 0.30, 0.65),
}


@dataclass(frozen=True)
class Rows:
    """Measurements [n, 30] and diagnoses [n] ("M" or "B")."""

    features: NDArray[np.float64]
    diagnoses: NDArray[Any]

    def __len__(self) -> int:
        return len(self.diagnoses)


@dataclass(frozen=True)
class Patients:
    """The hospitals' own rows, by name, and the rows set aside."""

    names: list[str]
    hospitals: dict[str, Rows]
    held_out: Rows


def patients() -> Patients:
    """The split; always the same."""
    data = load_breast_cancer()
    features, diagnoses = data.data, np.where(data.target == 0, "M", "B")
    random = np.random.default_rng(SEED)
    aside = np.zeros(len(diagnoses), bool)
    for diagnosis in ("B", "M"):
        of_class = np.flatnonzero(diagnoses == diagnosis)
        aside[random.permutation(of_class)[: round(HELD_OUT * len(of_class))]] = True
    large = features[:, 0] > np.median(features[:, 0])
    chances = np.array([CHANCES[str(d), bool(is_large)] for d, is_large in zip(diagnoses, large, strict=True)])
    place = (random.random((len(diagnoses), 1)) > chances.cumsum(axis=1)).sum(axis=1)
    hospitals = {
        name: Rows(features[(place == number) & ~aside], diagnoses[(place == number) & ~aside])
        for number, name in enumerate(HOSPITALS)
    }
    names = [str(name).replace(" ", "_") for name in data.feature_names]
    return Patients(names, hospitals, Rows(features[aside], diagnoses[aside]))


def write_csv(path: Path, names: list[str], rows: Rows) -> Path:
    """One hospital's export: a column per measurement and the column `diagnosis`."""
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, TARGET])
        table.writerows(
            [*row, diagnosis] for row, diagnosis in zip(rows.features.tolist(), rows.diagnoses, strict=True)
        )
    return path
