"""Rounds with too few devices: whom they wait for, who is let in, and when a run gives up."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from federations.models import Device, DeviceKey
from federations.services import device_tasks
from federations.services import devices as device_services
from federations.services import federations as federation_services
from fedportal.common import clock
from fedwire.errors import FedportalError
from tests.training.conftest import STANDARDISED, Site, Stage, current, rewind
from training.models import Assignment, Run, Update
from training.services import healing, opening, rounds


@pytest.mark.parametrize(("starts", "until"), [("12:00", "12:05 UTC"), ("23:58", "00:03 UTC on 5 March")])
def test_waiting_round_says_for_whom_until_when_and_what_then(stage: Stage, starts: str, until: str) -> None:
    with clock.frozen(datetime.fromisoformat(f"2031-03-04T{starts}:00+00:00")):
        stage.site(stage.cast.acme, "acme-1")
        run = stage.start(min_participants=2, round_seconds=300)
        waiting = stage.snapshot(run)["round"]["waiting"]
    told = {
        "have": 1,
        "need": 2,
        "for": ["metro"],
        "until": current(run).deadline.isoformat(),
        "then": "the round is tried again",
        "word": "waiting",
        "lead": "Waiting for 1 more device. If they have not come at the deadline, the round is tried again.",
        "sentence": f"Waiting for 1 more device (metro has none available) until {until}; "
        "then the round is tried again.",
    }
    assert {name: waiting[name] for name in told} == told
    opened = run.events.get(kind="round.opened")
    assert opened.data["waiting"] == told


def test_run_whose_group_nobody_is_in_says_so_and_what_to_do(stage: Stage) -> None:
    stage.three()
    run = stage.start(group="night-shift")
    shown = stage.snapshot(run)
    waiting = shown["round"]["waiting"]
    assert "metro has no device in the group night-shift" in waiting["sentence"]
    assert [(one["who"], one["reason"]) for one in waiting["missing"]] == [
        ("acme", "has no device in the group night-shift"),
        ("metro", "has no device in the group night-shift"),
    ]
    assert waiting["advice"][0].startswith("Put a device into the group night-shift, or stop this run and start one")
    assert not any("`" in line or "Start the device" in line for line in waiting["advice"])


def test_run_that_waits_for_devices_is_called_waiting_everywhere(stage: Stage) -> None:
    site = stage.site(stage.cast.metro, "metro-1")
    going_on, waits = stage.start(min_participants=1), stage.start(min_participants=2)
    assert stage.snapshot(waits)["run"]["word"] == "waiting"
    assert stage.snapshot(waits)["run"]["state"] == "running"
    assert stage.snapshot(going_on)["run"]["word"] == "running"
    site.seen()
    browser = stage.cast.browser("olga")
    for address in ("/", "/runs"):
        page = browser.get(address).content.decode()
        assert page.count('<span class="badge state-waiting">waiting</span>') == 1
        assert page.count('<span class="badge state-running">running</span>') == 1
    page = browser.get(f"/runs/{waits.public_id}").content.decode()
    assert '<span class="badge state-waiting" data-run-state>waiting</span>' in page


def test_nobody_there_waits_for_all_members(stage: Stage) -> None:
    run = stage.start(min_participants=3)
    waiting = stage.snapshot(run)["round"]["waiting"]
    assert waiting["for"] == ["acme", "metro"]
    assert waiting["sentence"].startswith("Waiting for 3 more devices (acme and metro have none available) until ")


def test_round_that_has_enough_waits_for_nobody(stage: Stage) -> None:
    stage.three()
    run = stage.start(min_participants=3)
    assert stage.snapshot(run)["round"]["waiting"] is None


def test_after_a_while_the_page_names_the_stragglers(stage: Stage) -> None:
    first, second, _ = stage.three()
    run = stage.start(min_participants=2)
    first.answer()
    second.answer()
    with clock.shifted(timedelta(seconds=30)):
        waiting = stage.snapshot(run)["round"]["waiting"]
    assert waiting["for"] == ["metro-1 of metro"]
    assert (waiting["have"], waiting["need"]) == (2, 3)
    assert waiting["then"] == "the round goes on without them"


def test_device_that_arrives_is_let_into_a_round_that_is_short(stage: Stage) -> None:
    first = stage.site(stage.cast.acme, "acme-1")
    run = stage.start(min_participants=2)
    late = stage.site(stage.cast.metro, "metro-1")
    assert late.tasks() == []
    late.arrive()
    assert late.task.content["round"] == 1
    joined = run.events.get(kind="round.joined")
    assert joined.data["participant"]["device"]["identifier"] == "metro-1"
    assert joined.data["waiting"] is None
    first.answer()
    late.answer()
    assert current(run).number == 2


def test_nobody_is_let_into_a_round_whose_deadline_has_passed(stage: Stage) -> None:
    stage.site(stage.cast.acme, "acme-1")
    run = stage.start(min_participants=2)
    late = stage.site(stage.cast.metro, "metro-1")
    rewind(run)
    opening.fill(current(run).pk)
    late.arrive()
    assert late.tasks() == []
    assert opening.short_of_devices() == []


def test_a_refusal_to_give_statistics_is_an_answer_and_nobody_is_let_in_for_it(stage: Stage) -> None:
    sites, model = stage.three(), stage.shared("tabular", STANDARDISED)
    run = stage.start(model=model, rounds=1, min_participants=3)
    sites[0].decline("no columns to describe")
    late = stage.site(stage.cast.metro, "metro-2")
    late.arrive()
    assert opening.short_of_devices() == []
    assert late.tasks() == []
    assert stage.snapshot(run)["round"]["waiting"] is None


def test_device_that_arrives_at_a_full_round_waits_for_the_next(stage: Stage) -> None:
    first = stage.site(stage.cast.acme, "acme-1")
    run = stage.start(min_participants=1)
    late = stage.site(stage.cast.metro, "metro-1")
    late.arrive()
    assert late.tasks() == []
    first.answer()
    assert current(run).number == 2
    assert late.task.content["round"] == 2


def test_device_that_declined_is_replaced_by_another(stage: Stage) -> None:
    first = stage.site(stage.cast.acme, "acme-1")
    stage.start(min_participants=1)
    spare = stage.site(stage.cast.metro, "metro-1")
    first.decline("no power")
    assert Assignment.objects.get(device=first.device).reason == "no power"
    assert spare.task.content["round"] == 1
    first.arrive()
    assert first.tasks() == []


@pytest.mark.parametrize("why", ["stranger", "invited", "revoked", "quarantined", "silent", "keyless", "other group"])
def test_devices_that_may_not_or_cannot_take_part_are_not_asked(stage: Stage, why: str) -> None:
    cast = stage.cast
    organization = {"invited": cast.valley}.get(why, cast.metro)
    site = stage.site(organization, "metro-1")
    if why == "stranger":
        Device.objects.filter(pk=site.device.pk).update(organization=cast.rival)
    elif why == "revoked":
        device_services.revoke(cast.actor("mia"), site.device)
    elif why == "quarantined":
        device_services.quarantine(cast.actor("mia"), site.device)
    elif why == "silent":
        site.vanish()
    elif why == "keyless":
        DeviceKey.objects.filter(device=site.device).update(expires_at=clock.now() - timedelta(seconds=1))
    stage.start(group="production" if why == "other group" else "")
    assert site.tasks() == []


def test_group_limits_who_is_asked(stage: Stage) -> None:
    production, other = stage.site(stage.cast.metro, "metro-1"), stage.site(stage.cast.metro, "metro-2")
    device_services.set_groups(stage.cast.actor("mia"), production.device, ["production"])
    stage.start(group="production")
    assert production.task.content["round"] == 1
    assert other.tasks() == []


def fail_round(run: Run) -> None:
    """The open round's deadline passes and a worker notices."""
    rewind(run)
    rounds.settle(current(run).pk)
    run.refresh_from_db()


