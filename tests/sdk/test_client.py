"""FederatedClient against a scripted portal: what it says, what it keeps to itself, and when it leaves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FederatedClient, FedportalError
from fedwire import codecs, routes
from fedwire.architectures import Architecture
from fedwire.tensors import decode_update, encode_model
from fedwire.vectors import encode_vector
from tests.sdk.server import Reply, Seen, found, refusal, serving

KEY = "edg_abcd1234_" + "x" * 43 + "_zzzzzz"
ARCHITECTURE = Architecture.parse({"kind": "logistic", "inputs": 2})
MANIFEST = ARCHITECTURE.manifest()
MODEL = encode_model(MANIFEST, ARCHITECTURE.initial())
DIGEST = hashlib.sha256(MODEL).hexdigest()
ROWS = "a,b,diagnosis\n" + "1,2,M\n-1,-2,B\n" * 20


class Portal:
    """Hands out tasks one after the other and writes down what comes back."""

    def __init__(self, *tasks: dict[str, Any]) -> None:
        self.tasks = list(tasks)
        self.run_state: dict[str, Any] = {"state": "completed", "result_version": "2.0.0"}
        self.registrations: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.updates: list[bytes] = []
        self.declined: list[str] = []
        self.instead: dict[str, list[Reply]] = {}  # path's last word → answers given before the proper ones
        self.tokens: list[str] = []

    def __call__(self, number: int, seen: Seen) -> Reply:
        self.tokens.append(seen.headers.get("authorization", ""))
        path = seen.path.partition("?")[0]
        last = path.rpartition("/")[2]
        if self.instead.get(last):
            return self.instead[last].pop(0)
        body = json.loads(seen.body) if seen.method == "POST" and seen.body else {}
        if path == routes.DEVICE_REGISTER:
            self.registrations.append(body)
            return found({"id": "dev_1", "org_id": "org_1", "device_key": f"edg_device{len(self.registrations)}"}, 201)
        if path == routes.TASK_NEXT:
            return found(self.tasks[0]) if self.tasks else Reply(204)
        if path.startswith(f"{routes.API}/device/runs/"):
            return found(self.run_state)
        return self._task(last, seen, body)

    def _task(self, last: str, seen: Seen, body: dict[str, Any]) -> Reply:
        if last == "model":
            return Reply(200, MODEL)
        if last == "update":
            self.updates.append(seen.body)
            return found({"stored": len(seen.body), "complete": True})
        if last in ("answer", "decline"):
            self.tasks.pop(0)
            (self.answers if last == "answer" else self.declined).append(body if last == "answer" else body["reason"])
            return found({"task": "tsk_1", "state": "answered"}, 201)
        return Reply(404)


def task(kind: str = "train", round_number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"tsk_{round_number}",
        "kind": kind,
        "run": "run_1",
        "model": "mdl_1",
        "model_name": "radiology-v1",
        "round": round_number,
        "attempt": 1,
        "base_digest": "" if kind == "statistics" else DIGEST,
        "manifest": MANIFEST.to_json(),
        "architecture": ARCHITECTURE.spec(),
        "training": {"epochs": 1, "learning_rate": 0.1, "batch_size": 8, "seed": 0},
        "answer": {"update_bytes": MANIFEST.update_bytes, "max_samples": 1000, "metrics": True},
        **changes,
    }


Start = Callable[..., FederatedClient]


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    path = tmp_path / "patients.csv"
    path.write_text(ROWS)
    return path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a client against a portal; the portal's server ends with the test."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as servers:
        for name in ("URL", "API_KEY", "HOME", "DEVICE"):
            patch.delenv(f"FEDPORTAL_{name}", raising=False)

        def begin(portal: Any, api_key: str | None = KEY, *, url: str = "", **options: Any) -> FederatedClient:
            url = url or servers.enter_context(serving(portal)).url
            return FederatedClient(api_key, "hospital-001", url, tmp_path / "home", **options)

        yield begin


def test_registering_says_who_the_device_is_and_nothing_about_its_data(start: Start) -> None:
    portal = Portal()
    record = start(portal).register(groups=["production"])
    assert (record.id, record.org_id) == ("dev_1", "org_1")
    (sent,) = portal.registrations
    assert (sent["device_identifier"], sent["groups"]) == ("hospital-001", ["production"])
    assert set(sent) == {
        *("device_identifier", "public_key", "nonce", "signature", "groups"),
        *("platform", "os_version", "sdk_version", "capabilities"),
    }
    assert set(sent["capabilities"]) == {"cpus", "python", "memory_mb", "gpus", "architecture"}
    assert portal.tokens == [f"Bearer {KEY}"]


def test_registering_again_is_the_same_device_with_a_fresh_key(start: Start) -> None:
    portal = Portal()
    client = start(portal)
    first, second = client.register(), client.register()
    assert portal.registrations[0]["public_key"] == portal.registrations[1]["public_key"]
    assert (first.device_key, second.device_key) == ("edg_device1", "edg_device2")


def test_a_registered_device_needs_no_enrolment_key_any_more(start: Start, csv_file: Path) -> None:
    portal = Portal(task())
    client = start(portal)
    client.register()
    later = FederatedClient(None, "hospital-001", client.url, client.home.folder)
    assert later.device_id == "dev_1"
    later.train("radiology-v1", csv_file, "diagnosis", rounds=1)
    assert len(portal.registrations) == 1


def test_without_any_key_it_is_said_which_is_missing(start: Start) -> None:
    with pytest.raises(FedportalError) as caught:
        start(Portal(), None).register()
    assert caught.value.code == "not_configured"
    assert "FEDPORTAL_API_KEY" in caught.value.next_step


@pytest.mark.parametrize("code", ["key_revoked", "key_expired", "device_taken", "device_inactive", "enrolment_full"])
def test_a_refused_registration_says_why(start: Start, code: str) -> None:
    portal = Portal()
    portal.instead["register"] = [refusal(code)]
    with pytest.raises(FedportalError) as caught:
        start(portal).register()
    assert caught.value.code == code


def test_a_portal_that_cannot_be_reached_is_said_after_the_patience_given(start: Start) -> None:
    client = start(Portal(), url="http://127.0.0.1:9", patience=0.0)
    with pytest.raises(FedportalError) as caught:
        client.register()
    assert caught.value.code == "unreachable"


def test_a_round_is_a_task_a_model_an_update_and_an_answer(start: Start, csv_file: Path) -> None:
    portal, events = Portal(task("statistics", 0), task(), task("evaluate", 2)), []
    result = start(portal, on_event=events.append).train("radiology-v1", csv_file, "diagnosis")
    assert [sorted(answer) for answer in portal.answers] == [
        ["samples", "statistics"],
        ["evaluation", "samples", "seconds", "sha256"],
        ["evaluation", "samples"],
    ]
    (update,) = portal.updates
    assert hashlib.sha256(update).hexdigest() == portal.answers[1]["sha256"]
    assert (decode_update(update, MANIFEST) != 0).any()
    assert (result.rounds, result.state, result.result_version, result.runs) == (1, "completed", "2.0.0", ["run_1"])
    named = [event["event"] for event in events]
    assert named == [
        "registered",
        "task",
        "answered",
        "task",
        "training",
        "answered",
        "task",
        "answered",
        "waiting",
        "finished",
    ]


def test_bad_data_are_refused_before_anything_is_said_to_the_portal(start: Start, tmp_path: Path) -> None:
    portal = Portal(task())
    with pytest.raises(FedportalError) as caught:
        start(portal).train("radiology-v1", tmp_path / "none.csv", "diagnosis")
    assert caught.value.code == "data_missing"
    assert portal.tokens == []


def test_the_wrong_number_of_columns_is_declined_and_raised(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("a,b,c,diagnosis\n1,2,3,M\n4,5,6,B\n")
    portal = Portal(task())
    with pytest.raises(FedportalError) as caught:
        start(portal).train("radiology-v1", path, "diagnosis")
    assert caught.value.code == "data_shape"
    assert portal.declined == ["data_shape"]


def test_names_of_the_hospitals_columns_and_classes_stay_on_the_device(start: Start, tmp_path: Path) -> None:
    """The device's terminal says what is missing; the portal hears the code alone."""
    described = {**ARCHITECTURE.spec(), "columns": ["age", "secret one"], "labels": ["B", "M"]}
    path = tmp_path / "patients.csv"
    for text, code, named in (
        ("age,secret two,diagnosis\n1,2,M\n4,5,B\n", "data_columns", "secret one"),
        ("age,secret one,diagnosis\n1,2,M\n4,5,secret\n", "data_labels", "holds secret"),
    ):
        path.write_text(text)
        portal = Portal(task(architecture=described))
        with pytest.raises(FedportalError) as caught:
            start(portal).train("radiology-v1", path, "diagnosis")
        assert caught.value.code == code
        assert named in caught.value.message
        assert portal.declined == [code]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "mdl_2", "model_name": "other"}, "another model"),
        ({"kind": "dance"}, "dance"),
        ({"training": {"requires": ["variates"]}}, "variates"),
        ({"architecture": None}, "train_from_remote"),
    ],
)
def test_what_this_device_cannot_do_is_declined_with_a_reason(
    start: Start, csv_file: Path, change: dict[str, Any], reason: str
) -> None:
    portal = Portal(task(**change), task())
    assert start(portal).train("radiology-v1", csv_file, "diagnosis", rounds=1).rounds == 1
    assert reason in portal.declined[0]


