"""The pages of gates: limits are set, a version's report is read, and an owner lets one through with a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from federations.models import AuditEntry, Role
from federations.services import audit
from registry import tasks
from registry.models import GateOverride, Model, ModelVersion, Rollout
from registry.services import gates, models, rollouts, versions
from tests.cast import Cast

LOGISTIC = {"kind": "logistic", "inputs": 2, "classes": 2}


@pytest.fixture
def model(cast: Cast, settings: Any, tmp_path: Any) -> Model:
    """A model of acme with first weights, shared with metro."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    made = models.create(cast.actor("olga"), name="radiology-v1", architecture=LOGISTIC)
    versions.initial(cast.actor("olga"), made)
    models.share(cast.actor("olga"), made, cast.federation)
    return made


def judged(cast: Cast, model: Model, **limits: Any) -> ModelVersion:
    """The version, judged by these limits."""
    gates.set_policy(cast.actor("olga"), model, **limits)
    version = ModelVersion.objects.select_related("model__organization").get(model=model)
    tasks.check_gate(cast.actor("olga"), version)
    return version


def text_of(browser: Client, address: str, status: int = 200) -> str:
    answer = browser.get(address)
    assert answer.status_code == status
    return " ".join(re.sub(r"<[^>]*>", " ", answer.content.decode().partition("<main")[2]).split())


def said(answer: Any) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


def report_of(model: Model) -> str:
    return f"/models/{model.public_id}/versions/1.0.0/gate"


def test_without_limits_the_page_leads_to_them(cast: Cast, model: Model) -> None:
    assert "Set limits" in text_of(cast.browser("olga"), report_of(model))
    shown = text_of(cast.browser("mia"), report_of(model))
    assert "Owners and admins of acme set its limits." in shown
    assert "gate" not in text_of(cast.browser("olga"), f"/models/{model.public_id}/versions/1.0.0")
    assert f"/models/{model.public_id}/gate" in cast.browser("olga").get(f"/models/{model.public_id}").content.decode()


def test_limits_are_set_and_what_is_wrong_stays_in_the_form(cast: Cast, model: Model) -> None:
    olga, address = cast.browser("olga"), f"/models/{model.public_id}/gate"
    form = {"metric": "auc", "quality": "0,8", "gap": "", "size": "1000"}
    refused = olga.post(address, {**form, "drift": "far"})
    assert (refused.status_code, "It is not a number." in refused.content.decode()) == (400, True)
    assert 'value="0,8"' in refused.content.decode()
    assert gates.policy_of(model).revision == 0
    assert "judged by them anew" in said(olga.post(address, form, follow=True))
    policy = gates.policy_of(model)
    assert (policy.metric, policy.quality, policy.gap, policy.size) == ("auc", 0.8, None, 1000)
    shown = cast.browser("mia").get(address).content.decode()
    assert ("disabled" in shown, 'value="0.8"' in shown, "Set the limits" in shown) == (True, True, False)
    assert cast.browser("mia").post(address, form).status_code == 403


def test_a_report_says_what_passed_what_did_not_and_why(cast: Cast, model: Model) -> None:
    judged(cast, model, quality=0.8, drift=0.5, size=100)
    shown = text_of(cast.browser("mia"), report_of(model))
    assert "closed It may not go to devices" in shown
    assert "It was pushed, and no run that began with it has measured it." in shown
    assert "Nothing is rolled out yet." in shown
    assert re.search(r"Bytes of the file 20\d.bytes at most 100.bytes failed", shown)
    assert "An owner of acme may do this." in shown
    assert "Let this version through" not in shown
    assert "Judge it again" not in shown
    told = text_of(cast.browser("mia"), f"/models/{model.public_id}/versions/1.0.0")
    assert "It did not pass its gate and may not go to devices" in told


def test_an_owner_lets_it_through_with_a_reason_and_takes_it_back(cast: Cast, model: Model) -> None:
    version = judged(cast, model, size=1)
    olga, address = cast.browser("olga"), report_of(model)
    refused = olga.post(f"{address}/override", {"reason": " "})
    assert (refused.status_code, "Say why" in refused.content.decode()) == (400, True)
    assert not GateOverride.objects.exists()
    answer = olga.post(f"{address}/override", {"reason": "The ward cannot wait."}, follow=True)
    assert "may go to devices" in said(answer)
    shown = text_of(olga, address)
    assert "let through It may go to devices" in shown
    assert "Olga" in shown
    assert "The ward cannot wait." in shown
    assert "The ward cannot wait." not in text_of(cast.browser("mia"), address)
    assert AuditEntry.objects.get(action="gate.overridden").subject == version.public_id
    assert "goes to no further devices" in said(olga.post(f"{address}/withdraw", follow=True))
    assert "Taken back" in text_of(olga, address)
    assert audit.verify(cast.acme.public_id) is None


def test_an_admin_sets_limits_and_does_not_let_through(cast: Cast, model: Model) -> None:
    judged(cast, model, size=1)
    admin = Client()
    admin.force_login(cast.colleague(cast.acme, Role.ADMIN), backend="django.contrib.auth.backends.ModelBackend")
    shown = text_of(admin, report_of(model))
    assert ("Let this version through" in shown, "Judge it again" in shown) == (False, True)
    assert admin.post(f"{report_of(model)}/override", {"reason": "x"}).status_code == 403
    assert admin.post(f"/models/{model.public_id}/gate", {"metric": "loss", "size": "9"}).status_code == 302


def test_a_version_that_waits_is_judged_on_its_page(cast: Cast, model: Model) -> None:
    gates.set_policy(cast.actor("olga"), model, size=100_000, latency=10_000.0)
    olga = cast.browser("olga")
    before = olga.get(report_of(model)).content.decode()
    assert "being judged" in before
    assert "data-fresh" in before
    shown = text_of(olga, olga.post(report_of(model))["Location"])
    assert "passed It may go to devices" in shown
    assert "also take the time anew" in shown
    assert olga.post(report_of(model), {"remeasure": "1"}).status_code == 302


def test_the_page_that_begins_a_rollout_says_that_the_gate_is_closed(cast: Cast, model: Model) -> None:
    judged(cast, model, size=1)
    mia = cast.browser("mia")
    form = {"model": model.public_id, "version": "1.0.0", "share": "50", "wait": "", "unit": "hours"}
    refused = mia.post("/rollouts/new", form)
    assert (refused.status_code, "did not pass its gate" in refused.content.decode()) == (409, True)
    answer = mia.post(f"/models/{model.public_id}/versions/1.0.0/send-back", follow=True)
    assert "did not pass its gate" in said(answer)
    assert not Rollout.objects.exists()


def test_the_page_of_a_rollout_says_why_it_goes_no_further(cast: Cast, model: Model) -> None:
    version = ModelVersion.objects.get(model=model)
    made = rollouts.deploy(cast.actor("mia"), version, share=1_000)
    address = f"/rollouts/{made.public_id}"
    assert "No further device gets it" not in text_of(cast.browser("mia"), address)
    judged(cast, model, size=1)
    shown = text_of(cast.browser("mia"), address)
    assert "No further device gets it: bytes of the file: beyond the limit. See its gate." in shown
    answer = cast.browser("mia").post(f"{address}/advance", follow=True)
    assert "did not pass its gate" in said(answer)
