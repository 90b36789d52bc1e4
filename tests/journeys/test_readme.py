"""The README's snippet, pasted into a fresh venv elsewhere, makes a further device take part in the next round."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from tests import kept
from tests.journeys.documentation import block
from tests.journeys.story import Story, devices, patients
from tests.running import ROOT, Portal

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROUNDS = 400  # more than pass while the further device is made; the run is stopped once it took part
SOURCES = (".py", ".toml", ".md", ".typed")
WITHOUT_PACKAGES = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME", "FEDPORTAL_HOME")


def test_the_snippet_makes_a_further_device_take_part_in_the_next_round(tmp_path: Path) -> None:
    with Portal() as portal:
        serve_sdk(portal)
        python = fresh_venv(tmp_path / "elsewhere" / "venv", portal.url)
        story = Story(portal)
        patients(tmp_path / "elsewhere" / "patients.csv", 3)
        with devices(story, tmp_path):
            run = story.start(rounds=ROUNDS)
            story.wait_for(run, lambda snapshot: snapshot["run"]["current_round"] >= 1)
            program = start_snippet(python, portal.url, story.keys["metro"])
            try:
                joined = story.wait_for(run, lambda snapshot: updates_of(snapshot, story.ids["metro"]) == 2)
                assert joined["run"]["state"] == "running"
                story.call("acme", "POST", f"/api/v1/training/sessions/{run}/stop", {})
                assert program.wait(30) == 0
            finally:
                program.kill()
                program.wait()
        log = (python.parents[2] / "log").read_text()
        assert log == ""


def updates_of(snapshot: dict, organization: str) -> int:
    """How many devices of the organization have sent updates."""
    return sum(row["devices"] for row in snapshot["contributions"] if row["organization"]["id"] == organization)


def serve_sdk(portal: Portal) -> None:
    """Put the wheel of the SDK where the portal serves it."""
    made_of = kept.digest(path for path in sorted((ROOT / "sdk").rglob("*")) if path.suffix in SOURCES)
    shutil.copytree(kept.kept("wheels", made_of, build_wheel), portal.data_dir / "var" / "sdk", dirs_exist_ok=True)


def build_wheel(folder: Path) -> None:
    """Build it from a copy of its sources."""
    with tempfile.TemporaryDirectory(prefix="fedportal-test-") as copy:
        sources = Path(copy) / "sdk"
        shutil.copytree(ROOT / "sdk", sources, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w"]
        done = subprocess.run([*command, str(folder), str(sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def fresh_venv(folder: Path, url: str) -> Path:
    """A venv with the SDK from the portal; its dependencies come from the tests' own environment, not from the network.

    The README's line is run as it stands but for the address and the two options that keep it off the network.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    line = block("README.md", "sh", "pip install").text.splitlines()[1].replace("http://127.0.0.1:8000", url)
    assert line.startswith("venv/bin/pip install ")
    command = [str(folder / "bin" / "pip"), *line.split()[1:], "--no-index", "--no-deps", "--quiet"]
    done = subprocess.run(command, cwd=folder.parent, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def start_snippet(python: Path, url: str, key: str) -> subprocess.Popen[bytes]:
    """Run the README's Python block with a real key and address."""
    folder = python.parents[2]
    text = (
        block("README.md", "python", "FederatedClient").text.replace("edg_…", key).replace("http://127.0.0.1:8000", url)
    )
    (folder / "snippet.py").write_text(text)
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(
            [str(python), "snippet.py"], cwd=folder, env=environment(folder), stdout=log, stderr=log
        )


def environment(home: Path | None = None) -> dict[str, str]:
    """Nothing of the tests' own environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
    kept = {name: value for name, value in kept.items() if name not in WITHOUT_PACKAGES}
    return kept | ({"HOME": str(home)} if home else {})


@pytest.mark.parametrize("command", ["demo", "test", "run", "check", "bench", "docs"])
def test_the_readmes_commands_exist(command: str) -> None:
    assert f"`{command}`" in README or f"dev.py {command}" in README
    program = (ROOT / "dev.py").read_text()
    assert re.search(rf'"{command}": {command}\b', program)
