"""A served model: what /predict answers, what is refused, how versions change over, and that nothing leaves."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FedportalError
from fedportal_sdk.installed import Installed, InstalledModel, health_report
from fedportal_sdk.serving import FileSource, InstalledSource, Limits, Serving, doors
from fedportal_sdk.serving.desk import Desk
from fedportal_sdk.serving.doors import BODY_BYTES
from fedwire.architectures import Architecture
from fedwire.latencies import LATENCIES
from tests.serving.made import DEEP, IMAGES, ROW, TABLE, Asking, content, install, served, served_file, weights, written
from tests.serving.test_inputs import png, points


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    with served_file(tmp_path_factory.mktemp("table"), TABLE, limits=Limits(rows=8)) as asking:
        yield asking


def test_a_prediction_names_label_probabilities_and_classes(table: Asking) -> None:
    said = table.post("/predict", rows=[ROW, dict(zip(TABLE["columns"], ROW, strict=True))])
    assert (said["model"], said["classes"]) == ("radiology-v1", ["benign", "malignant"])
    assert said["probabilities"][0] == said["probabilities"][1]
    assert sum(said["probabilities"][0]) == pytest.approx(1)
    number = int(np.argmax(said["probabilities"][0]))
    assert (said["labels"], said["class_numbers"]) == ([said["classes"][number]] * 2, [number] * 2)


def test_classes_without_names_are_numbers_and_values_are_values(tmp_path: Path) -> None:
    with served_file(tmp_path, DEEP) as asking:
        said = asking.post("/predict", rows=[ROW])
        assert said["classes"] == [0, 1, 2]
        assert said["labels"] == [int(np.argmax(said["probabilities"][0]))]
    linear = {"kind": "linear", "inputs": 3}
    with served_file(tmp_path, linear) as asking:
        arrays = weights(linear)
        expected = arrays["layers.0.weight"] @ np.array(ROW) + arrays["layers.0.bias"]
        assert asking.post("/predict", rows=[ROW])["values"] == pytest.approx(expected.tolist(), abs=1e-5)
        answer = asking.post("/v1/chat/completions", messages=[{"role": "user", "content": str(ROW)}])
        assert answer["choices"][0]["message"]["content"].startswith(f"radiology-v1 says {expected[0]:.6g}.")


def test_pictures_are_predicted(tmp_path: Path) -> None:
    with served_file(tmp_path, IMAGES) as asking:
        given = points(1)
        by_png = asking.post("/predict", images=[png(given, 0)])
        by_list = asking.post("/predict", images=[(given[:, :, 0] / 255).tolist()])
        assert by_png["probabilities"] == by_list["probabilities"]
        assert len(by_png["probabilities"][0]) == 10


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/predict", {}, 400, "field_invalid"),
        ("/predict", {"rows": [ROW], "images": []}, 400, "field_invalid"),
        ("/predict", {"rows": [[1]]}, 400, "input_unusable"),
        ("/predict", {"rows": [ROW] * 9}, 400, "rows_too_many"),
        ("/predict", {"model": "another", "rows": [ROW]}, 404, "model_not_found"),
        ("/v1/completions", {"prompt": 7}, 400, "field_invalid"),
        ("/v1/completions", {"prompt": ["1"] * 9}, 400, "rows_too_many"),
        ("/v1/embeddings", {"input": [True]}, 400, "field_invalid"),
        ("/v1/embeddings", {"input": [1, 2, 3], "dimensions": 2}, 400, "option_unsupported"),
        ("/v1/models", {}, 405, "method_not_allowed"),
        ("/v1/images/generations", {}, 404, "not_found"),
    ],
)
def test_what_is_wrong_is_said_in_openais_shape(table: Asking, path: str, body: Any, status: int, code: str) -> None:
    said = table.refused(path, **body)
    assert said[:2] == (status, code)
    assert said[2].endswith((".", ".)", "/api/docs."))


def test_bodies_that_are_no_json_or_too_large_are_refused(table: Asking) -> None:
    table.connection.request("POST", "/predict", b"{")
    assert json.loads(table.connection.getresponse().read())["error"]["code"] == "bad_request"
    table.connection.putrequest("POST", "/predict")
    table.connection.putheader("Content-Length", str(BODY_BYTES + 1))
    table.connection.endheaders()
    answer = table.connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "body_too_large")
    table.connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "portal.example"},
        {"Host": "127.0.0.1.rebound.example:8080"},
        {"Origin": "https://page.example"},
        {"Origin": "null"},
        {"Host": "[broken"},
    ],
)
def test_pages_from_elsewhere_are_not_answered(table: Asking, headers: dict[str, str]) -> None:
    status, text = table.raw("GET", "/v1/models", **headers)
    assert (status, json.loads(text)["error"]["code"]) == (403, "only_local")


def test_pages_of_this_machine_are_answered(table: Asking) -> None:
    for headers in ({"Host": "localhost:8080"}, {"Host": "[::1]:8080"}, {"Origin": "http://localhost:3000"}):
        assert table.raw("GET", "/v1/models", **headers)[0] == 200


def test_a_model_that_overflows_is_a_failure_of_the_model(tmp_path: Path) -> None:
    with served_file(tmp_path, TABLE) as asking:
        assert asking.refused("/predict", rows=[[1e300, 1, 1]])[:2] == (500, "result_not_finite")
        asking.post("/predict", rows=[ROW] * 3)
        assert asking.refused("/predict", rows=[[1]])[0] == 400  # the sender's, and counted for nobody
        found = asking.get("/health")
    assert (found["status"], found["predictions"], found["errors"]) == ("ok", 4, 1)
    assert sum(found["latencies"].values()) == 4


def test_many_ask_at_once(table: Asking) -> None:
    expected, found = table.post("/predict", rows=[ROW]), []

    def ask() -> None:
        own = Asking(f"http://{table.connection.host}:{table.connection.port}")
        found.extend(own.post("/predict", rows=[ROW]) for _ in range(20))
        own.connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 160


def test_http_1_0_is_served_too(table: Asking) -> None:
    with socket.create_connection((table.connection.host, table.connection.port)) as plain:
        body = json.dumps({"messages": [{"role": "user", "content": str(ROW)}], "stream": True}).encode()
        plain.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        whole = b"".join(iter(lambda: plain.recv(1 << 16), b""))
    head, _, events = whole.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")


def test_so_many_requests_are_read_at_once_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "AT_ONCE", 1)
    body = json.dumps({"rows": [ROW]}).encode()
    with (
        served_file(tmp_path, TABLE) as asking,
        socket.create_connection((asking.connection.host, asking.connection.port)) as slow,
    ):
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n{" % len(body))
        time.sleep(0.2)
        asking.get("/health")
        answered: list[Any] = []
        other = Asking(f"http://{asking.connection.host}:{asking.connection.port}")
        thread = threading.Thread(target=lambda: answered.append(other.post("/predict", rows=[ROW])))
        thread.start()
        thread.join(0.3)
        assert not answered
        slow.sendall(body[1:])
        thread.join(20)
        other.connection.close()
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        assert len(answered) == 1


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    source = FileSource(written(tmp_path, TABLE), TABLE)
    with Serving(source, port=0) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(FedportalError) as taken:
            Serving(source, port=port).start()
    assert taken.value.code == "port_taken"
    assert str(port) in taken.value.message
    assert "--port" in taken.value.next_step
    with Serving(source, port=port) as again:  # the first one left nothing behind
        assert again.url.endswith(str(port))


# -- versions


def test_an_installed_version_takes_its_place_without_a_restart(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    install(tmp_path, "1.0.0", TABLE, 0)
    with served(InstalledSource(lambda: [tmp_path], "radiology-v1"), on_event=told.append) as (serving, asking):
        before = asking.post("/predict", rows=[ROW])
        install(tmp_path, "2.0.0", TABLE, 1)
        serving.look()
        after = asking.post("/predict", rows=[ROW])
        assert (before["version"], after["version"]) == ("1.0.0", "2.0.0")
        assert before["probabilities"] != after["probabilities"]
        assert asking.get("/v1/models")["data"][0]["version"] == "2.0.0"
        install(tmp_path, "3.0.0", None)  # nothing says what it is
        serving.look()
        assert asking.post("/predict", rows=[ROW]) == after
        install(tmp_path, "1.0.0", TABLE, 0)
        serving.look()
        assert asking.post("/predict", rows=[ROW]) == before
        Installed(tmp_path).remove("mdl_1")
        serving.look()
        assert asking.refused("/predict", rows=[ROW])[:2] == (404, "not_installed")
        install(tmp_path, "2.0.0", TABLE, 1)
        serving.look()
        assert asking.post("/predict", rows=[ROW]) == after
    events = [(one["event"], one.get("version")) for one in told]
    assert events == [
        ("changed", "2.0.0"),
        ("unusable", "3.0.0"),
        ("changed", "1.0.0"),
        ("removed", None),
        ("changed", "2.0.0"),
    ]
    assert "--architecture" not in told[0]


def test_no_request_fails_while_versions_change(tmp_path: Path) -> None:
    """Each answer is wholly of the version that it names."""
    places, expected = [tmp_path], {}
    for seed, version in enumerate(("1.0.0", "2.0.0")):
        install(tmp_path, version, TABLE, seed)
        with served(InstalledSource(lambda: places, "mdl_1")) as (_, asking):
            expected[version] = asking.post("/predict", rows=[ROW])
    found: list[Any] = []
    with served(InstalledSource(lambda: places, "mdl_1")) as (serving, asking):

        def ask() -> None:
            own = Asking(serving.url)
            found.extend(own.post("/predict", rows=[ROW]) for _ in range(100))
            own.connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        for turn in range(20):
            install(tmp_path, f"{1 + turn % 2}.0.0", TABLE, turn % 2)
            serving.look()
        thread.join()
    assert len(found) == 100
    assert all(answer == expected[answer["version"]] for answer in found)


def test_it_is_looked_for_by_itself(tmp_path: Path) -> None:
    changed = threading.Event()
    path = written(tmp_path, TABLE)
    with served(FileSource(path, TABLE), on_event=lambda event: changed.set()) as (_, asking):
        before = asking.post("/predict", rows=[ROW])
        path.with_suffix(".fresh").write_bytes(content(TABLE, 1))
        path.with_suffix(".fresh").replace(path)
        assert changed.wait(20)
        assert asking.post("/predict", rows=[ROW]) != before


def test_a_file_that_was_damaged_on_the_disk_is_not_served(tmp_path: Path) -> None:
    model = install(tmp_path, "1.0.0", TABLE)
    whole = bytearray(model.path.read_bytes())
    whole[-1] ^= 1
    model.path.write_bytes(bytes(whole))
    with pytest.raises(FedportalError) as damaged:
        Serving(InstalledSource(lambda: [tmp_path], "radiology-v1"), port=0).start()
    assert damaged.value.code == "model_damaged"


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        (None, "serve_undescribed"),
        ({"kind": "logistic", "inputs": 4}, "tensor_shape"),
        ({"kind": "logistic", "inputs": 3, "standardise": True}, "tensor_names"),
        ({"kind": "forest"}, "architecture_invalid"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, spec: Any, code: str) -> None:
    with pytest.raises(FedportalError) as refused:
        Serving(FileSource(written(tmp_path, TABLE), spec), port=0).start()
    assert refused.value.code == code


def test_a_file_of_another_program_may_have_another_order(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    spec = {"kind": "mlp", "inputs": 3, "hidden": [4], "classes": 2, "standardise": True}
    path = written(tmp_path, spec)
    with served(FileSource(path, spec)) as (_, asking):
        expected = asking.post("/predict", rows=[ROW])
    save_file(weights(spec), path, {"format": "pt"})
    with served(FileSource(path, spec)) as (_, asking):
        assert asking.post("/predict", rows=[ROW]) == expected


def test_a_text_model_needs_transformers_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    sys.modules["transformers"] = None  # type: ignore[assignment]  # as where it is not installed
    try:
        with pytest.raises(FedportalError) as missing:
            Serving(FileSource(tmp_path), port=0).start()
    finally:
        del sys.modules["transformers"]
    assert missing.value.code == "package_missing"
    assert missing.value.next_step == "Run `pip install transformers`."


# -- what leaves

ASKS = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
WATCHED: list[tuple[str, Any]] = []
WATCHING = threading.Event()


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING.is_set() and event in ASKS | NAMES:
        WATCHED.append((event, arguments[1] if event in ASKS else arguments[0]))


def test_nothing_but_loopback_is_spoken_to(tmp_path: Path) -> None:
    """Every address is asked while the interpreter reports each connection and each look-up of a name."""
    sys.addaudithook(watch)  # it cannot be taken away again, but told to be quiet
    WATCHED.clear()
    WATCHING.set()
    try:
        with served_file(tmp_path, IMAGES) as asking:
            url = png(points(1), 0)
            message = {"messages": [{"role": "user", "content": url}]}
            for path in ("/v1/models", "/v1/models/radiology-v1", "/health"):
                asking.get(path)
            asking.post("/predict", images=[url])
            asking.post("/v1/completions", prompt=url)
            asking.post("/v1/embeddings", input=url)
            asking.post("/v1/chat/completions", **message)
            assert asking.raw("POST", "/v1/chat/completions", {**message, "stream": True})[0] == 200
            asking.refused("/predict", images=[["no picture"]])
    finally:
        WATCHING.clear()
    events = {event for event, _ in WATCHED}
    assert {"socket.bind", "socket.connect"} <= events
    places = {place[0] if isinstance(place, tuple) else place for _, place in WATCHED}
    assert places == {"127.0.0.1"}, "it listens at, and is asked at, this machine's own address"
    names = [place for event, place in WATCHED if event in NAMES]
    assert len(names) <= 1, "only the test's own client looked up an address"


class Device:
    """A registered device that writes down what it would tell its portal."""

    def __init__(self, place: Path) -> None:
        self.device_id: str | None = "dev_1"
        self.told: list[dict[str, Any]] = []
        self.away = self.deaf = False
        self._installed = Installed(place)

    def installed(self, model: str | None = None) -> InstalledModel:
        return self._installed.find(model)

    def report_health(self, model: str | None = None, **counts: Any) -> None:
        if self.away:
            raise FedportalError("unreachable", url="http://127.0.0.1:9", reason="it is away")
        self.told.append({"model": model, **counts})
        if self.deaf:
            raise FedportalError("unreachable", url="http://127.0.0.1:9", reason="its answer was lost")


def test_a_device_tells_counts_of_the_version_it_holds_and_nothing_else(tmp_path: Path) -> None:
    install(tmp_path, "1.0.0", TABLE)
    device = Device(tmp_path)
    with served(InstalledSource(lambda: [tmp_path], "mdl_1"), reporter=device) as (serving, asking):
        serving.report()
        assert device.told == []  # there was nothing
        device.away = True
        asking.post("/predict", rows=[ROW] * 3)
        serving.report()
        device.away = False
        asking.refused("/predict", rows=[[1e300, 1, 1]])
        serving.report()
        first, second = device.told
        assert (first["model"], first["version"], first["count"], first["errors"]) == ("mdl_1", "1.0.0", 3, 0)
        assert (second["count"], second["errors"]) == (1, 1)
        assert (sum(first["latencies"]), len(first["latencies"])) == (3, len(LATENCIES) + 1)
        assert first.keys() == {"model", "version", "batch", "count", "errors", "latencies"}
        asking.post("/predict", rows=[ROW])
        install(tmp_path, "2.0.0", TABLE, 1)  # not in use yet: what was counted is not this version's
        serving.report()
        assert len(device.told) == 2
        device.device_id = None
        serving.look()
        asking.post("/predict", rows=[ROW])
    assert len(device.told) == 2


def test_a_report_whose_answer_was_lost_is_sent_as_it_was(tmp_path: Path) -> None:
    install(tmp_path, "1.0.0", TABLE)
    device = Device(tmp_path)
    with served(InstalledSource(lambda: [tmp_path], "mdl_1"), reporter=device) as (serving, asking):
        device.deaf = True
        asking.post("/predict", rows=[ROW] * 3)
        serving.report()
        device.deaf = False
        asking.post("/predict", rows=[ROW])
        serving.report()
        serving.report()
    lost, again, later = device.told
    assert (lost, lost["count"], later["count"]) == (again, 3, 1)
    assert lost["batch"] != later["batch"]
    installed = device.installed("mdl_1")
    assert health_report(installed, {"count": 3, "batch": "b", "version": "0.9.0"}).items() >= {
        ("batch", "b"),
        ("version", "0.9.0"),
    }


def test_what_a_version_began_counts_for_it_though_another_takes_its_place(tmp_path: Path) -> None:
    install(tmp_path, "1.0.0", TABLE)
    desk = Desk(InstalledSource(lambda: [tmp_path], "mdl_1"), Limits())
    desk.load()
    before = desk.in_use()
    install(tmp_path, "2.0.0", TABLE, 1)
    desk.refresh()
    with desk._timed(before, 3):
        pass
    assert desk.in_use().unreported.take() is None
    assert (before.unreported.take() or {}).get("count") == 3


def test_a_signal_may_end_the_wait_at_any_moment(tmp_path: Path) -> None:
    """With an event the handler would wait for what the interrupted wait holds, for ever."""
    serving = Serving(FileSource(tmp_path))
    came: list[int] = []

    def stop(number: int, _: Any) -> None:
        came.append(number)
        serving.stop()

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.00005, 0.00005)
        until = time.monotonic() + 10
        while len(came) < 50 and time.monotonic() < until:
            serving.wait(0)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert len(came) >= 50


def test_sources_say_where_a_model_comes_from(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE)
    about = {"model": "radiology-v1", "model_id": "mdl_7", "version": "1.2.3", "architecture": TABLE}
    path.with_suffix(".json").write_text(json.dumps(about))
    for place in (path, tmp_path):
        found = FileSource(place).current()
        assert (found.name, found.model, found.version) == ("radiology-v1", "mdl_7", "1.2.3")
        assert Architecture.parse(found.architecture) == Architecture.parse(TABLE)
    path.with_suffix(".json").write_text(json.dumps(TABLE))
    assert FileSource(path).current().architecture == TABLE
    shutil.copy(path, tmp_path / "another.safetensors")
    with pytest.raises(FedportalError) as several:
        FileSource(tmp_path).current()
    assert several.value.code == "ambiguous_name"
    with pytest.raises(FedportalError) as missing:
        FileSource(tmp_path / "nowhere.safetensors").current()
    assert missing.value.code == "data_missing"


def test_two_devices_of_a_machine_with_different_versions_are_told_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    install(one, "1.0.0", TABLE)
    install(two, "1.0.0", TABLE)
    both = InstalledSource(lambda: [one, two], "radiology-v1")
    assert both.current().version == "1.0.0"
    install(two, "2.0.0", TABLE, 1)
    with pytest.raises(FedportalError) as several:
        both.current()
    assert several.value.code == "ambiguous_name"


def test_a_connection_is_closed_when_serving_ends(tmp_path: Path) -> None:
    with served_file(tmp_path, TABLE) as asking:
        asking.get("/health")
        url = f"http://{asking.connection.host}:{asking.connection.port}"
    with pytest.raises((OSError, http.client.HTTPException)):
        Asking(url).get("/health")
