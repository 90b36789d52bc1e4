"""Strategies made for rounds that do not wait: the server goes on whenever enough answers are in, whoever is slow.

s(τ) = (1 + τ)^-a discounts an answer by its staleness τ; a is the run's, see `training.services.terms`.
"""

from __future__ import annotations

from training.aggregation import transforms
from training.aggregation.combine import Mean
from training.aggregation.server_opt import Times
from training.aggregation.strategy import LOCAL_SGD, Parameter, Strategy

DEVICE = tuple(parameter.name for parameter in LOCAL_SGD)

FEDBUFF = Strategy(
    name="fedbuff",
    title="FedBuff",
    formula="w ← w + η·(1/K)·Σᵢ s(τᵢ)·Δᵢ over the K answers of the buffer,  s(τ) = (1+τ)⁻ᵃ",
    paper="Nguyen et al. 2022, Federated Learning with Buffered Asynchronous Aggregation, AISTATS, arXiv:2106.06639",
    about="Nobody waits for slow devices: a model is made of every K answers, those that began from older models count "
    "less. All devices count the same, whatever their rows. In synchronous rounds it is the plain mean.",
    parameters=(
        Parameter("server_learning_rate", "Step along the mean of the updates.", 1.0, 0, 100, open_low=True),
        *LOCAL_SGD,
    ),
    device=DEVICE,
    transforms=(transforms.normalised,),
    combine=lambda values: Mean(),
    server=lambda values: Times(values["server_learning_rate"]),
    asynchronous=True,
)

FEDASYNC = Strategy(
    name="fedasync",
    title="FedAsync",
    formula="w ← (1-αₜ)·w + αₜ·wᵢ with the one model wᵢ that came,  αₜ = α·s(τᵢ),  s(τ) = (1+τ)⁻ᵃ",
    paper="Xie, Koyejo and Gupta 2019, Asynchronous Federated Optimization, arXiv:1903.03934",
    about="Every answer makes a model at once: the present one is moved towards what the device has, less the older "
    "its start was. A single device moves it that far, so it suits devices that one trusts.",
    parameters=(
        Parameter("alpha", "How far the model moves towards a fresh answer.", 0.6, 0, 1, open_low=True),
        *LOCAL_SGD,
    ),
    device=DEVICE,
    transforms=(transforms.normalised,),
    combine=lambda values: Mean(),
    server=lambda values: Times(values["alpha"]),
    synchronous=False,
    asynchronous=True,
    one_answer=True,
    rebases=True,
)
