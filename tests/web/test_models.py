"""The pages of models as a data scientist reads them: found, described, seen to have come from somewhere, compared."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from federations import permissions
from federations.models import Federation, Letter, Member, Role
from federations.services import letters, notifications, spreading
from fedportal.common import blobs, clock
from fedwire.architectures import Architecture
from fedwire.tensors import encode_model
from registry import comparison, selectors
from registry.models import Artifact, Model, ModelVersion
from registry.services import models, versions
from tests.cast import Cast

LOGISTIC = {"kind": "logistic", "inputs": 2, "classes": 2}


@pytest.fixture
def model(cast: Cast, settings: Any, tmp_path: Any) -> Model:
    """A model of acme with first weights, shared with the consortium."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    made = models.create(cast.actor("olga"), name="radiology-v1", description="Chest films.", architecture=LOGISTIC)
    versions.initial(cast.actor("olga"), made)
    models.share(cast.actor("olga"), made, cast.federation)
    return made


def trained(cast: Cast, model: Model, run: str, accuracy: float, move: float = 1.0) -> ModelVersion:
    """A version as a run publishes it."""
    architecture = Architecture.parse(LOGISTIC)
    arrays = {name: array + np.float32(move) for name, array in architecture.initial().items()}
    parent = versions.latest(model)
    assert parent is not None
    lineage = {
        "run": run,
        "federation": {"id": cast.federation.public_id, "name": cast.federation.name},
        "strategy": "fedavg",
        "config": {"seed": 7, "standardise": False, "parameters": {"epochs": 1, "learning_rate": 0.1 * move}},
        "rounds": 20,
        "organizations": [
            {"id": cast.acme.public_id, "name": "acme", "devices": 2, "updates": 40, "samples": 1200},
            {"id": cast.metro.public_id, "name": "metro", "devices": 1, "updates": 20, "samples": 300},
        ],
    }
    metrics = {
        "accuracy": accuracy,
        "auc": accuracy,
        "loss": 1 - accuracy,
        "samples": 50,
        "organizations": {cast.metro.public_id: {"accuracy": accuracy - 0.1}},
    }
    return versions.publish(
        model,
        blob=blobs.put(encode_model(architecture.manifest(), arrays)),
        parent=parent,
        source=f"{run}/last",
        lineage=lineage,
        metrics=metrics,
    )


def page_of(browser: Client, address: str, status: int = 200) -> str:
    answer = browser.get(address)
    assert answer.status_code == status
    return answer.content.decode().partition("<main")[2]


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_list_says_whose_how_new_and_shared_with_whom(cast: Cast, model: Model) -> None:
    text = words(page_of(cast.browser("mia"), "/models"))
    assert "radiology-v1 acme 1.0.0" in text
    assert "healthcare-consortium" in text
    assert "yours" not in text
    assert "yours" in words(page_of(cast.browser("olga"), "/models"))


def test_a_list_asks_the_database_as_often_for_thirty_models_as_for_three(cast: Cast, model: Model) -> None:
    olga, browser = cast.actor("olga"), cast.browser("olga")

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page_of(browser, "/models")
        return len(asked)

    for number in range(2):
        models.share(olga, models.create(olga, name=f"few-{number}"), cast.federation)
    queries()  # what is remembered from page to page is remembered now
    few = queries()
    for number in range(22):
        models.share(olga, models.create(olga, name=f"many-{number}"), cast.federation)
    assert queries() == few


def test_a_models_page_asks_as_often_for_many_versions_and_federations_as_for_few(cast: Cast, model: Model) -> None:
    browser, address = cast.browser("olga"), f"/models/{model.public_id}"

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            page_of(browser, address)
        return len(asked)

    trained(cast, model, "run_0", 0.9)
    queries()  # what is remembered from page to page is remembered now
    few = queries()
    for number in range(1, 9):
        trained(cast, model, f"run_{number}", 0.9 + number / 100)
    assert queries() == few


