"""What an organization sees of its own budget: page, API and command line, and that nobody else does."""

from __future__ import annotations

import pytest

from fedportal.common import clock, ids
from tests.training.conftest import Site, Stage
from tests.training.test_budgets import NOISE, answer, enough_for, limit, noisy
from training import spending
from training.models import Run, Spending
from training.privacy import accounting, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import DEFAULT_DELTA


@pytest.fixture
def pair(stage: Stage) -> tuple[Site, Site]:
    return stage.site(stage.cast.acme, "acme-1"), stage.site(stage.cast.metro, "metro-1")


@pytest.fixture
def spent(stage: Stage, pair: tuple[Site, Site]) -> Run:
    """A run of ten rounds of which two are charged and one is open, and a budget for five."""
    limit(stage.cast.metro, enough_for(5))
    run = noisy(stage, rounds=10, name="mri")
    answer(*pair)
    answer(*pair)
    return run


def test_the_api_says_what_is_spent_reserved_and_left(stage: Stage, spent: Run) -> None:
    found = stage.cast.client("mia").get(f"/api/v1/orgs/{stage.cast.metro.public_id}/budget").json()
    two, three = (accounting.running_epsilon([Mechanism(NOISE, 1.0, n)], DEFAULT_DELTA) for n in (2, 3))
    assert found["spent"] == pytest.approx(two)
    assert found["reserved"] == pytest.approx(three - two)
    assert found["left"] == pytest.approx(enough_for(5) - three)
    assert (found["unit"], found["adjacency"], found["delta"]) == (
        "device",
        "with the update of one device, and with zeros in its place",
        1e-5,
    )
    (row,) = found["runs"]
    assert (row["charged"], row["reserved"], row["refunded"]) == (2, 1, 0)
    assert (row["rounds_left"], row["needed"]) == (2, 7)
    assert row["epsilon"] == pytest.approx(accounting.epsilon([Mechanism(NOISE, 1.0, 2)], DEFAULT_DELTA))
    assert [one["rounds"] for one in found["federations"]] == [2]
    assert found["total"] == 1


def test_others_do_not_see_it(stage: Stage, spent: Run) -> None:
    for who in ("olga", "otto", "vera", "rex"):
        asked = stage.cast.client(who).get(f"/api/v1/orgs/{stage.cast.metro.public_id}/budget")
        assert (who, asked.status_code) == (who, 404)


def test_the_page_says_the_same_in_words(stage: Stage, spent: Run) -> None:
    page = stage.cast.browser("mia").get("/budget").content.decode()
    share = round(100 * accounting.running_epsilon([Mechanism(NOISE, 1.0, 3)], DEFAULT_DELTA) / enough_for(5))
    assert f"{share} % of ε" in page
    assert "2, of 7 to come" in page
    assert "mri" in page
    assert 'class="cap"' in page
    assert "δ 0.00001" in page


def test_an_organization_that_spent_nothing_is_told_so(stage: Stage) -> None:
    page = stage.cast.browser("mia").get("/budget").content.decode()
    assert "Nothing spent yet" in page
    assert "No limit is set" in page
    assert "<polyline" not in page


def test_runs_come_in_pages(stage: Stage, pair: tuple[Site, Site]) -> None:
    first = noisy(stage, rounds=1)
    answer(*pair)
    for _ in range(30):
        copy = Run.objects.get(pk=first.pk)
        copy.pk, copy.public_id = None, ids.run_id()
        copy.save(force_insert=True)
        opened = first.rounds.get(kind="train")
        opened.pk, opened.run = None, copy
        opened.save(force_insert=True)
        row = Spending.objects.filter(run=first, organization=stage.cast.metro).get()
        row.pk, row.run, row.round = None, copy, opened
        row.save(force_insert=True)
    browser = stage.cast.browser("mia")
    assert "Page 1 of 2" in browser.get("/budget").content.decode()
    assert first.public_id in browser.get("/budget?page=2").content.decode()
    asked = stage.cast.client("mia").get(f"/api/v1/orgs/{stage.cast.metro.public_id}/budget?limit=10&offset=30")
    assert [row["run"]["id"] for row in asked.json()["runs"]] == [first.public_id]


def test_a_long_history_is_a_picture_of_few_points_and_ends_with_today(stage: Stage, pair: tuple[Site, Site]) -> None:
    run = noisy(stage, rounds=1)
    answer(*pair)
    opened = run.rounds.get(kind="train")
    rounds = []
    for number in range(500):
        opened.pk, opened.number = None, 100 + number
        opened.save(force_insert=True)
        rounds.append(opened.pk)
    Spending.objects.bulk_create(
        Spending(
            organization=stage.cast.metro,
            run=run,
            round_id=pk,
            state="charged",
            unit="device",
            noise=NOISE,
            delta=DEFAULT_DELTA,
            at=clock.now(),
        )
        for pk in rounds
    )
    points = spending.history(stage.cast.metro, DEFAULT_DELTA)
    assert len(points) <= spending.MOST_POINTS
    assert points[-1]["rounds"] == 501
    assert points[-1]["epsilon"] == pytest.approx(ledgers.spent({f"device {NOISE} 1.0": 501}, DEFAULT_DELTA))
    assert [point["epsilon"] for point in points] == sorted(point["epsilon"] for point in points)


def test_the_policy_page_says_which_runs_a_budget_would_leave(stage: Stage, spent: Run) -> None:
    browser = stage.cast.browser("mia")
    typed = {"privacy_epsilon": "0.1", "rollback_error_rate": "0.05", "act": "preview"}
    page = browser.post("/policy", typed).content.decode()
    assert "The privacy budget is not enough for another of its rounds." in page
    assert "no limit keeps them out" in browser.get("/policy").content.decode()


def test_a_preview_says_how_far_ones_own_budget_goes_and_nothing_of_others(
    stage: Stage, pair: tuple[Site, Site]
) -> None:
    limit(stage.cast.metro, enough_for(2))
    wish = {
        "model_id": stage.model.public_id,
        "rounds": 20,
        "config": {"privacy": {"mechanism": "central", "noise": NOISE}},
    }

    def problems() -> dict[str, str]:
        found = stage.cast.client("olga").post(
            "/api/v1/training/sessions/preview", wish, content_type="application/json"
        )
        return {row["code"]: row["message"] for row in found.json()["problems"]}

    assert "budget" not in problems()
    limit(stage.cast.acme, enough_for(5))
    assert problems()["budget"] == (
        "Your organization's privacy budget is enough for 5 of the 20 rounds; then its devices are left out."
    )
    limit(stage.cast.metro, 0.01)
    found = stage.cast.client("olga").post("/api/v1/training/sessions/preview", wish, content_type="application/json")
    barred = {row["organization"]["name"]: row["reason"] for row in found.json()["organizations"]}
    assert barred["metro"] == "the privacy budget of metro is not enough for another round"
