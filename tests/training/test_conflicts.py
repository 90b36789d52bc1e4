"""What does not go together with how a run protects its updates is refused alike by API, command line and form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fedwire.errors import FedportalError
from tests.training.conftest import STANDARDISED, Stage
from tests.training.relay import invoke
from training.aggregation import strategies
from training.aggregation.strategies import STRATEGIES
from training.models import Run
from training.privacy import conflicts
from training.privacy.protection import MECHANISMS, SUMS, Protection
from training.services import runs, schedules
from training.web import startform

CENTRAL = {"mechanism": "central", "noise": 1.0}
RECORDS = {"mechanism": "records", "noise": 1.0, "rate": 0.1}
SECURE = {"sums": "secure", "least_devices": 2}


@dataclass(frozen=True)
class Wish:
    """A run that has the conflict, and what is otherwise said of it."""

    privacy: Mapping[str, Any]
    strategy: str = "fedavg"
    config: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    least: int = 2
    also: tuple[str, ...] = ()  # conflicts that come with it
    model: str = "radiology-v1"


WISHES: Mapping[str, Wish] = {
    "noise_missing": Wish({"mechanism": "central"}),
    "noise_unused": Wish({"noise": 1.0}),
    "weights_under_noise": Wish({**CENTRAL, "most_weight": 2}),
    "distributed_in_the_open": Wish({"mechanism": "distributed", "noise": 1.0}),
    "noise_beside_sums": Wish({**SECURE, "mechanism": "local", "noise": 1.0}),
    "clip_without_portal": Wish({"mechanism": "local", "noise": 1.0, "clipping": "adaptive"}),
    "groups_too_small": Wish({"sums": "secure", "least_devices": 3, "group": 2}, least=3),
    "rate_missing": Wish({"mechanism": "records", "noise": 1.0}),
    "rate_unused": Wish({**CENTRAL, "rate": 0.1}),
    "records_of_little_noise": Wish({**RECORDS, "noise": 0.2}),
    "records_beside_sums": Wish({**SECURE, **RECORDS}),
    "sums_of_individuals": Wish(SECURE, "median", least=3),
    "sums_and_trust": Wish(SECURE, "fltrust", {"trusted": "metro"}),
    "sums_and_reports": Wish(SECURE, "fednova"),
    "sums_and_device_state": Wish(SECURE, "feddyn"),
    "sums_and_codec": Wish(SECURE, config={"codec": "int8"}),
    "sums_and_time": Wish(SECURE, "fedbuff", plan={"schedule": "asynchronous"}),
    "sums_of_few": Wish({**SECURE, "least_devices": 3}),
    "sums_of_many": Wish(SECURE, plan={"sample": 4097}),
    "groups_of_few": Wish({"sums": "grouped", "least_devices": 2, "group": 2}, "median", least=4),
    "noise_and_individuals": Wish(CENTRAL, "krum", least=10),
    "noise_and_reports": Wish(CENTRAL, "qfedavg", also=("noise_and_individuals",)),
    "noise_and_device_state": Wish({**CENTRAL, "mechanism": "local"}, "feddyn"),
    "records_and_own_models": Wish(RECORDS, "ditto"),
    "noise_and_time": Wish(CENTRAL, "fedasync"),
    "statistics_in_the_open": Wish(CENTRAL, config={"standardise": True}, model="measured"),
}


def test_there_is_a_wish_for_every_conflict() -> None:
    assert list(WISHES) == [conflict.name for conflict in conflicts.CONFLICTS]


def expected(name: str, wish: Wish) -> tuple[str, str]:
    """The field and the reason of the conflict for this wish."""
    (conflict,) = (one for one in conflicts.CONFLICTS if one.name == name)
    setup = conflicts.Setup(Protection(**wish.privacy), strategies.find(wish.strategy))
    return conflict.field, conflict.reason(setup)


@pytest.mark.parametrize("name", WISHES)
def test_every_conflict_is_refused_by_all_three_doors(name: str, stage: Stage) -> None:
    wish = WISHES[name]
    stage.shared("measured", STANDARDISED)
    place, reason = expected(name, wish)
    _by_api(stage, wish, place, reason)
    _by_command(stage, wish, reason)
    _by_form(stage, wish, reason)
    assert not Run.objects.exists()


def _by_api(stage: Stage, wish: Wish, place: str, reason: str) -> None:
    config = {**wish.config, "privacy": wish.privacy}
    said = {"model_id": wish.model, "rounds": 1, "strategy": wish.strategy, "min_participants": wish.least}
    body, client = {**said, "config": config, **wish.plan}, stage.cast.client("olga")
    refused = client.post("/api/v1/training/sessions", body, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]) == (400, "field_invalid")
    seen = client.post("/api/v1/training/sessions/preview", body, content_type="application/json").json()
    problems = {problem["message"]: problem["field"] for problem in seen["problems"] if problem["level"] == "error"}
    assert refused.json()["message"] in problems
    (message,) = (message for message in problems if message.endswith(reason))
    assert problems[message].removeprefix("config.") == place
    assert len(problems) == 1 + len(wish.also)


def _by_command(stage: Stage, wish: Wish, reason: str) -> None:
    words = ["train", "start", wish.model, "--rounds", "1", "--strategy", wish.strategy]
    words += ["--min-devices", str(wish.least)]
    for name, value in wish.privacy.items():
        words += {"sums": ["--privacy", f"sums={value}"], "clipping": ["--adaptive-clip"]}.get(name, [])
        words += {"mechanism": ["--dp", str(value)], "noise": ["--noise", str(value)]}.get(name, [])
        words += ["--groups", str(value)] if name == "group" else []
        words += {"rate": ["--sampling-rate", str(value)]}.get(name, [])
        words += ["--privacy", f"{name}={value}"] if name in ("least_devices", "most_weight") else []
    for name, value in {**wish.config, **wish.plan}.items():
        words += ["--standardise"] if value is True else [f"--{name}", str(value)]
    client, key = stage.cast.client("olga"), stage.cast.keys["olga"]
    foreseen = invoke(client, key, [*words, "--dry-run"])
    assert foreseen.exit_code == 1
    assert reason in " ".join(foreseen.output.split())
    assert invoke(client, key, words).exit_code != 0


def _by_form(stage: Stage, wish: Wish, reason: str) -> None:
    said: dict[str, str] = {"model": stage.model.public_id, "strategy": wish.strategy, "rounds": "1"}
    if wish.model != stage.model.name:
        said["model"] = wish.model
    said |= {"min_participants": str(wish.least), "round_seconds": "60"}
    said |= {name: str(value) for name, value in wish.plan.items()}
    said |= {f"privacy.{name}": str(value) for name, value in wish.privacy.items()}
    words: Mapping[Any, str] = {True: "yes"}
    for name, value in wish.config.items():
        said[f"p.{name}" if name == "trusted" else name] = words.get(value, str(value))
    refused = stage.cast.browser("olga").post("/runs/new", said)
    assert refused.status_code == 400
    assert any(problem.sentence.endswith(reason) for problem in refused.context["problems"])


@pytest.mark.parametrize("sums", SUMS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_strategy_is_judged_by_what_it_declares(sums: str, mechanism: str) -> None:
    noise, rate = 0.0 if mechanism == "none" else 1.0, 0.1 if mechanism == "records" else 0.0
    protection = Protection(sums=sums, mechanism=mechanism, noise=noise, rate=rate)
    alone = [one for one in conflicts.ALONE if one.holds(conflicts.Setup(protection, STRATEGIES["fedavg"]))]
    for strategy in STRATEGIES.values():
        suits = conflicts.suits(strategy, protection)
        if sums == "plain" and mechanism == "none":
            assert suits
        elif alone or not strategy.synchronous or strategy.reports or strategy.needs_device_state:
            assert not suits
        elif strategy.trusts:
            assert suits == (sums == "plain" and mechanism in ("local", "records"))
        elif strategy.personal and mechanism == "records":
            assert not suits
        elif strategy.needs_individual_updates:
            assert suits == (mechanism in ("local", "records") or sums == "grouped")
        else:
            assert suits


def test_a_run_that_protects_something_stays_synchronous(stage: Stage) -> None:
    stage.three()
    config = {"privacy": {"sums": "secure", "least_devices": 3}}
    run = runs.start(stage.olga, stage.model, rounds=2, min_participants=3, config=config)
    with pytest.raises(FedportalError) as refused:
        schedules.switch(stage.olga, run, {"schedule": "asynchronous"})
    assert refused.value.context["field"] == "schedule"


def test_what_is_left_out_follows_from_the_privacy(stage: Stage) -> None:
    model = stage.shared("measured", STANDARDISED)
    noisy = runs.start(stage.olga, model, rounds=1, config={"privacy": CENTRAL})
    assert (noisy.config["standardise"], noisy.config["evaluate"]) == (False, False)
    summed = runs.start(stage.olga, model, rounds=1, min_participants=2, config={"privacy": SECURE})
    assert (summed.config["standardise"], summed.config["evaluate"]) == (False, True)
    asked = runs.start(stage.olga, model, rounds=1, config={"privacy": CENTRAL, "evaluate": True})
    assert asked.config["evaluate"] is True
    assert [startform.again(run).get("evaluate") for run in (noisy, summed, asked)] == [None, None, "yes"]
    plain = runs.start(stage.olga, model, rounds=1)
    assert (plain.config["standardise"], plain.config["evaluate"]) == (True, True)