def test_what_to_do_next_is_said_until_it_is_done(cast: Cast, settings: Any, tmp_path: Any) -> None:
    settings.FEDPORTAL_DATA_DIR = tmp_path
    browser = cast.browser("olga")
    browser.post("/models/new", {"name": "cardio", "kind": "file"})
    made = Model.objects.get(name="cardio")
    address = f"/models/{made.public_id}"
    assert "Next: give it weights" in words(page_of(browser, address))
    Model.objects.filter(pk=made.pk).update(architecture=Architecture.parse(LOGISTIC).spec())
    browser.post(f"{address}/initial")
    assert "Next: share it with a federation" in words(page_of(browser, address))
    browser.post(f"{address}/share", {"federation": cast.federation.public_id})
    page = page_of(browser, address)
    assert "Next: start a run" in words(page)
    assert f"/runs/new?model={made.public_id}" in page


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        ({"kind": "logistic", "inputs": "30", "standardise": "1"}, {"inputs": 30, "classes": 2, "standardise": True}),
        ({"kind": "linear", "inputs": "4", "classes": "9"}, {"inputs": 4, "standardise": False}),
        ({"kind": "mlp", "inputs": "30", "hidden": "64, 32", "classes": "3"}, {"hidden": [64, 32], "classes": 3}),
        (
            {"kind": "cnn", "image": "1 28 28", "channels": "4", "classes": "10"},
            {"inputs": [1, 28, 28], "channels": [4]},
        ),
        (
            {"kind": "logistic", "columns": "age\r\nmean texture \r\n\r\narea", "labels": "benign, malignant"},
            {"inputs": 3, "columns": ["age", "mean texture", "area"], "labels": ["benign", "malignant"]},
        ),
        (
            {"kind": "mlp", "inputs": "2", "columns": 'age;"size; mm"'},
            {"inputs": 2, "columns": ["age", "size; mm"]},
        ),
        ({"kind": "linear", "columns": "age, area", "labels": "0, 1"}, {"inputs": 2, "columns": ["age", "area"]}),
    ],
    ids=lambda value: value.get("kind", ""),
)
def test_each_kind_of_model_is_made_of_its_own_fields(
    fields: dict[str, str], spec: dict[str, Any], cast: Cast, settings: Any, tmp_path: Any
) -> None:
    settings.FEDPORTAL_DATA_DIR = tmp_path
    cast.browser("olga").post("/models/new", {"name": "cardio", **fields})
    made = Model.objects.get(name="cardio")
    assert made.architecture is not None
    assert spec.items() <= made.architecture.items()
    assert made.versions.count() == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"inputs": "3", "columns": "age, area"}, "`columns` has 2 names; the model has 3 input columns"),
        ({"columns": "age, area, age"}, "`columns` has the name &#x27;age&#x27; twice"),
        ({"columns": "age, area", "labels": "yes"}, "`labels` has 1 names; the model has 2 classes"),
    ],
)
def test_names_that_do_not_fit_make_no_model(fields: dict[str, str], said: str, cast: Cast) -> None:
    answer = cast.browser("olga").post("/models/new", {"name": "cardio", "kind": "logistic", **fields})
    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert fields["columns"] in answer.content.decode()  # what was typed is still there
    assert not Model.objects.filter(name="cardio").exists()


def test_members_read_what_a_shared_model_takes_and_answers(cast: Cast, settings: Any, tmp_path: Any) -> None:
    settings.FEDPORTAL_DATA_DIR = tmp_path
    olga, names = cast.actor("olga"), [f"<c{number}>" for number in range(13)]
    for name, columns, opened in (("wide", names, False), ("narrow", names[:12], True)):
        described = {"kind": "logistic", "inputs": len(columns), "columns": columns, "labels": ["well", "ill"]}
        made = models.create(olga, name=name, architecture=described)
        versions.initial(olga, made)
        models.share(olga, made, cast.federation)
        for address in (f"/models/{made.public_id}", f"/models/{made.public_id}/versions/1.0.0"):
            page = page_of(cast.browser("mia"), address)
            assert re.findall(r"<li><code>&lt;(c\d+)&gt;</code>", page) == [name[1:-1] for name in columns]
            assert ('<details class="more names" open>' in page) is opened
            assert "Classes, from class 0: well , ill ." in words(page)


