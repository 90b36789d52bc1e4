"""Strategies for devices whose rows, or whose amounts of work, differ much from one another."""

from __future__ import annotations

from training.aggregation import transforms
from training.aggregation.combine import Mean
from training.aggregation.server_opt import Add
from training.aggregation.strategy import LOCAL_SGD, Parameter, Strategy

DEVICE = tuple(parameter.name for parameter in LOCAL_SGD)

FEDPROX = Strategy(
    name="fedprox",
    title="FedProx",
    formula="device: minimise Fᵢ(x) + μ/2·‖x - w‖²;  server: w ← w + Σᵢ (nᵢ / Σⱼ nⱼ)·(wᵢ - w)",
    paper="Li et al. 2020, Federated Optimization in Heterogeneous Networks, MLSys, arXiv:1812.06127",
    about="Holds local training near the common model. With μ = 0 it is federated averaging.",
    parameters=(
        Parameter("mu", "How strongly local training is held near the common model.", 0.01, 0, 1000),
        *LOCAL_SGD,
    ),
    device=("mu", *DEVICE),
    transforms=(transforms.by_samples, transforms.normalised),
    combine=lambda values: Mean(),
    server=lambda values: Add(),
    requires=("proximal",),
    asynchronous=True,
)

FEDNOVA = Strategy(
    name="fednova",
    title="FedNova",
    formula="w ← w + (Σⱼ pⱼ·aⱼ)·Σᵢ pᵢ·(wᵢ - w)/aᵢ,  pᵢ = nᵢ / Σⱼ nⱼ,  "
    "aᵢ = (τᵢ - ρ·(1-ρ^τᵢ)/(1-ρ)) / (1-ρ) for τᵢ local steps with momentum ρ",
    paper="Wang et al. 2020, Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization, "
    "NeurIPS, arXiv:2007.07481",
    about="Devices with more rows take more local steps; dividing by their number keeps them from pulling the model "
    "towards their own optimum. Where all take equally many steps it is federated averaging.",
    parameters=LOCAL_SGD,
    device=DEVICE,
    transforms=(transforms.by_samples, transforms.normalised, transforms.by_normaliser),
    combine=lambda values: Mean(),
    server=lambda values: Add(),
    requires=("steps",),
    reports=("steps", "normaliser"),
    asynchronous=True,
)

QFEDAVG = Strategy(
    name="qfedavg",
    title="q-FedAvg",
    formula="w ← w + Σᵢ pᵢ·L·Fᵢ^q·(wᵢ - w) / Σⱼ pⱼ·(q·Fⱼ^(q-1)·‖L·(wⱼ - w)‖² + L·Fⱼ^q),  "
    "pᵢ = nᵢ / Σⱼ nⱼ,  L = 1/learning rate,  Fᵢ the loss at w on device i",
    paper="Li et al. 2020, Fair Resource Allocation in Federated Learning, ICLR, arXiv:1905.10497",
    about="Minimises Σᵢ pᵢ·Fᵢ^(q+1)/(q+1): devices on which the model does badly count for more, so that it does about "
    "equally well everywhere. With q = 0 it is federated averaging. A device that overstates its loss counts for more.",
    parameters=(
        Parameter("q", "How much more devices count on which the model does badly; 0: as in averaging.", 1.0, 0, 20),
        *LOCAL_SGD,
    ),
    device=DEVICE,
    transforms=(transforms.by_samples, transforms.normalised),
    further=lambda values: (transforms.by_loss(values["q"], 1 / values["learning_rate"]),),
    combine=lambda values: Mean(),
    server=lambda values: Add(),
    requires=("base_loss",),
    reports=("base_loss",),
    needs_individual_updates=True,
    in_step="its weights compare losses of all devices on one model",
)
