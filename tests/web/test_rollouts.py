"""The pages of rollouts: found, begun by a form, watched, widened, paused and taken back; and who may do that."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils.html import strip_tags

from federations.services import policies
from fedportal.common import clock
from fedwire.latencies import counted
from fedwire.states import RolloutState
from registry.models import HealthReport, Installation, Model, Rollout
from registry.services import gates, health, installations, models, rollouts
from tests.cast import Cast
from tests.registry.conftest import House
from tests.registry.test_rollouts import FAILING, Fleet, more_devices, version


@pytest.fixture
def fleet(cast: Cast, settings: Any, tmp_path: Path) -> Fleet:
    """metro's ten devices, and a model in two versions that is shared with it."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    return Fleet(House(cast))


@pytest.fixture
def mia(fleet: Fleet) -> Client:
    return fleet.house.cast.browser("mia")


def words(browser: Client, address: str) -> str:
    """What stands on a page, without its tags and gaps."""
    answer = browser.get(address, follow=True)
    assert answer.status_code == 200
    return plain(answer)


def plain(answer: Any) -> str:
    text = html.unescape(strip_tags(answer.content.decode().replace("<", " <")))
    return re.sub(r"\s+", " ", text).strip()


def at(rollout: Rollout, act: str = "", query: str = "") -> str:
    return f"/rollouts/{rollout.public_id}{'/' if act else ''}{act}{query}"


def do(browser: Client, rollout: Rollout, act: str, query: str = "") -> str:
    """Ask for it, say yes, and read what the rollout's page says then."""
    asked = browser.get(at(rollout, act, query))
    assert asked.status_code == 200
    assert "Cancel" in asked.content.decode()
    answer = browser.post(at(rollout, act, query), follow=True)
    assert answer.redirect_chain[0][0] == at(rollout)
    rollout.refresh_from_db()
    return plain(answer)


def form(model: Model, **said: Any) -> dict[str, Any]:
    """What a browser sends of the form: five rows of steps, most of them empty."""
    sent = {"model": model.public_id, "version": "2.0.0", "group": "", "increment": "10", "start": ""}
    sent |= {"window_seconds": "600", "least": "50", "error_rate": "", "latency_ms": "", "accuracy": ""}
    sent |= {"share": ["10", "", "", "", ""], "wait": [""] * 5, "unit": ["hours"] * 5, "auto_rollback": ""}
    return sent | said


def test_empty_list_says_what_comes_next_to_those_who_may(fleet: Fleet, mia: Client) -> None:
    assert "No rollout yet" in words(mia, "/rollouts")
    assert 'href="/rollouts/new"' in mia.get("/rollouts").content.decode()
    otto = fleet.house.cast.browser("otto")
    assert "/rollouts/new" not in otto.get("/rollouts").content.decode()
    assert "Olga" in words(otto, "/rollouts")
    assert 'href="/rollouts"' in mia.get("/models").content.decode()


def test_list_shows_own_rollouts_by_state_and_model_page_by_page(fleet: Fleet, mia: Client) -> None:
    first = rollouts.deploy(fleet.mia, fleet.old, share=5_000)
    fleet.obey()
    rollouts.complete(fleet.mia, first)
    second = rollouts.deploy(fleet.mia, fleet.new, share=1_250)
    theirs = rollouts.deploy(fleet.house.olga, fleet.new, share=1_000)
    shown = words(mia, "/rollouts")
    assert "radiology-v1 2.0.0" in shown
    assert "12.5 %" in shown
    assert re.search("completed 50 % [345] have it", shown)  # up to two of them are in the second one now
    assert theirs.public_id not in mia.get("/rollouts").content.decode()
    done = mia.get("/rollouts?state=completed").content.decode()
    assert (first.public_id in done, second.public_id in done) == (True, False)
    assert "No rollout like this" in words(mia, "/rollouts?text=cardiology")
    for number in range(30):
        made = models.create(fleet.house.olga, name=f"model-{number}")
        models.share(fleet.house.olga, made, fleet.house.federation)
        rollouts.deploy(fleet.mia, version(made, 1), share=100)
    assert "Page 1 of 2" in words(mia, "/rollouts")
    assert "radiology-v1 1.0.0" in words(mia, "/rollouts?page=2")