def test_what_the_strategy_needs_stands_in_the_answer(start: Start, csv_file: Path) -> None:
    asked = task(training={"epochs": 2, "batch_size": 8, "mu": 0.1, "requires": ["proximal", "steps", "base_loss"]})
    asked["answer"]["reports"] = ["steps", "normaliser", "base_loss"]
    portal = Portal(asked)
    start(portal).train("radiology-v1", csv_file, "diagnosis", rounds=1)
    (answer,) = portal.answers
    assert answer["steps"] == answer["normaliser"] == 2 * -(-answer["samples"] // 8)
    assert answer["base_loss"] > 0


def test_a_training_function_is_not_asked_to_hold_on_to_the_model(start: Start) -> None:
    portal = Portal(task(training={"mu": 0.1, "requires": ["proximal"]}), task())
    client = start(portal)
    assert client.train_from_remote("radiology-v1", lambda state: (state, 5, {}), rounds=1).rounds == 1
    assert "proximal" in portal.declined[0]


def corrected(round_number: int, counted: int, state: bytes = b"") -> dict[str, Any]:
    """A task of SCAFFOLD with one step over all rows, of rate ½."""
    training = {"epochs": 1, "learning_rate": 0.5, "batch_size": 100, "seed": 0, "requires": ["scaffold"]}
    digest = hashlib.sha256(state).hexdigest() if state else ""
    changes = {"training": training, "state_digest": digest, "counted_round": counted}
    asked = task(round_number=round_number, **changes)
    asked["answer"]["reports"] = ["steps"]
    return asked


def deltas(portal: Portal) -> list[list[float]]:
    return [decode_update(update, MANIFEST).tolist() for update in portal.updates]


def test_steps_are_corrected_by_what_the_device_kept_and_what_the_portal_sends(start: Start, csv_file: Path) -> None:
    # cᵢ becomes the gradient of the first step. At the same model the next step is then -½·c, whatever the gradient.
    common = encode_vector(np.array([1, 2, -3], np.float32))
    portal = Portal(corrected(1, 0), corrected(2, 1, common))
    portal.instead["state"] = [Reply(200, common)]
    start(portal).train(None, csv_file, "diagnosis", rounds=2)
    first, second = deltas(portal)
    assert any(first)
    np.testing.assert_allclose(second, [-0.5, -1, 1.5], atol=1e-6)
    assert [answer["steps"] for answer in portal.answers] == [1, 1]


def test_what_a_device_keeps_moves_by_what_the_portal_reads_of_an_encoded_update(start: Start, csv_file: Path) -> None:
    # With cᵢ = -C(Δ)/½ the same step again is Δ - C(Δ): what the codec left out, and not 0.
    plain, encoded, plan = Portal(corrected(1, 0)), Portal(corrected(1, 0), corrected(2, 1)), {"name": "int8"}
    for asked in encoded.tasks:
        asked["training"] |= {"codec": plan, "requires": ["scaffold", "codec.int8", codecs.READ_BACK]}
    start(plain).train(None, csv_file, "diagnosis", rounds=1)
    start(encoded).train(None, csv_file, "diagnosis", rounds=2)
    codec, delta = codecs.of(plan, MANIFEST), np.array(deltas(plain)[0])
    first, second = (codec.decode(np.frombuffer(update, np.uint8)) for update in encoded.updates)
    left_out = delta - first
    assert np.abs(left_out).max() > 0
    np.testing.assert_allclose(second, left_out, atol=np.abs(left_out).max() / 100)


def test_an_answer_that_did_not_count_leaves_no_trace_in_what_is_kept(start: Start, csv_file: Path) -> None:
    portal = Portal(corrected(1, 0), corrected(1, 0))
    start(portal).train(None, csv_file, "diagnosis", rounds=2)
    first, again = deltas(portal)
    assert first == again


def test_what_is_kept_survives_a_restart(start: Start, csv_file: Path) -> None:
    before, after = Portal(corrected(1, 0)), Portal(corrected(2, 1))
    client = start(before)
    client.train(None, csv_file, "diagnosis", rounds=1)
    with serving(after) as server:
        # The folder is that of the device at its portal's address.
        again = FederatedClient(KEY, "hospital-001", server.url, client.home.folder)
        shutil.copytree(client._folder.folder / "variates", again._folder.folder / "variates")
        again.train(None, csv_file, "diagnosis", rounds=1)
    assert any(abs(number) > 0.01 for number in deltas(before)[0])
    np.testing.assert_allclose(deltas(after)[0], [0, 0, 0], atol=1e-6)


def test_a_device_that_lost_what_it_kept_declines(start: Start, csv_file: Path) -> None:
    portal = Portal(corrected(5, 4), task())
    assert start(portal).train(None, csv_file, "diagnosis", rounds=1).rounds == 1
    assert "round 4" in portal.declined[0]


def test_what_is_kept_for_a_run_goes_when_it_ends(start: Start, csv_file: Path, tmp_path: Path) -> None:
    start(Portal(corrected(1, 0))).train(None, csv_file, "diagnosis")
    assert list(tmp_path.glob("home/devices/*/variates/*")) == []


def test_a_failing_training_function_declines_without_quoting_the_data(start: Start) -> None:
    def train(state: dict[str, Any]) -> Any:
        raise ValueError("patient 4711, diagnosis M")

    portal = Portal(task())
    with pytest.raises(ValueError, match="4711"):
        start(portal).train_from_remote("radiology-v1", train)
    assert portal.declined == ["the local training failed (ValueError)"]


def test_weights_that_are_not_finite_are_declined_and_the_next_round_is_tried(start: Start) -> None:
    steps = iter([np.nan, 1.0])

    def train(state: dict[str, Any]) -> Any:
        step = next(steps)
        return {name: array + step for name, array in state.items()}, 5, {}

    portal = Portal(task(), task(round_number=2))
    assert start(portal).train_from_remote("radiology-v1", train, rounds=1).rounds == 1
    assert portal.declined == ["not_finite"]
    assert portal.answers[0]["samples"] == 5


@pytest.mark.parametrize("word", ["update", "answer", "model"])
@pytest.mark.parametrize("code", ["task_closed", "not_found", "answer_differs"])
def test_a_task_that_was_closed_meanwhile_is_left_behind(start: Start, csv_file: Path, word: str, code: str) -> None:
    portal, events = Portal(task(), task(round_number=2)), []
    closed = refusal(code, state="expired")

    def answer(number: int, seen: Seen) -> Reply:
        if seen.path.endswith(f"tsk_1/{word}"):
            portal.tasks = portal.tasks[-1:]
            return closed
        return portal(number, seen)

    client = start(answer, on_event=events.append)
    assert client.train(None, csv_file, "diagnosis", rounds=1).rounds == 1
    assert [event["round"] for event in events if event["event"] == "closed"] == [1]


def test_an_update_that_went_missing_is_brought_again(start: Start, csv_file: Path) -> None:
    portal = Portal(task())
    portal.instead["answer"] = [refusal("upload_incomplete", stored=0, expected=1)]
    start(portal).train(None, csv_file, "diagnosis", rounds=1)
    assert len(portal.updates) == 2
    assert portal.updates[0] == portal.updates[1]


def test_a_restart_in_every_step_is_survived(start: Start, csv_file: Path) -> None:
    portal = Portal(task())
    for word in ("register", "next", "model", "update", "answer"):
        portal.instead[word] = [Reply(502, b"<html>"), refusal("unavailable")]
    assert start(portal).train(None, csv_file, "diagnosis", rounds=1).rounds == 1
    assert len(portal.answers) == 1


@pytest.mark.parametrize("code", ["key_expired", "key_invalid"])
def test_a_device_key_that_ran_out_is_renewed(start: Start, csv_file: Path, code: str) -> None:
    portal = Portal(task())
    portal.instead["next"] = [refusal(code)]
    assert start(portal).train(None, csv_file, "diagnosis", rounds=1).rounds == 1
    assert len(portal.registrations) == 2
    assert portal.tokens[-1] == "Bearer edg_device2"


@pytest.mark.parametrize("code", ["key_revoked", "device_inactive"])
def test_a_revoked_device_ends_and_says_so(start: Start, csv_file: Path, code: str) -> None:
    portal = Portal(task())
    portal.instead["answer"] = [refusal(code)]
    with pytest.raises(FedportalError) as caught:
        start(portal).train(None, csv_file, "diagnosis")
    assert caught.value.code == code
    assert len(portal.registrations) == 1


def test_the_same_task_gives_the_same_bytes_after_a_restart(start: Start, csv_file: Path) -> None:
    first, second = Portal(task()), Portal(task())
    for portal in (first, second):
        start(portal).train(None, csv_file, "diagnosis", rounds=1)
    assert first.updates == second.updates


def test_stop_ends_a_wait_for_work(start: Start, csv_file: Path) -> None:
    portal = Portal()

    def slow(number: int, seen: Seen) -> Reply:
        if "next" in seen.path:
            waiting.set()
            time.sleep(3)
        return portal(number, seen)

    waiting = threading.Event()
    client = start(slow)
    threading.Thread(target=lambda: (waiting.wait(), client.stop())).start()
    started = time.monotonic()
    assert client.train(None, csv_file, "diagnosis").rounds == 0
    assert time.monotonic() - started < 2


def test_two_processes_of_one_device_do_not_drive_each_other(
    start: Start, csv_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    portal = Portal()
    portal.instead["next"] = [refusal("conflict") for _ in range(1000)]
    client = start(portal)
    threading.Timer(2.0, client.stop).start()
    client.train(None, csv_file, "diagnosis")
    assert 0 < 1000 - len(portal.instead["next"]) < 6
    assert "Another process takes part as this device" in caplog.text


def test_forever_goes_on_after_a_run(start: Start, csv_file: Path) -> None:
    portal, finished = Portal(task()), []

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "finished":
            finished.append(event["run"])
            if len(finished) == 1:
                portal.tasks.append(task(round_number=2, run="run_2"))
            else:
                client.stop()

    client = start(portal, on_event=note)
    assert client.train(None, csv_file, "diagnosis", forever=True).runs == ["run_1", "run_2"]


def test_wait_for_task_gives_the_task_as_it_came(start: Start) -> None:
    assert start(Portal(task())).wait_for_task() == task()
    assert start(Portal()).wait_for_task(timeout=0.1) is None


def test_keys_do_not_stand_in_logs(start: Start, csv_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    portal = Portal(task())
    portal.instead["next"] = [Reply(503), refusal("key_expired", expired_at="today")]
    caplog.set_level(0)
    start(portal).train(None, csv_file, "diagnosis", rounds=1)
    assert caplog.text
    assert not re.search(r"edg_(device|abcd)", caplog.text)


def test_a_signal_handler_may_stop_the_client(tmp_path: Path, csv_file: Path) -> None:
    """Also while the device waits before its next try, where a lock of `threading` would hold it for ever."""
    code = """
import signal, sys
from fedportal_sdk import FederatedClient
client = FederatedClient(sys.argv[1], "hospital-001", "http://127.0.0.1:9", sys.argv[2])
signal.signal(signal.SIGALRM, lambda *_: client.stop())
signal.setitimer(signal.ITIMER_REAL, 0.3)
print(client.train(None, sys.argv[3], "diagnosis").state)
"""
    command = [sys.executable, "-c", code, KEY, str(tmp_path / "home"), str(csv_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "left\n"
