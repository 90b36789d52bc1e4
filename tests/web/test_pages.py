"""Pages as their readers meet them: empty, long, filtered, refused, dangerous."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from federations.models import Device, Federation
from federations.services import federations, people
from fedportal.common import clock
from fedportal.common.logs import Line
from registry.models import Model, Share
from registry.services import models, versions
from tests.cast import PASSWORD, Cast
from training.models import Round, Run
from training.services import runs
from training.web import page_of_run

LOGISTIC = {"kind": "logistic", "inputs": 2, "classes": 2}


@pytest.fixture
def model(cast: Cast, settings: Any, tmp_path: Any) -> Model:
    """A model of acme with first weights, shared with the consortium."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    made = models.create(cast.actor("olga"), name="radiology-v1", architecture=LOGISTIC)
    versions.initial(cast.actor("olga"), made)
    models.share(cast.actor("olga"), made, cast.federation)
    return made


def text_of(browser: Client, address: str, status: int = 200) -> str:
    answer = browser.get(address)
    assert answer.status_code == status
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode().partition("<main")[2]).split())


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/federations", "A federation is a group of organizations"),
        ("/models", "No model"),
        ("/runs", "No run yet"),
        ("/runs/new", "No model to train yet"),
        ("/devices", "No device yet"),
    ],
)
def test_what_is_empty_says_what_it_is_for(address: str, words: str, cast: Cast) -> None:
    assert words in text_of(cast.browser("rex"), address)


def test_a_new_account_is_led_by_its_first_steps(cast: Cast) -> None:
    steps = text_of(cast.browser("rex"), "/")
    assert steps.index("Found a federation") < steps.index("Make a model") < steps.index("Start a run")


def test_somebody_without_an_organization_is_told_what_to_do(cast: Cast) -> None:
    people.sign_up("nia@nowhere.example", PASSWORD, "Nia")
    browser = Client()
    browser.post("/sign-in", {"email": "nia@nowhere.example", "password": PASSWORD})
    for address in ("/", "/team", "/devices"):
        assert "invitation" in browser.get(address).content.decode()


def test_long_lists_have_pages_that_keep_the_filter(cast: Cast, settings: Any, tmp_path: Any) -> None:
    settings.FEDPORTAL_DATA_DIR = tmp_path
    olga = cast.actor("olga")
    made = [models.create(olga, name=f"net-{number:02d}") for number in range(30)]
    Share.objects.bulk_create(
        Share(organization_id=one.organization_id, model=one, federation=cast.federation) for one in made[:28]
    )
    browser = cast.browser("olga")
    page = browser.get(f"/models?federation={cast.federation.public_id}").content.decode()
    assert "Page 1 of 2" in page
    following = re.search(r'rel="next" href="([^"]+)"', page)
    assert following is not None
    assert text_of(browser, "/models" + following[1].replace("&amp;", "&")).count("net-") == 3
    assert text_of(browser, "/models?text=net-07").count("net-") == 1
    assert "Page 2 of 2" in browser.get("/models?page=999").content.decode()


def test_runs_are_filtered_by_state(cast: Cast, model: Model) -> None:
    runs.stop(cast.actor("olga"), runs.start(cast.actor("olga"), model, rounds=1))
    runs.start(cast.actor("olga"), model, rounds=7)
    browser = cast.browser("olga")
    assert "0 / 7" not in text_of(browser, "/runs?state=stopped")
    assert "0 / 7" in text_of(browser, "/runs?state=running")
    assert "No run like this" in text_of(browser, "/runs?state=failed")


def test_a_run_that_waits_says_for_whom_and_until_when(cast: Cast, model: Model) -> None:
    Device.objects.update(last_seen_at=None)
    run = runs.start(cast.actor("olga"), model, rounds=1, min_participants=2)
    text = text_of(cast.browser("olga"), f"/runs/{run.public_id}")
    assert f"Started by {run.started_by} of acme" in text
    assert "Deadline 10 min a round" in text
    assert f"Seed {run.config['seed']}" in text
    others = text_of(cast.browser("mia"), f"/runs/{run.public_id}")
    assert "Started by acme Started" in others  # whose people are not hers to know
    assert "Waiting for 2 more devices." in text


