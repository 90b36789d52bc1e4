"""Models, their versions, the files behind them, with whom they are shared, and on which devices they are."""

from registry.models.blobs import Artifact, StagedUpload
from registry.models.experiments import Experiment, Participant
from registry.models.models import Model, ModelVersion, Share
from registry.models.rollouts import HealthReport, Installation, Rollout

__all__ = [
    "Artifact",
    "Experiment",
    "HealthReport",
    "Installation",
    "Model",
    "ModelVersion",
    "Participant",
    "Rollout",
    "Share",
    "StagedUpload",
]