def test_run_goes_on_trying_while_half_of_its_starters_are_there(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=3)
    sites[0].vanish()
    for attempt in range(1, 6):
        assert (current(run).attempt, run.state) == (attempt, "running")
        for site in sites[1:]:
            site.answer()
        fail_round(run)
    assert run.state == "running"


def test_run_fails_when_more_than_half_of_its_starters_were_silent_for_three_deadlines(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=3)
    for _ in range(2):
        sites[0].answer()
        fail_round(run)
        assert run.state == "running"
    sites[0].answer()
    fail_round(run)
    assert run.state == "failed"
    assert run.reason == (
        "2 of the 3 devices that began are gone: acme-2 of acme (silent for 3 deadlines) "
        "and metro-1 of metro (silent for 3 deadlines)."
    )
    assert run.events.order_by("-sequence")[0].kind == "run.failed"
    assert not any(site.tasks() for site in sites)


def test_run_fails_when_its_starters_decline(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=2)
    sites[0].decline("wrong columns")
    sites[1].decline("wrong columns")
    fail_round(run)
    assert run.state == "failed"
    assert "acme-1 of acme (declined)" in run.reason


def test_run_fails_when_its_only_device_is_revoked(stage: Stage) -> None:
    site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start()
    device_services.revoke(stage.cast.actor("mia"), site.device)
    fail_round(run)
    assert run.state == "failed"
    assert run.reason == "The only device that began is gone: metro-1 of metro (revoked)."


