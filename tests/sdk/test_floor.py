"""The floor under the number of rows, and keys that end: what a device declines, and when it changes its key."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk import FederatedClient, FedportalError
from fedportal_sdk._config import Home
from fedwire import routes
from tests.sdk.server import Reply, Seen, found, refusal
from tests.sdk.test_client import ARCHITECTURE, Portal, Start, csv_file, start, task

__all__ = ["csv_file", "start"]  # fixtures
TRAINED_ON = 35  # of forty rows
NOW, MONTH = "2026-01-01T00:00:00+00:00", "2026-01-31T00:00:00+00:00"


def asking(least: int, kind: str = "train") -> dict[str, Any]:
    asked = task(kind)
    return {**asked, "answer": {**asked["answer"], "least_records": least}}


@pytest.mark.parametrize("kind", ["statistics", "train", "evaluate"])
def test_a_device_with_fewer_rows_than_the_policy_asks_for_declines(
    kind: str, start: Start, csv_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    portal = Portal(asking(TRAINED_ON + 1, kind))
    start(portal).train("radiology-v1", csv_file, "diagnosis")
    assert portal.declined == ["this device trains on fewer rows than its organization's policy asks for"]
    assert (portal.answers, portal.updates) == ([], [])
    assert f"trains on {TRAINED_ON} rows; the floor is {TRAINED_ON + 1}" in caplog.text  # here, and not over there


@pytest.mark.parametrize("kind", ["statistics", "train", "evaluate"])
def test_a_device_with_just_enough_rows_takes_part(kind: str, start: Start, csv_file: Path) -> None:
    portal = Portal(asking(TRAINED_ON, kind))
    start(portal, least_records=TRAINED_ON).train("radiology-v1", csv_file, "diagnosis")
    assert (portal.declined, len(portal.answers)) == ([], 1)


def test_the_portal_does_not_lower_the_devices_own_floor(start: Start, csv_file: Path) -> None:
    portal = Portal(asking(0), task(round_number=2))
    start(portal, least_records=TRAINED_ON + 1).train("radiology-v1", csv_file, "diagnosis")
    assert portal.declined == ["this device trains on fewer rows than its own floor"] * 2
    assert portal.updates == []


def test_a_function_of_ones_own_is_held_to_the_floor_by_what_it_says(start: Start) -> None:
    portal = Portal(asking(10), asking(10, "evaluate"))
    few = ARCHITECTURE.initial()
    start(portal).train_from_remote("radiology-v1", lambda state: (few, 9, None), rounds=None)
    assert portal.declined == ["this device trains on fewer rows than its organization's policy asks for"] * 2
    assert portal.updates == []


def test_a_refusal_by_the_portal_is_a_refusal_here(start: Start, csv_file: Path) -> None:
    portal = Portal(task())
    portal.instead["answer"] = [refusal("records_too_few", least=50)]
    with pytest.raises(FedportalError, match="at least 50 rows"):
        start(portal).train("radiology-v1", csv_file, "diagnosis")
    assert portal.declined == ["records_too_few"]


def test_the_own_floor_comes_from_the_argument_the_environment_or_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDPORTAL_LEAST_RECORDS", raising=False)
    home = Home(tmp_path)
    assert home.least_records() == 0
    home.save_settings(least_records="20")
    assert home.least_records() == 20
    monkeypatch.setenv("FEDPORTAL_LEAST_RECORDS", "30")
    assert home.least_records() == 30
    assert home.least_records(0) == 0
    monkeypatch.setenv("FEDPORTAL_LEAST_RECORDS", "many")
    with pytest.raises(FedportalError, match="not a whole number"):
        home.least_records()


class Rotating(Portal):
    """Gives keys that end after thirty days, and fresh ones when it is asked."""

    def __init__(self, *tasks: dict[str, Any]) -> None:
        super().__init__(*tasks)
        self.rotations = 0

    def __call__(self, number: int, seen: Seen) -> Reply:
        answer = super().__call__(number, seen)
        if seen.path == routes.DEVICE_ROTATE:
            self.rotations += 1
            fresh = {"id": "dev_1", "device_key": f"edg_fresh{self.rotations}"}
            return found({**fresh, "key_expires_at": MONTH, "server_time": NOW})
        if seen.path == routes.DEVICE_REGISTER and answer.status == 201:
            return found({**json.loads(answer.body), "key_expires_at": MONTH, "server_time": NOW}, 201)
        return answer


def test_a_key_that_ends_is_changed_well_before(
    start: Start, csv_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    portal = Rotating()
    client = start(portal)
    record = client.register()
    assert float(record.rotate_at) - time.time() == pytest.approx(20 * 86400, abs=60)
    client.close()
    portal.tasks = [task()]
    again = FederatedClient(None, "hospital-001", client.url, tmp_path / "home")  # after a restart, without its key
    again.train("radiology-v1", csv_file, "diagnosis")
    assert portal.rotations == 0
    later = time.time() + 21 * 86400
    monkeypatch.setattr("fedportal_sdk.client.time.time", lambda: later)
    portal.tasks = [task(round_number=2)]
    third = FederatedClient(None, "hospital-001", client.url, tmp_path / "home")
    third.train("radiology-v1", csv_file, "diagnosis")
    assert portal.rotations == 1
    assert portal.tokens[-1] == "Bearer edg_fresh1"
    kept = Home(tmp_path / "home").device(client.url, "hospital-001").record("")
    assert kept is not None
    assert kept.device_key == "edg_fresh1"


def test_a_rotation_that_fails_does_not_stop_the_work(
    start: Start, csv_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = Rotating(task(), task(round_number=2))
    portal.instead["rotate"] = [refusal("forbidden", action="rotate", who="")] * 5
    client = start(portal)
    client.register()
    later = time.time() + 21 * 86400
    monkeypatch.setattr("fedportal_sdk.client.time.time", lambda: later)
    client.train("radiology-v1", csv_file, "diagnosis")
    assert (len(portal.answers), len(portal.instead["rotate"])) == (2, 4)  # tried once, and not at every task


def test_a_record_of_an_older_sdk_is_still_good(tmp_path: Path) -> None:
    folder = Home(tmp_path).device("https://portal.example", "hospital-001")
    folder.private_key()
    old = {"id": "dev_1", "device_identifier": "hospital-001", "org_id": "org_1", "device_key": "k", "key_id": "edg_a"}
    (folder.folder / "edg_a.json").write_text(json.dumps(old))
    record = folder.record("edg_a")
    assert record is not None
    assert (record.device_key, record.rotate_at) == ("k", "")