def test_people_of_an_organization_are_named_to_their_colleagues_only(cast: Cast, model: Model) -> None:
    runs.start(cast.actor("olga"), model, rounds=1)
    version = f"/models/{model.public_id}/versions/1.0.0"
    for address in ("/runs", version):
        assert str(cast.olga) in text_of(cast.browser("olga"), address)
        seen = text_of(cast.browser("mia"), address)
        assert str(cast.olga) not in seen
        assert cast.olga.email not in seen


def test_a_run_was_stopped_by_an_organization(cast: Cast, model: Model) -> None:
    run = runs.stop(cast.actor("olga"), runs.start(cast.actor("olga"), model, rounds=1))
    assert run.reason.startswith("Stopped by acme before")
    for name in ("olga", "mia"):
        assert (
            "olga@acme.example" not in text_of(cast.browser(name), f"/runs/{run.public_id}").partition("How it runs")[0]
        )


@pytest.mark.parametrize(
    ("best", "metro_until", "words"),
    [
        (1, 3, "The best by loss, that of round 1, is an earlier one"),
        (0, 3, "By loss, no round did better than the version that the run began with"),
        (1, 2, "The best by loss, that of round 1, is an earlier one"),  # acme measured both
        (1, 0, "No organization measured both it and the best one"),
        (3, 3, ""),
    ],
)
def test_a_run_whose_last_model_is_not_its_best_says_what_that_means(
    cast: Cast, model: Model, best: int, metro_until: int, words: str
) -> None:
    """Three rounds; metro measures the models up to and with that of `metro_until`, acme with 0 only those before."""
    run = runs.start(cast.actor("olga"), model, rounds=3)
    run.rounds.all().delete()
    for number in range(4):
        there = ["acme"] * (number < 3 or metro_until > 0) + ["metro"] * (number <= metro_until or number == 3)
        measured = {name: {"loss": 0.5} for name in there if (name, number, metro_until) != ("metro", 3, 2)}
        metrics = {"overall": {"loss": 0.5}, "organizations": measured}
        row = {"state": "done", "deadline": clock.now(), "closed_at": clock.now(), "metrics": metrics}
        Round.objects.create(organization=cast.acme, run=run, number=number + 1, **row)
    version = model.versions.get()
    Run.objects.filter(pk=run.pk).update(state="completed", result_version=version, best_round=best, best_loss=0.5)
    page = text_of(cast.browser("olga"), f"/runs/{run.public_id}")
    assert "Best of this run: the " in page
    told = page.partition("is published as")[2].partition("Devices")[0]
    assert words in told
    assert ("round" in told) == bool(words) or "organizations" in told


def test_why_a_run_cannot_be_run_again_is_said_also_to_who_may(cast: Cast, model: Model) -> None:
    run = runs.start(cast.actor("olga"), model, rounds=1)
    runs.stop(cast.actor("olga"), run)
    models.unshare(cast.actor("olga"), model, cast.federation)
    page = text_of(cast.browser("olga"), f"/runs/{run.public_id}")
    assert "It cannot be run again: the model is not shared with this federation any more." in page


def test_who_may_not_control_a_run_reads_one_sentence_of_who_may(cast: Cast, model: Model) -> None:
    run = runs.start(cast.actor("olga"), model, rounds=1)
    page = text_of(cast.browser("mia"), f"/runs/{run.public_id}")
    assert page.count("An owner or a data scientist") == 1
    assert "An owner or a data scientist of acme may pause, stop or repeat this run." in page
    assert "data scientist" not in text_of(cast.browser("olga"), f"/runs/{run.public_id}")
    runs.stop(cast.actor("olga"), run)
    page = text_of(cast.browser("mia"), f"/runs/{run.public_id}")
    assert "An owner or a data scientist of acme may repeat this run." in page


