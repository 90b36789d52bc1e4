"""Personalization: each device has a model of its own, of which a part, or all of it, never leaves it.

The server's half is federated averaging of what travels. A device that has trained before reports on its own model
beside the common one.
"""

from __future__ import annotations

from fedwire.personal import DITTO as DITTO_ABILITY
from fedwire.personal import FEDREP as FEDREP_ABILITY
from fedwire.personal import FINETUNE as FINETUNE_ABILITY
from fedwire.personal import LOCAL
from training.aggregation import transforms
from training.aggregation.combine import Mean
from training.aggregation.server_opt import Add
from training.aggregation.staying import HEAD, NORMS, Staying
from training.aggregation.strategy import LOCAL_SGD, Parameter, Strategy

HEAD_EPOCHS = Parameter("head_epochs", "τ: passes that train the head before the body is trained.", 1, 1, 1000, True)
PERSONAL_EPOCHS = Parameter("personal_epochs", "Passes that train the device's own model.", 1, 1, 1000, whole=True)
PULL = Parameter("lambda", "λ: how strongly a device's own model is held near the common one.", 0.1, 0, 1000)


def personal(
    name: str,
    title: str,
    formula: str,
    paper: str,
    about: str,
    *,
    requires: tuple[str, ...],
    staying: Staying | None = None,
    own: tuple[Parameter, ...] = (),
) -> Strategy:
    """A strategy that averages what travels, and whose devices have models of their own."""
    parameters = (*own, *LOCAL_SGD)
    return Strategy(
        name=name,
        title=title,
        formula=formula,
        paper=paper,
        about=about,
        parameters=parameters,
        device=tuple(parameter.name for parameter in parameters),
        transforms=(transforms.by_samples, transforms.normalised),
        combine=lambda values: Mean(),
        server=lambda values: Add(),
        requires=requires,
        personal=True,
        staying=staying,
        in_step="what stays on a device goes by the last round in which its answer counted",
    )


FEDBN = personal(
    "fedbn",
    "FedBN",
    "w = (u, bᵢ), bᵢ the batch normalisation of device i;  u ← u + Σᵢ (nᵢ / Σⱼ nⱼ)·(uᵢ - u),  bᵢ stays on device i",
    "Li et al. 2021, FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR, "
    "arXiv:2102.07623",
    "For devices whose rows look different: other machines, other ranges. The published model keeps the normalisation "
    "that the run began with, so it does well only on a device that puts its own in.",
    requires=(LOCAL,),
    staying=NORMS,
)
FEDPER = personal(
    "fedper",
    "FedPer",
    "w = (u, vᵢ), vᵢ the head of device i;  device: minimise Fᵢ(u, vᵢ) over both;  "
    "server: u ← u + Σᵢ (nᵢ / Σⱼ nⱼ)·(uᵢ - u),  vᵢ stays on device i",
    "Arivazhagan et al. 2019, Federated Learning with Personalization Layers, arXiv:1912.00818",
    "For devices whose classes differ: all learn one representation, each its own answer. The published model keeps "
    "the head that the run began with, so it does well only on a device that puts its own in.",
    requires=(LOCAL,),
    staying=HEAD,
)
FEDREP = personal(
    "fedrep",
    "FedRep",
    "w = (u, vᵢ);  device: first minimise Fᵢ(u, vᵢ) over vᵢ for τ passes, then over u;  "
    "server: u ← u + Σᵢ (nᵢ / Σⱼ nⱼ)·(uᵢ - u),  vᵢ stays on device i",
    "Collins et al. 2021, Exploiting Shared Representations for Personalized Federated Learning, ICML, "
    "arXiv:2102.07078",
    "As FedPer, but the body learns for heads that fit already. `epochs` are the passes over the body.",
    requires=(LOCAL, FEDREP_ABILITY),
    staying=HEAD,
    own=(HEAD_EPOCHS,),
)
DITTO = personal(
    "ditto",
    "Ditto",
    "w as in federated averaging;  device: vᵢ ← vᵢ - η·(∇Fᵢ(vᵢ) + λ·(vᵢ - w)),  vᵢ stays on device i",
    "Li et al. 2021, Ditto: Fair and Robust Federated Learning Through Personalization, ICML, arXiv:2012.04221",
    "Two models: the common one, and on each device one of its own near it. With λ = 0 devices learn alone; the "
    "larger λ, the more they share. Devices train twice.",
    requires=(DITTO_ABILITY,),
    own=(PULL, PERSONAL_EPOCHS),
)
FINETUNE = personal(
    "finetune",
    "Local fine-tuning",
    "w as in federated averaging;  device: vᵢ = w after E more passes over its own rows, which stays on device i",
    "Wang et al. 2019, Federated Evaluation of On-device Personalization, arXiv:1910.10252",
    "The common model of federated averaging, and on each device what becomes of it after some more passes: at every "
    "measurement, and for good after the last round. Devices keep nothing between rounds.",
    requires=(FINETUNE_ABILITY,),
    own=(PERSONAL_EPOCHS,),
)
PERSONAL = (FEDBN, FEDPER, FEDREP, DITTO, FINETUNE)