def test_run_that_never_had_a_device_waits_on(stage: Stage) -> None:
    run = stage.start()
    for _ in range(4):
        fail_round(run)
    assert run.state == "running"
    assert current(run).attempt == 5


def test_member_that_leaves_is_waited_for_no_longer(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(min_participants=2)
    first.answer()
    second.answer()
    federation_services.leave(stage.cast.actor("mia"), stage.cast.federation)
    healing.sweep()
    assert current(run).number == 2
    part = Assignment.objects.get(round__number=1, device=third.device)
    assert (part.state, part.reason) == ("expired", healing.GONE)
    assert third.tasks() == []


def test_member_that_left_cannot_answer_any_more(stage: Stage) -> None:
    *_, third = stage.three()
    stage.start()
    federation_services.leave(stage.cast.actor("mia"), stage.cast.federation)
    with pytest.raises(FedportalError) as refused:
        third.answer()
    assert refused.value.code == "forbidden"
    assert not Update.objects.exists()


def test_quarantined_device_cannot_answer_any_more(stage: Stage) -> None:
    *_, third = stage.three()
    stage.start()
    device_services.quarantine(stage.cast.actor("mia"), third.device)
    with pytest.raises(FedportalError) as refused:
        third.answer()
    assert refused.value.code == "forbidden"
    assert not Update.objects.exists()


def test_device_that_declined_and_went_away_is_not_asked_again(stage: Stage) -> None:
    first, second, third = stage.three()
    stage.start(min_participants=1)
    third.decline("wrong columns")
    for number in (2, 3):
        first.answer()
        second.answer()
        assert first.task.content["round"] == number
        assert third.tasks() == []


def test_device_that_declined_and_waits_again_is_asked_again(stage: Stage) -> None:
    first, second, third = stage.three()
    stage.start(min_participants=1)
    third.decline("no power")
    device_tasks.tell_idle([third.device.pk])
    first.answer()
    second.answer()
    assert third.task.content["round"] == 2


def test_device_that_never_came_for_its_task_is_waited_for_no_longer(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(min_participants=2)
    second.take()
    healing.sweep()
    with clock.shifted(timedelta(seconds=70)):
        first.seen()
        healing.drop_the_gone()
        healing.drop_the_silent()
    states = dict(current(run).assignments.values_list("device__identifier", "state"))
    assert states == {"acme-1": "offered", "acme-2": "training", "metro-1": "expired"}
    assert third.tasks() == []


def test_last_round_does_not_wait_for_devices_that_left(stage: Stage) -> None:
    site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start(rounds=1)
    site.answer()
    evaluating = current(run)
    assert evaluating.kind == "evaluate"
    assert evaluating.deadline - evaluating.opened_at < timedelta(seconds=10)
    fail_round(run)
    assert run.state == "completed"
    assert run.result_version is not None
    assert run.result_version.metrics == {}


def test_last_round_without_any_device_ends_the_run_at_once(stage: Stage) -> None:
    site: Site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start(rounds=1)
    task = site.take()
    site.vanish()
    site.answer(task)
    run.refresh_from_db()
    assert run.state == "completed"
