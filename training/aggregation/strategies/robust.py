"""Rules that give a usable model although some updates are wrong, by accident or on purpose.

Each needs to see every update by itself. None weighs by rows, whose number is a device's own claim, but for those of an
organization that is trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fedwire.tensors import Float32
from training.aggregation import coordinate, selecting, transforms
from training.aggregation.combine import Combine
from training.aggregation.robust import Bulyan, ByCoordinate, Selecting, Trusting
from training.aggregation.server_opt import Add
from training.aggregation.strategy import LOCAL_SGD, Parameter, Strategy, Values

FAULTY = Parameter("faulty", "f: how many updates of a round may be wrong.", 1, 0, 10_000, whole=True)
MIXING = Parameter(
    "nnm",
    "1: first replace each update by the mean of the n - f nearest to it (nearest-neighbour mixing; Allouah et al. "
    "2023, arXiv:2302.01772), which helps where the devices' data differ. 0: do not.",
    0,
    0,
    1,
    whole=True,
)
FRACTION = Parameter(
    "fraction", "Share of the updates to cut off on each side, where that is more than f.", 0.0, 0, 0.5, open_high=True
)
KEEP = Parameter("keep", "How many updates are averaged; 0: n - f - 2.", 0, 0, 100_000, whole=True)
BOUND = Parameter("bound", "Longest an update may be (L2 norm); 0: the median of the round's norms.", 0.0, 0, 1e12)
RADIUS = Parameter(
    "radius", "Farthest an update may pull from the centre (L2 norm); 0: the median of the round's norms.", 0.0, 0, 1e12
)
STEPS = Parameter("steps", "How often the centre is moved.", 3, 1, 1000, whole=True)

YIN = "Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, arXiv:1803.01498"
BLANCHARD = (
    "Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, arXiv:1703.02757"
)


def _mix(values: Values) -> int | None:
    return int(values["faulty"]) if values["nnm"] else None


def _faulty(values: Values) -> int:
    return int(values["faulty"])


def _strategy(
    name: str,
    title: str,
    formula: str,
    paper: str,
    about: str,
    parameters: tuple[Parameter, ...],
    combine: Callable[[Values], Combine],
    least_updates: Callable[[Values], int],
) -> Strategy:
    return Strategy(
        name=name,
        title=title,
        formula=formula,
        paper=paper,
        about=about,
        parameters=(*LOCAL_SGD, *parameters),
        device=tuple(parameter.name for parameter in LOCAL_SGD),
        transforms=(),
        combine=combine,
        server=lambda values: Add(),
        least_updates=least_updates,
        needs_individual_updates=True,
        asynchronous=True,
    )


def _trimmed(faulty: int, fraction: float, rows: Float32, out: Float32) -> None:
    """The cut is ⌊fraction·n⌋, at least f; a product just below a whole number is that number."""
    share = min(int(fraction * len(rows) + 1e-9), (len(rows) - 1) // 2)
    coordinate.trimmed_mean(rows, max(faulty, share), out)


MEDIAN = _strategy(
    "median",
    "Coordinate median",
    "w ← w + median of the Δᵢ, coordinate by coordinate",
    YIN,
    "In each coordinate the result lies between numbers that honest devices sent, if fewer than half are wrong. It "
    "takes no account of how coordinates go together, and loses accuracy where the devices' data differ much.",
    (FAULTY, MIXING),
    lambda values: ByCoordinate(coordinate.median, _mix(values)),
    lambda values: 2 * _faulty(values) + 1,
)
TRIMMED_MEAN = _strategy(
    "trimmed_mean",
    "Trimmed mean",
    "w ← w + mean of the Δᵢ without the k smallest and k largest, coordinate by coordinate; k = max(f, ⌊fraction·n⌋)",
    YIN,
    "As the median, but it averages what is left, so it is more accurate when few are wrong. It withstands k of them.",
    (FAULTY, FRACTION, MIXING),
    lambda values: ByCoordinate(partial(_trimmed, _faulty(values), float(values["fraction"])), _mix(values)),
    lambda values: 2 * _faulty(values) + 1,
)
KRUM = _strategy(
    "krum",
    "Krum",
    "w ← w + Δₖ with k = argminᵢ Σ ‖Δᵢ - Δⱼ‖² over the n - f - 2 updates j nearest to i",
    BLANCHARD,
    "The result is one whole update that many others agree with. It uses what one device learned and drops the rest, "
    "so it suits devices whose data are alike.",
    (FAULTY, MIXING),
    lambda values: Selecting(partial(selecting.krum, faulty=_faulty(values)), _mix(values)),
    lambda values: 2 * _faulty(values) + 3,
)
MULTI_KRUM = _strategy(
    "multi_krum",
    "Multi-Krum",
    "w ← w + mean of the m updates with the lowest Krum scores; m = n - f - 2 unless said otherwise",
    BLANCHARD,
    "As Krum, but it averages the best ones, and so is nearly as accurate as the mean when nobody is wrong.",
    (FAULTY, KEEP, MIXING),
    lambda values: Selecting(
        partial(selecting.multi_krum, faulty=_faulty(values), keep=int(values["keep"])), _mix(values)
    ),
    lambda values: max(2 * _faulty(values) + 3, int(values["keep"])),
)
BULYAN = _strategy(
    "bulyan",
    "Bulyan",
    "S: θ = n - 2f updates by repeated Krum; w ← w + mean of the θ - 2f numbers nearest the median of S, coordinate by "
    "coordinate",
    "El Mhamdi et al. 2018, The Hidden Vulnerability of Distributed Learning in Byzantium, arXiv:1802.07927",
    "It also withstands updates that lie near the others as wholes and far away in few coordinates. It asks for four "
    "times as many devices as may be wrong.",
    (FAULTY, MIXING),
    lambda values: Bulyan(_faulty(values), _mix(values)),
    lambda values: 4 * _faulty(values) + 3,
)
GEOMETRIC_MEDIAN = _strategy(
    "geometric_median",
    "Geometric median",
    "w ← w + argmin_z Σᵢ ‖z - Δᵢ‖",
    "Pillutla et al. 2019, Robust Aggregation for Federated Learning (RFA), arXiv:1912.13445",
    "It withstands up to half of the updates, whatever their size, and knows how coordinates go together. Few far-off "
    "updates still pull on it, each as much as any other.",
    (FAULTY, MIXING),
    lambda values: Selecting(selecting.geometric_median, _mix(values)),
    lambda values: 2 * _faulty(values) + 1,
)
NORM_CLIPPING = _strategy(
    "norm_clipping",
    "Norm clipping",
    "w ← w + (1/n)·Σᵢ Δᵢ·min(1, c/‖Δᵢ‖)",
    "Sun et al. 2019, Can You Really Backdoor Federated Learning?, arXiv:1911.07963",
    "It bounds how far one update can move the model, not where to: no update counts for more than its share. It costs "
    "accuracy only where honest updates differ much in length.",
    (BOUND,),
    lambda values: Selecting(partial(selecting.norm_clipping, bound=float(values["bound"]))),
    lambda values: 1,
)
CENTRED_CLIPPING = _strategy(
    "centered_clipping",
    "Centered clipping",
    "v ← v + (1/n)·Σᵢ (Δᵢ - v)·min(1, τ/‖Δᵢ - v‖), several times from v = 0; w ← w + v",
    "Karimireddy et al. 2021, Learning from History for Byzantine Robust Optimization, arXiv:2012.10333",
    "As norm clipping, but around a centre that moves to where the updates are, so that honest ones are shortened "
    "less. The centre begins at the update that moves nothing, and not at the round before.",
    (RADIUS, STEPS, FAULTY, MIXING),
    lambda values: Selecting(
        partial(selecting.centred_clipping, radius=float(values["radius"]), steps=int(values["steps"])), _mix(values)
    ),
    lambda values: 2 * _faulty(values) + 1,
)

FLTRUST = Strategy(
    name="fltrust",
    title="FLTrust",
    formula="Δ₀ = Σ over the trusted (nᵢ / Σⱼ nⱼ)·Δᵢ,  cᵢ = max(0, cos(Δᵢ, Δ₀)),  "
    "w ← w + (Δ₀ + Σ over the others cᵢ·(‖Δ₀‖/‖Δᵢ‖)·Δᵢ) / (1 + Σ cᵢ)",
    paper="Cao et al. 2021, FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping, NDSS, "
    "arXiv:2012.13995",
    about="It withstands any number of wrong updates, as long as one organization can be trusted: an update counts by "
    "how far it points the way of that organization's, and is brought to its length. In the paper the trusted update "
    "comes from data of the server, which has none here. A round waits for a device of the organization, and is tried "
    "again without.",
    parameters=LOCAL_SGD,
    device=tuple(parameter.name for parameter in LOCAL_SGD),
    transforms=(transforms.by_samples, transforms.trusted_only, transforms.normalised),
    combine=lambda values: Trusting(),
    server=lambda values: Add(),
    needs_individual_updates=True,
    trusts=True,
    in_step="every update is compared with one of the trusted organization from the same model, for which all wait",
)

ROBUST = (
    MEDIAN,
    TRIMMED_MEAN,
    KRUM,
    MULTI_KRUM,
    BULYAN,
    GEOMETRIC_MEDIAN,
    NORM_CLIPPING,
    CENTRED_CLIPPING,
)