def test_form_begins_a_rollout_in_steps_with_limits(fleet: Fleet, mia: Client) -> None:
    assert "radiology-v1, latest 2.0.0" in words(mia, "/rollouts/new")
    policies.change(fleet.mia, fleet.house.metro, rollback_error_rate=0.05)
    page = mia.get(f"/rollouts/new?model={fleet.model.public_id}&version=1.0.0").content.decode()
    assert "<option selected>1.0.0</option>" in page
    assert 'placeholder="5"' in page
    steps = {
        "share": ["5", "25", "100", "", ""],
        "wait": ["1,5", "1", "", "", ""],
        "unit": ["hours", "days"] + ["hours"] * 3,
    }
    answer = mia.post("/rollouts/new", form(fleet.model, **steps, error_rate="2,5", accuracy="90", auto_rollback="no"))
    made = Rollout.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, at(made))
    assert (made.share, made.steps) == (500, [[500, 5400], [2500, 86400], [10_000, 0]])
    assert (made.error_rate, made.accuracy, made.latency_ms, made.auto_rollback) == (0.025, 0.9, None, False)
    shown = words(mia, at(made))
    assert "It goes to 25 % by itself at the earliest at" in shown
    assert "0 of 50 predictions so far" in shown
    assert "Kept for at least 90 minutes." in shown
    assert "fewer than 90 %" in shown


def test_form_can_wait_and_ask_a_group_only(fleet: Fleet, mia: Client) -> None:
    label = fleet.house.metro.device_groups.create(name="production")
    label.devices.add(*fleet.devices[:4])
    mia.post("/rollouts/new", form(fleet.model, group="production", share=["50"] + [""] * 4, start="later"))
    made = Rollout.objects.get()
    assert (made.state, made.group_name, made.steps, made.auto_rollback) == ("pending", "production", [], True)
    assert "It waits to be begun: then 50 % of the devices get it." in words(mia, at(made))
    assert "2 of 4 devices then get version 2.0.0" in words(mia, at(made, "advance"))
    assert "Version 2.0.0 goes to 50 % of the devices." in do(mia, made, "advance")
    assert Installation.objects.filter(rollout=made).count() == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"share": ["0"] + [""] * 4}, "it must be above 0"),
        ({"share": ["ten"] + [""] * 4}, "it is not a number"),
        ({"share": [""] * 5}, "say how many percent"),
        ({"share": ["50", "20", "", "", ""]}, "its shares must rise"),
        ({"wait": ["900"] + [""] * 4, "unit": ["days"] * 5}, "longer than 30 days"),
        ({"error_rate": "120"}, "outside what a limit can be"),
        ({"least": "1.5"}, "outside what a limit can be"),
        ({"increment": "0"}, "it must be above 0"),
    ],
)
def test_form_comes_back_with_what_is_wrong(fleet: Fleet, mia: Client, said: dict[str, Any], reason: str) -> None:
    answer = mia.post("/rollouts/new", form(fleet.model, **said))
    assert answer.status_code == 400
    assert reason in answer.content.decode()
    assert 'value="600"' in answer.content.decode()  # what was typed stays
    assert not Rollout.objects.exists()


def test_form_says_that_another_version_is_on_its_way(fleet: Fleet, mia: Client) -> None:
    rollouts.deploy(fleet.mia, fleet.old, share=4_000)
    assert "Version 1.0.0 is on its way at 40 %" in words(mia, f"/rollouts/new?model={fleet.model.public_id}")
    answer = mia.post("/rollouts/new", form(fleet.model))
    assert answer.status_code == 409
    assert "is active" in answer.content.decode()


def test_page_shows_how_far_it_is_and_offers_what_can_be_done(fleet: Fleet, mia: Client) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=2_000)
    shown = words(mia, at(rollout))
    assert "0 have it 2 waiting 0 failed of 10 devices; 20 % of them are 2" in shown
    assert "It stays at 20 % until somebody widens it." in shown
    fleet.obey()
    assert "2 have it 0 waiting" in words(mia, at(rollout, "progress"))
    assert "Version 2.0.0 goes to 30 % of the devices." in do(mia, rollout, "advance")
    assert "5 of 10 devices then get version 2.0.0" in words(mia, at(rollout, "set", "?percentage=45,5"))
    do(mia, rollout, "set", "?percentage=45.5")
    assert (rollout.share, Installation.objects.count()) == (4_550, 5)
    assert "It is paused: no further device gets it" in do(mia, rollout, "pause")
    assert "The rollout is paused: this cannot be done with it now." in words(mia, at(rollout, "advance"))
    do(mia, rollout, "resume")
    do(mia, rollout, "set", "?percentage=100")
    fleet.obey()
    assert "It has come as far as it is to. Complete it" in words(mia, at(rollout))
    assert "It is done. A version that turns out to be unwell still goes back by itself until" in do(
        mia, rollout, "complete"
    )
    assert rollout.state == RolloutState.COMPLETED
    assert mia.get(at(rollout, "sideways")).status_code == 404


