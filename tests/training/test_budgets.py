"""Privacy budgets: what a round costs is reserved with its opening, and who cannot pay is left out."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.models import AuditEntry, DeviceTask, News, Organization, Policy
from federations.services import federations as federation_services
from federations.services import organizations, policies
from fedwire.errors import FedportalError
from registry.services import models as model_services
from tests.training.conftest import Site, Stage, current, rewind
from training.models import Ledger, Run, Spending
from training.privacy import accounting, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import CENTRAL, DEFAULT_DELTA, LOCAL, RECORDS, Protection
from training.services import healing, runs

NOISE = 4.0


def noisy(stage: Stage, mechanism: str = CENTRAL, noise: float = NOISE, **options: Any) -> Run:
    """A run with noise whose first round is open."""
    privacy = {"mechanism": mechanism, "noise": noise}
    return stage.start(**{"min_participants": 1, **options, "config": {"evaluate": False, "privacy": privacy}})


def enough_for(rounds: int, noise: float = NOISE) -> float:
    """A budget for so many rounds and not for one more."""
    ends = [accounting.running_epsilon([Mechanism(noise, 1.0, count)], DEFAULT_DELTA) for count in (rounds, rounds + 1)]
    return sum(ends) / 2


def limit(organization: Organization, epsilon: float | None) -> None:
    Policy.objects.update_or_create(organization=organization, defaults={"privacy_epsilon": epsilon})


def states(organization: Organization, run: Run | None = None) -> list[str]:
    rows = Spending.objects.filter(organization=organization, **({"run": run} if run else {}))
    return list(rows.order_by("pk").values_list("state", flat=True))


def spent(organization: Organization) -> float:
    return ledgers.spent(Ledger.objects.get(organization=organization).counts, DEFAULT_DELTA)


def asked(run: Run) -> list[str]:
    rows = current(run).assignments.order_by("device__identifier")
    return list(rows.values_list("device__identifier", flat=True))


def answer(*sites: Site) -> None:
    """Each of them that is asked for something does it."""
    for site in sites:
        site.seen()
        for task in site.tasks():
            site.answer(task)


@pytest.fixture
def pair(stage: Stage) -> tuple[Site, Site]:
    return stage.site(stage.cast.acme, "acme-1"), stage.site(stage.cast.metro, "metro-1")


def test_a_run_without_noise_leaves_no_trace_and_asks_nothing(stage: Stage, pair: tuple[Site, Site]) -> None:
    limit(stage.cast.metro, 0.001)
    with CaptureQueriesContext(connection) as asked:
        run = stage.start(rounds=1, config={"evaluate": False})
        answer(*pair)
    run.refresh_from_db()
    assert (run.state, Spending.objects.count(), Ledger.objects.count()) == ("completed", 0, 0)
    assert [query for query in asked.captured_queries if "ledger" in query["sql"] or "spending" in query["sql"]] == []


def test_a_round_is_reserved_with_its_opening_and_charged_when_it_is_over(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    run = noisy(stage, rounds=1)
    assert states(stage.cast.metro) == ["reserved"]
    answer(*pair)
    assert states(stage.cast.metro) == states(stage.cast.acme) == ["charged"]
    row = Spending.objects.get(organization=stage.cast.metro)
    assert (row.noise, row.rate, row.rounds, row.unit, row.delta) == (NOISE, 1.0, 1, "device", DEFAULT_DELTA)
    run.refresh_from_db()
    assert run.state == "completed"


def test_twenty_rounds_with_a_budget_for_five_go_on_without_its_organization(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    limit(stage.cast.metro, enough_for(5))
    run = noisy(stage, rounds=20)
    for _ in range(5):
        assert asked(run) == ["acme-1", "metro-1"]
        answer(*pair)
    assert asked(run) == ["acme-1"]
    told = AuditEntry.objects.filter(action="budget.exhausted").values_list("organization", "subject")
    assert list(told) == [(stage.cast.metro.pk, run.public_id)]
    news = News.objects.filter(kind="budget.exhausted").values_list("organization", flat=True)
    assert list(news) == [stage.cast.metro.pk]
    reason = "the privacy budget of metro is not enough for another round"
    assert [row["reason"] for row in stage.snapshot(run)["barred"]] == [reason]
    for _ in range(15):
        answer(*pair)
    run.refresh_from_db()
    assert (run.state, run.current_round) == ("completed", 20)
    assert states(stage.cast.metro) == ["charged"] * 5
    assert states(stage.cast.acme) == ["charged"] * 20
    assert spent(stage.cast.metro) <= enough_for(5)


def test_a_run_that_has_too_few_left_says_who_is_missing_and_ends_with_its_last_model(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    limit(stage.cast.metro, enough_for(1))
    run = noisy(stage, rounds=3, min_participants=2)
    answer(*pair)
    assert asked(run) == ["acme-1"]
    waiting = stage.snapshot(run)["round"]["waiting"]["sentence"]
    assert "the privacy budget of metro is not enough for another round" in waiting
    answer(pair[0])
    rewind(run)
    healing.sweep()
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.reason == (
        "The privacy budget of metro is not enough for another round, and the others have 1 device"
        " where a round needs 2."
    )
    assert stage.snapshot(run)["actions"]["keep"]
    assert states(stage.cast.acme) == ["charged", "charged"]  # its answer was accepted, though nothing came of it


def test_a_raised_budget_lets_the_organization_back_into_the_round_that_waits(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    limit(stage.cast.metro, enough_for(1))
    run = noisy(stage, rounds=2, min_participants=2)
    answer(*pair)
    pair[1].arrive()
    assert asked(run) == ["acme-1"]
    policies.change(stage.cast.actor("mia"), stage.cast.metro, privacy_epsilon=enough_for(2))
    pair[1].arrive()
    assert asked(run) == ["acme-1", "metro-1"]
    answer(*pair)
    run.refresh_from_db()
    assert run.state == "completed"


def test_a_device_that_joins_the_round_its_organization_pays_for_costs_nothing_more(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    limit(stage.cast.metro, enough_for(1))
    run = noisy(stage, rounds=2, min_participants=3)
    late = stage.site(stage.cast.metro, "metro-2")
    late.arrive()
    assert asked(run) == ["acme-1", "metro-1", "metro-2"]
    assert states(stage.cast.metro) == ["reserved"]


def test_what_nothing_came_of_is_refunded_to_whom_nothing_was_accepted_of(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    run = noisy(stage, rounds=1, min_participants=2)
    answer(pair[0])
    before = Ledger.objects.get(organization=stage.cast.acme).counts
    rewind(run)
    pair[1].vanish()
    healing.sweep()
    assert states(stage.cast.acme) == ["charged", "reserved"]
    assert states(stage.cast.metro) == ["refunded"]
    assert Ledger.objects.get(organization=stage.cast.metro).counts == {}
    assert before == {"device 4.0 1.0": 1}


def test_a_run_that_is_stopped_refunds_what_nobody_answered(stage: Stage, pair: tuple[Site, Site]) -> None:
    run = noisy(stage, rounds=1, min_participants=2)
    answer(pair[0])
    runs.stop(stage.olga, Run.objects.get(pk=run.pk))
    assert (states(stage.cast.acme), states(stage.cast.metro)) == (["charged"], ["refunded"])


def test_two_runs_in_two_federations_stay_below_one_cap(stage: Stage, pair: tuple[Site, Site]) -> None:
    second = federation_services.found(stage.olga, name="second")
    federation_services.invite(stage.olga, second, org_ids=[stage.cast.metro.public_id])
    federation_services.join(stage.cast.actor("mia"), second)
    other = stage.shared("other", {"kind": "logistic", "inputs": 3, "classes": 2})
    model_services.share(stage.olga, other, second)
    limit(stage.cast.metro, enough_for(5))
    first_run = noisy(stage, rounds=20)
    second_run = noisy(stage, rounds=20, model=other, federation=second)
    for _ in range(20):
        answer(*pair)
    both = [len(states(stage.cast.metro, run)) for run in (first_run, second_run)]
    assert sum(both) == 5
    assert min(both) > 0
    assert spent(stage.cast.metro) <= enough_for(5)


def test_a_ledger_outlives_leaving_another_name_and_coming_back(stage: Stage, pair: tuple[Site, Site]) -> None:
    limit(stage.cast.metro, enough_for(1))
    noisy(stage, rounds=1)
    answer(*pair)
    mia, federation = stage.cast.actor("mia"), stage.cast.federation
    federation_services.leave(mia, federation)
    organizations.rename(mia, stage.cast.metro, "Metro Clinic")
    federation_services.invite(stage.olga, federation, org_ids=[stage.cast.metro.public_id])
    federation_services.join(mia, federation)
    again = noisy(stage, rounds=1)
    assert asked(again) == ["acme-1"]
    assert "the privacy budget of Metro Clinic" in stage.snapshot(again)["barred"][0]["reason"]


def test_rounds_about_records_make_those_about_devices_count_for_a_record(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    noisy(stage, rounds=1)
    answer(*pair)
    for site in pair:
        site.vanish()
    run = noisy(stage, rounds=1)
    Run.objects.filter(pk=run.pk).update(
        config={**run.config, "privacy": Protection(mechanism=RECORDS, noise=NOISE, rate=1.0).as_json()}
    )
    pair[1].arrive()
    halved = accounting.running_epsilon([Mechanism(NOISE / 2), Mechanism(NOISE)], DEFAULT_DELTA)
    assert spent(stage.cast.metro) == pytest.approx(halved)


@pytest.mark.parametrize(("mechanism", "state"), [(LOCAL, "charged"), (CENTRAL, "refunded")])
def test_an_update_that_was_refused_costs_where_the_portal_is_not_to_know(
    stage: Stage, pair: tuple[Site, Site], mechanism: str, state: str
) -> None:
    """Too few rows stand behind it: the file is removed, and the portal had it."""
    Policy.objects.update_or_create(organization=stage.cast.metro, defaults={"least_records": 500})
    run = noisy(stage, mechanism, rounds=1, min_participants=2)
    with pytest.raises(FedportalError, match="rows"):
        pair[1].answer(samples=1)
    assert not DeviceTask.objects.filter(device=pair[1].device).exclude(upload_sha256="").exists()
    runs.stop(stage.olga, Run.objects.get(pk=run.pk))
    assert states(stage.cast.metro) == [state]
    assert states(stage.cast.acme) == ["refunded"]


@pytest.mark.parametrize(("mechanism", "state"), [(LOCAL, "charged"), (CENTRAL, "refunded")])
def test_a_file_that_came_without_an_answer_costs_where_the_portal_is_not_to_know(
    stage: Stage, pair: tuple[Site, Site], mechanism: str, state: str
) -> None:
    run = noisy(stage, mechanism, rounds=1, min_participants=2)
    pair[1].upload(pair[1].task)
    runs.stop(stage.olga, Run.objects.get(pk=run.pk))
    assert states(stage.cast.metro) == [state]
    assert states(stage.cast.acme) == ["refunded"]
