"""Strategies that correct the drift of local training: each device keeps a variate, the server keeps their mean."""

from __future__ import annotations

from training.aggregation import transforms, variates
from training.aggregation.combine import Mean
from training.aggregation.server_opt import Corrected, Scaled
from training.aggregation.strategy import LOCAL_SGD, Parameter, Strategy

# Without momentum: the variates are means of gradients only then.
PLAIN_SGD = tuple(parameter for parameter in LOCAL_SGD if parameter.name != "momentum")
IN_STEP = "the server's mean of what devices keep is exact only for updates that all began from one model"

SCAFFOLD = Strategy(
    name="scaffold",
    title="SCAFFOLD",
    formula="device: y ← y - η·(g - cᵢ + c), cᵢ ← cᵢ - c + (w - yᵢ)/(Kᵢ·η);  "
    "server: w ← w + ηₛ·(1/|S|)·Σ (yᵢ - w), c ← mean of the cᵢ",
    paper="Karimireddy et al. 2020, SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, ICML, "
    "arXiv:1910.06378 (option II)",
    about="Finds the common optimum where devices' own optima differ. All devices count the same, whatever their rows. "
    "Each keeps a vector as long as the model and downloads a second one with every task.",
    parameters=(
        Parameter("server_learning_rate", "Step along the mean of the updates.", 1.0, 0, 100, open_low=True),
        *PLAIN_SGD,
    ),
    device=tuple(parameter.name for parameter in PLAIN_SGD),
    transforms=(transforms.normalised,),
    combine=lambda values: Mean(),
    server=lambda values: Scaled(values["server_learning_rate"]),
    requires=("scaffold",),
    reports=("steps",),
    needs_individual_updates=True,
    needs_device_state=True,
    fold=lambda values: variates.scaffold(values["learning_rate"]),
    sends_state=True,
    in_step=IN_STEP,
)

FEDDYN = Strategy(
    name="feddyn",
    title="FedDyn",
    formula="device: minimise Fᵢ(x) - gᵢ·x + α/2·‖x - w‖², gᵢ ← gᵢ - α·(wᵢ - w);  "
    "server: h ← h - (α/N)·Σ (wᵢ - w), w ← (1/|S|)·Σ wᵢ - h/α",
    paper="Acar et al. 2021, Federated Learning Based on Dynamic Regularization, ICLR, arXiv:2111.04263",
    about="Changes what devices minimise from round to round until their optima agree with the common one. All devices "
    "count the same, whatever their rows. Each keeps a vector as long as the model. Give it enough local steps.",
    parameters=(
        Parameter("alpha", "How strongly local training is held near the common model.", 0.1, 0, 1000, open_low=True),
        *LOCAL_SGD,
    ),
    device=("alpha", *(parameter.name for parameter in LOCAL_SGD)),
    transforms=(transforms.normalised,),
    combine=lambda values: Mean(),
    server=lambda values: Corrected(values["alpha"]),
    requires=("feddyn",),
    needs_device_state=True,
    moves_statistics=False,  # h would go on growing: no local step answers to it
    fold=lambda values: variates.feddyn(values["alpha"]),
    in_step=IN_STEP,
)
