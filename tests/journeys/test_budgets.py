"""Privacy budgets against the real portal, with devices of the SDK: to the end of a budget, and through kills."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk import FedportalError, _retry
from fedwire import routes
from tests.journeys.story import MEMBERS, Story, devices
from tests.running import Portal
from training.privacy import accounting
from training.privacy.accounting import Mechanism
from training.privacy.protection import DEFAULT_DELTA

NOISE = 4.0
PRIVACY = {"mechanism": "central", "noise": NOISE, "clip": 0.1}
PLAN: dict[str, Any] = {"standardise": False, "evaluate": False, "privacy": PRIVACY}
QUICK: dict[str, Any] = {"SWEEP_SECONDS": 0.3, "LEASE_SECONDS": 1.5}
# Between a reservation and what comes of it, and inside the transactions of both.
POINTS = ("waiting", "before_commit", "round_claimed", "after_aggregation", "before_publish", "after_publish")
PASSAGES = (1, 2)
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with Portal(**QUICK) as portal:
        yield Story(portal)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the devices, which are the same in all tests, keep their data and keys."""
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices come back soon after a death."""
    monkeypatch.setattr(_retry, "LONGEST_DELAY", 0.3)


def running(rounds: int) -> float:
    """ε of so many rounds as a budget counts them."""
    return accounting.running_epsilon([Mechanism(NOISE, 1.0, rounds)], DEFAULT_DELTA)


def limit(story: Story, name: str, epsilon: float | None) -> None:
    path = routes.ORG_POLICY.format(org=story.ids[name])
    story.call(name, "PATCH", path, {"total_epsilon_budget": epsilon})


def budget(story: Story, name: str) -> dict[str, Any]:
    found: dict[str, Any] = story.call(name, "GET", routes.ORG_BUDGET.format(org=story.ids[name]))
    return found


def rounds_of(story: Story, name: str, run: str) -> tuple[int, int, int]:
    """How many rounds of the run are charged, reserved and refunded."""
    rows = [row for row in budget(story, name)["runs"] if row["run"]["id"] == run]
    return (rows[0]["charged"], rows[0]["reserved"], rows[0]["refunded"]) if rows else (0, 0, 0)


def test_an_organization_stops_where_its_budget_ends_and_the_run_ends_well(story: Story, folder: Path) -> None:
    model = "to-the-end-of-a-budget"
    story.shared_model(model)
    limit(story, "metro", (running(5) + running(6)) / 2)
    run = story.start(rounds=20, devices=2, model=model, **PLAN)
    with devices(story, folder, model=model) as taking_part:
        ended = story.completed(run)
        results = {name: device.join() for name, device in zip(MEMBERS, taking_part, strict=True)}
    assert ended["run"]["current_round"] == 20
    charged = {name: rounds_of(story, name, run) for name in MEMBERS}
    given = {one["organization"]["name"]: one["updates"] for one in ended["contributions"]}
    assert charged == {name: (given[name], 0, 0) for name in MEMBERS}
    assert given["metro"] == 5
    assert min(given["acme"], given["valley"]) > 10  # who came late took part in fewer
    assert budget(story, "metro")["spent"] == pytest.approx(running(5))
    assert {name: result.state for name, result in results.items()} == dict.fromkeys(MEMBERS, "completed")
    limit(story, "metro", None)


def test_members_do_not_see_the_budget_of_another(story: Story) -> None:
    with pytest.raises(FedportalError) as refused:
        story.call("acme", "GET", routes.ORG_BUDGET.format(org=story.ids["metro"]))
    assert refused.value.status == 404


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_kills_between_reservation_and_charge_neither_lose_a_round_nor_count_one_twice(
    story: Story, point: str, folder: Path
) -> None:
    model, rounds = f"budget-{point.replace('_', '-')}", 4
    story.shared_model(model)
    before = {name: round_total(story, name) for name in MEMBERS}
    run = ""
    with devices(story, folder, model=model) as taking_part:
        for passage in PASSAGES:
            story.portal.kill()
            story.portal.launch(FAULT=f"{point}:{passage}")
            run = run or begin(story, model, rounds)
            assert story.portal.wait_for_death(PATIENCE_SECONDS) == -signal.SIGKILL
            story.portal.start()
            run = run or begin(story, model, rounds)
        story.completed(run, PATIENCE_SECONDS)
        for device in taking_part:
            device.join(PATIENCE_SECONDS)
    attempts = story.call("acme", "GET", routes.SESSION.format(run=run) + "/rounds")["rounds"]
    trained = [one for one in attempts if one["kind"] == "train"]
    assert [one["state"] for one in trained] == ["done"] * rounds
    for name in MEMBERS:
        assert rounds_of(story, name, run) == (rounds, 0, 0)
        assert budget(story, name)["reserved"] == 0
        assert budget(story, name)["spent"] == pytest.approx(running(before[name] + rounds))


def round_total(story: Story, name: str) -> int:
    return sum(one["rounds"] for one in budget(story, name)["federations"])


def begin(story: Story, model: str, rounds: int) -> str:
    """Start the model's run, or find it started by a portal that died before it could say so; "" while it is away."""
    start = partial(story.start, rounds=rounds, model=model, round_seconds=600, **PLAN)
    while story.portal.running:
        try:
            sessions = story.call("acme", "GET", routes.SESSIONS)["sessions"]
            found = [session["id"] for session in sessions if session["model"]["name"] == model]
            return str(found[0]) if found else start()
        except FedportalError as error:
            if error.status != 503:
                raise
    return ""
