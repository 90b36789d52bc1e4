"""Membership inference: whether a row was trained on, told from models or updates.

Each attack gives a row a score that is higher for rows that were trained on:

* `by_loss`: -L(row) under the model that came of it (Yeom et al., "Privacy Risk in Machine Learning", CSF 2018).
* `by_gain`: L(row) before minus L(row) after. A row that is easy for every model is not taken for a member by it
  (difficulty calibration: Watson et al., ICLR 2022; with the one reference model that the portal always has, what is
  left of the likelihood ratio of Carlini et al., "Membership Inference Attacks From First Principles", S&P 2022).
* `by_update`: the cosine between the row's own step -g(row) and the update (Li et al., "Effective Passive Membership
  Inference Attacks in Federated Learning", 2022).

How good an attack is: the area under its ROC curve, and how many members it finds while it takes at most 1 % of the
others for members, which says more where few rows are exposed (Carlini et al.).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.leakage.chains import Chain, Floats

FALSE_ALARMS = 0.01
# Of a standard normal: 95 % lie between ±Z.
Z = 1.959964


@dataclass(frozen=True)
class Verdict:
    """How well members were told from others. Intervals are of 95 %."""

    members: int
    others: int
    auc: float
    auc_interval: tuple[float, float]
    found: float  # the share of members that is found at FALSE_ALARMS
    found_interval: tuple[float, float]
    curve: tuple[tuple[float, float], ...]  # false alarms, members found


def by_loss(chain: Chain, after: Floats, rows: Floats, labels: NDArray[Any]) -> Floats:
    """-L of each row [n]."""
    return -chain.losses(after, rows, labels)


def by_gain(chain: Chain, before: Floats, after: Floats, rows: Floats, labels: NDArray[Any]) -> Floats:
    """By how much each row's loss fell [n]."""
    return chain.losses(before, rows, labels) - chain.losses(after, rows, labels)


def by_update(chain: Chain, before: Floats, update: Floats, rows: Floats, labels: NDArray[Any]) -> Floats:
    """cos∠(-g(row), update) for each row [n]."""
    gradients = chain.gradients(before, rows, labels)
    lengths = np.linalg.norm(gradients, axis=1) * float(np.linalg.norm(update))
    return np.asarray(-(gradients @ update) / np.maximum(lengths, 1e-300))


def judged(members: Floats, others: Floats) -> Verdict:
    """How well these scores tell members from others. Raises ValueError where either is empty.

    AUC = P(member above other) + ½·P(equal), its interval by Hanley and McNeil (Radiology 1982); the share that is
    found has Wilson's. With fewer than 1/FALSE_ALARMS others no false alarm is allowed at all.
    """
    if not len(members) or not len(others):
        raise ValueError("there is nothing to tell apart")
    ordered = np.sort(others)
    below = np.searchsorted(ordered, members, "left")
    equal = np.searchsorted(ordered, members, "right") - below
    auc = float((below + equal / 2).mean() / len(others))
    allowed = math.floor(FALSE_ALARMS * len(others))
    hits = int((members > ordered[len(others) - 1 - allowed]).sum())
    return Verdict(
        len(members),
        len(others),
        auc,
        _area_interval(auc, len(members), len(others)),
        hits / len(members),
        _share_interval(hits, len(members)),
        _curve(members, others),
    )


def _area_interval(auc: float, members: int, others: int) -> tuple[float, float]:
    both, twice = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (members - 1) * (both - auc * auc) + (others - 1) * (twice - auc * auc)
    half = Z * math.sqrt(max(spread, 0.0) / (members * others))
    return max(auc - half, 0.0), min(auc + half, 1.0)


def _share_interval(hits: int, of: int) -> tuple[float, float]:
    share, extra = hits / of, Z * Z / of
    middle = (share + extra / 2) / (1 + extra)
    half = Z * math.sqrt(share * (1 - share) / of + extra / (4 * of)) / (1 + extra)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _curve(members: Floats, others: Floats, points: int = 41) -> tuple[tuple[float, float], ...]:
    """The ROC curve at about so many thresholds, from (0, 0) to (1, 1)."""
    every: Sequence[float] = np.unique(np.concatenate([members, others]))[::-1].tolist()
    chosen = every[:: max(1, len(every) // points)]
    found = [(float((others >= limit).mean()), float((members >= limit).mean())) for limit in chosen]
    return ((0.0, 0.0), *found, (1.0, 1.0))
