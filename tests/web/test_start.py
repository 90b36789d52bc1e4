"""The form that starts a run, and the list of runs, as their readers meet them without JavaScript."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from federations.models import DeviceGroup
from federations.services import devices, federations
from fedportal.common import clock
from registry.models import Model
from registry.services import models, versions
from tests.cast import Cast
from training.aggregation.strategies import FEDAVG, STRATEGIES
from training.aggregation.strategy import Parameter, Strategy
from training.models import Run
from training.privacy import accounting
from training.privacy.accounting import Mechanism
from training.services import runs
from training.web import startform

LOGISTIC = {"kind": "logistic", "inputs": 2, "classes": 2}


@pytest.fixture
def model(cast: Cast, settings: Any, tmp_path: Any) -> Model:
    """A model of acme with first weights, shared with the consortium; metro's device is there."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    made = models.create(cast.actor("olga"), name="radiology-v1", architecture=LOGISTIC)
    versions.initial(cast.actor("olga"), made)
    models.share(cast.actor("olga"), made, cast.federation)
    cast.device.last_seen_at = clock.now()
    cast.device.save(update_fields=["last_seen_at"])
    return made


def page_of(browser: Client, address: str, status: int = 200) -> str:
    answer = browser.get(address)
    assert answer.status_code == status
    return answer.content.decode().partition("<main")[2] or answer.content.decode()


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def value_of(page: str, field: str) -> str:
    found = re.search(rf'<input id="{re.escape(field)}"[^>]* value="([^"]*)"', page)
    assert found, field
    return found[1]


def test_every_parameter_of_the_strategy_has_a_field_with_its_bounds_and_help(cast: Cast, model: Model) -> None:
    page = page_of(cast.browser("olga"), "/runs/new")
    for parameter in FEDAVG.parameters:
        assert value_of(page, f"p.{parameter.name}") == f"{parameter.default:g}"
        assert parameter.about in words(page)
    assert 'id="p.epochs" name="p.epochs" type="number" inputmode="decimal" min="1" max="1000" step="1"' in page
    assert "at most 1,000,000" in words(page)


def test_every_strategy_has_its_fields_and_they_may_be_sent_as_they_stand(cast: Cast, model: Model) -> None:
    browser = cast.browser("olga")
    for name, strategy in STRATEGIES.items():
        page = page_of(browser, f"/runs/new?strategy={name}")
        assert " ".join(strategy.formula.split()) in words(page)
        shown = {parameter.name: float(value_of(page, f"p.{parameter.name}")) for parameter in strategy.parameters}
        assert strategy.checked(shown) == strategy.checked({})


def test_trusted_organization_has_a_field_and_is_refused_at_it(cast: Cast, model: Model) -> None:
    browser = cast.browser("olga")
    page = page_of(browser, "/runs/new?strategy=fltrust&p.trusted=rival")
    assert value_of(page, "p.trusted") == "rival"
    assert f"rival is no active member of {cast.federation.name}." in words(page)
    assert "is no active member" not in words(page_of(browser, "/runs/new?strategy=fltrust&p.trusted=metro"))


def test_what_stays_on_devices_is_a_pattern_and_is_refused_at_its_field(cast: Cast, model: Model) -> None:
    small = models.create(
        cast.actor("olga"), name="small", architecture={"kind": "mlp", "inputs": 2, "hidden": [3], "classes": 2}
    )
    versions.initial(cast.actor("olga"), small)
    models.share(cast.actor("olga"), small, cast.federation)
    browser, address = cast.browser("olga"), f"/runs/new?model={small.public_id}&strategy="
    page = page_of(browser, f"{address}fedper")
    assert 'id="p.local" name="p.local" type="text"' in page
    assert "Left empty: the last layer." in words(page)
    assert "It cannot start" not in words(page)
    wrong = page_of(browser, f"{address}fedper&p.local=fc.*")
    assert "no tensor of the model is called like 'fc.*'" in words(wrong)
    assert value_of(wrong, "p.local") == "fc.*"
    assert "has no batch normalisation" in words(page_of(browser, f"{address}fedbn"))
    # What was typed for another strategy is not meant for this one.
    assert "It cannot start" not in words(page_of(browser, f"{address}fedavg&p.local=fc.*"))