def test_a_paused_run_says_who_paused_it_and_waits_for_nobody(cast: Cast, model: Model) -> None:
    Device.objects.update(last_seen_at=None)
    run = runs.start(cast.actor("olga"), model, rounds=1, min_participants=2)
    runs.pause(cast.actor("olga"), run)
    page = text_of(cast.browser("olga"), f"/runs/{run.public_id}").partition("Devices in this round")[0]
    assert re.search(rf"Paused by {cast.olga} at \d\d:\d\d:\d\d UTC", page)
    assert "Press Resume to go on." in page
    html = cast.browser("mia").get(f"/runs/{run.public_id}").content.decode()
    assert "by acme" in html
    assert str(cast.olga) not in html
    assert "data-press hidden" in html
    assert "data-waiting-box hidden" in html
    runs.resume(cast.actor("olga"), run)
    html = cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
    assert "data-paused hidden" in html
    assert "data-waiting-box>" in html


def test_reasons_and_time_of_waiting_stand_once(cast: Cast, model: Model) -> None:
    Device.objects.update(last_seen_at=None)
    run = runs.start(cast.actor("olga"), model, rounds=1, min_participants=2)
    html = cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
    box = html.partition("data-waiting-box")[2].partition("</div>")[0]
    assert "Waiting for 2 more devices. If they have not come at the deadline, the round is tried again." in box
    assert "UTC" not in re.sub(r"<time.*?</time>", "", box)
    assert "none available" not in box
    assert "data-answers hidden" in html  # nobody was asked, so there are no answers to count


def test_an_ended_run_does_not_speak_as_if_more_were_to_come(cast: Cast, model: Model) -> None:
    Device.objects.update(last_seen_at=None)
    run = runs.start(cast.actor("olga"), model, rounds=3)
    address = f"/runs/{run.public_id}"
    alive = text_of(cast.browser("olga"), address)
    for words in ("Nothing measured yet", "the first round is not done", "No device takes part yet", "Round 1 of 3"):
        assert words in alive
    runs.stop(cast.actor("olga"), run)
    over = text_of(cast.browser("olga"), address)
    for words in ("Stopped in round 1 of 3", "Nothing was measured", "no round was done", "No device took part"):
        assert words in over
    assert "yet" not in over.partition("Stopped in")[2].partition("What happened")[0]


@pytest.mark.parametrize(
    ("state", "of", "words"),
    [
        ("completed", {"kind": "evaluate", "state": "done", "number": 4}, "All 3 rounds are done"),
        ("failed", {"kind": "train", "state": "failed", "number": 1}, "Failed in round 1 of 3"),
        ("stopped", {"kind": "train", "state": "done", "number": 2}, "Stopped after round 2 of 3"),
        ("failed", {"kind": "statistics", "state": "failed", "number": 0}, "Failed before round 1 of 3"),
        ("stopped", {"kind": "evaluate", "state": "cancelled", "number": 4}, "Stopped after round 3 of 3"),
        ("stopped", None, "Stopped before round 1 of 3"),
    ],
)
def test_title_of_an_ended_run_says_how_far_it_came(state: str, of: Any, words: str) -> None:
    assert page_of_run._title({"run": {"state": state, "total_rounds": 3, "current_round": 0}, "round": of}) == words


def test_the_dangerous_asks_first_and_looking_at_the_question_changes_nothing(cast: Cast, model: Model) -> None:
    run = runs.start(cast.actor("olga"), model, rounds=1)
    browser = cast.browser("olga")
    metro = cast.metro.public_id
    for address, words in (
        (f"/runs/{run.public_id}/stop", "cannot be undone"),
        (f"/federations/{cast.federation.public_id}/members/{metro}/remove", "needs a new invitation"),
        (f"/devices/{cast.device.public_id}/revoke", ""),
    ):
        answer = (browser if words else cast.browser("mia")).get(address)
        assert answer.status_code == 200
        assert "<form" in answer.content.decode()
        assert words in answer.content.decode()
    run.refresh_from_db()
    cast.device.refresh_from_db()
    assert (run.state, cast.device.state) == ("running", "active")
    assert cast.federation.members.get(organization=cast.metro).state == "active"


