"""Server optimizers: the mean of the updates is a step that the server takes with an optimizer of its own."""

from __future__ import annotations

from dataclasses import replace

from training.aggregation import server_opt, transforms
from training.aggregation.combine import Mean
from training.aggregation.server_opt import Moment
from training.aggregation.strategy import LOCAL_SGD, Parameter, Strategy, Values

REDDI = "Reddi et al. 2021, Adaptive Federated Optimization, ICLR, arXiv:2003.00295"
BY_ROWS = (transforms.by_samples, transforms.normalised)
DEVICE = tuple(parameter.name for parameter in LOCAL_SGD)


def _rate(default: float) -> Parameter:
    about = "Step of the server's optimizer along the mean of the updates."
    return Parameter("server_learning_rate", about, default, 0, 100, open_low=True)


BETA1 = Parameter("beta1", "Share of the earlier steps in the next one.", 0.9, 0, 1, open_high=True)
BETA2 = Parameter("beta2", "Share of the earlier squares in the second moment.", 0.99, 0, 1, open_high=True)
TAU = Parameter("tau", "Keeps steps short where updates are small; the smaller, the more adaptive.", 1e-3, 1e-9, 1)


def _adaptive(values: Values, moment: Moment) -> server_opt.Adaptive:
    return server_opt.Adaptive(values["server_learning_rate"], values["beta1"], values["tau"], moment)


FEDAVGM = Strategy(
    name="fedavgm",
    title="Federated averaging with server momentum",
    formula="Δ = Σᵢ (nᵢ / Σⱼ nⱼ)·(wᵢ - w),  m ← β·m + Δ,  w ← w + η·m",
    paper="Hsu, Qi and Brown 2019, Measuring the Effects of Non-Identical Data Distribution for Federated Visual "
    "Classification, arXiv:1909.06335",
    parameters=(
        _rate(1.0),
        Parameter("server_momentum", "Share of the earlier steps in the next one.", 0.9, 0, 1, open_high=True),
        *LOCAL_SGD,
    ),
    device=DEVICE,
    transforms=BY_ROWS,
    combine=lambda values: Mean(),
    server=lambda values: server_opt.Momentum(values["server_learning_rate"], values["server_momentum"]),
    asynchronous=True,
)

FEDADAM = Strategy(
    name="fedadam",
    title="Server Adam",
    formula="Δ = Σᵢ (nᵢ / Σⱼ nⱼ)·(wᵢ - w),  m ← β₁·m + (1-β₁)·Δ,  v ← β₂·v + (1-β₂)·Δ²,  w ← w + η·m/(√v + τ)",
    paper=REDDI,
    parameters=(_rate(0.1), BETA1, BETA2, TAU, *LOCAL_SGD),
    device=DEVICE,
    transforms=BY_ROWS,
    combine=lambda values: Mean(),
    server=lambda values: _adaptive(values, server_opt.adam(values["beta2"])),
    asynchronous=True,
)

FEDADAGRAD = Strategy(
    name="fedadagrad",
    title="Server Adagrad",
    formula="Δ = Σᵢ (nᵢ / Σⱼ nⱼ)·(wᵢ - w),  m ← β₁·m + (1-β₁)·Δ,  v ← v + Δ²,  w ← w + η·m/(√v + τ)",
    paper=REDDI,
    parameters=(_rate(0.1), replace(BETA1, default=0.0), TAU, *LOCAL_SGD),
    device=DEVICE,
    transforms=BY_ROWS,
    combine=lambda values: Mean(),
    server=lambda values: _adaptive(values, server_opt.adagrad),
    asynchronous=True,
)

FEDYOGI = Strategy(
    name="fedyogi",
    title="Server Yogi",
    formula="Δ = Σᵢ (nᵢ / Σⱼ nⱼ)·(wᵢ - w),  m ← β₁·m + (1-β₁)·Δ,  v ← v - (1-β₂)·Δ²·sign(v - Δ²),  "
    "w ← w + η·m/(√v + τ)",
    paper=REDDI,
    parameters=(_rate(0.1), BETA1, BETA2, TAU, *LOCAL_SGD),
    device=DEVICE,
    transforms=BY_ROWS,
    combine=lambda values: Mean(),
    server=lambda values: _adaptive(values, server_opt.yogi(values["beta2"])),
    asynchronous=True,
)