def test_a_strategy_brings_its_own_fields(cast: Cast, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Parameter("pace", "How fast.", 0.5, 0, 1, open_low=True)
    other = Strategy(**{**vars(FEDAVG), "name": "other", "title": "Other", "parameters": (pace,), "device": ("pace",)})
    monkeypatch.setitem(STRATEGIES, "other", other)  # type: ignore[arg-type]  # a dict, in truth
    page = page_of(cast.browser("olga"), "/runs/new?strategy=other&p.epochs=3")
    assert value_of(page, "p.pace") == "0.5"
    assert 'name="p.epochs"' not in page
    browser = cast.browser("olga")
    browser.post(
        "/runs/new", {"model": model.public_id, "strategy": "other", "p.pace": "0.25", "p.epochs": "3", **PLAN}
    )
    assert Run.objects.get().config["parameters"] == {"pace": 0.25}


PLAN = {"rounds": "3", "min_participants": "1", "round_seconds": "60"}


def test_the_page_says_whom_the_first_round_would_ask(cast: Cast, model: Model) -> None:
    text = words(page_of(cast.browser("olga"), f"/runs/new?model={model.public_id}&min_participants=1"))
    assert "The first round would begin at once with 1 device of 1 organization." in text
    assert "metro 1 of 1" in text
    assert "acme has registered no device 0 of 0" in text
    assert "valley has not joined yet 0 of 0" in text
    waits = words(page_of(cast.browser("olga"), "/runs/new?model=radiology-v1&min_participants=3"))
    assert "would wait for 2 more devices: acme has none that would take part." in waits


def test_asynchronous_rounds_are_chosen_and_refused_beside_their_fields(cast: Cast, model: Model) -> None:
    browser = cast.browser("olga")
    said = {"model": model.public_id, **PLAN, "strategy": "scaffold", "schedule": "asynchronous", "buffer": "3"}
    answer = browser.post("/runs/new", said)
    assert answer.status_code == 400
    assert "SCAFFOLD does not work with asynchronous rounds, because " in words(answer.content.decode())
    assert re.search(r'class="field bad"><label for="schedule"', answer.content.decode())
    assert browser.post("/runs/new", {**said, "strategy": "fedbuff", "most_staleness": "7"}).status_code == 302
    run = Run.objects.get()
    assert (run.plan["schedule"], run.plan["buffer"], run.plan["most_staleness"]) == ("asynchronous", 3, 7)
    again = page_of(browser, f"/runs/{run.public_id}")
    assert "schedule=asynchronous&amp;buffer=3&amp;most_staleness=7" in again


def test_all_that_is_wrong_is_told_beside_what_was_typed(cast: Cast, model: Model) -> None:
    browser = cast.browser("olga")
    said = {"model": model.public_id, **PLAN, "rounds": "0", "p.learning_rate": "900", "group": "gpu"}
    answer = browser.post("/runs/new", said)
    page = answer.content.decode()
    assert answer.status_code == 400
    assert not Run.objects.exists()
    assert page.count('aria-invalid="true"') == 2
    assert value_of(page, "group") == "gpu"
    assert "It cannot start like this." in words(page)
    assert "at most 100" in words(page)
    assert words(page).index("at most 100") < words(page).index("No device in the group gpu")


def test_a_run_starts_with_what_was_typed(cast: Cast, model: Model) -> None:
    said = {"model": model.public_id, **PLAN, "p.epochs": "2", "p.momentum": "0.9", "seed": "11", "evaluate": "no"}
    answer = cast.browser("olga").post("/runs/new", said)
    run = Run.objects.get()
    assert answer["Location"] == f"/runs/{run.public_id}"
    assert (run.total_rounds, run.min_participants, run.round_seconds) == (3, 1, 60)
    assert run.config["parameters"] == {**run.config["parameters"], "epochs": 2, "momentum": 0.9}
    assert (run.config["seed"], run.config["evaluate"]) == (11, False)


def test_nothing_starts_without_a_model(cast: Cast, model: Model) -> None:
    assert cast.browser("olga").post("/runs/new", PLAN).status_code == 400
    assert not Run.objects.exists()


def test_again_means_the_same_again(cast: Cast, model: Model) -> None:
    browser = cast.browser("olga")
    said = {"model": model.public_id, **PLAN, "p.epochs": "2", "p.momentum": "0.9", "seed": "11", "group": "gpu"}
    said |= {"mode": "cross_device", "sample": "0.5", "cap": "3", "grace_seconds": "9", "stragglers": "grace"}
    said |= {"best": "brier", "best_greater": "no"}
    said |= {"share_group_1": "gpu, old", "share_1": "0.25", "share_group_2": "ward", "share_2": "0.5"}
    browser.post("/runs/new", {**said, "standardise": "no", "version": "1.0.0"})
    first = Run.objects.get()
    page = browser.get(f"/runs/{first.public_id}").content.decode()
    link = re.search(r'href="/runs/new(\?[^"]+)"', page)
    assert link is not None
    form = page_of(browser, "/runs/new" + link[1].replace("&amp;", "&"))
    fields = dict(re.findall(r'<input id="([\w.]+)" [^>]*?value="([^"]*)"', form))
    chosen = dict(re.findall(r'<select id="(\w+)"(?:(?!</select>).)*?<option value="([^"]+)" selected', form, re.S))
    runs.stop(cast.actor("olga"), first)
    browser.post("/runs/new", {**fields, **chosen})
    second = Run.objects.exclude(pk=first.pk).get()
    for column in ("model", "federation", "base_version", "strategy", "config", "plan", "group", "total_rounds"):
        assert getattr(second, column) == getattr(first, column)
    assert (second.min_participants, second.round_seconds) == (first.min_participants, first.round_seconds)


def test_less_work_is_asked_by_label_and_the_preview_says_of_whom(cast: Cast, model: Model) -> None:
    devices.set_groups(cast.actor("mia"), cast.device, ["ward"])
    browser, said = cast.browser("olga"), {"model": model.public_id, **PLAN}
    page = page_of(browser, f"/runs/new?{urlencode(said)}")
    assert "Their share of the steps" in words(page)
    assert 'name="share_1"' in page
    assert 'name="share_2"' not in page
    assert "Less than all" not in words(page)
    said |= {"share_group_1": "ward", "share_1": "0.5", "share_group_3": "phones", "share_3": "0.2"}
    page = page_of(browser, f"/runs/new?{urlencode(said)}")
    assert "Less than all of the local steps: 1 device in ward 50%." in words(page)
    assert "No device is in phones, so none is asked for less work by that." in words(page)
    assert [value_of(page, f"share_group_{row}") for row in (1, 2, 3, 4)] == ["ward", "", "phones", ""]
    assert 'name="share_5"' not in page
    # Of a label that stands there twice the least counts, as of two labels.
    assert browser.post("/runs/new", {**said, "share_group_2": "ward", "share_2": "0.3"}).status_code == 302
    assert Run.objects.get().config["work_shares"] == {"ward": 0.3, "phones": 0.2}


@pytest.mark.parametrize(
    ("group", "share", "reason"),
    [
        ("ward", "0.01", "must be a number from 0.1 to 1."),
        ("ward", "half", "must be a number from 0.1 to 1."),
        ("ward", "", "must be a number from 0.1 to 1."),
        ("", "0.5", "a share needs the group that it is for."),
        ("w" * 61, "0.5", "must be text of up to 60 characters."),
    ],
)
def test_a_share_that_is_none_is_refused_in_its_row(
    group: str, share: str, reason: str, cast: Cast, model: Model
) -> None:
    said = {"model": model.public_id, **PLAN, "share_group_1": "old", "share_1": "0.5"}
    answer = cast.browser("olga").post("/runs/new", {**said, "share_group_2": group, "share_2": share})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert "“Less work for some devices”" in words(page)
    assert reason in words(page)
    assert re.findall(r'<input id="(\w+)"[^>]* aria-invalid="true"', page) == ["share_group_2", "share_2"]
    assert value_of(page, "share_2") == share


@pytest.mark.parametrize(
    ("said", "kept", "again"),
    [
        ({}, {"metric": "loss", "greater": False}, {}),
        ({"best": "auc"}, {"metric": "auc", "greater": True}, {"best": "auc"}),
        (
            {"best": "auc", "best_greater": "no"},
            {"metric": "auc", "greater": False},
            {"best": "auc", "best_greater": "no"},
        ),
    ],
)
def test_the_best_round_is_chosen_by_what_the_form_says(
    said: dict[str, str], kept: dict[str, Any], again: dict[str, str], cast: Cast, model: Model
) -> None:
    cast.browser("olga").post("/runs/new", {"model": model.public_id, **PLAN, **said})
    run = Run.objects.select_related("model", "federation", "base_version").get()
    assert run.config["best"] == kept
    fields = startform.again(run)
    assert {name: fields[name] for name in ("best", "best_greater") if name in fields} == again


def test_a_metric_that_is_no_name_is_refused_where_it_stands(cast: Cast, model: Model) -> None:
    answer = cast.browser("olga").post("/runs/new", {"model": model.public_id, **PLAN, "best": "m" * 65})
    assert answer.status_code == 400
    assert 'id="best" name="best"' in answer.content.decode()
    assert re.search(r'id="best"[^>]* aria-invalid="true"', answer.content.decode())


def test_what_a_version_measured_by_name_is_offered_for_the_best_round(cast: Cast, model: Model) -> None:
    model.versions.update(metrics={"loss": 0.5, "others": {"brier": 0.1}})
    page = page_of(cast.browser("olga"), f"/runs/new?model={model.public_id}")
    offered = re.findall(
        r'<option value="(\w+)">', page.partition('<datalist id="measured">')[2].partition("</datalist>")[0]
    )
    assert (set(offered) >= {"loss", "accuracy", "auc"}, offered[-1]) == (True, "brier")
    shown = words(page_of(cast.browser("olga"), f"/models/{model.public_id}/versions/1.0.0"))
    assert "brier 0.1" in shown


def test_the_fragment_is_what_the_page_shows(cast: Cast, model: Model) -> None:
    browser, query = cast.browser("olga"), f"?model={model.public_id}&min_participants=2&rounds=x"
    fragment = browser.get(f"/runs/new/fragment{query}").content.decode()
    assert "<html" not in fragment
    preview = re.compile(r'<section class="card" id="preview".*?</section>', re.S)
    page = browser.get(f"/runs/new{query}").content.decode()
    assert preview.search(fragment)[0] == preview.search(page)[0]  # type: ignore[index]


def test_groups_of_ones_own_organization_are_offered_and_others_are_not(cast: Cast, model: Model) -> None:
    DeviceGroup.objects.create(organization=cast.acme, name="wards")
    DeviceGroup.objects.create(organization=cast.rival, name="secret")
    page = page_of(cast.browser("olga"), "/runs/new")
    assert '<option value="wards">' in page
    assert "secret" not in page


def test_a_model_that_is_shared_with_nobody_says_what_to_do(cast: Cast, model: Model) -> None:
    kept = models.create(cast.actor("olga"), name="kept", architecture=LOGISTIC)
    page = page_of(cast.browser("olga"), f"/runs/new?model={kept.public_id}")
    assert f'<a href="/models/{kept.public_id}">Share kept</a>' in page
    assert "is not shared with a federation" in words(page)
    assert "without a version" in words(page)


def test_a_member_trains_only_where_the_owner_lets_members(cast: Cast, model: Model) -> None:
    refused = words(page_of(cast.browser("mia"), "/runs/new"))
    assert "You may not start runs here" in refused
    assert "No model to train yet" not in refused
    assert "Its owner, acme, can allow members to start runs." in refused
    federations.change(cast.actor("olga"), cast.federation, members_may_start_runs=True)
    assert "radiology-v1 of acme" in words(page_of(cast.browser("mia"), "/runs/new"))


def test_buttons_that_train_are_shown_only_to_who_may_start_a_run_somewhere(cast: Cast, model: Model) -> None:
    run = runs.start(cast.actor("olga"), model, rounds=3)
    addresses = (f"/models/{model.public_id}", f"/models/{model.public_id}/versions/1.0.0", f"/runs/{run.public_id}")
    browser = cast.browser("mia")
    for address in addresses:
        assert 'href="/runs/new?' not in page_of(browser, address)
        assert 'href="/runs/new?' in page_of(cast.browser("olga"), address)
    assert "Training it:" in words(page_of(browser, addresses[0]))
    assert "may pause, stop or repeat this run." in words(page_of(browser, addresses[2]))
    federations.change(cast.actor("olga"), cast.federation, members_may_start_runs=True)
    for address in addresses:
        assert 'href="/runs/new?' in page_of(browser, address)


def test_who_may_not_train_learns_nothing_from_the_fragment(cast: Cast, model: Model) -> None:
    for who in ("otto", "mia", "vera", "rex"):
        assert "metro" not in page_of(cast.browser(who), f"/runs/new/fragment?model={model.public_id}")


def test_runs_are_filtered_by_model_and_by_who_started_them(cast: Cast, model: Model) -> None:
    olga = cast.actor("olga")
    federations.change(olga, cast.federation, members_may_start_runs=True)
    other = models.create(olga, name="cardio", architecture=LOGISTIC)
    versions.initial(olga, other)
    models.share(olga, other, cast.federation)
    runs.start(olga, model, rounds=3)
    runs.start(cast.actor("mia"), other, rounds=4)
    browser = cast.browser("olga")

    def rounds(query: str) -> list[str]:
        return re.findall(r">0 / (\d)<", page_of(browser, f"/runs?{query}"))

    assert rounds("") == ["4", "3"]
    assert rounds("by=me") == ["3"]
    assert rounds(f"by={cast.metro.public_id}") == ["4"]
    assert rounds("model=cardio") == rounds(f"model={other.public_id}") == ["4"]
    assert rounds("sort=started") == rounds("sort=-model") == ["3", "4"]
    assert rounds("sort=model") == ["4", "3"]
    assert rounds("sort=nonsense") == ["4", "3"]
    assert rounds("by=org_nobody") == []
    assert 'aria-sort="descending"><a class="sort" href="?sort=started">' in page_of(browser, "/runs")


def test_a_list_of_runs_asks_as_often_for_thirty_as_for_three(cast: Cast, model: Model) -> None:
    olga, browser = cast.actor("olga"), cast.browser("olga")

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page_of(browser, "/runs")
        return len(asked)

    for _ in range(3):
        runs.start(olga, model, rounds=1)
    queries()
    few = queries()
    for _ in range(20):
        runs.start(olga, model, rounds=1)
    assert queries() == few


def test_the_form_asks_as_often_for_many_models_as_for_few(cast: Cast, model: Model) -> None:
    olga, browser = cast.actor("olga"), cast.browser("olga")

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page_of(browser, f"/runs/new?model={model.public_id}")
        return len(asked)

    queries()
    few = queries()
    for number in range(12):
        models.share(olga, models.create(olga, name=f"more-{number}"), cast.federation)
    assert queries() == few


def test_another_model_is_not_held_to_the_federation_and_version_of_the_one_before(cast: Cast, model: Model) -> None:
    olga, browser = cast.actor("olga"), cast.browser("olga")
    other = models.create(olga, name="other-v1", architecture=LOGISTIC)
    versions.initial(olga, other, version="3.0.0")
    circle = federations.found(olga, name="circle")
    models.share(olga, other, circle)
    asked = f"?model={other.public_id}&federation={cast.federation.public_id}&version=1.0.0&min_participants=1"
    page = page_of(browser, f"/runs/new/fragment{asked}")
    assert "is not shared" not in words(page)
    assert f'<option value="{circle.public_id}"' in page
    assert "What will happen" in words(page)
    assert "Choose a model and a federation" not in words(page)
    # What is sent is taken at its word.
    sent = {"model": other.public_id, "federation": cast.federation.public_id, "strategy": "fedavg", **PLAN}
    assert browser.post("/runs/new", sent).status_code >= 400
    assert not Run.objects.exists()


def test_privacy_has_its_part_of_the_form_and_says_what_it_costs(cast: Cast, model: Model) -> None:
    browser, address = cast.browser("olga"), f"/runs/new?model={model.public_id}&rounds=20&min_participants=1"
    plain = page_of(browser, address)
    assert '<details class="more" id="privacy"><summary>Privacy</summary>' in plain
    assert 'id="privacy.noise"' not in plain
    noisy = page_of(browser, f"{address}&privacy.mechanism=central&privacy.noise=1&privacy.clip=0.5")
    assert '<details class="more" id="privacy" open>' in noisy
    assert '<option value="central" selected>' in noisy
    assert (value_of(noisy, "privacy.noise"), value_of(noisy, "privacy.clip")) == ("1", "0.5")
    assert value_of(noisy, "privacy.delta") == ""
    assert 'id="privacy.least_devices"' not in noisy
    spent = accounting.epsilon([Mechanism(1.0, 1.0, 20)], 1e-5)
    assert f"After 20 rounds ε is {spent:.3g} at δ = 1e-05, for any one device." in words(noisy)
    summed = page_of(browser, f"{address}&privacy.sums=secure&min_participants=10")
    assert value_of(summed, "privacy.least_devices") == ""
    assert 'id="privacy.noise"' not in summed
    assert 'id="privacy.clipping"' not in summed


def test_what_is_wrong_with_privacy_is_told_beside_its_field(cast: Cast, model: Model) -> None:
    browser = cast.browser("olga")
    said = {"model": model.public_id, **PLAN, "privacy.mechanism": "central", "privacy.noise": "-1"}
    page = browser.post("/runs/new", said).content.decode()
    assert 'class="field bad"><label for="privacy.noise">' in page
    said = {"model": model.public_id, **PLAN, "privacy.sums": "secure", "privacy.mechanism": "local"}
    page = browser.post("/runs/new", {**said, "privacy.noise": "1"}).content.decode()
    assert 'class="field bad"><label for="privacy.mechanism">' in page
    assert 'class="field bad"><label for="privacy.least_devices">' in page
    assert not Run.objects.exists()


def test_a_private_run_says_so_on_its_page_and_its_settings_come_again(cast: Cast, model: Model) -> None:
    browser = cast.browser("olga")
    said = {"model": model.public_id, **PLAN, "privacy.mechanism": "central", "privacy.noise": "1.5"}
    assert browser.post("/runs/new", {**said, "privacy.clipping": "adaptive", "privacy.clip": "2"}).status_code == 302
    page = page_of(browser, f"/runs/{Run.objects.get().public_id}")
    assert "central noise 1.5 × clip, δ 1e-05, clip 2 to begin with, then the 0.5 quantile" in words(page)
    assert "privacy.mechanism=central" in page
    again = page_of(browser, unescape(re.search(r'href="(/runs/new\?[^"]*)"', page)[1]))  # type: ignore[index]
    assert (value_of(again, "privacy.noise"), value_of(again, "privacy.clip")) == ("1.5", "2.0")
    assert '<option value="adaptive" selected>' in again
