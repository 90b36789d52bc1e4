"""Models, their versions and files, with whom they are shared, on which devices they are, and their gates."""

from registry.models.blobs import Artifact, StagedUpload
from registry.models.experiments import Experiment, Participant
from registry.models.gates import GateOverride, GatePolicy, GateReport
from registry.models.models import Model, ModelVersion, Share
from registry.models.rollouts import HealthReport, Installation, Rollout

__all__ = [
    "Artifact",
    "Experiment",
    "GateOverride",
    "GatePolicy",
    "GateReport",
    "HealthReport",
    "Installation",
    "Model",
    "ModelVersion",
    "Participant",
    "Rollout",
    "Share",
    "StagedUpload",
]