def test_the_api_tells_columns_and_labels(cast: Cast, settings: Any, tmp_path: Any) -> None:
    settings.FEDPORTAL_DATA_DIR = tmp_path
    described = {**LOGISTIC, "columns": ["age", "area"], "labels": ["well", "ill"]}
    browser = cast.browser("olga")
    answer = browser.post(
        "/api/v1/models", {"name": "cardio", "architecture": described}, content_type="application/json"
    )
    assert answer.status_code == 201
    found = browser.get(f"/api/v1/models/{answer.json()['id']}").json()
    assert described.items() <= found["architecture"].items()


def test_only_the_fields_of_the_chosen_kind_are_shown(cast: Cast) -> None:
    page = page_of(cast.browser("olga"), "/models/new?kind=cnn&name=films")
    shown = re.findall(r'<div data-for="[^"]*">.*?(?:name="(\w+)")', page, re.S)
    assert {"image", "channels", "hidden", "classes"} <= set(shown)
    assert re.search(r'<div data-for="[^"]*" hidden>[^<]*<div class="field"><label for="inputs"', page)
    assert 'value="films"' in page


def test_the_architecture_is_told_in_words(cast: Cast, model: Model) -> None:
    text = words(page_of(cast.browser("mia"), f"/models/{model.public_id}"))
    assert "Logistic regression with 2 input columns and 2 classes: 3 trained numbers." in text


def test_lineage_leads_to_versions_and_runs(cast: Cast, model: Model) -> None:
    trained(cast, model, "run_first", 0.9)
    page = page_of(cast.browser("mia"), f"/models/{model.public_id}/versions/2.0.0")
    svg = page.partition('class="lineage"')[2].partition("</svg>")[0]
    assert f'<a href="/models/{model.public_id}/versions/1.0.0"' in svg
    assert '<a href="/runs/run_first" aria-label="Run: fedavg, 20 rounds' in svg
    assert 'aria-current="page"' in svg
    assert "trained from version 1.0.0 by fedavg, 20 rounds" in words(page)
    assert "style=" not in svg


def test_a_run_that_one_may_not_see_is_drawn_without_a_link(cast: Cast, model: Model) -> None:
    trained(cast, model, "run_first", 0.9)
    elsewhere = Federation.objects.create(organization=cast.acme, name="elsewhere")
    ModelVersion.objects.filter(version="2.0.0").update(
        lineage={
            **ModelVersion.objects.get(version="2.0.0").lineage,
            "federation": {"id": elsewhere.public_id, "name": "elsewhere"},
        }
    )
    page = page_of(cast.browser("mia"), f"/models/{model.public_id}/versions/2.0.0")
    assert "run_first" in page
    assert "/runs/run_first" not in page


def told_about(cast: Cast, name: str, model: Model) -> str:
    """Everything that the pages and the API tell this person about versions 2.0.0 and 3.0.0."""
    paths = ("", "/versions/2.0.0", "/compare?before=2.0.0&after=3.0.0")
    pages = [page_of(cast.browser(name), f"/models/{model.public_id}{path}") for path in paths]
    api = [
        cast.client(name).get(f"/api/v1/models/{model.public_id}/versions{path}").content.decode()
        for path in ("", "/2.0.0", "/3.0.0")
    ]
    return "".join([*pages, *api])


def test_who_gave_to_a_version_stays_among_those_it_was_trained_with(cast: Cast, model: Model) -> None:
    # Trained in a consortium that rex's organization is not in, then shown to a circle in which it is.
    circle = Federation.objects.create(organization=cast.acme, name="circle")
    permissions.write(circle, "owner", cast.acme)
    Member.objects.create(federation=circle, organization=cast.rival, state="active", joined_at=clock.now())
    models.share(cast.actor("olga"), model, circle)
    trained(cast, model, "run_first", 0.80)
    trained(cast, model, "run_second", 0.95)
    inner = (cast.federation.name, cast.federation.public_id, "metro", cast.metro.public_id, "2 organizations")
    seen = told_about(cast, "rex", model)
    assert "0.95" in seen
    assert "aggregated from 20 rounds" in seen
    assert [word for word in inner if word in seen] == []
    seen = told_about(cast, "mia", model)
    assert [word for word in inner if word not in seen] == []


