"""Members that something bars are left out of further rounds, and it is said: on the page, in status and sentences."""

from __future__ import annotations

from datetime import timedelta

from federations.models import Policy
from federations.services import agreements
from federations.services.agreements import Draft
from fedportal.common import clock
from tests.training.conftest import Site, Stage, current, rewind
from training.models import Run
from training.services import cohorts, healing, opening, starters

TEXT = "Data stay where they are."


def publish(stage: Stage, days: int = 0) -> None:
    expires_at = clock.now() + timedelta(days=days) if days else None
    agreements.publish(stage.olga, stage.cast.federation, Draft("Study", TEXT, expires_at))


def accept(stage: Stage, who: str = "mia") -> None:
    agreement = agreements.current(stage.cast.federation)
    assert agreement is not None
    agreements.accept(stage.cast.actor(who), agreement)


def asked(run: Run) -> list[str]:
    rows = current(run).assignments.order_by("device__identifier")
    return list(rows.values_list("device__identifier", flat=True))


def sentence(stage: Stage, run: Run) -> str:
    return str(stage.snapshot(run)["round"]["waiting"]["sentence"])


def pair(stage: Stage) -> tuple[Site, Site]:
    return stage.site(stage.cast.acme, "acme-1"), stage.site(stage.cast.metro, "metro-1")


def test_a_member_that_has_not_accepted_is_not_asked_and_it_is_said(stage: Stage) -> None:
    pair(stage)
    publish(stage)
    run = stage.start(min_participants=2)
    assert asked(run) == ["acme-1"]
    reason = "metro has not accepted version 1 of the study agreement"
    assert f"Waiting for 1 more device ({reason}) until" in sentence(stage, run)
    shown = stage.snapshot(run)
    assert shown["barred"] == [{"organization": {"id": stage.cast.metro.public_id, "name": "metro"}, "reason": reason}]
    page = stage.cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
    assert reason in page.partition("data-barred-box")[2].partition("</section>")[0]
    status = stage.cast.client("olga").get(f"/api/v1/training/{stage.model.public_id}/status").json()
    assert status["barred"] == shown["barred"]


def test_a_member_whose_agreement_expired_is_left_out_of_the_next_round_and_it_is_said(stage: Stage) -> None:
    first, second = pair(stage)
    publish(stage, days=1)
    accept(stage)
    run = stage.start(min_participants=1, round_seconds=200_000)
    with clock.shifted(timedelta(days=2)):
        first.seen(), second.seen()
        first.answer()  # the round under way finishes
        second.answer()
        assert current(run).number == 2
        assert asked(run) == []
        assert "(the study agreement expired on " in sentence(stage, run)
        assert [row["organization"]["name"] for row in stage.snapshot(run)["barred"]] == ["acme", "metro"]


def test_accepting_lets_the_waiting_devices_in(stage: Stage) -> None:
    _, second = pair(stage)
    publish(stage)
    run = stage.start(min_participants=2)
    second.arrive()
    assert asked(run) == ["acme-1"]
    accept(stage)
    second.arrive()
    assert asked(run) == ["acme-1", "metro-1"]
    assert stage.snapshot(run)["barred"] == []


def test_a_new_version_does_not_end_a_run_that_has_begun(stage: Stage) -> None:
    first, second = pair(stage)
    run = stage.start(min_participants=2)
    first.answer()
    second.answer()
    publish(stage)  # round 2 is under way and goes on
    first.answer()
    second.answer()
    for _ in range(starters.SILENT_ROUNDS + 1):
        rewind(run)
        healing.sweep()
    run.refresh_from_db()
    assert (run.state, current(run).number) == ("running", 3)
    accept(stage)
    opening.fill(current(run).pk)
    assert asked(run) == ["acme-1", "metro-1"]


def test_a_strategy_that_the_policy_excludes_is_said(stage: Stage) -> None:
    pair(stage)
    Policy.objects.create(organization=stage.cast.metro, allowed_strategies=["fedprox"])
    run = stage.start(min_participants=1)
    assert asked(run) == ["acme-1"]
    assert [row["reason"] for row in stage.snapshot(run)["barred"]] == ["metro does not allow the strategy fedavg"]


def test_devices_under_a_floor_come_together_or_not_at_all(stage: Stage) -> None:
    pair(stage)
    Policy.objects.create(organization=stage.cast.metro, least_devices=3)
    run = stage.start(min_participants=4)
    assert asked(run) == ["acme-1"]
    assert "(metro takes part with at least 3 devices and has 1 there)" in sentence(stage, run)
    second = stage.site(stage.cast.metro, "metro-2")
    second.arrive()
    assert asked(run) == ["acme-1"]
    third = stage.site(stage.cast.metro, "metro-3")
    third.arrive()
    assert asked(run) == ["acme-1", "metro-1", "metro-2", "metro-3"]


def test_a_floor_counts_those_that_take_part_already(stage: Stage) -> None:
    sites = [stage.site(stage.cast.metro, f"metro-{number}") for number in range(2)]
    Policy.objects.create(organization=stage.cast.metro, least_devices=2)
    run = stage.start(min_participants=3)
    assert len(asked(run)) == 2
    late = stage.site(stage.cast.metro, "metro-9")
    late.arrive()
    assert len(asked(run)) == 3
    assert sites[0].task.content["round"] == late.task.content["round"]


def test_the_hot_path_asks_few_questions(stage: Stage, django_assert_max_num_queries: object) -> None:
    publish(stage)
    accept(stage)
    for number in range(12):
        stage.site(stage.cast.metro, f"metro-{number}")
    run = stage.start(min_participants=1)
    with django_assert_max_num_queries(4):  # type: ignore[operator]
        assert len(cohorts.available(run)) == 12


def test_a_run_that_is_over_bars_nobody(stage: Stage) -> None:
    pair(stage)
    publish(stage)
    run = stage.start(min_participants=1)
    stage.cast.client("olga").post(f"/api/v1/training/sessions/{run.public_id}/stop")
    assert stage.snapshot(run)["barred"] == []
