"""Leakage audits on the portal: what may be taken away, by whom, and what is kept of a report."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from federations.models import AuditEntry, Role
from federations.permissions import Actor
from fedportal.common import blobs
from fedportal.common.api import checked
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, decode_update
from tests.training.conftest import ARCHITECTURE, Stage, weights_of
from tests.training.summing import expected, play, secure, sitters
from training.api.audits import ReportShape
from training.models import LeakageAudit, Run
from training.privacy.protection import Protection
from training.services import audits

GUARD = {"sums": "plain", "mechanism": "none", "clip": 10.0, "noise": 0.0, "devices": 1, "codec": "none"}
INVERTED = {
    "case": "open",
    "guard": GUARD,
    "rows": 9,
    "attacks": {"ratios": 120.0, "search": 60.0},
    "floor": 14.0,
    "closest": 120.0,
    "share": 1.0,
    "told": None,
}
TOLD = {
    "case": "open",
    "attack": "loss",
    "members": 40,
    "others": 40,
    "auc": 0.7,
    "auc_interval": [0.6, 0.8],
    "found": 0.1,
    "found_interval": [0.0, 0.2],
    "curve": [[0.0, 0.0], [0.5, 0.7], [1.0, 1.0]],
}
REPORT: dict[str, Any] = {
    "rows": {"source": "digits", "count": 9},
    "round": 1,
    "sdk": "0.1.0",
    "inversion": [INVERTED],
    "membership": [TOLD],
    "pictures": {"side": 2, "truth": [[0, 16, 3, 4]], "guesses": {"open": [[0, 15, 3, 4]]}},
    "stored": None,
}
OWN = {**REPORT, "rows": {"source": "own", "count": 9}, "pictures": None}


def trained(stage: Stage) -> Run:
    """A run of which one round is done, by two devices of acme and one of metro."""
    sites = stage.three()
    run = stage.start(rounds=1)
    for site in sites:
        site.answer()
    return run


def test_a_member_whose_devices_were_not_asked_is_given_nothing(stage: Stage) -> None:
    run = trained(stage)
    stage.valley_joins()
    vera = stage.cast.actor("vera")
    assert audits.held(vera, run)["rounds"] == []
    with pytest.raises(FedportalError) as refused:
        audits.file_of(vera, run, audits.held(stage.olga, run)["rounds"][0]["result"])
    assert refused.value.code == "not_found"
    entry = AuditEntry.objects.filter(action="run.leakage_taken", organization=stage.cast.valley).latest("sequence")
    assert entry.subject == run.public_id


def test_an_organization_is_told_of_its_own_updates_and_of_the_models(stage: Stage) -> None:
    run = trained(stage)
    acme, metro = audits.held(stage.olga, run), audits.held(stage.cast.actor("mia"), run)
    assert [one["device"]["identifier"] for one in acme["rounds"][0]["updates"]] == ["acme-1", "acme-2"]
    (update,) = metro["rounds"][0]["updates"]
    assert (update["device"]["identifier"], update["samples"]) == ("metro-1", 30)
    stored = blobs.path(audits.file_of(stage.cast.actor("mia"), run, update["blob"])).read_bytes()
    assert len(decode_update(stored, Manifest.from_json(run.base_version.manifest))) == 4
    for name in ("base", "result"):
        assert audits.file_of(stage.cast.actor("mia"), run, metro["rounds"][0][name])


@pytest.mark.parametrize("what", ["another organization's update", "another blob", "nothing"])
def test_what_is_not_listed_is_not_given(stage: Stage, what: str) -> None:
    run = trained(stage)
    theirs = audits.held(stage.olga, run)["rounds"][0]["updates"][0]["blob"]
    digest = {"another organization's update": theirs, "another blob": blobs.put(b"other"), "nothing": ""}[what]
    with pytest.raises(FedportalError) as refused:
        audits.file_of(stage.cast.actor("mia"), run, digest)
    assert refused.value.code == "not_found"


@pytest.mark.parametrize("role", list(Role))
def test_owner_and_privacy_officer_audit(stage: Stage, role: Role) -> None:
    run = trained(stage)
    person = (
        stage.cast.metro.memberships.get().person
        if role == Role.OWNER
        else stage.cast.colleague(stage.cast.metro, role)
    )
    actor = Actor(person, stage.cast.metro)
    if role in (Role.OWNER, Role.PRIVACY_OFFICER):
        assert audits.report(actor, run, REPORT).by == person
        return
    for act in (lambda: audits.held(actor, run), lambda: audits.report(actor, run, REPORT)):
        with pytest.raises(FedportalError) as refused:
            act()
        assert refused.value.code == "forbidden"
    assert not LeakageAudit.objects.exists()


def test_what_own_rows_came_to_is_for_the_own_organization(stage: Stage) -> None:
    run = trained(stage)
    mia = stage.cast.actor("mia")
    public, own = audits.report(mia, run, REPORT), audits.report(mia, run, OWN)
    assert list(audits.of_run(mia, run)) == [own, public]
    assert list(audits.of_run(stage.olga, run)) == [public]
    entry = AuditEntry.objects.filter(action="run.leakage_audited").latest("sequence")
    assert (entry.organization, entry.subject, entry.details) == (stage.cast.metro, run.public_id, {"own": True})


def test_only_the_newest_audits_of_an_organization_are_kept(stage: Stage) -> None:
    run = trained(stage)
    made = [audits.report(stage.olga, run, REPORT).pk for _ in range(audits.MOST_KEPT + 2)]
    audits.report(stage.cast.actor("mia"), run, REPORT)
    kept = LeakageAudit.objects.filter(organization=stage.cast.acme).values_list("pk", flat=True)
    assert sorted(kept) == made[2:]


def test_of_secure_sums_there_are_only_steps_of_the_whole_model(stage: Stage) -> None:
    stage.valley_joins()
    devices = sitters(stage, ARCHITECTURE.manifest().parameters)
    run = secure(stage, rounds=1)
    play(devices)
    found = audits.held(stage.cast.actor("mia"), run)
    assert (found["privacy"]["sums"], found["privacy"]["least_devices"]) == ("secure", 10)
    (only,) = found["rounds"]
    assert only["updates"] == []
    moved = weights_of(audits.file_of(stage.olga, run, only["result"])) - weights_of(only["base"])
    np.testing.assert_allclose(moved, expected(devices), atol=1e-5)


def test_whatever_the_portal_holds_after_a_secure_sum_is_no_update(stage: Stage) -> None:
    """No file in its folder holds a device's update, nor what the device sent."""
    stage.valley_joins()
    devices = sitters(stage, ARCHITECTURE.manifest().parameters)
    run = secure(stage, rounds=1)
    play(devices)
    run.refresh_from_db()
    assert run.state == "completed"
    files = [path.read_bytes() for path in blobs.path("0" * 64).parent.parent.rglob("*") if path.is_file()]
    assert len(files) >= 2, "the model that was trained and the one that came of it"
    for device in devices:
        assert not [one for one in (device.update.tobytes(), device.vector) for content in files if one in content]


