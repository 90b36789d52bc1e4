"""What this floor tells the floors below, once, when the portal starts."""

from __future__ import annotations

from federations import above, permissions
from federations.web import labels
from fedportal.common import sweeping
from fedportal.door import hooks
from fedwire import routes
from registry import door, selectors, tasks
from registry.services import experiments, health, installations, joint, models, portions

# The fields of the forms that begin a rollout and plan an experiment.
ROLLOUTS = {
    "error_rate": "Failed predictions",
    "increment": "Advance adds",
    "latency_ms": "95 of 100 within",
    "least": "Predictions needed to say anything",
    "percentage": "Percentage of the devices",
    "planned": "Observations planned in each arm",
    "treatment_percentage": "Treated, in percent of the devices",
    "wait": "Keep it so for",
    "window_seconds": "Looked at over",
}


def connect() -> None:
    """Register uploads, downloads, sweeps, installations, and how grants on models follow a federation's members."""
    above.register_names(selectors.model_names)
    labels.add({"upload": "A safetensors file"} | ROLLOUTS)
    permissions.follow(within=models.shared_in, relation=models.relation)
    hooks.register_upload(routes.UPLOAD, door.upload)
    hooks.register_download(routes.MODEL_DOWNLOAD, door.download)
    hooks.register_download(routes.MODEL_FILE, door.linked)
    sweeping.register(tasks.sweep)
    sweeping.register(joint.sweep)
    sweeping.register(experiments.sweep)
    sweeping.register(health.sweep)
    installations.connect()
    portions.ring_with(tasks.ring_for_portion)
    health.ring_with(tasks.ring_for_judgement)
