"""Rounds with faults: each ends as its plan says, with the reason in the API and in the text of the run's page.

What is counted at the end is checked by hand: the model of a round is the mean of the updates that came in time.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from federations.services import devices as device_services
from federations.services import federations as federation_services
from fedportal.common import blobs, clock
from fedwire import routes
from fedwire.errors import FedportalError
from registry.models import ModelVersion
from registry.services import versions
from tests.training.conftest import Site, Stage, current, rewind, weights_of
from training import wording
from training.models import Assignment, Run, Update
from training.services import healing, rounds

TRAIN_ONLY = {"evaluate": False}
LATE = "the answer came after the round had gone on"
NO_ANSWER = "no answer until the deadline"
Fault = Callable[[Site], object]


class Seen:
    """What an owner learns of a run: the answers of the API, and the text of the page."""

    def __init__(self, stage: Stage, run: Run) -> None:
        client, address = stage.cast.client("olga"), routes.SESSION.format(run=run.public_id)
        self.session: dict[str, Any] = client.get(address).json()
        self.snapshot: dict[str, Any] = client.get(f"{address}/snapshot").json()
        self.rounds: list[dict[str, Any]] = client.get(f"{address}/rounds").json()["rounds"]
        self.events: list[str] = [event["text"] for event in client.get(f"{address}/events").json()["events"]]
        page = stage.cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
        page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
        self.page = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())

    def says(self, sentence: str) -> None:
        """The sentence stands among the events of the API and on the page."""
        assert sentence in self.events
        assert sentence in self.page

    def card(self, identifier: str) -> dict[str, Any]:
        """The card of the device in the latest round."""
        return next(one for one in self.snapshot["participants"] if one["device"]["identifier"] == identifier)


def close_at_the_deadline(run: Run) -> None:
    """The deadline of the open round passes, and a worker looks."""
    rewind(run)
    rounds.settle(current(run).pk)
    run.refresh_from_db()


def finish(run: Run, sites: Iterable[Site], most: int = 30) -> Run:
    """These sites answer whatever they are asked, deadlines pass, until the run is over."""
    sites = list(sites)
    for _ in range(most):
        for site in sites:
            site.seen()
            for task in site.tasks():
                site.answer(task)
        run.refresh_from_db()
        if run.state != "running":
            return run
        if not any(site.tasks() for site in sites):
            close_at_the_deadline(run)
    raise AssertionError("the run does not end")


def mean_of(run: Run, number: int) -> np.ndarray:
    """What the model of the round must be: its base and the weighted mean of the updates that are kept for it."""
    found = run.rounds.get(number=number, state="done")
    kept = list(Update.objects.filter(round=found))
    total = sum(update.samples for update in kept)
    step = sum(
        (np.frombuffer(blobs.path(one.blob).read_bytes()[-16:], "<f4").astype("f8") * one.samples for one in kept),
        np.zeros(4),
    )
    return weights_of(found.base_blob).astype("f8") + step / total


def result_of(run: Run, number: int) -> np.ndarray:
    return weights_of(run.rounds.get(number=number, state="done").result_blob).astype("f8")


# --- stragglers, by the plan's three rules ---------------------------------------------------------------------------


def test_a_straggler_is_waited_for_until_the_deadline_and_the_page_says_when_it_was_dropped(stage: Stage) -> None:
    first, second, slow = stage.three()
    run = stage.start(rounds=2, min_participants=2, config=TRAIN_ONLY)
    slow.take()
    first.answer()
    second.answer()
    with clock.shifted(timedelta(seconds=30)):
        waits = Seen(stage, run)
    assert waits.snapshot["round"]["waiting"]["for"] == ["metro-1 of metro"]
    assert "Waiting for 1 device. At the deadline the round goes on without them." in waits.page
    assert "metro-1 of metro : it trains" in waits.page
    close_at_the_deadline(run)
    assert (current(run).number, run.rounds.get(number=1).state) == (2, "done")
    Seen(stage, run).says(f"metro-1 of metro: dropped: {NO_ANSWER}.")
    np.testing.assert_allclose(result_of(run, 1), mean_of(run, 1), rtol=1e-6)
    assert Update.objects.filter(round__number=1).count() == 2
    assert finish(run, [first, second, slow]).state == "completed"
    assert Update.objects.filter(round__number=2).count() == 3  # it may take part again


@pytest.mark.parametrize("rule", ["cut", "grace"])
def test_a_straggler_that_is_not_needed_is_not_to_blame(rule: str, stage: Stage) -> None:
    first, second, slow = stage.three()
    run = stage.start(rounds=1, min_participants=2, config=TRAIN_ONLY, plan={"stragglers": rule})
    task = slow.take()
    first.answer()
    second.answer()
    if rule == "grace":
        assert current(run).state == "open"
        told = [line for line in Seen(stage, run).events if line.startswith("Round 1 has enough answers")]
        assert len(told) == 1
        assert told[0] in Seen(stage, run).page
        with clock.shifted(timedelta(seconds=31)):
            rounds.settle(current(run).pk)
    run.refresh_from_db()
    seen = Seen(stage, run)
    assert (seen.session["state"], seen.rounds[0]["state"]) == ("completed", "done")
    assert (seen.card("metro-1")["word"], seen.card("metro-1")["reason"]) == ("not needed", wording.NOT_NEEDED)
    assert "metro-1 not needed metro the round had enough answers" in seen.page
    assert "The round is done" in seen.page
    with pytest.raises(FedportalError) as refused:
        slow.answer(task)
    assert refused.value.code == "task_closed"
    assert Seen(stage, run).card("metro-1")["word"] == "not needed"
    np.testing.assert_allclose(result_of(run, 1), mean_of(run, 1), rtol=1e-6)


def test_an_answer_within_the_grace_counts(stage: Stage) -> None:
    first, second, slow = stage.three()
    run = stage.start(rounds=1, min_participants=2, config=TRAIN_ONLY, plan={"grace_seconds": 30})
    slow.take()
    first.answer()
    second.answer()
    slow.answer()
    run.refresh_from_db()
    assert run.state == "completed"
    assert Update.objects.filter(round__run=run).count() == 3
    assert "3 of 3 answers" in Seen(stage, run).page


# --- drop-outs at every phase ----------------------------------------------------------------------------------------


def never_comes(site: Site) -> None:
    """It is asked, and nobody hears of it again."""
    site.vanish()
    Assignment.objects.filter(device=site.device).update(offered_at=clock.now() - timedelta(days=1))
    healing.sweep()


def dies_in_training(site: Site) -> None:
    """It took its task."""
    site.take()


def dies_in_the_upload(site: Site) -> None:
    """Half of its update lies in the staging folder, as the door leaves it when a connection breaks."""
    task = site.take()
    blobs.staging(task.public_id).write_bytes(b"\0" * (task.update_bytes // 2))


def dies_before_the_answer(site: Site) -> None:
    """Its update is stored; how many rows it stands for was never said."""
    site.upload(site.take())


PHASES: list[tuple[Fault, str]] = [
    (never_comes, healing.SILENT),
    (dies_in_training, NO_ANSWER),
    (dies_in_the_upload, NO_ANSWER),
    (dies_before_the_answer, NO_ANSWER),
]


@pytest.mark.parametrize(("fault", "reason"), PHASES, ids=[fault.__name__ for fault, _ in PHASES])
def test_a_device_that_drops_out_does_not_stop_the_round_and_counts_for_nothing(
    fault: Fault, reason: str, stage: Stage
) -> None:
    first, second, lost = stage.three()
    run = stage.start(rounds=2, min_participants=2, config=TRAIN_ONLY)
    task = lost.task
    fault(lost)
    first.answer()
    second.answer()
    if current(run).number == 1:
        close_at_the_deadline(run)
    assert (current(run).number, run.rounds.get(number=1).state) == (2, "done")
    Seen(stage, run).says(f"metro-1 of metro: dropped: {reason}.")
    with pytest.raises(FedportalError) as upload:  # it comes back, and brings what it had
        lost.upload(task)
    with pytest.raises(FedportalError) as answer:
        lost.say(task, {"samples": 30, "sha256": "0" * 64})
    assert (upload.value.code, answer.value.code) == ("task_closed", "task_closed")
    Seen(stage, run).says(f"metro-1 of metro: late: {LATE}.")
    lost.vanish()
    assert finish(run, [first, second]).state == "completed"
    assert set(Update.objects.filter(round__run=run).values_list("device__identifier", flat=True)) == {
        "acme-1",
        "acme-2",
    }
    np.testing.assert_allclose(result_of(run, 1), mean_of(run, 1), rtol=1e-6)
    given = {row["organization"]["name"]: row["updates"] for row in Seen(stage, run).snapshot["contributions"]}
    assert given["acme"] == 4
    assert given.get("metro", 0) == 0


def test_below_the_minimum_the_round_is_tried_again_and_the_reason_stands_everywhere(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=1, min_participants=3, config=TRAIN_ONLY)
    sites[0].answer()
    sites[1].take()
    close_at_the_deadline(run)
    seen, why = Seen(stage, run), "1 of 3 devices had answered at the deadline"
    assert [(row["attempt"], row["state"], row["reason"]) for row in seen.rounds] == [
        (1, "failed", why),
        (2, "open", ""),
    ]
    seen.says(f"Round 1 failed: {why}.")
    assert "Round 1 of 1, attempt 2" in seen.page
    assert "dropped in round 1" in seen.page
    assert finish(run, sites).state == "completed"
    assert run.result_version is not None


# --- what comes twice, and what comes late ---------------------------------------------------------------------------


def test_what_comes_twice_counts_once_and_leaves_no_trace_on_the_page(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(rounds=1, config=TRAIN_ONLY)
    task = first.take()
    first.upload(task)
    first.upload(task)  # the same again
    receipt = first.answer(task)
    again = {"samples": first.samples, "seconds": 0.25, "sha256": receipt["sha256"]}
    assert first.say(task, again) == receipt
    with pytest.raises(FedportalError) as differs:
        first.say(task, {**again, "samples": 11})
    with pytest.raises(FedportalError) as closed:
        first.upload(task, np.full(4, 9, np.float32))
    assert (differs.value.code, closed.value.code) == ("answer_differs", "task_closed")
    before = Seen(stage, run)
    assert before.card("acme-1")["word"] == "sent"
    assert not any("acme-1" in line and "sent." not in line and "training" not in line for line in before.events)
    for site in (second, third):
        site.answer()
    run.refresh_from_db()
    assert run.state == "completed"
    assert list(Update.objects.filter(round__run=run, device=first.device).values_list("blob", flat=True)) == [
        receipt["sha256"]
    ]
    np.testing.assert_allclose(result_of(run, 1), mean_of(run, 1), rtol=1e-6)


def test_an_upload_that_is_replaced_before_the_answer_counts_as_it_was_last(stage: Stage) -> None:
    (first,) = [stage.site(stage.cast.acme, "acme-1")]
    run = stage.start(rounds=1, config=TRAIN_ONLY)
    task = first.take()
    first.upload(task, np.full(4, 100, np.float32))
    first.answer(task, np.full(4, 0.5, np.float32))
    run.refresh_from_db()
    base = weights_of(run.base_version.blob)
    np.testing.assert_allclose(result_of(run, 1), base + 0.5, rtol=1e-6)


def test_an_answer_to_the_attempt_that_failed_does_not_count_for_the_next(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(rounds=1, min_participants=3, config=TRAIN_ONLY)
    task = third.take()
    sha = third.upload(task)
    close_at_the_deadline(run)
    with pytest.raises(FedportalError) as late:
        third.say(task, {"samples": 30, "sha256": sha})
    assert late.value.code == "task_closed"
    Seen(stage, run).says(f"metro-1 of metro: late: {LATE}.")
    assert current(run).assignments.get(device=third.device).state == "offered"
    assert finish(run, [first, second, third]).state == "completed"


# --- an organization vanishes ----------------------------------------------------------------------------------------


def test_an_organization_whose_devices_all_fall_silent_is_left_behind_and_comes_back(stage: Stage) -> None:
    acme = [stage.site(stage.cast.acme, f"acme-{n}", 10 + n) for n in (1, 2, 3)]
    metro = [stage.site(stage.cast.metro, f"metro-{n}", 20 + n) for n in (1, 2)]
    run = stage.start(rounds=4, min_participants=3, config=TRAIN_ONLY)
    for site in (*acme, *metro):
        site.answer()
    for site in metro:  # in round 2
        never_comes(site)
    for site in acme:
        site.answer()
    assert current(run).number == 3
    seen = Seen(stage, run)
    for site in metro:
        seen.says(f"{site.device.identifier} of metro: dropped: {healing.SILENT}.")
    assert not any(site.tasks() for site in metro)
    assert current(run).assignments.filter(organization=stage.cast.metro).count() == 0
    for site in metro:
        site.arrive()
    for site in acme:
        site.answer()
    assert all(site.tasks() for site in metro)
    assert finish(run, [*acme, *metro]).state == "completed"
    given = {row["organization"]["name"]: row for row in Seen(stage, run).snapshot["contributions"]}
    assert (given["metro"]["updates"], given["metro"]["expected"], given["acme"]["updates"]) == (4, 6, 12)
    assert "metro 2 4 of 6" in Seen(stage, run).page


def test_an_organization_that_is_removed_takes_its_devices_out_of_the_round(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(rounds=2, min_participants=2, config=TRAIN_ONLY)
    task = third.take()
    federation_services.remove(stage.olga, stage.cast.federation, stage.cast.metro)
    healing.sweep()
    first.answer()
    second.answer()
    assert current(run).number == 2
    Seen(stage, run).says(f"metro-1 of metro: dropped: {healing.GONE}.")
    with pytest.raises(FedportalError) as refused:
        third.answer(task)
    assert refused.value.code == "task_closed"
    assert finish(run, [first, second]).state == "completed"
    assert [row["organization"]["name"] for row in Seen(stage, run).snapshot["contributions"] if row["updates"]] == [
        "acme"
    ]


def test_a_round_that_cannot_do_without_the_organization_says_for_whom_it_waits(stage: Stage) -> None:
    first, second, _ = stage.three()
    run = stage.start(rounds=1, min_participants=3, config=TRAIN_ONLY)
    first.answer()
    second.answer()
    federation_services.leave(stage.cast.actor("mia"), stage.cast.federation)
    healing.sweep()
    seen = Seen(stage, run)
    waiting = seen.snapshot["round"]["waiting"]
    assert (waiting["have"], waiting["need"], waiting["then"]) == (2, 3, "the round is tried again")
    assert "Waiting for 1 more device. If they have not come at the deadline, the round is tried again." in seen.page
    assert seen.snapshot["run"]["word"] == "waiting"
    late = stage.site(stage.cast.acme, "acme-3")
    late.arrive()
    late.answer()
    run.refresh_from_db()
    assert run.state == "completed"
    Seen(stage, run).says("acme-3 of acme joined the round.")


# --- many fail -------------------------------------------------------------------------------------------------------


def fleet(stage: Stage, acme: int, metro: int) -> list[Site]:
    """So many devices of each."""
    of = [(stage.cast.acme, "acme", acme), (stage.cast.metro, "metro", metro)]
    return [
        stage.site(owner, f"{name}-{number:02}", 10 + number) for owner, name, count in of for number in range(count)
    ]


def declines(site: Site) -> None:
    site.decline("no power")


def test_a_run_in_which_three_of_ten_devices_fail_each_round_ends_with_its_version(stage: Stage) -> None:
    sites, faults = fleet(stage, 6, 4), [dies_in_training, dies_before_the_answer, declines]
    run = stage.start(rounds=5, min_participants=5, config=TRAIN_ONLY)
    for number in range(1, 6):
        asked = [site for site in sites if site.tasks()]
        assert len(asked) == 10
        failing = [asked[(3 * number + step) % 10] for step in range(3)]
        for site, fault in zip(failing, faults, strict=True):
            fault(site)
        for site in asked:
            if site not in failing:
                site.answer()
        for site in sites:  # whoever declined comes back for the next
            site.seen()
        close_at_the_deadline(run)
        assert run.rounds.get(number=number).state == "done"
        assert run.rounds.get(number=number).updates.count() == 7
        np.testing.assert_allclose(result_of(run, number), mean_of(run, number), rtol=1e-5)
        told = Counter(run.rounds.get(number=number).assignments.values_list("state", flat=True))
        assert told == {"submitted": 7, "expired": 2, "declined": 1}
    assert run.state == "completed"
    seen = Seen(stage, run)
    assert sum(line.endswith(f"dropped: {NO_ANSWER}.") for line in seen.events) == 10
    assert sum(line.endswith("declined: no power.") for line in seen.events) == 5
    assert seen.session["result_version"] == "2.0.0"
    last = [card for card in seen.snapshot["participants"] if card["word"] != "sent"]
    assert sorted(card["reason"] for card in last) == [NO_ANSWER, NO_ANSWER, "no power"]
    assert all(f"{card['device']['identifier']} {card['word']}" in seen.page for card in last)
    assert sum(row["updates"] for row in seen.snapshot["contributions"]) == 35


@pytest.mark.parametrize("how", ["silent", "revoked", "declined"])
def test_a_run_that_lost_more_than_half_of_those_it_began_with_fails_and_its_last_good_model_can_be_kept(
    how: str, stage: Stage
) -> None:
    sites = fleet(stage, 4, 3)
    run = stage.start(rounds=5, min_participants=5, config=TRAIN_ONLY)
    for site in sites:
        site.answer()
    lost, rest = sites[3:], sites[:3]
    for site in lost:  # four of seven
        if how == "silent":
            site.vanish()
        elif how == "revoked":
            device_services.revoke(stage.cast.actor("olga" if site is sites[3] else "mia"), site.device)
        else:
            site.decline("wrong columns")
    for _ in range(3):
        for site in rest:
            site.seen()
            for task in site.tasks():
                site.answer(task)
        if how == "silent":
            assert run.state == "running"
        close_at_the_deadline(run)
        if run.state != "running":
            break
    seen, word = Seen(stage, run), {"silent": "silent for 3 deadlines"}.get(how, how)
    reason = (
        f"4 of the 7 devices that began are gone: acme-03 of acme ({word}), metro-00 of metro ({word}), "
        f"metro-01 of metro ({word}) and metro-02 of metro ({word})."
    )
    assert (seen.session["state"], seen.session["reason"], seen.session["current_round"]) == ("failed", reason, 1)
    assert reason in seen.page
    assert "Failed in round 2 of 5" in seen.page
    assert "Keep as version" in seen.page
    assert not any(site.tasks() for site in sites)
    assert set(run.rounds.exclude(number=1).values_list("state", flat=True)) == {"failed"}
    good = run.rounds.get(number=1)
    assert blobs.exists(good.result_blob)
    kept = stage.cast.client("olga").post(f"{routes.SESSION.format(run=run.public_id)}/keep")
    assert (kept.status_code, kept.json()["result_version"]) == (200, "2.0.0")
    version = ModelVersion.objects.get(model=stage.model, version="2.0.0")
    assert (version.blob, version.lineage["rounds"]) == (good.result_blob, 1)
    after = Seen(stage, run)
    assert after.session["reason"] == reason
    assert "is published as version 2.0.0" in after.page
    assert versions.latest(stage.model) == version


def test_half_gone_is_not_more_than_half(stage: Stage) -> None:
    sites = fleet(stage, 2, 2)
    run = stage.start(rounds=2, min_participants=3, config=TRAIN_ONLY)
    for site in sites:
        site.answer()
    for site in sites[2:]:
        device_services.revoke(stage.cast.actor("mia"), site.device)
    for _ in range(4):
        for site in sites[:2]:
            site.seen()
            for task in site.tasks():
                site.answer(task)
        close_at_the_deadline(run)
    assert run.state == "running"
    assert "Waiting for 1 more device." in Seen(stage, run).page
    fresh = stage.site(stage.cast.metro, "metro-09")
    assert finish(run, [*sites[:2], fresh]).state == "completed"
