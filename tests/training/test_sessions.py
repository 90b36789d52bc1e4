"""Runs in the vocabulary of sessions, as another client starts and reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federations.services import federations as federation_services
from fedwire import routes, states
from fedwire.errors import FedportalError
from registry.models import Model
from registry.services import models as model_services
from tests.training.conftest import Stage, current
from training.models import Run
from training.services import runs

CONFIG = {
    "algorithm": "fed_prox",
    "local_epochs": 3,
    "learning_rate": 0.05,
    "batch_size": 16,
    "min_participants": 2,
    "proximal_mu": 0.5,
    "dp_sigma": 0,
    "secure_aggregation": False,
}


def asked(stage: Stage, **more: Any) -> dict[str, Any]:
    """What such a client sends."""
    return {"name": "nightly", "base_workload_id": stage.model.public_id, "total_rounds": 2, "config": CONFIG, **more}


def post(stage: Stage, who: str = "olga", **more: Any) -> tuple[int, dict[str, Any]]:
    client = stage.cast.client(who)
    answer = client.post(routes.FEDERATED_SESSIONS, json.dumps(asked(stage, **more)), content_type="application/json")
    return answer.status_code, answer.json()


def get(stage: Stage, run: str) -> dict[str, Any]:
    found: dict[str, Any] = stage.cast.client("olga").get(routes.FEDERATED_SESSION.format(run=run)).json()
    return found


def test_a_session_is_a_run_with_its_settings_translated(stage: Stage) -> None:
    sites = stage.three()
    status, said = post(stage)
    assert status == 201
    run = Run.objects.get(public_id=said["id"])
    assert (run.name, run.strategy, run.total_rounds, run.min_participants) == ("nightly", "fedprox", 2, 2)
    parameters = run.config["parameters"]
    assert {name: parameters[name] for name in ("epochs", "learning_rate", "batch_size", "mu")} == {
        "epochs": 3,
        "learning_rate": 0.05,
        "batch_size": 16,
        "mu": 0.5,
    }
    assert sites[0].task.content["training"]["epochs"] == 3
    assert (said["status"], said["current_round"], said["total_rounds"]) == ("running", 0, 2)
    assert said["config"] == {**CONFIG, "dp_sigma": None}
    assert "nightly" in stage.cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
    same = stage.cast.client("olga").get(routes.SESSION.format(run=said["id"])).json()
    assert (same["id"], same["name"], same["state"]) == (said["id"], "nightly", "running")


def test_participants_say_where_they_are_and_what_counted(stage: Stage) -> None:
    first, second, third = stage.three()
    _, said = post(stage)
    first.answer()
    second.take()
    shown = {one["name"]: one for one in get(stage, said["id"])["participants"]}
    assert {name: one["status"] for name, one in shown.items()} == {
        "acme-1": "gradient_sent",
        "acme-2": "training",
        "metro-1": "selected",
    }
    assert {one["rounds_completed"] for one in shown.values()} == {0}  # the round is not closed
    second.answer()
    third.answer()
    third.decline()
    found = get(stage, said["id"])
    shown = {one["name"]: one for one in found["participants"]}
    assert (found["current_round"], found["participant_count"]) == (1, 3)
    assert [(one["rounds_completed"], one["total_samples"]) for one in shown.values()] == [(1, 10), (1, 20), (1, 30)]
    assert shown["metro-1"]["status"] == "declined"
    assert shown["metro-1"]["host_id"] == third.device.public_id
    assert shown["metro-1"]["organization_id"] == stage.cast.metro.public_id


def test_a_session_ends_with_the_runs_version_or_reason(stage: Stage) -> None:
    site = stage.site(stage.cast.acme, "acme-1")
    _, done = post(stage, total_rounds=1, config={})
    site.answer()
    site.answer()
    found = get(stage, done["id"])
    assert (found["status"], found["result_version"], found["current_round"]) == ("completed", "2.0.0", 1)
    assert found["participants"][0]["total_samples"] == 10  # measuring the last model is no training round
    _, other = post(stage)
    runs.stop(stage.olga, Run.objects.get(public_id=other["id"]))
    found = get(stage, other["id"])
    assert (found["status"], found["reason"][:15]) == ("cancelled", "Stopped by acme")


def test_queries_do_not_grow_with_rounds_or_devices(stage: Stage, django_assert_max_num_queries: Any) -> None:
    sites = stage.three()
    _, said = post(stage, total_rounds=4)
    for _ in range(4):
        for site in sites:
            site.answer()
    run = current(Run.objects.get(public_id=said["id"])).run
    with django_assert_max_num_queries(12):
        assert len(get(stage, run.public_id)["participants"]) == 3


# --- which model, which federation -----------------------------------------------------------------------------------


def test_a_workload_is_a_model_by_its_id_its_name_or_its_alias(stage: Stage) -> None:
    alias = stage.model.alias
    shown = stage.cast.client("olga").get(routes.MODEL.format(model=stage.model.public_id)).json()
    assert shown["alias"] == alias
    assert 10**11 <= alias < 10**12
    for reference in (stage.model.public_id, stage.model.name, alias, str(alias)):
        status, said = post(stage, base_workload_id=reference)
        assert (status, said["base_workload_id"]) == (201, stage.model.public_id)


def test_a_name_of_digits_comes_before_an_alias(stage: Stage) -> None:
    other = stage.shared(str(stage.model.alias), {"kind": "logistic", "inputs": 3, "classes": 2})
    assert post(stage, base_workload_id=str(stage.model.alias))[1]["base_workload_id"] == other.public_id
    assert post(stage, base_workload_id=stage.model.alias)[1]["base_workload_id"] == stage.model.public_id


@pytest.mark.parametrize("reference", [1, 10**17, "99", "nowhere", "mdl_00000000000000000000"])
def test_a_workload_that_is_none_is_not_found(reference: Any, stage: Stage) -> None:
    status, said = post(stage, base_workload_id=reference)
    assert (status, said["error"]) == (404, "not_found")


def test_a_foreign_alias_is_not_found(stage: Stage) -> None:
    foreign = model_services.create(stage.cast.actor("rex"), name="foreign")
    assert post(stage, base_workload_id=foreign.alias)[1]["error"] == "not_found"
    assert Model.objects.filter(alias=foreign.alias).count() == 1


def test_a_model_in_several_federations_asks_for_one(stage: Stage) -> None:
    second = federation_services.found(stage.olga, name="second-circle")
    model_services.share(stage.olga, stage.model, second)
    status, said = post(stage)
    assert (status, said["error"], said["context"]["field"]) == (400, "field_invalid", "federation")
    assert second.public_id in said["message"]
    assert "healthcare-consortium" in said["message"]
    assert post(stage, federation="second-circle")[1]["federation"]["id"] == second.public_id


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "value"), [("dp_sigma", 0.8), ("secure_aggregation", True)])
def test_a_protection_that_no_run_gives_is_refused_and_nothing_starts(field: str, value: Any, stage: Stage) -> None:
    status, said = post(stage, config={field: value})
    assert (status, said["error"]) == (400, "not_available")
    assert said["context"]["field"] == f"config.{field}"
    assert f"Leave `config.{field}` out" in said["next_step"]
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"config": {"algorithm": "fed_sgd"}}, "config.algorithm"),
        ({"config": {"local_epoch": 3}}, "config.local_epoch"),
        ({"total_rounds": 0}, "rounds"),
        ({"total_rounds": "many"}, "total_rounds"),
        ({"base_workload_id": True}, "base_workload_id"),
        ({"base_workload_id": -1}, "base_workload_id"),
        ({"config": {"min_participants": 0}}, "min_participants"),
        ({"name": ""}, "name"),
    ],
)
def test_what_is_wrong_is_refused_at_its_field(more: dict[str, Any], field: str, stage: Stage) -> None:
    status, said = post(stage, **more)
    assert (status, said["error"], said["context"]["field"]) == (400, "field_invalid", field)
    assert not Run.objects.exists()


def test_a_setting_that_the_strategy_refuses_is_named_by_the_strategy(stage: Stage) -> None:
    status, said = post(stage, config={"local_epochs": -1})
    assert (status, said["error"]) == (400, "strategy_parameter")


def test_who_may_not_start_a_run_may_not_start_a_session(stage: Stage) -> None:
    assert post(stage, "mia")[0] == 403
    assert post(stage, "rex")[0] == 404


# --- the list, and the words -----------------------------------------------------------------------------------------


def test_sessions_are_listed_newest_first_in_pages(stage: Stage) -> None:
    ids = [post(stage, name=f"night {number}")[1]["id"] for number in range(3)]
    stage.start()  # by the portal's own name: it is a session too
    client = stage.cast.client("mia")
    page = client.get(f"{routes.FEDERATED_SESSIONS}?limit=2&offset=1").json()
    assert (page["total"], [row["id"] for row in page["sessions"]]) == (4, [ids[2], ids[1]])
    unnamed = client.get(f"{routes.FEDERATED_SESSIONS}?limit=1").json()["sessions"][0]
    assert (unnamed["name"], unnamed["config"]["algorithm"]) == (stage.model.name, "fed_avg")
    assert stage.cast.client("rex").get(routes.FEDERATED_SESSIONS).json() == {"sessions": [], "total": 0}


def test_every_state_has_a_word() -> None:
    for kind, words in states.SESSION_WORDS.items():
        assert words.keys() == states.MOVES[kind].keys()
        assert len(set(words.values())) == len(words)


def test_a_run_may_not_be_called_anything(stage: Stage) -> None:
    with pytest.raises(FedportalError) as refused:
        stage.start(name="<b>")
    assert refused.value.code == "invalid_name"