@pytest.mark.parametrize(("mechanism", "told"), [("local", ("local", 0.5)), ("records", ("none", 0.0))])
def test_noise_that_nobody_adds_is_not_credited(stage: Stage, mechanism: str, told: tuple[str, float]) -> None:
    """Without a rate no device adds noise for records."""
    run = trained(stage)
    run.config["privacy"] = Protection(mechanism=mechanism, noise=0.5).as_json()
    found = audits.held(stage.olga, run)["privacy"]
    assert (found["mechanism"], found["noise"]) == told


def test_sums_in_which_no_update_was_hidden_are_not_credited(stage: Stage) -> None:
    run = trained(stage)
    run.config["privacy"] = Protection(sums="secure").as_json()
    assert audits.held(stage.olga, run)["privacy"]["sums"] == "plain"


def test_a_model_that_nobody_has_described_is_not_audited(stage: Stage) -> None:
    run = trained(stage)
    run.base_version.architecture = None
    with pytest.raises(FedportalError, match="not described") as refused:
        audits.held(stage.olga, run)
    assert refused.value.code == "audit_unavailable"


def test_a_report_is_taken_as_it_is_made() -> None:
    assert checked(ReportShape, REPORT) == REPORT
    assert checked(ReportShape, {name: value for name, value in OWN.items() if value is not None})["stored"] is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows", "source"), "patients"),
        (("rows", "source"), "own"),  # with pictures
        (("inversion", 0, "case"), "<b>open</b>"),
        (("inversion", 0, "attacks"), {}),
        (("inversion", 0, "attacks"), {"spell": 3.0}),
        (("inversion", 0, "floor"), float("nan")),
        (("inversion", 0, "share"), 1.5),
        (("inversion", 0, "guard", "sums"), "none"),
        (("membership", 0, "auc_interval"), [0.5]),
        (("membership", 0, "curve"), [[0.0, 0.0]] * 61),
        (("pictures", "side"), 33),
        (("pictures", "truth"), [[0, 16, 3]]),
        (("pictures", "truth"), [[0, 16, 3, 17]]),
        (("pictures", "guesses"), {"<script>": [[0, 15, 3, 4]]}),
        (("round",), 0),
    ],
)
def test_a_report_that_says_anything_else_is_refused(path: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(REPORT)
    place: Any = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(FedportalError) as refused:
        checked(ReportShape, changed)
    assert refused.value.code == "field_invalid"
