"""What this floor tells the floors below, once, when the portal starts."""

from __future__ import annotations

from federations import permissions
from fedportal.common import sweeping
from training.services import healing, intake, runs


def connect() -> None:
    """Listen to device tasks, let grants on runs follow the members of a federation, register the sweep."""
    intake.connect()
    permissions.follow(within=runs.in_federation, relation=runs.relation)
    sweeping.register(healing.sweep)
