"""Plans of inference as people and programs see them: a federation's page, a plan's, the API, the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from federations.models import News
from fedportal_sdk._policy import DevicePolicy
from tests.training.conftest import Stage
from tests.training.inferring import Ward, fresh
from tests.training.relay import invoke
from tests.training.test_inference import NOISE, say
from training.models import InferencePlan
from training.services import consents


@pytest.fixture
def ward(stage: Stage, tmp_path: Path) -> Ward:
    return Ward(stage, tmp_path / "clinics")


def page(ward: Ward, who: str, path: str) -> str:
    answer = ward.stage.cast.browser(who).get(path)
    assert answer.status_code == 200, answer.content
    return str(answer.content.decode())


def at(ward: Ward, rest: str = "") -> str:
    return f"/federations/{ward.federation.public_id}/inference{rest}"


def api(ward: Ward, who: str, method: str, path: str, **body: Any) -> tuple[int, Any]:
    client = ward.stage.cast.client(who)
    answer = getattr(client, method)(f"/api/v1{path}", body or None, content_type="application/json")
    return answer.status_code, answer.json()


def test_the_page_tells_what_a_plan_is_before_there_is_one(ward: Ward) -> None:
    shown = page(ward, "olga", at(ward))
    assert "No plan yet" in shown
    assert "Ask the devices" in shown
    member = page(ward, "mia", at(ward))
    assert ("Take it back" in member, "Ask the devices" in member) == (True, False)
    assert "privacy officer" in page(ward, "otto", at(ward)), "who may not consent is told who may"


def test_consent_is_given_and_taken_back_on_the_page(ward: Ward) -> None:
    mia, metro = ward.stage.cast.browser("mia"), ward.stage.cast.metro
    limits = {"summaries": ["mean", "counts"], "least_count": "25", "least_noise": "0.5", "plans_a_month": "0"}
    assert mia.post(at(ward, "/consent"), limits).status_code == 302
    given = consents.of(ward.federation, metro)
    assert given is not None
    assert (given.summaries, given.least_count, given.least_noise, given.plans_a_month) == (
        ["counts", "mean"],
        25,
        0.5,
        0,
    )
    assert 'value="25"' in page(ward, "mia", at(ward))
    assert "Take the consent back?" in page(ward, "mia", at(ward, "/withdraw"))
    assert mia.post(at(ward, "/withdraw")).status_code == 302
    assert consents.of(ward.federation, metro) is None


def test_a_form_asks_devices_and_says_what_is_wrong(ward: Ward) -> None:
    ward.three()
    olga = ward.stage.cast.browser("olga")
    form = {"model": ward.stage.model.public_id, "summary": "histogram", "bins": "4", "hours": "1", "name": "Ward 3"}
    refused = olga.post(at(ward), {**form, "bins": "many"})
    assert refused.status_code == 400
    assert 'value="many"' in refused.content.decode()
    assert InferencePlan.objects.count() == 0
    made = olga.post(at(ward), form)
    plan = InferencePlan.objects.get()
    assert (made.url, plan.asked["bins"], plan.seconds, plan.state) == (
        f"/inference/{plan.public_id}",
        4,
        3600,
        "running",
    )
    assert "Nothing is shown yet" in page(ward, "mia", made.url)
    assert "Ward 3" in page(ward, "olga", at(ward))
    assert olga.get(f"{made.url}/cancel").status_code == 200
    assert olga.post(f"{made.url}/cancel").status_code == 302
    assert "cancelled" in page(ward, "olga", made.url)


def test_the_summary_is_drawn_and_hidden_cells_are_not(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(summary="histogram", bins=4)
    for clinic, cells in zip(clinics, ([1, 20, 15, 4], [0, 30, 9, 1], [1, 25, 12, 2]), strict=True):
        say(clinic, clinic.site.take(), cells)
    shown = page(ward, "mia", f"/inference/{plan.public_id}")
    assert shown.count("<rect") == 1
    assert "<title>0.25 to 0.5: 75</title>" in shown
    assert shown.count('<span class="soft">hidden</span>') == 3
    for small in (2, 36, 7):  # what was counted there
        assert f">{small}<" not in shown
    assert "120 rows of 3 devices of 3 organizations" in shown


def test_a_confusion_matrix_and_a_mean_are_shown_too(ward: Ward) -> None:
    clinics = ward.three()
    matrix, mean = ward.plan(summary="confusion", rows="all"), ward.plan(summary="mean")
    for clinic in clinics:
        for task in clinic.site.tasks():
            say(clinic, task, [15, 5, 4, 16] if task.subject == matrix.public_id else [40 * 1024, 10 * 1024])
    found = page(ward, "olga", f"/inference/{matrix.public_id}")
    assert (found.count("<rect"), "<title>0 taken for 1: 15</title>" in found) == (4, True)
    assert "0.775" in found
    assert "Mean score <strong>0.2500</strong>" in page(ward, "olga", f"/inference/{mean.public_id}")


def test_an_organization_sees_why_its_own_devices_declined_and_nobody_elses(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    clinics[1].policy = DevicePolicy(inference=False)
    clinics[1].act()
    assert "own policy allows no inference" in page(ward, "mia", f"/inference/{plan.public_id}")
    assert "own policy allows no inference" not in page(ward, "olga", f"/inference/{plan.public_id}")


def test_what_a_plan_cost_stands_on_the_page_of_the_budget(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan(noise=NOISE)
    for clinic in clinics:
        clinic.act()
    shown = page(ward, "mia", "/budget")
    assert f"/inference/{plan.public_id}" in shown
    assert ">charged<" in shown


def test_plans_over_http(ward: Ward) -> None:
    clinics = ward.three()
    where = f"/federations/{ward.federation.public_id}/inference"
    wanted = {"model": ward.stage.model.name, "summary": "counts", "noise": NOISE, "start_immediately": False}
    status, made = api(ward, "olga", "post", where, **wanted)
    assert (status, made["status"], made["devices"], made["labels"]) == (201, "planned", {}, ["0", "1"])
    assert made["epsilon"] > 0
    assert api(ward, "olga", "post", f"/inference/{made['id']}/start")[1]["devices"] == {"offered": 3}
    assert api(ward, "olga", "post", f"/inference/{made['id']}/start")[0] == 409
    for clinic in clinics:
        clinic.act()
    status, done = api(ward, "mia", "get", f"/inference/{made['id']}")
    assert (status, done["status"], done["result"]["organizations"]) == (200, "done", 3)
    listed = api(ward, "mia", "get", where)[1]
    assert (listed["total"], listed["plans"][0]["id"]) == (1, made["id"])
    assert api(ward, "olga", "post", f"/inference/{made['id']}/cancel")[1]["error"] == "wrong_state"
    assert api(ward, "olga", "post", where, model=ward.stage.model.name, summary="rows")[1]["error"] == "field_invalid"
    assert api(ward, "mia", "put", f"{where}/consent", least_count=50)[1]["least_count"] == 50
    assert api(ward, "mia", "delete", f"{where}/consent")[1] == {"given": False}
    assert api(ward, "mia", "get", f"{where}/consent")[1] == {"given": False}


def test_members_are_told_when_their_devices_are_asked_and_the_owner_when_it_is_over(ward: Ward) -> None:
    clinics = ward.three()
    plan = ward.plan()
    for clinic in clinics:
        clinic.act()
    told = News.objects.filter(data__plan=plan.public_id).order_by("pk")
    assert [(one.kind, one.organization.name) for one in told] == [
        ("inference.started", "acme"),
        ("inference.started", "metro"),
        ("inference.started", "valley"),
        ("inference.finished", "acme"),
    ]


def test_the_command_line_asks_shows_and_consents(ward: Ward) -> None:
    clinics, cast = ward.three(), ward.stage.cast
    federation = ward.federation.name

    def said(who: str, *words: str) -> str:
        result = invoke(cast.client(who), cast.keys[who], ["infer", *words])
        assert result.exit_code == 0, result.output
        return result.output

    assert "counts, mean" in said("mia", "consent", federation, "--summary", "mean", "--summary", "counts")
    assert "asks 3 devices" in said("olga", "start", ward.stage.model.name, "--federation", federation)
    plan = InferencePlan.objects.get()
    for clinic in clinics:
        clinic.act()
    cells = fresh(plan).result["cells"]
    shown = said("olga", "show", plan.public_id)
    assert "120 rows of 3 devices of 3 organizations" in shown
    assert all(str(cell) in shown for cell in cells)
    assert plan.public_id in said("mia", "list", federation)
    assert "counts, mean" in said("mia", "consent", federation, "--show")