@pytest.mark.parametrize("state", ["left", "removed", "suspended"])
@pytest.mark.parametrize(("day", "tells"), [(-1, False), (1, True)])
def test_who_is_out_still_knows_what_was_trained_until_then(
    cast: Cast, model: Model, state: str, day: int, tells: bool
) -> None:
    trained(cast, model, "run_first", 0.80)
    left = clock.now() + timedelta(days=day)
    Member.objects.filter(federation=cast.federation, organization=cast.metro).update(state=state, changed_at=left)
    (version,) = selectors.told(cast.actor("mia"), [selectors.find_version(model, "2.0.0")])
    assert ("organizations" in version.lineage) == tells
    assert ("organizations" in version.metrics) == tells


def test_one_pair_of_versions_is_measured_at_a_time(cast: Cast, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(cast, model, "run_first", 0.80)
    address = f"/models/{model.public_id}/compare"
    monkeypatch.setattr(comparison, "PATIENCE", 0.01)
    comparison._kept.clear()
    with comparison._reading:
        assert "measuring two other versions" in page_of(cast.browser("mia"), address)
    assert "layers.0.weight" in page_of(cast.browser("mia"), address)
    with comparison._reading:  # what is known needs no reading
        assert "layers.0.weight" in page_of(cast.browser("mia"), address)


def test_files_beyond_the_limit_are_not_measured_even_if_asked(cast: Cast, model: Model) -> None:
    trained(cast, model, "run_first", 0.80)
    ModelVersion.objects.filter(version="2.0.0").update(size=comparison.MOST_READ)
    page = page_of(cast.browser("mia"), f"/models/{model.public_id}/compare?measure=1")
    assert "too large to be measured" in page
    assert "layers.0.weight" not in page


def test_measures_over_versions_are_drawn_where_there_are_any(cast: Cast, model: Model) -> None:
    browser, address = cast.browser("olga"), f"/models/{model.public_id}"
    assert "How the versions do" not in page_of(browser, address)
    for number, accuracy in enumerate((0.80, 0.95)):
        trained(cast, model, f"run_{number}", accuracy)
    page = page_of(browser, address)
    assert 'aria-label="Accuracy: 0.950 in version 3.0.0, 0.800 in 2.0.0"' in page
    assert page.count('<circle class="dot"') == 6


def test_comparing_says_what_became_better_and_how_far_the_weights_moved(cast: Cast, model: Model) -> None:
    trained(cast, model, "run_first", 0.80, move=1.0)
    trained(cast, model, "run_second", 0.95, move=3.0)
    address = f"/models/{model.public_id}/compare"
    text = words(page_of(cast.browser("mia"), f"{address}?before=2.0.0&after=3.0.0"))
    assert "Accuracy 0.800 0.950 +0.150 better" in text
    assert "Loss 0.200 0.050 -0.150 better" in text
    assert "metro, accuracy 0.700 0.850 +0.150 better" in text
    assert "Learning rate 0.1 0.3" in text
    assert f"weights are {np.sqrt(3 * 4):.4g} apart, 200 % of the length" in text
    assert "layers.0.weight" in text
    trained(cast, model, "run_third", 0.9502)
    little = words(page_of(cast.browser("mia"), f"{address}?before=3.0.0&after=4.0.0"))
    assert "Accuracy 0.9500 0.9502 +0.0002" in little  # never 0.000 for what is not the same
    backwards = words(page_of(cast.browser("mia"), f"{address}?before=3.0.0&after=2.0.0"))
    assert "Accuracy 0.950 0.800 -0.150 worse" in backwards


def test_comparing_begins_with_the_latest_and_what_it_came_from(cast: Cast, model: Model) -> None:
    trained(cast, model, "run_first", 0.80)
    page = page_of(cast.browser("olga"), f"/models/{model.public_id}/compare")
    assert re.findall(r"<option selected>([\d.]+)", page) == ["1.0.0", "2.0.0"]
    page_of(cast.browser("olga"), f"/models/{model.public_id}/compare?before=9.9.9", 404)


def test_large_files_are_read_only_when_somebody_asks(
    cast: Cast, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(cast, model, "run_first", 0.80)
    monkeypatch.setattr("registry.web.comparing.AT_ONCE", 10)
    address = f"/models/{model.public_id}/compare"
    assert "Measure how far they are apart" in words(page_of(cast.browser("olga"), address))
    assert "L2 distance" in words(page_of(cast.browser("olga"), f"{address}?measure=1"))


def test_other_forms_are_made_when_somebody_asks_and_then_offered(cast: Cast, model: Model) -> None:
    browser, address = cast.browser("olga"), f"/models/{model.public_id}/versions/1.0.0"
    assert "Make state_dict" in words(page_of(browser, address))
    assert not Artifact.objects.exists()
    assert browser.post(f"{address}/forms/state_dict")["Location"] == f"{address}#files"
    assert "state_dict is being made" in words(page_of(browser, address))
    Artifact.objects.update(state=Artifact.State.READY, size=2048, blob="0" * 64)
    assert f"/api/v1{address}/download?format=state_dict" in page_of(browser, address)
    Artifact.objects.update(state=Artifact.State.FAILED, reason="torch is not installed")
    assert "torch is not installed" in words(page_of(browser, address))
    for form in ("onnx", "torchscript"):
        assert f"Make {form}" in words(page_of(browser, address))
    ModelVersion.objects.update(architecture=None)
    assert "Make onnx" not in (shown := words(page_of(browser, address)))
    assert "of versions with a described architecture" in shown


def test_who_may_not_pull_is_told_who_may(cast: Cast, model: Model) -> None:
    otto = cast.browser("otto")
    for address in (f"/models/{model.public_id}", f"/models/{model.public_id}/versions/1.0.0"):
        page = page_of(otto, address)
        assert "data scientist or a device operator of acme may do this" in words(page)
        assert "download?format" not in page


def test_the_owner_changes_the_description_and_a_member_may_not(cast: Cast, model: Model) -> None:
    address = f"/models/{model.public_id}/describe"
    cast.browser("olga").post(address, {"description": "Chest films of adults."})
    assert cast.browser("mia").post(address, {"description": "Mine."}).status_code == 403
    assert "Chest films of adults." in words(page_of(cast.browser("mia"), f"/models/{model.public_id}"))


def test_sharing_is_told_to_the_other_active_members_once(
    cast: Cast, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_letter = replace(notifications.KINDS["model.shared"], email=True)
    monkeypatch.setitem(notifications.KINDS, "model.shared", by_letter)  # type: ignore[arg-type]  # a dict, in truth
    spreading.spread_due()
    olga, before = cast.actor("olga"), Letter.objects.count()
    second = models.create(olga, name="cardio")
    models.share(olga, second, cast.federation)
    models.share(olga, second, cast.federation)
    spreading.spread_due()
    # Neither acme, whose model it is, nor valley, which has not joined yet.
    (letter,) = Letter.objects.order_by("pk")[before:]
    letters.complete(letter)  # it waits, for another left just now
    assert letter.to == "mia@metro.example"
    assert "acme shared the model cardio with healthcare-consortium" in letter.text
    assert f"/models/{second.public_id}" in letter.text


def test_holding_asks_the_same_as_can_for_many_at_once(cast: Cast, model: Model) -> None:
    olga = cast.actor("olga")
    models.create(olga, name="kept")
    cast.colleague(cast.metro, Role.DEVICE_OPERATOR)
    for who in ("olga", "otto", "mia", "vera", "rex"):
        actor = cast.actor(who)
        for action in ("model.train", "model.pull", "model.push", "model.share"):
            found = set(permissions.holding(actor, action, Model.objects.all()))
            assert found == {row for row in Model.objects.all() if permissions.can(actor, action, row)}
