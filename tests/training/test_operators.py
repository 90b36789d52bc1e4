"""What the portal's operators do with runs and rounds: through services, recorded once, by staff only."""

from __future__ import annotations

import pytest

from federations.models import Person
from fedportal.celery import app
from fedwire.errors import FedportalError
from tests.federations.helpers import recorded
from tests.training.conftest import Stage, current
from training.models import Round
from training.services import healing, runs


@pytest.fixture
def operator(stage: Stage) -> Person:
    """Portal staff."""
    return Person.objects.create_superuser("staff@portal.example")


def test_a_round_is_rung_for_again_and_its_claim_is_void(stage: Stage, operator: Person) -> None:
    stage.three()
    run = stage.start()
    found = current(run)
    Round.objects.filter(pk=found.pk).update(state="aggregating", fence=1, lease_until="2999-01-01T00:00Z")
    assert found.pk not in list(healing.due())
    app.conf.task_always_eager = False  # the bell is heard by nobody here
    with recorded("round.requeued", run.public_id):
        healing.requeue_by_staff(operator, found)
    assert found.pk in list(healing.due())


def test_a_run_is_rung_for_and_cancelled(stage: Stage, operator: Person) -> None:
    stage.three()
    run = stage.start()
    with recorded("run.rung_for", run.public_id):
        healing.go_on_by_staff(operator, run)
    with recorded("run.stopped", run.public_id):
        runs.stop_by_staff(operator, run)
    assert run.state == "stopped"


def test_nobody_else_may(stage: Stage) -> None:
    stage.three()
    run = stage.start()
    for act in (lambda by: healing.requeue_by_staff(by, current(run)), lambda by: healing.go_on_by_staff(by, run)):
        with pytest.raises(FedportalError) as caught:
            act(stage.cast.olga)
        assert caught.value.code == "forbidden"
