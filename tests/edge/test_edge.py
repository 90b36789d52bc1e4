"""An edge with real devices behind it, against a scripted portal: what the portal gets to see, and what it does not."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FederatedClient, FedportalError
from fedportal_sdk.edge import Edge, Terms
from fedportal_sdk.edge.edge import is_running
from fedportal_sdk.edge.parts import seed_for
from fedwire import answers, codecs
from fedwire.tensors import decode_update
from tests.edge.conftest import Starter, Taking
from tests.sdk.server import Reply, Seen, refusal, serving
from tests.sdk.test_client import KEY, MANIFEST, Portal
from tests.sdk.test_client import task as device_task
from tests.sdk.test_http import certificate

__all__ = ["certificate"]  # a fixture


def task(kind: str = "train", number: int = 1, **changes: Any) -> dict[str, Any]:
    """A task with the time that a portal gives."""
    return device_task(kind, number, **{"deadline": "2026-01-01T00:02:00+00:00", "seconds_left": 120.0, **changes})


def rows(path: Path, number: int, count: int = 40) -> Path:
    """A hospital's rows."""
    draw = np.random.default_rng(number)
    features = draw.normal(size=(count, 2)) + number
    sick = features.sum(axis=1) > 2 * number
    lines = [f"{a:.4f},{b:.4f},{'M' if is_sick else 'B'}" for (a, b), is_sick in zip(features, sick, strict=True)]
    path.write_text("a,b,diagnosis\n" + "\n".join(lines) + "\n")
    return path


def test_the_portal_sees_one_device_and_the_mean_of_three(start: Starter, tmp_path: Path) -> None:
    """Statistics, a round of training and a last evaluation come out as if the three had taken part one by one."""
    tasks = (task("statistics", 0), task(), task("evaluate", 2))
    files = [rows(tmp_path / f"{number}.csv", number, 40 + 10 * number) for number in range(3)]
    portal = Portal(*tasks)
    edge = start(portal, Terms(least_devices=3))
    for number, path in enumerate(files):
        edge.device(f"hospital-{number}", path)
    edge.wait_for("answered", 3)

    with ThreadPoolExecutor() as pool:
        flat = list(pool.map(lambda number: by_itself(number, files[number], tmp_path, *tasks), range(3)))
    samples = [alone.answers[1]["samples"] for alone in flat]
    assert [answer["samples"] for answer in portal.answers] == [sum(samples)] * 3
    assert [answer["devices"] for answer in portal.answers] == [3, 3, 3]
    assert len(portal.registrations) == 1
    (update,) = portal.updates
    assert portal.answers[1]["sha256"] == hashlib.sha256(update).hexdigest()
    weighted = [
        n * decode_update(alone.updates[0], MANIFEST).astype("f8") for n, alone in zip(samples, flat, strict=True)
    ]
    np.testing.assert_allclose(decode_update(update, MANIFEST), sum(weighted) / sum(samples), rtol=1e-6, atol=1e-7)
    for index in (1, 2):
        reports = [alone.answers[index]["evaluation"] for alone in flat]
        merged = portal.answers[index]["evaluation"]
        assert merged["samples"] == sum(report["samples"] for report in reports)
        assert merged["correct"] == sum(report["correct"] for report in reports)
        assert merged["loss_sum"] == pytest.approx(sum(report["loss_sum"] for report in reports))


