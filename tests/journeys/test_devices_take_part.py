"""Devices take part: the real SDK against the real portal, through restarts and cuts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FederatedClient, FedportalError, Participation
from fedwire import routes
from tests.journeys.network import Wire
from tests.journeys.story import MODEL, Device, Story, devices, patients
from tests.running import Portal

WIDE: dict[str, Any] = {"kind": "mlp", "inputs": 6, "hidden": [1000, 400], "classes": 2, "standardise": True}


@pytest.fixture
def story() -> Iterator[Story]:
    """A portal of its own with three organizations, their federation and a shared model."""
    with Portal() as portal:
        yield Story(portal)


@pytest.fixture
def large_story() -> Iterator[Story]:
    """The same with a model of 1.6 MB, so that transfers take more than one piece."""
    with Portal() as portal:
        yield Story(portal, WIDE)


def test_three_hospitals_train_and_a_new_version_appears(story: Story, tmp_path: Path) -> None:
    with devices(story, tmp_path) as taking_part:
        run = story.start(rounds=5)
        ended = story.completed(run)
        results = [device.join() for device in taking_part]
    assert [(r.rounds, r.runs, r.state, r.result_version) for r in results] == [(5, [run], "completed", "2.0.0")] * 3
    assert ended["run"]["result_version"] == "2.0.0"
    assert story.versions()[0]["version"] == "2.0.0"
    assert [c["updates"] for c in ended["contributions"]] == [5, 5, 5]
    first, last = ended["curves"][0], ended["curves"][-1]
    assert last["loss"] < first["loss"]
    assert last["accuracy"] > 0.75
    assert sum(r.samples for r in results) == sum(c["samples"] for c in ended["contributions"]) / 5


def test_a_device_that_comes_late_joins_the_next_round(story: Story, tmp_path: Path) -> None:
    run = story.start(rounds=3, devices=3)
    with devices(story, tmp_path) as taking_part:
        story.completed(run)
        assert {device.join().state for device in taking_part} == {"completed"}


def test_a_cut_network_is_waited_out(story: Story, tmp_path: Path) -> None:
    with Wire(story.portal.port) as wire, devices(story, tmp_path, url=wire.url) as taking_part:
        run = story.start(rounds=8)
        for after in (2, 4, 6):
            story.wait_for(run, lambda s, after=after: s["run"]["current_round"] >= after)
            wire.cut()
            time.sleep(0.3)
            wire.mend()
        ended = story.completed(run)
        results = [device.join() for device in taking_part]
    assert wire.cuts == 3
    assert [r.rounds for r in results] == [8, 8, 8]
    assert [c["updates"] for c in ended["contributions"]] == [8, 8, 8]


def test_an_upload_that_is_cut_continues_where_it_broke(large_story: Story, tmp_path: Path) -> None:
    story = large_story
    with Wire(story.portal.port) as wire, devices(story, tmp_path, url=wire.url) as taking_part:
        time.sleep(0.5)
        before = wire.bytes_up
        wire.cut_after(800_000)
        run = story.start(rounds=2, standardise=True, epochs=1)
        ended = story.completed(run)
        for device in taking_part:
            device.join()
    assert wire.cuts == 1
    assert [c["updates"] for c in ended["contributions"]] == [2, 2, 2]
    update = 4 * (6 * 1000 + 1000 + 1000 * 400 + 400 + 400 + 1)
    sent = wire.bytes_up - before
    assert sent < 6 * update + 400_000, "what the portal had already was sent again"


@pytest.mark.parametrize("moments", [1, 3])
def test_a_killed_portal_comes_back_and_the_run_goes_on(story: Story, tmp_path: Path, moments: int) -> None:
    with devices(story, tmp_path) as taking_part:
        run = story.start(rounds=8)
        for moment in range(moments):
            story.wait_for(run, lambda s, moment=moment: s["run"]["current_round"] >= 2 * (moment + 1))
            story.portal.kill()
            time.sleep(0.2)
            story.portal.restart()
        ended = story.completed(run)
        results = [device.join() for device in taking_part]
    assert [r.state for r in results] == ["completed"] * 3
    assert [c["updates"] for c in ended["contributions"]] == [8, 8, 8]


def test_a_device_that_is_started_again_finishes_its_task(story: Story, tmp_path: Path) -> None:
    """Its first life ends in the middle of training; the second gets the same task and gives the same answer."""
    csv_file = patients(tmp_path / "acme.csv", 0)
    in_training = threading.Event()

    def die(event: dict[str, Any]) -> None:
        if event["event"] == "training":
            in_training.set()
            client.stop()

    client = FederatedClient(story.keys["acme"], "hospital-001", story.portal.url, tmp_path / "home", on_event=die)
    run = story.start(rounds=2, devices=1)
    assert client.train(MODEL, csv_file, "diagnosis").rounds == 0
    assert in_training.is_set()
    again = FederatedClient(story.keys["acme"], "hospital-001", story.portal.url, tmp_path / "home")
    assert again.train(MODEL, csv_file, "diagnosis").rounds == 2
    assert story.completed(run)["run"]["current_round"] == 2


def test_functions_of_ones_own_take_part(story: Story, tmp_path: Path) -> None:
    def local_train(state: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int, dict[str, float]]:
        state["layers.0.bias"] += 1
        return state, 10, {"loss": 0.1}

    def evaluate(state: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        score = np.full(4, 1 / (1 + np.exp(-state["layers.0.bias"][0])))
        return score, np.array([1, 1, 1, 0]), -np.log(score)

    def act(client: FederatedClient) -> Participation:
        return client.train_from_remote(MODEL, local_train, rounds=None, evaluate_fn=evaluate)

    with devices(story, tmp_path, act) as taking_part:
        run = story.start(rounds=3, standardise=False)
        ended = story.completed(run)
        assert [device.join().rounds for device in taking_part] == [3, 3, 3]
    assert [point["accuracy"] for point in ended["curves"]] == [0.75] * 4
    assert ended["curves"][-1]["loss"] == pytest.approx(-np.log(1 / (1 + np.exp(-3))), rel=1e-5)


def test_a_revoked_device_is_told_within_a_second_and_the_others_go_on(story: Story, tmp_path: Path) -> None:
    with devices(story, tmp_path) as taking_part:
        first = taking_part[0]
        time.sleep(0.5)
        revoked = time.monotonic()
        story.call("acme", "POST", routes.DEVICE.format(device=first.client.device_id) + "/revoke", {})
        with pytest.raises(FedportalError) as caught:
            first.join(20)
        assert caught.value.code in ("key_revoked", "device_inactive")
        assert time.monotonic() - revoked < 20  # and not when its wait of 25 s is over
        run = story.start(rounds=2, devices=2)
        story.completed(run)
        assert [device.join().rounds for device in taking_part[1:]] == [2, 2]


def test_another_machine_cannot_take_over_an_identifier(story: Story, tmp_path: Path) -> None:
    FederatedClient(story.keys["metro"], "hospital-001", story.portal.url, tmp_path / "one").register()
    thief = FederatedClient(story.keys["metro"], "hospital-001", story.portal.url, tmp_path / "two")
    with pytest.raises(FedportalError) as caught:
        thief.register()
    assert caught.value.code == "device_taken"
    assert caught.value.next_step


def test_registering_again_and_rotating_keep_the_device(story: Story, tmp_path: Path) -> None:
    client = FederatedClient(story.keys["metro"], "hospital-001", story.portal.url, tmp_path)
    first = client.register(groups=["production"])
    old = FederatedClient(story.keys["metro"], "hospital-001", story.portal.url, tmp_path)
    second = client.register()
    assert (first.id, first.device_key != second.device_key) == (second.id, True)
    old.heartbeat()  # the fresh key was not used yet
    client.heartbeat()
    with pytest.raises(FedportalError) as caught:
        old.heartbeat()
    assert caught.value.code == "key_revoked"
    third = client.rotate()
    assert third.id == first.id
    client.heartbeat()


@pytest.mark.parametrize("key", ["edg_wrong000_" + "x" * 43 + "_000000", "edg_short"])
def test_a_wrong_enrolment_key_is_refused_with_a_next_step(story: Story, tmp_path: Path, key: str) -> None:
    with pytest.raises(FedportalError) as caught:
        FederatedClient(key, "hospital-001", story.portal.url, tmp_path).register()
    assert caught.value.code == "key_invalid"
    assert caught.value.next_step


def test_data_for_another_model_leave_the_round_to_the_others(story: Story, tmp_path: Path) -> None:
    run = story.start(rounds=2, devices=3)
    narrow = tmp_path / "narrow.csv"
    narrow.write_text("a,diagnosis\n1,M\n2,B\n")
    odd = FederatedClient(story.keys["acme"], "hospital-009", story.portal.url, tmp_path / "odd")
    with pytest.raises(FedportalError) as caught:
        odd.train(MODEL, narrow, "diagnosis")
    assert caught.value.code == "data_shape"
    odd.close()
    with devices(story, tmp_path) as taking_part:
        story.completed(run)
        assert {device.join().state for device in taking_part} == {"completed"}


def test_devices_look_at_themselves_first_and_who_fails_is_left_out(story: Story, tmp_path: Path) -> None:
    narrow = tmp_path / "narrow.csv"
    narrow.write_text("a,diagnosis\n" + "1,M\n2,B\n" * 10)
    odd = FederatedClient(story.keys["acme"], "hospital-009", story.portal.url, tmp_path / "odd")
    odd.register()
    alone = Device(odd, lambda client: client.train(MODEL, narrow, "diagnosis", forever=True))
    with devices(story, tmp_path) as taking_part:
        wish = {"model_id": MODEL, "rounds": 1}
        while (
            sum(row["present"] for row in story.call("acme", "POST", routes.SESSION_PREVIEW, wish)["organizations"]) < 4
        ):
            time.sleep(0.05)
        ended = story.completed(story.start(rounds=2, devices=3, preflight="leave_out"))
        assert alone.error is None
        assert {device.join().state for device in taking_part} == {"completed"}
    odd.close()
    by_name = {row["device"]["identifier"]: row for row in ended["preflight"]}
    assert {name: row["verdict"] for name, row in by_name.items()} == {
        **dict.fromkeys(("hospital-001", "hospital-002", "hospital-003"), "passed"),
        "hospital-009": "failed",
    }
    assert [one["code"] for one in by_name["hospital-009"]["findings"]] == ["data_shape"]
    assert abs(by_name["hospital-001"]["clock_seconds"]) < 60
    assert by_name["hospital-001"]["memory_mb"] > 0
    assert [one["devices"] for one in ended["contributions"]] == [1, 1, 1]
