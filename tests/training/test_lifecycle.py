"""States move along the table and nowhere else, by either way of moving them."""

from __future__ import annotations

import pytest
from django.db import transaction

from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.states import MOVES, AssignmentState
from tests.training.conftest import Stage
from training import lifecycle
from training.models import Assignment

STATES = [str(state) for state in AssignmentState]


@pytest.mark.parametrize("after", STATES)
@pytest.mark.parametrize("before", STATES)
def test_both_ways_of_moving_obey_the_table(before: str, after: str, stage: Stage) -> None:
    stage.site(stage.cast.acme, "acme-1")
    part = stage.start(min_participants=1).rounds.get().assignments.get()
    allowed = after in MOVES["assignment"][before]
    for move in (
        lambda: lifecycle.move_one(Assignment.objects.filter(pk=part.pk), after, changed_at=clock.now()),
        lambda: lifecycle.move_row(Assignment, part.pk, after, changed_at=clock.now()),
    ):
        Assignment.objects.filter(pk=part.pk).update(state=before)
        began = clock.now()
        if not allowed:
            with pytest.raises(lifecycle.Lost), unit():
                move()
            assert Assignment.objects.get(pk=part.pk).state == before
            continue
        with unit():
            move()
        moved = Assignment.objects.get(pk=part.pk)
        assert moved.state == after
        assert began <= moved.changed_at <= clock.now()


@pytest.mark.django_db(transaction=True)
def test_states_move_inside_a_unit_only() -> None:
    assert not transaction.get_connection().in_atomic_block
    with pytest.raises(RuntimeError, match="unit"):
        lifecycle.move(Assignment.objects.all(), AssignmentState.LATE)
    with pytest.raises(RuntimeError, match="unit"):
        lifecycle.move_row(Assignment, 1, AssignmentState.LATE)
