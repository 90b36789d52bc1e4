"""Models, their versions, the files behind them, and with whom they are shared."""

from registry.models.blobs import Artifact, StagedUpload
from registry.models.models import Model, ModelVersion, Share

__all__ = ["Artifact", "Model", "ModelVersion", "Share", "StagedUpload"]