def test_rollback_by_hand_sends_every_device_back_and_says_how_long_it_took(fleet: Fleet, mia: Client) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    fleet.obey()
    assert "10 devices still to go back to what they had." in do(mia, rollout, "rollback")
    assert "Rolled back: by hand" in words(mia, at(rollout))
    fleet.obey()
    shown = words(mia, at(rollout))
    assert "Every device that can be asked has what it had before." in shown
    assert "Until every device was back" in shown
    assert "data-over" in mia.get(at(rollout, "progress")).content.decode()
    assert "Nothing is left to do here." in shown


def test_reason_of_a_rollback_stands_on_its_page(fleet: Fleet, mia: Client) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    assert "Why (optional)" in words(mia, at(rollout, "rollback"))
    mia.post(at(rollout, "rollback"), {"reason": "wrong threshold"})
    shown = words(mia, at(rollout))
    assert "rolled back 10 % wrong threshold" in shown
    assert "Rolled back: wrong threshold" in shown


def test_closed_gate_says_why_nobody_else_gets_the_version(fleet: Fleet, mia: Client) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    gates.set_policy(fleet.house.olga, fleet.model, size=1)
    shown = words(mia, at(rollout))
    assert "No further device gets it, for its gate is closed: it has not been judged" in shown
    assert "Advance to" not in shown
    assert "Set percentage" not in shown
    assert "Roll back" in shown
    assert "cannot be done with it now" in words(mia, at(rollout, "advance"))


def test_unwell_version_shows_its_curves_and_goes_back_by_itself(fleet: Fleet, mia: Client) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, error_rate=0.05, latency_ms=100, accuracy=0.8)
    fleet.obey()
    more = {"latencies": counted([3.0] * 90 + [1_500.0] * 10), "judged": 50, "right": 20}
    fleet.report(fleet.new, **FAILING, **more)
    HealthReport.objects.filter(pk=HealthReport.objects.order_by("pk")[0].pk).update(
        at=clock.now() - timedelta(minutes=5)
    )
    page = mia.get(at(rollout)).content.decode()
    assert page.count('class="limit-line"') == 3
    assert "40 %, 0 s ago; at most 5 % is allowed" in page
    assert "limit: at least 80 %" in page
    assert "It goes back by itself in a moment: more predictions fail than the limit allows." in page
    assert health.look(rollout)
    fleet.obey()
    shown = words(mia, at(rollout))
    assert "From the report to the decision" in shown
    assert "400 of 1000 predictions failed" in shown
    assert "rolled back 400" in words(mia, "/rollouts")


def test_devices_that_failed_come_first_with_their_reason(fleet: Fleet, mia: Client) -> None:
    more_devices(fleet.house.metro, 10)
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    unlucky = fleet.tasks()[7]
    installations.on_decline(unlucky, "digest_mismatch: the file is not the one that was announced")
    shown = words(mia, at(rollout))
    assert "1 failed" in shown
    table = shown[shown.index("Had before") :]
    assert table.index("digest_mismatch") < table.index("waiting")
    assert "Page 1 of 2" in table
    only = words(mia, at(rollout, "progress", "?devices=failed"))
    assert (unlucky.device.identifier in only, "Page 1" in only) == (True, False)
    assert "No device is in this state." in words(mia, at(rollout, query="?devices=done"))


def test_viewer_reads_and_finds_no_button(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.house.olga, fleet.new, share=1_000)
    otto = fleet.house.cast.browser("otto")
    page = otto.get(at(rollout)).content.decode()
    assert "Roll back" not in page
    assert "Olga" in page
    assert otto.post(at(rollout, "rollback")).status_code == 403
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ACTIVE


def test_models_say_what_is_on_ones_own_devices(fleet: Fleet, mia: Client) -> None:
    model, new = f"/models/{fleet.model.public_id}", f"/models/{fleet.model.public_id}/versions/2.0.0"
    assert "On your devices" not in words(mia, model)
    assert f'href="/rollouts/new?model={fleet.model.public_id}"' in mia.get(model).content.decode()
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=4_000)
    assert "On your devices: 2.0.0 at 40 %" in words(mia, model)
    assert "On your devices: 2.0.0 at 40 %" in words(mia, new)
    assert "On your devices" not in words(fleet.house.cast.browser("olga"), model)
    old = f"/models/{fleet.model.public_id}/versions/1.0.0"
    assert f"{old}/send-back" in mia.get(old).content.decode()
    assert "Every device of metro gets this version at once" in words(mia, f"{old}/send-back")
    mia.post(f"{old}/send-back")
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ROLLED_BACK
    made = Rollout.objects.get(is_rollback=True)
    assert (made.version, made.share) == (fleet.old, 10_000)
    assert "to return to this version" in words(mia, at(made))
