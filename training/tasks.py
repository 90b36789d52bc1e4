"""Doorbells of this floor: an id in, one call out. Each may ring twice, late or never; the sweeper rings again."""

from __future__ import annotations

from fedportal.common.jobs import job
from training.services import opening, rounds


@job
def settle_round(round_pk: int) -> None:
    """Close the round if it is time, and go on with its run."""
    rounds.settle(round_pk)


@job
def advance_run(run_pk: int) -> None:
    """Do what the run does next."""
    complete = opening.advance(run_pk)
    if complete is not None:
        rounds.settle(complete)
