"""Local training of the described architectures: numpy for linear, logistic and mlp, torch for cnn.

`trainer_for(architecture)` gives a `Trainer`. Importing this package does not import torch.
"""

from __future__ import annotations

from fedportal_sdk.trainers.dense import DenseTrainer
from fedportal_sdk.trainers.plan import Plan, Tick, Trainer
from fedportal_sdk.trainers.torch import TorchTrainer
from fedwire.architectures import Architecture

__all__ = ["DenseTrainer", "Plan", "Tick", "TorchTrainer", "Trainer", "trainer_for"]


def trainer_for(architecture: Architecture) -> Trainer:
    """Who trains models of this architecture. Raises `torch_missing` for a cnn without torch."""
    return TorchTrainer(architecture) if architecture.kind == "cnn" else DenseTrainer(architecture)
