"""The floor of an organization's policy: the task names it, and an answer for fewer rows is refused and not kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federations import above
from federations.services import device_tasks, policies
from fedportal.common import blobs
from fedwire.errors import CATALOGUE, FedportalError
from tests.training.conftest import STANDARDISED, Site, Stage
from training.models import Assignment, Update


def set_floor(stage: Stage, **limits: Any) -> None:
    policies.change(stage.cast.actor("mia"), stage.cast.metro, **limits)


def shape(site: Site) -> dict[str, Any]:
    return dict(site.task.content["answer"])


def refusal(site: Site, answer: dict[str, Any]) -> FedportalError:
    with pytest.raises(FedportalError) as caught:
        device_tasks.answer(site.device.pk, site.task.public_id, json.dumps(answer).encode())
    return caught.value


def test_each_task_names_the_floor_of_its_own_organization(stage: Stage) -> None:
    set_floor(stage, least_records=25)
    acme, _, metro = stage.three()
    stage.start()
    assert (shape(acme)["least_records"], shape(metro)["least_records"]) == (0, 25)


def test_one_query_finds_the_floors_of_all(stage: Stage, django_assert_max_num_queries: Any) -> None:
    set_floor(stage, least_records=25)
    stage.three()
    with django_assert_max_num_queries(80) as few:
        stage.start()
    assert sum("federations_policy" in query["sql"] for query in few.captured_queries) <= 2


def test_an_update_for_too_few_rows_is_refused_and_not_kept(stage: Stage) -> None:
    set_floor(stage, least_records=31)
    site = stage.three()[2]
    stage.start()
    task = site.take()
    sha = site.upload(task)
    error = refusal(site, {"samples": 30, "sha256": sha})
    assert (error.code, error.context) == ("records_too_few", {"least": 31})
    assert "30" not in error.message
    assert not Update.objects.exists()
    task.refresh_from_db()
    assert (task.state, task.upload_sha256) == ("taken", "")
    assert not blobs.exists(sha)
    site.decline("records_too_few")  # what a device does then
    task.refresh_from_db()
    assert task.state == "declined"


def test_an_upload_that_another_device_brought_too_stays(stage: Stage) -> None:
    set_floor(stage, least_records=31)
    first, second, small = stage.three()
    stage.start()
    sha = small.upload(small.take())
    device_tasks.note_upload(first.take().pk, sha, 1.0)
    refusal(small, {"samples": 30, "sha256": sha})
    assert blobs.exists(sha)
    assert first.task.upload_sha256 == sha
    assert second.task.upload_sha256 == ""


def test_statistics_of_too_few_rows_are_refused(stage: Stage) -> None:
    set_floor(stage, least_records=31)
    stage.model = stage.shared("standardised", STANDARDISED)
    site = stage.three()[2]
    stage.start(config={"standardise": True})
    assert site.task.kind == "statistics"
    statistics = {"samples": 30, "mean": [0.0] * 3, "m2": [1.0] * 3}
    assert refusal(site, {"samples": 30, "statistics": statistics}).code == "records_too_few"


def test_enough_rows_are_taken(stage: Stage) -> None:
    set_floor(stage, least_records=30)
    site = stage.three()[2]
    stage.start()
    site.take()
    assert site.answer()["samples"] == 30


def test_a_policy_foresees_which_runs_leave_its_devices_out(stage: Stage) -> None:
    site = stage.three()[2]
    run = stage.start(min_participants=1)
    site.answer()
    metro = stage.cast.metro

    def foreseen(**limits: Any) -> list[tuple[str, tuple[str, ...]]]:
        return [(f.address, f.reasons) for f in above.left_out(metro, policies.drafted(metro, **limits))]

    assert foreseen() == []
    assert foreseen(least_records=30, least_devices=1, allowed_strategies=["fedavg"]) == []
    ((address, (reason,)),) = foreseen(least_records=31)
    assert address == f"/runs/{run.public_id}"
    assert reason == "Your only device there has sent fewer than 31 rows and would decline."
    ((_, (reason,)),) = foreseen(least_devices=2)
    assert reason == "1 of your devices could take part now; the policy asks for at least 2."
    draft = policies.drafted(metro)
    draft.allowed_strategies = ["krum"]
    assert "Federated averaging" in above.left_out(metro, draft)[0].reasons[0]


def test_a_stranger_foresees_nothing_of_others_runs(stage: Stage) -> None:
    stage.three()
    stage.start()
    rival = stage.cast.rival
    assert above.left_out(rival, policies.drafted(rival, least_records=1000, least_devices=9)) == []


def test_what_a_device_did_lately_is_told(stage: Stage) -> None:
    site = stage.three()[2]
    stage.start()
    site.take()
    site.answer()
    (part, *_) = above.parts_of(site.device)
    assert (part.name, part.work, part.state) == ("radiology-v1", "round 1", "sent")


def test_why_a_device_declined_is_told_with_what_to_do(stage: Stage) -> None:
    site = stage.three()[2]
    stage.start()
    site.take()
    Assignment.objects.filter(device=site.device).update(state="declined", reason="data_shape")
    (part, *_) = above.parts_of(site.device)
    assert part.reason.endswith(CATALOGUE["data_shape"].next_step)
    assert "columns than the model takes" in part.reason
    Assignment.objects.filter(device=site.device).update(reason="the data of ward 3 are away")
    (part, *_) = above.parts_of(site.device)
    assert part.reason == "the data of ward 3 are away"
