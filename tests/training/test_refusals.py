"""What was refused leaves a trace on the run's page: once for each reason, and gone when something better comes."""

from __future__ import annotations

from typing import Any

import pytest

from federations.services import device_tasks
from fedportal.common import clock
from fedwire.errors import FedportalError
from tests.training.conftest import Site, Stage, rewind
from training import standing
from training.models import Assignment, Run
from training.services import healing


def refuse(site: Site, code: str = "not_finite") -> None:
    """The door refused the device's upload."""
    device_tasks.note_refused(site.device.pk, site.task.public_id, FedportalError(code))


def card(stage: Stage, run: Run, site: Site) -> dict[str, Any]:
    """The device's card."""
    found = stage.snapshot(run)["participants"]
    return next(one for one in found if one["device"]["identifier"] == site.device.identifier)


def told(run: Run) -> list[dict[str, Any]]:
    return [event.data for event in run.events.filter(kind="assignment.refused").order_by("sequence")]


def test_refused_upload_is_an_event_and_stands_on_the_card(stage: Stage) -> None:
    site = stage.three()[0]
    run = stage.start()
    site.take()
    refuse(site)
    shown = card(stage, run, site)
    assert (shown["word"], shown["state"]) == ("refused", "training")
    assert shown["reason"] == "The tensors hold NaN or infinity."
    (event,) = told(run)
    assert event["refusal"]["code"] == "not_finite"
    assert event["device"]["identifier"] == site.device.identifier
    assert run.events.get(kind="assignment.refused").data["word"] == "refused"


def test_refusal_is_told_once_for_each_reason(stage: Stage) -> None:
    site = stage.three()[0]
    run = stage.start()
    for code in ("not_finite", "not_finite", "tensor_order", "not_finite"):
        refuse(site, code)
    assert [event["refusal"]["code"] for event in told(run)] == ["not_finite", "tensor_order"]


def test_refused_answer_is_told_like_a_refused_upload(stage: Stage) -> None:
    site = stage.three()[0]
    run = stage.start()
    task = site.take()
    with pytest.raises(FedportalError):
        site.answer(task, samples=-4)
    assert [event["refusal"]["code"] for event in told(run)] == ["samples_invalid"]
    assert "-4" in card(stage, run, site)["reason"]


def test_better_update_after_a_refusal_counts(stage: Stage) -> None:
    site = stage.three()[0]
    run = stage.start()
    refuse(site)
    site.answer()
    shown = card(stage, run, site)
    assert (shown["word"], shown["reason"]) == ("sent", "")


def test_device_that_declines_after_a_refusal_shows_the_refusal(stage: Stage) -> None:
    site = stage.three()[0]
    run = stage.start()
    refuse(site)
    site.decline("not_finite")
    shown = card(stage, run, site)
    assert (shown["word"], shown["state"]) == ("refused", "declined")
    assert shown["reason"] == "The tensors hold NaN or infinity."


@pytest.mark.parametrize("code", ["upload_incomplete", "digest_mismatch"])
def test_what_a_device_mends_by_itself_is_not_told(code: str, stage: Stage) -> None:
    site = stage.three()[0]
    run = stage.start()
    task = site.take()
    if code == "digest_mismatch":
        site.upload(task)
    with pytest.raises(FedportalError) as caught:
        site.say(task, {"samples": 3, "sha256": "0" * 64})
    assert caught.value.code == code
    assert told(run) == []


def test_refusal_for_a_closed_task_changes_nothing(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=1)
    late, task = sites[0], sites[0].take()
    for site in sites[1:]:
        site.answer()
    rewind(run)
    healing.sweep()
    device_tasks.note_refused(late.device.pk, task.public_id, FedportalError("not_finite"))
    assert told(run) == []
    assert Assignment.objects.get(task=task).refusal is None


def test_device_that_was_refused_for_good_is_named_at_once_with_what_to_do(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start()
    for site in sites[1:]:
        site.answer()
    sites[0].take()
    assert stage.snapshot(run)["round"]["waiting"] is None
    refuse(sites[0], "metrics_invalid")
    waiting = stage.snapshot(run)["round"]["waiting"]
    (one,) = waiting["missing"]
    assert one["who"] == "acme-1 of acme"
    assert one["reason"].startswith("what it sent was refused. The metrics are not usable")
    assert waiting["advice"] == [
        "The same would be refused again, so whoever runs the device has to mend it.",
        "Send sums, counts and histograms as described in the protocol.",
        "Nobody else has to do anything: the round goes on without them at its deadline.",
    ]


def test_refusal_that_may_pass_by_itself_is_said_without_alarm(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start()
    sites[0].take()
    refuse(sites[0], "storage_full")
    with clock.shifted(standing.PATIENCE):
        waiting = stage.snapshot(run)["round"]["waiting"]
    assert "what it sent was refused" in {one["who"]: one["reason"] for one in waiting["missing"]}["acme-1 of acme"]
    assert not any("has to mend it" in line for line in waiting["advice"])
