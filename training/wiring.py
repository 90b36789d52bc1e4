"""What this floor tells the floors below, once, when the portal starts."""

from __future__ import annotations

from federations import above, permissions
from federations.web import labels
from fedportal.common import health, sweeping
from fedportal.common.jobs import ring
from fedportal.door import hooks
from fedwire import routes
from registry.services import figures
from training import door, inferences, outlook, tasks
from training.services import answering, finishing, healing, intake, masked_bell, pulse, runs, seats, shards
from training.web.labels import LABELS


def connect() -> None:
    """Listen to device tasks, let grants on runs follow the members of a federation, tell what the pages of the floor
    below show of runs and what gates know of them, register the sweep."""
    intake.connect()
    seats.connect()
    answering.connect()
    answering.listen(ring_for_inference)
    sweeping.register(tasks.sweep_inference)
    permissions.follow(within=runs.in_federation, relation=runs.relation)
    above.register(foresight=outlook.left_out, parts=outlook.parts_of, strategies=outlook.strategy_titles)
    above.register_names(outlook.run_names)
    labels.add(LABELS)
    hooks.register_download(routes.SESSION_HELD_FILE, door.held)
    shards.listen(ring_for_part)
    masked_bell.listen(ring_for_masked)
    sweeping.register(healing.sweep)
    figures.register(finishing.measured, "measured by a run that began with it")
    figures.register(inferences.measured, "of all rows that a plan of inference counted")
    health.register(
        "sweeper",
        "Sweeper",
        "Looks after what a lost message or a killed process left undone.",
        pulse.health_of_sweeper,
    )


def ring_for_part(round_pk: int) -> None:
    """Have a worker make a part of this round."""
    ring(tasks.make_part, round_pk)


def ring_for_inference(plan_pk: int) -> None:
    """Have a worker look whether this plan of inference is over."""
    ring(tasks.settle_inference, plan_pk)


def ring_for_masked(round_pk: int, after: float) -> None:
    """Have a worker look at this round, whose devices add up under masks."""
    ring(tasks.settle_round, round_pk, after=after)
