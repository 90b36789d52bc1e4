"""The privacy label where people meet it: on the run's page, in the API of run and version, on the version's page."""

from __future__ import annotations

import pytest

from federations.services import federations as federation_services
from registry.services import models as model_services
from tests.training.conftest import Site, Stage
from tests.training.test_budgets import NOISE, answer, noisy
from training.models import Run
from training.privacy import accounting
from training.privacy.accounting import Mechanism
from training.privacy.protection import DEFAULT_DELTA, LOCAL, RECORDS, SECURE, Protection
from training.services import labelling

SEES = "The portal, and so whoever runs it, sees every update by itself."


@pytest.fixture
def pair(stage: Stage) -> tuple[Site, Site]:
    return stage.site(stage.cast.acme, "acme-1"), stage.site(stage.cast.metro, "metro-1")


def epsilon(rounds: int) -> float:
    return accounting.epsilon([Mechanism(NOISE, 1.0, rounds)], DEFAULT_DELTA)


def test_a_plain_run_says_that_the_portal_sees_every_update(stage: Stage, pair: tuple[Site, Site]) -> None:
    run = stage.start(rounds=1)
    page = stage.cast.browser("mia").get(f"/runs/{run.public_id}").content.decode()
    assert SEES in page
    assert "no ε holds towards anybody" in page
    answer(*pair), answer(*pair)
    label = stage.cast.client("mia").get(f"/api/v1/training/sessions/{run.public_id}/label").json()
    assert label["sentences"][0] == SEES
    assert (label["sums"]["updates"], label["sums"]["hidden"], label["organizations"]) == (2, 0, [])
    version = stage.cast.client("olga").get(f"/api/v1/models/{stage.model.public_id}/versions/latest").json()
    assert version["label"]["sentences"] == label["sentences"]
    number = version["version"]
    page = stage.cast.browser("mia").get(f"/models/{stage.model.public_id}/versions/{number}").content.decode()
    assert SEES in page


def test_a_version_of_no_run_has_no_label(stage: Stage) -> None:
    version = stage.cast.client("olga").get(f"/api/v1/models/{stage.model.public_id}/versions/latest").json()
    assert version["label"] is None
    page = stage.cast.browser("olga").get(f"/models/{stage.model.public_id}/versions/1.0.0").content.decode()
    assert "What was protected" not in page


def test_a_run_with_noise_says_what_it_costs_whom_open_rounds_too(stage: Stage, pair: tuple[Site, Site]) -> None:
    run = noisy(stage, LOCAL, rounds=2)
    label = stage.snapshot(run)["label"]
    assert [one["epsilon"] for one in label["organizations"]] == [epsilon(1)] * 2  # an answer may be there already
    answer(*pair), answer(*pair)
    run.refresh_from_db()
    assert run.state == "completed"
    label = stage.cast.client("mia").get(f"/api/v1/training/sessions/{run.public_id}/label").json()
    assert [one["organization"]["name"] for one in label["organizations"]] == ["acme", "metro"]
    assert [one["epsilon"] for one in label["organizations"]] == [epsilon(2)] * 2
    assert label["noise"]["towards"] == ["the portal", "members and whoever gets the model"]
    page = stage.cast.browser("mia").get(f"/runs/{run.public_id}").content.decode()
    assert f"ε {epsilon(2):.3g} for δ 1e-05, with the update of one device, and with zeros in its place" in page


def test_what_each_organization_spent_stays_among_the_members(stage: Stage, pair: tuple[Site, Site]) -> None:
    noisy(stage, rounds=1)
    answer(*pair)
    address = f"/api/v1/models/{stage.model.public_id}/versions/latest"
    inside = stage.cast.client("mia").get(address).json()
    assert [one["organization"]["name"] for one in inside["lineage"]["privacy_spent"]] == ["acme", "metro"]
    outside = stage.cast.client("vera").get(address)
    assert outside.status_code == 404  # nobody beyond the federation sees the model, until it is shared with them
    share_beyond(stage)
    outside = stage.cast.client("rex").get(address).json()
    assert "privacy_spent" not in outside["lineage"]
    assert "organizations" not in outside["label"]
    assert outside["label"]["noise"]["epsilon"] == epsilon(1)


def share_beyond(stage: Stage) -> None:
    """The model is shared with a federation in which rival is, and metro is not."""
    second = federation_services.found(stage.olga, name="second")
    federation_services.invite(stage.olga, second, org_ids=[stage.cast.rival.public_id])
    federation_services.join(stage.cast.actor("rex"), second)
    model_services.share(stage.olga, stage.model, second)


def test_a_run_that_was_to_hide_updates_and_did_not_says_so(stage: Stage, pair: tuple[Site, Site]) -> None:
    run = stage.start(rounds=2, config={"evaluate": False})
    Run.objects.filter(pk=run.pk).update(config={**run.config, "privacy": Protection(sums=SECURE).as_json()})
    first = stage.snapshot(run)["label"]["sums"]
    assert (first["sees"], first["coverage"]) == ("nothing yet", None)
    for site in pair:  # each sends a file, as a portal would take it that forgot to ask for masks
        site.answer()
    found = stage.snapshot(run)["label"]
    assert (found["sums"]["sees"], found["sums"]["coverage"]) == ("each update", 0.0)
    assert found["sentences"][0] == SEES


def test_a_label_costs_a_plain_run_no_question(stage: Stage, django_assert_num_queries: object) -> None:
    run = stage.start()
    with django_assert_num_queries(0):  # type: ignore[operator]
        labelling.of(run)


def test_noise_in_gradients_without_a_rate_is_claimed_by_no_label(stage: Stage, pair: tuple[Site, Site]) -> None:
    run = noisy(stage, rounds=1)
    of_records = {**run.config["privacy"], "mechanism": RECORDS}
    Run.objects.filter(pk=run.pk).update(config={**run.config, "privacy": of_records})
    answer(*pair)
    label = labelling.of(Run.objects.get(pk=run.pk))
    assert (label["noise"]["epsilon"], label["organizations"]) == (None, [])
    assert "nobody adds it" in " ".join(label["sentences"])
