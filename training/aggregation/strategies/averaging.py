"""Averaging: the mean of what the devices learned, weighted by their rows."""

from __future__ import annotations

from training.aggregation import transforms
from training.aggregation.combine import Mean
from training.aggregation.server_opt import Add
from training.aggregation.strategy import LOCAL_SGD, Strategy

FEDAVG = Strategy(
    name="fedavg",
    title="Federated averaging",
    formula="w ← w + Σᵢ (nᵢ / Σⱼ nⱼ)·(wᵢ - w)",
    paper="McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data, "
    "arXiv:1602.05629",
    parameters=LOCAL_SGD,
    device=tuple(parameter.name for parameter in LOCAL_SGD),
    transforms=(transforms.by_samples, transforms.normalised),
    combine=lambda values: Mean(),
    server=lambda values: Add(),
    asynchronous=True,
)
