"""The pages of devices: found, looked into, grouped, ended, and the line that makes a machine one of them."""

from __future__ import annotations

import html
import re
import shlex
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from federations.models import ApiKey, AuditEntry, Device, DeviceGroup, DeviceKey, Role
from federations.services import devices, keys, policies
from federations.web import devices as pages
from fedportal.common import clock
from tests.cast import DEVICE, Cast, register
from tests.web.test_pages import text_of

WISH = {"identifier": "scanner-7", "data": "rows of today.csv", "target": "sick", "days": "7", "device_limit": "1"}


def line_of(answer: Any) -> str:
    found = re.search(r'<pre id="line">(.*?)</pre>', answer.content.decode(), re.DOTALL)
    assert found, answer.content.decode()
    return html.unescape(found[1])


def test_devices_are_found_by_text_state_group_and_presence(cast: Cast) -> None:
    olga = cast.actor("olga")
    for name in ("scanner-1", "scanner-2", "ward-1"):
        register(cast.keys["olga"], name)
    first, second, ward = Device.objects.filter(organization=cast.acme).order_by("identifier")
    devices.set_groups(olga, first, ["production"])
    devices.heartbeat(second, {})
    devices.quarantine(olga, ward)
    browser = cast.browser("olga")

    def shown(query: str) -> set[str]:
        page = browser.get(f"/devices?{query}").content.decode()
        return set(re.findall(r"<strong>([\w-]+)</strong>", page.partition("<main")[2]))

    assert shown("") == {"scanner-1", "scanner-2", "ward-1"}
    assert shown("text=scan") == {"scanner-1", "scanner-2"}
    assert shown(f"text={ward.public_id}") == {"ward-1"}
    assert shown("group=production") == {"scanner-1"}
    assert shown("state=quarantined") == {"ward-1"}
    assert shown("present=yes") == {"scanner-2"}
    assert shown("present=no&text=scanner") == {"scanner-1"}
    assert "No device like this" in text_of(browser, "/devices?text=nothing")


def test_a_list_of_thirty_asks_as_often_as_one_of_three(cast: Cast) -> None:
    browser = cast.browser("mia")

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert browser.get("/devices").status_code == 200
        return len(asked)

    for number in range(2):
        register(cast.keys["mia"], f"few-{number}", groups=["a"])
    queries()
    few = queries()
    for number in range(21):
        register(cast.keys["mia"], f"more-{number:02d}", groups=["a", f"g{number}"])
    assert queries() == few


def test_long_lists_of_devices_have_pages_that_keep_the_filter(cast: Cast) -> None:
    for number in range(27):
        register(cast.keys["olga"], f"ward-{number:02d}")
    page = cast.browser("olga").get("/devices?text=ward-").content.decode()
    assert 'href="?text=ward-&amp;page=2"' in page
    assert "Page 1 of 2" in page


def test_an_old_sdk_and_a_key_that_was_not_changed_are_marked(cast: Cast) -> None:
    policies.change(cast.actor("mia"), cast.metro, device_key_days=30)
    register(cast.keys["mia"], DEVICE, cast.device_private, sdk_version="0.0.9")
    DeviceKey.objects.filter(device=cast.device, expires_at=None).update(revoked_at=clock.now())
    browser = cast.browser("mia")
    page = text_of(browser, "/devices")
    assert "older than the portal's" in page
    assert "not changed in time" not in page
    with clock.shifted(timedelta(days=26)):
        browser = cast.browser("mia")
        assert "not changed in time" in text_of(browser, "/devices")
        assert "has not been changed in time" in text_of(browser, f"/devices/{cast.device.public_id}")


def test_the_page_of_a_device_tells_what_it_is(cast: Cast) -> None:
    devices.heartbeat(cast.device, {"capabilities": {"cpus": 8}, "platform": "linux"})
    page = text_of(cast.browser("mia"), f"/devices/{DEVICE}")
    for words in (
        DEVICE,
        "linux",
        "Processors 8",
        "Nothing yet",
        "not used yet",
        "does not end",
        cast.device.public_key,
    ):
        assert words in page
    assert cast.browser("rex").get(f"/devices/{cast.device.public_id}").status_code == 404


