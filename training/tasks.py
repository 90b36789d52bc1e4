"""Doorbells of this floor: an id in, one call out. Each may ring twice, late or never; the sweeper rings again."""

from __future__ import annotations

from fedportal.common import clock
from fedportal.common.jobs import job
from training.services import answering, opening, outcomes, rounds, shards


@job
def settle_round(round_pk: int) -> None:
    """Close the round if it is time, and go on with its run."""
    rounds.settle(round_pk)


@job
def fill_round(round_pk: int) -> None:
    """Let further devices into the round, and close it if nothing is to be waited for."""
    opening.fill(round_pk)
    rounds.settle(round_pk)


@job
def advance_run(run_pk: int) -> None:
    """Do what the run does next."""
    complete = opening.advance(run_pk)
    if complete is not None:
        rounds.settle(complete)


@job
def make_part(round_pk: int) -> None:
    """Make one part of a large round's model, if one is free."""
    shards.make_one(round_pk, outcomes.recipe)


@job
def settle_inference(plan_pk: int) -> None:
    """End the plan if nothing more is to come, or its time is over."""
    answering.settle(plan_pk)


def sweep_inference() -> None:
    """End the plans whose time is over, and those of which nothing more is to come."""
    for plan_pk in answering.overdue(clock.now()):
        answering.settle(plan_pk)