def by_itself(number: int, path: Path, folder: Path, *tasks: dict[str, Any]) -> Portal:
    """What a portal gets of this device when it takes part without an edge, with the seed it has behind one."""
    own = [json.loads(json.dumps(one)) for one in tasks]
    for one in own:
        one["training"]["seed"] = seed_for(one["training"]["seed"], f"hospital-{number}")
    portal = Portal(*own)
    with serving(portal) as server:
        client = FederatedClient(KEY, f"hospital-{number}", server.url, folder / f"flat-{number}")
        client.train(None, path, "diagnosis")
    return portal


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answer": {**device_task()["answer"], "individual": True}}, "needs_individual_updates"),
        ({"training": {"noise": {}, "requires": ["local_noise"]}}, "requires local_noise of each device"),
        ({"training": {"requires": ["scaffold"]}}, "requires scaffold of each device"),
        ({"training": {"requires": ["base_loss", "proximal"]}}, "requires base_loss of each device"),
        ({"training": {"requires": ["local"], "local": []}}, "requires local of each device"),
        ({"kind": "infer"}, "an edge, or a device with a function of its own, answers no plans"),
        ({"kind": "check"}, "does not check the devices behind it"),
    ],
)
def test_what_a_mean_cannot_do_is_declined_before_a_device_hears_of_it(
    start: Starter, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    portal = Portal({**task(), **changes}, task(number=2))
    edge = start(portal)
    edge.device("hospital-1", rows(tmp_path / "1.csv", 1))
    edge.wait_for("answered")
    assert len(portal.declined) == 1
    assert reason in portal.declined[0]
    assert [answer["devices"] for answer in portal.answers] == [1]


def test_fewer_devices_than_the_organization_asks_for_send_nothing(start: Starter, tmp_path: Path) -> None:
    """Two are there, one has too few rows: the portal hears that, and not how many rows."""
    shape = {**device_task()["answer"], "least_records": 30}
    portal = Portal(task(answer=shape), task(number=2))
    edge = start(portal, Terms(least_devices=2, grace=0.1))
    edge.device("hospital-1", rows(tmp_path / "1.csv", 1))
    assert edge.wait_for("alone")["least"] == 2
    assert portal.tokens.count("") == 0
    edge.device("hospital-2", rows(tmp_path / "2.csv", 2, 20))
    edge.wait_for("answered")
    assert portal.declined == ["fewer devices answered than this edge asks for"]
    assert [(answer["devices"], answer["samples"] > 35) for answer in portal.answers] == [(2, True)]


def test_an_edge_that_is_started_again_counts_what_it_acknowledged_once(start: Starter, tmp_path: Path) -> None:
    """One device has answered when the edge goes; it does not train again, and the other one waits for the edge."""
    portal = Portal(task())
    terms = Terms(least_devices=2)
    edge = start(portal, terms)
    other = edge.client("hospital-2")
    other.heartbeat()  # it is there, and does nothing yet
    told: list[str] = []
    path = rows(tmp_path / "1.csv", 1)
    one = edge.client("hospital-1", on_event=lambda event: told.append(event["event"]))
    threading.Thread(target=lambda: one.train(None, path, "diagnosis", forever=True), daemon=True).start()
    edge.wait_for("collecting", 2)
    edge.stop()
    assert portal.answers == []

    second = start(portal, terms, port=int(edge.url.rpartition(":")[2]))
    threading.Thread(
        target=lambda: other.train(None, rows(tmp_path / "2.csv", 2), "diagnosis", forever=True), daemon=True
    ).start()
    second.wait_for("answered")
    (answer,) = portal.answers
    assert answer["devices"] == 2
    assert told.count("answered") == 1
    assert told.count("training") == 1


def test_a_round_that_the_portal_gave_up_is_over_for_the_devices_too(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedportal_sdk.edge.loop.ASK_SECONDS", 0.1)
    portal = Portal(task())
    edge = start(portal, Terms(least_devices=2))
    edge.client("hospital-2").heartbeat()  # is there and never answers
    edge.device("hospital-1", rows(tmp_path / "1.csv", 1))
    edge.wait_for("collecting", 2)
    portal.tasks = [task(number=2)]
    assert edge.wait_for("closed")["round"] == 1
    assert edge.wait_for("collecting", 3)["round"] == 2
    assert (portal.answers, portal.declined) == ([], [])


def test_a_compressed_update_is_encoded_once_and_by_the_edge(start: Starter, tmp_path: Path) -> None:
    plan = {"epochs": 1, "learning_rate": 0.1, "batch_size": 8, "seed": 0}
    asked = {**plan, "codec": {"name": "float16"}, "requires": ["codec.float16"]}
    codec = codecs.of(asked["codec"], MANIFEST)  # type: ignore[arg-type]
    shape = {**device_task()["answer"], "update_bytes": codec.nbytes}
    portal, plain = Portal(task(training=asked, answer=shape)), Portal(task(training=plan))
    for number, one in enumerate((portal, plain)):
        edge = start(one) if number else start(one, Terms(least_devices=2))
        edge.device(f"hospital-{number}a", rows(tmp_path / "1.csv", 1))
        if not number:
            edge.device("hospital-0b", rows(tmp_path / "2.csv", 2))
        edge.wait_for("answered")
    sent = codec.decode(np.frombuffer(portal.updates[0], np.uint8))
    assert len(portal.updates[0]) == codec.nbytes
    assert np.isfinite(sent).all()
    assert (sent != 0).any()


def test_what_is_reported_for_fednova_is_what_the_portal_takes(start: Starter, tmp_path: Path) -> None:
    training = {"epochs": 2, "learning_rate": 0.1, "batch_size": 8, "seed": 0, "momentum": 0.5, "requires": ["steps"]}
    shape = {**device_task()["answer"], "reports": ["steps", "normaliser"]}
    portal = Portal(task(training=training, answer=shape))
    edge = start(portal, Terms(least_devices=2))
    for number, count in ((1, 20), (2, 90)):
        edge.device(f"hospital-{number}", rows(tmp_path / f"{number}.csv", number, count))
    edge.wait_for("answered")
    checked = answers.check(portal.answers[0], kind="train", limit=1000, needed=("steps", "normaliser"))
    answers.check_local_work(training, checked)
    with pytest.raises(FedportalError, match="passes over"):
        answers.check_local_work(training, {**checked, "devices": 1})


def test_a_portal_that_refuses_an_answer_does_not_end_the_edge(start: Starter, tmp_path: Path) -> None:
    portal = Portal(task(), task(number=2))
    portal.instead["answer"] = [refusal("metrics_invalid", reason="of a test")]
    edge = start(portal)
    edge.device("hospital-1", rows(tmp_path / "1.csv", 1))
    edge.wait_for("answered")
    assert "of a test" in edge.wait_for("failed")["reason"]
    assert portal.declined == ["metrics_invalid"]


def test_devices_hear_through_the_edge_how_the_run_ended(start: Starter, tmp_path: Path) -> None:
    portal = Portal(task())
    edge = start(portal)
    path = rows(tmp_path / "1.csv", 1)
    result = Taking(edge.client("hospital-1"), lambda client: client.train("radiology-v1", path, "diagnosis")).join()
    assert (result.rounds, result.state, result.result_version) == (1, "completed", "2.0.0")


def test_one_process_is_an_edge_at_a_time(start: Starter, tmp_path: Path) -> None:
    edge = start(Portal())
    assert is_running(edge.edge.client)
    other = Edge(FederatedClient(KEY, "edge-metro", edge.edge.client.url, tmp_path / "edge"), port=0)
    with pytest.raises(FedportalError) as caught:
        other.run()
    assert caught.value.code == "edge_runs"
    other.close()


def test_the_portal_is_told_how_many_devices_are_behind(start: Starter, tmp_path: Path) -> None:
    beats: list[dict[str, Any]] = []

    class Listening(Portal):
        def __call__(self, number: int, seen: Seen) -> Reply:
            if seen.path.endswith("/heartbeat"):
                beats.append(json.loads(seen.body))
            return super().__call__(number, seen)

    edge = start(Listening(task()), Terms(least_devices=2))
    for number in (1, 2):
        edge.device(f"hospital-{number}", rows(tmp_path / f"{number}.csv", number))
    edge.wait_for("answered")
    assert beats[0]["capabilities"]["devices_behind"] == 2
    assert "cpus" in beats[0]["capabilities"]


def test_devices_speak_tls_with_an_edge_that_has_a_certificate(
    start: Starter, tmp_path: Path, certificate: Path
) -> None:
    portal = Portal(task())
    edge = start(portal, certificate=certificate)
    assert edge.url.startswith("https://")
    with pytest.raises(FedportalError) as caught:
        edge.client("hospital-2", patience=0.0).register()
    assert caught.value.code == "tls_failed"
    edge.device("hospital-1", rows(tmp_path / "1.csv", 1), ca_file=certificate)
    edge.wait_for("answered")
    assert len(portal.answers) == 1


def test_a_round_waits_for_the_next_start_when_a_person_has_to_mend_something(start: Starter, tmp_path: Path) -> None:
    """The portal locked the edge's own device out; what its devices sent is still there afterwards."""
    portal = Portal(task())
    portal.instead["answer"] = [refusal("device_inactive", state="quarantined")]
    edge = start(portal)
    edge.device("hospital-1", rows(tmp_path / "1.csv", 1))
    give_up = time.monotonic() + 30
    while edge.error is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert isinstance(edge.error, FedportalError)
    assert edge.error.code == "device_inactive"
    second = start(portal, port=int(edge.url.rpartition(":")[2]))
    second.wait_for("answered")
    assert [answer["devices"] for answer in portal.answers] == [1]


def test_nobody_else_on_the_machine_reads_what_an_edge_keeps(start: Starter, tmp_path: Path) -> None:
    edge = start(Portal(task()), Terms(least_devices=2))
    edge.client("hospital-2").heartbeat()
    edge.device("hospital-1", rows(tmp_path / "1.csv", 1))
    edge.wait_for("collecting", 2)
    kept = tmp_path / "edge"
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in (kept, *kept.rglob("*")) if folder.is_dir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept.rglob("edge.sqlite3*"))
    assert list(kept.rglob("*.update"))