def test_who_may_not_change_a_device_sees_who_may(cast: Cast) -> None:
    viewer = Client()
    viewer.force_login(cast.colleague(cast.metro, Role.VIEWER), backend="django.contrib.auth.backends.ModelBackend")
    page = text_of(viewer, f"/devices/{cast.device.public_id}")
    assert "An owner, an admin or a device operator of metro may do this." in page
    assert "Quarantine" not in page
    assert "Register a device" not in text_of(viewer, "/devices")


@pytest.mark.parametrize(
    ("act", "consequence", "state"),
    [
        ("quarantine", "no more work until you restore it", "quarantined"),
        ("retire", "cannot be undone", "retired"),
        ("revoke", "locked out within a second", "revoked"),
        ("reset", "becomes this device", "active"),
        ("renew", "registers again by itself", "active"),
    ],
)
def test_each_act_says_what_will_happen_and_then_what_has(cast: Cast, act: str, consequence: str, state: str) -> None:
    browser, where = cast.browser("mia"), f"/devices/{cast.device.public_id}"
    assert f'href="{where}/{act}"' in browser.get(where).content.decode()
    assert consequence in text_of(browser, f"{where}/{act}")
    answer = browser.post(f"{where}/{act}", follow=True)
    assert DEVICE in " ".join(str(message) for message in answer.context["messages"])
    assert Device.objects.get(pk=cast.device.pk).state == state
    again = browser.get(where).content.decode()
    assert (f'href="{where}/revoke"' in again) == (state in ("active", "quarantined"))


def test_a_device_whose_enrolment_key_has_ended_is_said_to_need_a_line(cast: Cast) -> None:
    ApiKey.objects.filter(pk=cast.device.enrolled_with_id).update(revoked_at=clock.now())
    assert "make a line to paste" in text_of(cast.browser("mia"), f"/devices/{cast.device.public_id}/renew")


def test_several_devices_are_put_into_a_group_at_once(cast: Cast) -> None:
    ids = [register(cast.keys["olga"], f"ward-{number}")["id"] for number in range(3)]
    browser, before = cast.browser("olga"), AuditEntry.objects.count()
    answer = browser.post("/devices/groups", {"device": ids[:2], "group": "production", "act": "add"}, follow=True)
    assert "2 devices are in production." in answer.content.decode()
    assert AuditEntry.objects.count() == before + 1
    group = DeviceGroup.objects.get(name="production")
    assert {device.public_id for device in group.devices.all()} == set(ids[:2])
    browser.post("/devices/groups", {"device": ids[0], "group": "production", "act": "take"})
    assert [device.public_id for device in group.devices.all()] == ids[1:2]
    browser.post("/devices/groups", {"device": cast.device.public_id, "group": "production", "act": "add"})
    assert not cast.device.groups.exists()  # another organization's


def test_a_group_is_renamed_and_removed_after_a_question(cast: Cast) -> None:
    devices.set_groups(cast.actor("mia"), cast.device, ["pilot", "old"])
    browser = cast.browser("mia")
    browser.post("/devices/groups/names", {"group": "pilot", "name": "production"})
    assert "production" in text_of(browser, "/devices/groups/names")
    browser.post("/devices/groups/names", {"group": "production", "name": "old"})  # taken
    assert {group.name for group in cast.device.groups.all()} == {"production", "old"}
    assert "1 device is in it and will not be" in text_of(browser, "/devices/groups/remove?group=old")
    browser.post("/devices/groups/remove?group=old")
    assert [group.name for group in cast.device.groups.all()] == ["production"]


def test_the_line_registers_one_device_for_a_week(cast: Cast) -> None:
    browser = cast.browser("olga")
    answer = browser.post("/devices/new", WISH)
    line = line_of(answer)
    assert "\n" not in line
    steps = line.split(" && ")
    assert steps[0] == "python3 -m venv fedportal"
    assert re.fullmatch(r"fedportal/bin/pip install --quiet http\S+/sdk/fedportal_sdk-\S+-py3-none-any\.whl", steps[1])
    url, key, *words = shlex.split(steps[2])
    assert url.startswith("FEDPORTAL_URL=http")
    assert words == [
        *("fedportal/bin/fedportal", "device", "run", "--data", "rows of today.csv", "--target", "sick"),
        *("--identifier", "scanner-7", "--forever"),
    ]
    made = keys.find_api_key(key.partition("=")[2])
    assert (made.scopes, made.device_limit, made.person) == (["devices:enroll"], 1, cast.olga)
    assert made.expires_at is not None
    assert made.expires_at - clock.now() == pytest.approx(timedelta(days=7), abs=timedelta(minutes=1))
    where = f"/devices/new/{made.public_id}"
    assert "Waiting for the device" in text_of(browser, where)
    assert key not in browser.get(where).content.decode()
    register(key.partition("=")[2], "scanner-7")
    assert "scanner-7 has registered" in text_of(browser, where)
    assert "data-waiting" not in browser.get(where).content.decode()
    assert browser.get("/devices/new").content.decode().count("edg_") == 0  # shown once


