"""What this floor tells the floors below, once, when the portal starts."""

from __future__ import annotations

from federations import above, permissions
from federations.web import labels
from fedportal.common import health, sweeping
from training import outlook
from training.services import healing, intake, pulse, runs
from training.web import startform


def connect() -> None:
    """Listen to device tasks, let grants on runs follow the members of a federation, tell what the pages of the floor
    below show of runs, register the sweep."""
    intake.connect()
    permissions.follow(within=runs.in_federation, relation=runs.relation)
    above.register(foresight=outlook.left_out, parts=outlook.parts_of, strategies=outlook.strategy_titles)
    above.register_names(outlook.run_names)
    labels.add(startform.LABELS)
    sweeping.register(healing.sweep)
    health.register(
        "sweeper",
        "Sweeper",
        "Looks after what a lost message or a killed process left undone.",
        pulse.health_of_sweeper,
    )
