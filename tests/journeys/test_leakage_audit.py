"""A run at a real portal, audited by a member: with public rows, and with rows of its own that do not leave it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedportal_sdk import auditing, data
from fedportal_sdk.auditing import Auditor, OwnRows
from fedwire import routes
from fedwire.errors import FedportalError
from tests.journeys.hospitals import Federation, federation_of
from tests.journeys.story import MEMBERS
from tests.journeys.terminal import Terminal

MLP = {"kind": "mlp", "inputs": 4, "hidden": [16], "classes": 2, "standardise": True}
IMAGES = 20
WIDE = {"kind": "mlp", "inputs": 4, "hidden": [16], "classes": 2}
POLICY = "least_devices = 3\nleast_organizations = 3\nleast_difference = 3\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, str]]:
    """Three hospitals that have trained three rounds."""
    with federation_of(MLP, tmp_path_factory.mktemp("hospitals")) as hospitals:
        number = hospitals.start("audited", "fedavg", epochs=5)
        hospitals.story.completed(number)
        yield hospitals, number


def auditor(hospitals: Federation, who: str) -> Auditor:
    return Auditor(hospitals.story.portal.url, hospitals.story.keys[who], home=hospitals.folder / f"{who}-auditor")


def test_public_rows_come_back_from_a_run_without_protection(run):
    hospitals, number = run
    found = auditing.audit(auditor(hospitals, "metro"), number, images=IMAGES)
    cases = {one["case"]: one for one in found["inversion"]}
    assert max(cases["open"]["attacks"].values()) >= 60
    assert {"open", "masked", "sum", "noise"} == cases.keys()
    assert max(cases["masked"]["attacks"].values()) <= cases["masked"]["floor"] + 0.5
    assert found["rows"] == {"source": "made", "count": IMAGES}
    assert (found["pictures"], found["stored"]) == (None, None)


def test_a_member_attacks_what_is_stored_of_its_own_devices_and_nothing_else(run):
    hospitals, number = run
    metro = auditor(hospitals, "metro")
    held = metro.held(number)
    assert [one["number"] for one in held["rounds"]] == [1, 2, 3]
    assert {update["device"]["identifier"] for one in held["rounds"] for update in one["updates"]} == {"hospital-002"}
    others = auditor(hospitals, "acme").held(number)["rounds"][0]["updates"][0]["blob"]
    with pytest.raises(FedportalError, match="no such file"):
        metro.fetch_held(number, others, hospitals.folder / "others")


def test_own_rows_are_judged_against_the_stored_updates_and_only_figures_are_reported(run):
    hospitals, number = run
    metro = auditor(hospitals, "metro")
    own = OwnRows(data.load(hospitals.files[1], "diagnosis"))
    found = auditing.audit(metro, number, own, IMAGES)
    assert found["rows"] == {"source": "own", "count": IMAGES}
    assert found["stored"]["updates"] == 3
    assert found["stored"]["nearest"] > 0
    assert {one["attack"] for one in found["membership"]} == {"loss", "gain", "update"}
    sent = metro.report_leakage(number, found)
    assert sent["own"] is True
    assert metro.leakage(number)[0]["report"]["stored"] == found["stored"]
    assert auditor(hospitals, "acme").leakage(number) == [], "what metro's own rows came to is metro's"


def test_by_the_command_line_and_then_on_the_page(run, tmp_path):
    hospitals, number = run
    story = hospitals.story
    terminal = Terminal(tmp_path, FEDPORTAL_URL=story.portal.url, FEDPORTAL_API_KEY=story.keys["metro"])
    said = terminal.run("audit", "leakage", "audited", "--images", str(IMAGES))
    assert "without protection" in said
    assert f"Reported to {story.portal.url}/runs/{number}/leakage" in said
    kept = terminal.json("audit", "leakage", number, "--images", "5", "--keep")
    assert kept["rows"]["count"] == 5
    public = auditor(hospitals, "acme").leakage(number)
    assert [one["report"]["rows"]["count"] for one in public] == [IMAGES]


def test_of_a_noisy_run_the_stored_updates_have_noise_and_the_audit_credits_it(run):
    hospitals, _ = run
    privacy = {"mechanism": "local", "noise": 1.0, "clip": 1.0}
    number = hospitals.start("noisy", "fedavg", rounds=1, spec=WIDE, epochs=2, privacy=privacy, evaluate=False)
    hospitals.story.completed(number)
    metro = auditor(hospitals, "metro")
    assert metro.held(number)["privacy"]["mechanism"] == "local"
    own = OwnRows(data.load(hospitals.files[1], "diagnosis"))
    found = auditing.audit(metro, number, own)
    (noisy,) = [one for one in found["inversion"] if one["case"] == "run"]
    assert noisy["guard"]["mechanism"] == "local"
    assert max(noisy["attacks"].values()) <= noisy["floor"] + 0.5
    assert found["stored"]["updates"] == 1
    assert {one["attack"] for one in found["membership"]} == {"loss", "gain", "update"}


def test_what_cannot_be_audited_is_refused_with_the_reason(run, tmp_path):
    hospitals, _ = run
    story = hospitals.story
    terminal = Terminal(tmp_path, FEDPORTAL_URL=story.portal.url, FEDPORTAL_API_KEY=story.keys["metro"])
    waiting = story.start(devices=9, model=story.shared_model("waits", WIDE) and "waits", standardise=False)
    assert "no training round of it has been closed yet" in terminal.refused("audit", "leakage", waiting)
    assert "--rows" in terminal.refused("audit", "leakage", waiting, "--others", "more.csv")
    story.call("acme", "POST", routes.SESSION.format(run=waiting) + "/stop", {})


def test_rows_of_another_table_are_refused_before_anything_is_attacked(run, tmp_path):
    hospitals, number = run
    table = tmp_path / "other.csv"
    table.write_text("a,b,diagnosis\n1,2,B\n3,4,M\n5,6,B\n")
    with pytest.raises(FedportalError) as refused:
        auditing.audit(auditor(hospitals, "metro"), number, OwnRows(data.load(table, "diagnosis")), IMAGES)
    assert refused.value.code == "data_shape"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, str]]:
    """Three hospitals, whose policies ask for no more than three, have trained with secure sums."""
    folder = tmp_path_factory.mktemp("secure")
    for name in MEMBERS:
        (folder / name).mkdir()
        (folder / name / "policy.toml").write_text(POLICY)
    with federation_of(WIDE, folder) as hospitals:
        privacy = {"sums": "secure", "clip": 5.0, "least_devices": 3}
        number = hospitals.start("hidden", "fedavg", epochs=2, privacy=privacy, evaluate=False)
        hospitals.story.completed(number)
        yield hospitals, number


def test_of_a_secure_run_the_portal_has_no_update_and_the_audit_attacks_the_sum(secure):
    hospitals, number = secure
    metro = auditor(hospitals, "metro")
    held = metro.held(number)
    assert held["privacy"]["sums"] == "secure"
    assert [one["updates"] for one in held["rounds"]] == [[], [], []]
    own = OwnRows(data.load(hospitals.files[1], "diagnosis"))
    found = auditing.audit(metro, number, own, IMAGES)
    cases = {one["case"]: one for one in found["inversion"]}
    assert cases.keys() == {"open", "run", "masked", "noise"}
    assert max(cases["open"]["attacks"].values()) >= 60
    assert max(cases["masked"]["attacks"].values()) <= cases["masked"]["floor"] + 0.5
    assert cases["run"]["guard"] == {**cases["run"]["guard"], "sums": "secure", "devices": 3}
    assert found["stored"]["updates"] == 0
    assert found["stored"]["rounds"] == 3
    assert metro.report_leakage(number, found)["own"] is True