def test_rounds_are_made_asynchronous_and_back_by_a_button(cast: Cast, model: Model) -> None:
    run = runs.start(cast.actor("olga"), model, rounds=3)
    browser, address = cast.browser("olga"), f"/runs/{run.public_id}"
    page = browser.get(address).content.decode()
    assert 'data-action="asynchronous">' in page
    assert 'data-action="synchronous" hidden' in page
    assert 'data-chart="staleness" hidden' in page
    assert "Make asynchronous the rounds of radiology-v1?" in text_of(browser, f"{address}/asynchronous")
    assert browser.post(f"{address}/asynchronous").status_code == 302
    page = text_of(browser, address)
    assert "Round 1 of 3, asynchronous" in page
    assert "No answer has been counted yet." in page
    assert "makes a model of every answer" in page
    assert "The run was made asynchronous by acme." in page
    assert 'data-action="asynchronous" hidden' in cast.browser("mia").get(address).content.decode()
    assert cast.browser("mia").post(f"{address}/synchronous").status_code == 403
    browser.post(f"{address}/synchronous")
    run.refresh_from_db()
    assert run.plan["schedule"] == "synchronous"


def test_an_error_of_a_form_names_the_next_step_on_the_page_it_came_from(cast: Cast) -> None:
    where = f"http://testserver/devices/{cast.device.public_id}"
    answer = cast.browser("mia").post(f"{where}/groups", {"groups": "a/b"}, headers={"Referer": where})
    assert (answer.status_code, answer["Location"]) == (302, where)


def test_names_of_tenants_are_escaped(cast: Cast) -> None:
    federations.change(cast.actor("olga"), cast.federation, description="<script>alert(1)</script>")
    page = cast.browser("mia").get(f"/federations/{cast.federation.public_id}").content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_taken_name_keeps_what_was_typed(cast: Cast) -> None:
    answer = cast.browser("olga").post("/federations/new", {"name": "healthcare-consortium", "description": "Again."})
    assert answer.status_code == 409
    assert "Again." in answer.content.decode()
    assert Federation.objects.filter(name="healthcare-consortium").count() == 1


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_nowhere_else(target: str, cast: Cast) -> None:
    said = {"email": "olga@acme.example", "password": PASSWORD, "next": target}
    assert Client().post("/sign-in", said)["Location"] == "/"


def test_pages_tell_the_browser_to_load_nothing_from_elsewhere(cast: Cast) -> None:
    answer = cast.browser("olga").get("/")
    policy = answer["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Cache-Control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\b(src|type=\"application/json\"))", answer.content.decode())


def test_guessing_at_the_operators_door_is_limited_like_everywhere(cast: Cast) -> None:
    answer = Client().get("/admin/")
    assert answer["Location"].startswith("/admin/login/")
    answer = Client().get(answer["Location"])
    assert answer["Location"] == "/sign-in?next=%2Fadmin%2F"
    assert Client().post("/admin/login/", {"username": "olga@acme.example", "password": "guess"}).status_code == 302


@pytest.mark.parametrize(
    "address", ["/admin/", "/admin/login/?next=/admin/", "/admin/federations/person/", "/admin/no"]
)
def test_whoever_is_no_operator_is_told_so_and_not_asked_to_sign_in_again(cast: Cast, address: str) -> None:
    page = text_of(cast.browser("olga"), address, 403)
    assert "Only the operators of this portal" in page
    assert "To the start page" in page


def test_browsers_find_the_icon_where_they_look_for_it(cast: Cast) -> None:
    answer = Client().get("/favicon.ico")
    assert answer.status_code == 302
    assert re.fullmatch(r"/static/icon(\.\w+)?\.svg", answer["Location"])


def test_a_link_that_is_refused_does_not_stand_in_the_log(cast: Cast, caplog: pytest.LogCaptureFixture) -> None:
    Client().get("/invitations/a-secret-nobody-may-read")
    lines = [Line("{message}", style="{").format(record) for record in caplog.records]
    assert any("/invitations/" in line for line in lines)
    assert not any("a-secret" in line for line in lines)
