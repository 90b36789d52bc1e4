"""Where a model comes from by its name: what is installed goes before what is pulled, and that stays usable."""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedportal_sdk import FedportalError
from fedportal_sdk._config import Home
from fedportal_sdk.serving import FileSource, find
from tests.sdk.server import Reply, Seen, Server, found, refusal, serving
from tests.serving.made import ROW, TABLE, Asking, content, install, written

WHOLE = content(TABLE)
ABOUT = {
    "model_id": "mdl_1",
    "version": "2.0.0",
    "sha256": hashlib.sha256(WHOLE).hexdigest(),
    "architecture": TABLE,
}


def link(version: str, whole: bytes) -> Reply:
    """The link to the file of this version."""
    place = f"http://127.0.0.1/api/v1/models/mdl_1/versions/{version}/file?link=1"
    return found({"url": place, "sha256": hashlib.sha256(whole).hexdigest(), "size": len(whole)})


def portal(number: int, seen: Seen) -> Reply:
    """Has one model in one version."""
    path = seen.path.partition("?")[0]
    if path.endswith("/download-url"):
        return link("2.0.0", WHOLE)
    if path.endswith("/file"):
        return Reply(200, WHOLE)
    if path.endswith(("/versions/latest", "/versions/2.0.0")):
        return found(ABOUT)
    return found({"id": "mdl_1", "name": "radiology-v1"}) if path.endswith("/radiology-v1") else refusal("not_found")


def home(folder: Path, server: Server | None = None) -> Home:
    made = Home(folder)
    made.save_settings(url=server.url if server else "http://127.0.0.1:9", api_key="edg_abcd1234_key")
    return made


def test_a_name_is_pulled_once_and_served_while_the_portal_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(portal) as server:
        for _ in range(2):
            model = find("radiology-v1", home(tmp_path, server)).current()
            assert (model.name, model.model, model.version) == ("radiology-v1", "mdl_1", "2.0.0")
            assert (model.path.read_bytes(), model.architecture) == (WHOLE, TABLE)
        assert sum("/file?" in seen.path for seen in server.seen) == 1
    with caplog.at_level(logging.WARNING, "fedportal"):
        assert find("radiology-v1", home(tmp_path)).current() == model
    assert "Version 2.0.0 was pulled before and is served." in caplog.text
    assert find("radiology-v1", home(tmp_path), version="2.0.0").current().sha256 == ABOUT["sha256"]
    with pytest.raises(FedportalError) as away:
        find("radiology-v1", home(tmp_path), version="1.0.0")
    assert away.value.code == "unreachable"


def test_a_version_that_is_named_stays_whatever_else_is_pulled(tmp_path: Path) -> None:
    other = content(TABLE, 1)
    newer = {**ABOUT, "version": "3.0.0", "sha256": hashlib.sha256(other).hexdigest()}

    def grown(number: int, seen: Seen) -> Reply:
        if "/versions/latest" in seen.path or "/versions/3.0.0" in seen.path:
            if "/file" in seen.path:
                return Reply(200, other)
            return link("3.0.0", other) if "/download" in seen.path else found(newer)
        return portal(number, seen)

    with serving(grown) as server:
        own = home(tmp_path, server)
        pinned = find("radiology-v1", own, version="2.0.0")
        before = pinned.current()
        assert find("radiology-v1", own).current().version == "3.0.0"
        assert find("radiology-v1", own, version="3.0.0").current().version == "3.0.0"
        assert pinned.current() == before
        assert before.path.read_bytes() == WHOLE
    away = find("radiology-v1", home(tmp_path), version="2.0.0")
    assert away.current() == before, "it is served while the portal is away"


def test_what_is_installed_goes_first_also_when_it_comes_later(tmp_path: Path) -> None:
    place = tmp_path / "devices" / "a" / "installed"
    with serving(portal) as server:
        source = find("radiology-v1", home(tmp_path, server))
        assert source.current().version == "2.0.0"
        install(place, "3.0.0", TABLE, 1)
        assert source.current().version == "3.0.0"
        asked = len(server.seen)
        assert find("radiology-v1", home(tmp_path, server)).current().version == "3.0.0"
        assert len(server.seen) == asked, "nobody was asked"
        named = find("radiology-v1", home(tmp_path, server), version="2.0.0")
        assert named.current().version == "2.0.0", "a version that is named is that version"


def test_only_the_named_device_is_looked_at(tmp_path: Path) -> None:
    install(tmp_path / "devices" / "a" / "installed", "1.0.0", TABLE)
    install(tmp_path / "devices" / "b" / "installed", "2.0.0", TABLE, 1)
    with pytest.raises(FedportalError) as several:
        find("radiology-v1", home(tmp_path))
    assert several.value.code == "ambiguous_name"
    source = find("radiology-v1", home(tmp_path), device=tmp_path / "devices" / "b")
    assert source.current().version == "2.0.0"


def test_without_a_key_or_a_model_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as nobody:
        find("radiology-v1", Home(tmp_path))
    assert (nobody.value.code, "fedportal login" in nobody.value.next_step) == ("not_configured", True)
    nothing = refusal("not_found", what="model")
    with serving(lambda number, seen: nothing) as server, pytest.raises(FedportalError) as missing:
        find("radiology-v1", home(tmp_path, server))
    assert missing.value.code == "not_found"


def test_a_path_is_a_file_whatever_models_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, TABLE)
    monkeypatch.chdir(tmp_path)
    for name in (str(path), path.name, f"./{path.name}", str(tmp_path), "nowhere.safetensors"):
        assert isinstance(find(name, Home(tmp_path / "home")), FileSource)


def test_the_command_says_where_it_serves_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """Also that a port which is taken ends it with the next step."""
    words = ["serve", str(written(tmp_path, TABLE)), "--architecture", json.dumps(TABLE), "--json", "--port"]
    program = [sys.executable, "-c", "from fedportal_sdk.cli import main; main()", *words]
    with subprocess.Popen([*program, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            said += process.stdout.readline()
        facts = json.loads(said)
        assert facts["openai"] == f"{facts['url']}/v1"
        assert Asking(facts["url"]).post("/predict", rows=[ROW])["labels"]
        second = subprocess.run(
            [*program, facts["url"].rpartition(":")[2]], capture_output=True, text=True, check=False
        )
        assert (second.returncode, json.loads(second.stderr)["error"]) == (1, "port_taken")
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, ("", ""))
