"""The policy file beside a device: what it says counts, and a slip of the pen is no wish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedportal_sdk import _policy
from fedportal_sdk._journal import FileJournal
from fedportal_sdk._masking import Identity, Masking
from fedportal_sdk._policy import DevicePolicy, policy_of, read
from fedportal_sdk.cli.main import main
from fedportal_sdk.local import Refusal
from fedwire.errors import FedportalError
from fedwire.masking.terms import Policy

ALL = """
least_devices = 12
least_organizations = 4
least_difference = 11
most_clip = 5
most_weight = 100
bits = [64]
least_noise = 0.5
least_own_noise = 0.75
rounds_a_day = 20
inference = false
least_inference_count = 25
inferences_a_day = 3
federations = ["fed_1"]
only_masked = true
require_certificates = true
report_health = true
"""


@pytest.fixture(autouse=True)
def _no_policy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_policy.VARIABLE, raising=False)


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def test_without_a_file_it_is_the_default(tmp_path: Path) -> None:
    assert policy_of(tmp_path / "device", tmp_path) == DevicePolicy()


def test_every_word_counts(tmp_path: Path) -> None:
    path = write(tmp_path, ALL)
    masking = Policy(12, 4, 11, 5.0, 100, (64,), 0.5, frozenset({"fed_1"}))
    assert read(path) == DevicePolicy(masking, 20, True, True, 0.75, True, path, False, 25, 3)


def test_words_in_the_description_are_the_default(tmp_path: Path) -> None:
    lines = (_policy.__doc__ or "").splitlines()
    path = write(tmp_path, "\n".join(line for line in lines if line.startswith("    ")))
    assert read(path).facts() == DevicePolicy().facts()
    assert read(path).facts().keys() == _policy.CHECKS.keys()


def test_nearest_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "rounds_a_day = 1")
    assert policy_of(tmp_path / "device", tmp_path).rounds_a_day == 1
    write(tmp_path / "device", "rounds_a_day = 2")
    assert policy_of(tmp_path / "device", tmp_path).rounds_a_day == 2
    monkeypatch.setenv(_policy.VARIABLE, str(write(tmp_path / "named", "rounds_a_day = 3")))
    assert policy_of(tmp_path / "device", tmp_path).rounds_a_day == 3


def test_file_that_was_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_policy.VARIABLE, str(tmp_path / "none.toml"))
    with pytest.raises(FedportalError) as caught:
        policy_of(tmp_path / "device", tmp_path)
    assert caught.value.code == "field_invalid"


@pytest.mark.parametrize(
    "text",
    [
        "least_device = 12",
        "least_devices = 1",
        "least_devices = 12.5",
        'least_devices = "12"',
        "least_devices = true",
        "least_organizations = 0",
        "least_difference = 1",
        "most_clip = 0",
        "most_clip = inf",
        "most_clip = nan",
        "most_weight = 0",
        "bits = []",
        "bits = [16]",
        "bits = [true]",
        "bits = 32",
        "least_noise = -1",
        "rounds_a_day = -1",
        'federations = "fed_1"',
        "federations = [1]",
        "only_masked = 1",
        "require_certificates = 'no'",
        "least_devices",
        "[masking]\nleast_devices = 12",
    ],
)
def test_slip_of_the_pen_is_refused_as_a_whole(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"most_clip = 2.0\n{text}" if "most_clip" not in text else text)
    with pytest.raises(FedportalError) as caught:
        read(path)
    assert caught.value.code == "field_invalid"
    assert str(path) in caught.value.message


def said(tmp_path: Path, *words: str) -> Result:
    environment = {"FEDPORTAL_HOME": str(tmp_path), "FEDPORTAL_URL": "http://127.0.0.1:9", "FEDPORTAL_API_KEY": None}
    return CliRunner().invoke(main, ["device", "policy", "--identifier", "hospital-001", *words], env=environment)


def test_command_shows_the_policy_and_where_it_comes_from(tmp_path: Path) -> None:
    path = write(tmp_path, ALL)
    shown = said(tmp_path)
    assert shown.exit_code == 0, shown.output
    assert str(path) in shown.output
    facts = json.loads(said(tmp_path, "--json").stdout)
    assert (facts["least_devices"], facts["file"]) == (12, str(path))


def test_command_says_where_a_policy_would_be(tmp_path: Path) -> None:
    shown = said(tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "policy.toml" in shown.output
    assert json.loads(said(tmp_path, "--json").stdout)["file"] is None


def test_command_refuses_a_file_with_a_slip(tmp_path: Path) -> None:
    write(tmp_path, "least_devises = 12")
    shown = said(tmp_path)
    assert shown.exit_code == 1
    assert "least_devises" in shown.output


@pytest.mark.parametrize("name", ["noise", "gradients"])
def test_a_device_adds_no_less_noise_by_itself_than_its_owner_wants(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "least_own_noise = 1.0")
    masking = Masking(_nobody, lambda: read(path), FileJournal(tmp_path), lambda *_, **__: None)
    for noise in (0.99, float("nan")):
        task = {"id": "t", "kind": "train", "run": "r", "round": 1, "training": {name: {"noise": noise, "clip": 1.0}}}
        with pytest.raises(Refusal, match="less noise than this device asks for"):
            masking.check(task)  # type: ignore[arg-type]
    masking.check({"training": {name: {"noise": 1.0, "clip": 1.0}}})  # type: ignore[typeddict-item]
    masking.check({"training": {}})  # type: ignore[typeddict-item]


def _nobody() -> Identity:
    raise AssertionError("nobody is asked who this is")