def test_a_line_for_many_is_done_when_the_last_has_come_though_fewer_are_shown(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_ARRIVALS", 1)
    browser = cast.browser("olga")
    line = line_of(browser.post("/devices/new", {**WISH, "identifier": "", "device_limit": "2"}))
    found = re.search(r"edg_\S+", line)
    assert found
    where = f"/devices/new/{keys.find_api_key(found[0]).public_id}"
    register(found[0], "scanner-1")
    assert "data-waiting" in browser.get(where).content.decode()
    register(found[0], "scanner-2")
    assert "data-waiting" not in browser.get(where).content.decode()


@pytest.mark.parametrize("nasty", ["a'; rm -rf ~ #.csv", "$(reboot).csv", "`id`.csv", 'a"b.csv', "a\\.csv"])
def test_what_was_typed_is_one_word_for_the_shell(cast: Cast, nasty: str) -> None:
    line = line_of(cast.browser("olga").post("/devices/new", {**WISH, "data": nasty, "target": nasty}))
    words = shlex.split(line.split(" && ", 2)[2])
    assert words[words.index("--data") + 1] == nasty
    assert words[words.index("--target") + 1] == nasty


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", ""),
        ("data", "--help"),
        ("data", "a\nb"),
        ("target", ""),
        ("days", "0"),
        ("days", "400"),
        ("days", "soon"),
        ("device_limit", "0"),
        ("device_limit", "3"),  # of one name
        ("least_records", "few"),
    ],
)
def test_a_wish_that_cannot_be_is_said_beside_its_field_and_makes_no_key(cast: Cast, field: str, value: str) -> None:
    before = ApiKey.objects.count()
    answer = cast.browser("olga").post("/devices/new", {**WISH, field: value})
    assert answer.status_code == 400
    assert 'class="error"' in answer.content.decode()
    assert ApiKey.objects.count() == before


def test_a_line_for_many_names_no_device(cast: Cast) -> None:
    wish = {**WISH, "identifier": "", "device_limit": "20", "group": "production", "least_records": "50"}
    words = shlex.split(line_of(cast.browser("olga").post("/devices/new", wish)).split(" && ", 2)[2])
    assert "--identifier" not in words
    assert words[words.index("--group") + 1] == "production"
    assert words[words.index("--least-records") + 1] == "50"


def test_who_may_not_register_devices_is_told_who_may(cast: Cast) -> None:
    page = text_of(cast.browser("otto"), "/devices/new", 403)
    assert "data scientist" in page


def test_the_proposed_name_comes_from_the_organization(cast: Cast) -> None:
    cast.acme.name = "Clínica São João, Nord"
    cast.acme.save()
    page = cast.browser("olga").get("/devices/new").content.decode()
    assert 'value="clinica-sao-joao-nord-001"' in page


def test_a_reason_is_told_in_words_and_the_machine_with_units(cast: Cast) -> None:
    device = cast.metro.devices.get()
    device.capabilities = {"memory_mb": 24105, "cpus": 4, "gpus": 0, "python": "3.12.1", "made_by": "us"}
    device.save()
    text = text_of(cast.browser("mia"), f"/devices/{device.public_id}")
    for words in ("Memory 23.5 GiB", "Processors 4", "Graphics processors none", "Python 3.12.1", "Made by us"):
        assert words in text
    assert "memory_mb" not in text


def test_the_line_comes_with_what_lets_it_start_with_the_machine(cast: Cast) -> None:
    said = {"data": "50%.csv", "target": "y", "least_records": "5", "days": "7", "device_limit": "1"}
    page = html.unescape(cast.browser("mia").post("/devices/new", said).content.decode())
    assert "ExecStart=/srv/patients/fedportal/bin/fedportal device run --data 50%%.csv" in page
    assert "--least-records 5 --forever\nRestart=on-failure" in page
    assert "FEDPORTAL_API_KEY" not in page.partition("[Unit]")[2].partition("[Install]")[0]
