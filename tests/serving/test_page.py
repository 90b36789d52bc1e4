"""What docs/serving.md tells people to type does what it says."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fedportal_sdk.cli.main import main
from fedportal_sdk.serving import Serving
from fedportal_sdk.serving.limits import Limits
from tests.journeys.documentation import block, pasted
from tests.serving.made import TABLE, install, served_file, written

PAGE = "docs/serving.md"


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with what the page speaks of, on a machine on which the model is installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPORTAL_HOME", str(tmp_path / "home"))
    install(tmp_path / "home" / "devices" / "a" / "installed", "1.2.0", TABLE)
    pulled = written(tmp_path, TABLE).rename("radiology-v1-1.2.0.safetensors")
    about = {"model": "radiology-v1", "version": "1.2.0", "architecture": TABLE}
    pulled.with_suffix(".json").write_text(json.dumps(about))
    written(tmp_path, TABLE).rename("model.safetensors")
    Path("architecture.json").write_text(json.dumps(TABLE))


@pytest.mark.usefixtures("_here")
def test_each_command_serves() -> None:
    lines = block(PAGE, "sh", "fedportal serve").text.splitlines()
    for line in lines:
        words = [*shlex.split(line, comments=True)[1:], "--port", "0", "--seconds", "0", "--json"]
        said = CliRunner().invoke(main, words)
        assert said.exit_code == 0, said.output
        name = "model" if "model.safetensors" in line else "radiology-v1"
        assert json.loads(said.stdout)["model"] == name


@pytest.mark.usefixtures("_here")
def test_the_program_serves(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Serving, "wait", lambda self, seconds=None: None)
    exec(block(PAGE, "python", "Serving").text, {})
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_the_request_is_answered_as_shown(tmp_path: Path) -> None:
    with served_file(tmp_path, TABLE) as asking:
        typed = block(PAGE, "sh", "curl").filled({"127.0.0.1:8080": f"127.0.0.1:{asking.connection.port}"})
        said = json.loads(pasted(typed, tmp_path, dict(os.environ)))
        shown = json.loads(block(PAGE, "json", "labels").text)
        assert said.keys() == shown.keys()
        assert {name: type(value) for name, value in said.items()} == {name: type(v) for name, v in shown.items()}


def test_limits_are_the_ones_printed() -> None:
    text = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    for number in (Limits().rows, Limits().prompt_tokens, Limits().output_tokens):
        assert f"{number:,}" in text
