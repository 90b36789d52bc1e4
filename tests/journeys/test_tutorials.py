"""The tutorials, played: what they tell owner, member and device engineer to type is typed, in its order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.demo.patients import HOSPITALS, patients, write_csv
from tests.journeys.documentation import Block, block, blocks, pasted, with_programs
from tests.journeys.story import MODEL
from tests.journeys.terminal import World, world_in
from tests.protocol.wire import eventually
from tests.running import STOP_SECONDS

OWNER = "docs/tutorials/owner.md"
MEMBER = "docs/tutorials/member.md"
ENGINEER = "docs/tutorials/device-engineer.md"
OFFICER = "docs/tutorials/privacy-officer.md"
SDK = "sdk/README.md"
HOSPITAL = {"acme": HOSPITALS[0], "metro": HOSPITALS[1]}
SHELL = ("bash", "-e", "-c")
PYTHON = (sys.executable, "-c")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    table = patients()
    write_csv(tmp_path / "patients.csv", table.names, table.held_out)  # the owner names the columns by its header
    with world_in(tmp_path) as world:
        yield world


def test_an_owner_a_member_and_engineers_type_what_their_pages_say(world: World) -> None:
    founding, sharing, training = steps_of_the_owner(world)
    pasted(founding, world.folder, world.acme.environment)
    assert world.letters.link_for("vera@valley.example")
    pasted(block(MEMBER, "sh", "federation join").text, world.folder, world.metro.environment)
    pasted(sharing, world.folder, world.acme.environment)

    shell, python = block(ENGINEER, "sh", "fedportal device run"), block(ENGINEER, "python", "FederatedClient")
    with at_work(world, "metro", shell, *SHELL) as one, at_work(world, "acme", python, *PYTHON) as other:
        eventually(lambda: registered(world) == 2, 30)
        assert "2.0.0" in pasted(training, world.folder, world.acme.environment)
        assert [one.wait(STOP_SECONDS), other.wait(STOP_SECONDS)] == [0, 0]
    assert (world.folder / f"{MODEL}-2.0.0.safetensors").exists()
    audited = pasted(block(OFFICER, "sh", "audit leakage").text, world.folder, world.metro.environment)
    assert "without protection" in audited


def test_a_privacy_officer_types_what_the_page_says(world: World) -> None:
    said = pasted(block(OFFICER, "sh", "set-policy").text, world.folder, world.metro.environment)
    assert "no limit" in said.partition("The policy is set")[0]
    assert "ε 4, δ 1e-05" in said.partition("The policy is set")[2]
    assert "nothing is spent" in pasted(block(OFFICER, "sh", "team budget").text, world.folder, world.metro.environment)
    assert world.metro.json("team", "policy")["least_records"] == 50


def test_the_page_of_the_sdk_trains_with_the_built_in_trainer_and_with_ones_own(world: World) -> None:
    world.federation()
    pasted(steps_of_the_owner(world)[1], world.folder, world.acme.environment)
    built_in, own, measuring = blocks("python", SDK)
    own = replace(own, text=measuring.text + own.filled({"rounds=5)": "rounds=5, evaluate_fn=evaluate)"}))
    with at_work(world, "acme", built_in, *PYTHON) as one, at_work(world, "metro", own, *PYTHON) as other:
        eventually(lambda: registered(world) == 2, 30)
        world.acme.run("train", "start", MODEL, "--rounds", "5", "--min-devices", "2")
        assert "2.0.0" in world.acme.run("train", "status", MODEL, "--watch")
        assert [one.wait(STOP_SECONDS), other.wait(STOP_SECONDS)] == [0, 0]
    measured = world.acme.json("train", "status", MODEL)["curves"]
    assert any({"brier", "auc_fever"} <= point["others"].keys() for point in measured)


def steps_of_the_owner(world: World) -> list[str]:
    """The owner's page in three parts: until the members come, until the devices come, the rest."""
    values = {"https://portal.example": world.portal.url, "edg_…": world.keys["acme"], "org_…": world.ids["metro"]}
    lines = block(OWNER, "sh", "fedportal login").filled(values).splitlines()
    push, train = starts(lines, "fedportal push"), starts(lines, "fedportal train start")
    assert push < train
    return ["\n".join(part) for part in (lines[:push], lines[push:train], lines[train:])]


def starts(lines: list[str], command: str) -> int:
    return next(number for number, line in enumerate(lines) if line.startswith(command))


@contextmanager
def at_work(world: World, organization: str, what: Block, *program: str) -> Iterator[subprocess.Popen[str]]:
    """An engineer of the organization runs the block beside `patients.csv`; afterwards it is ended if it still runs."""
    folder = world.folder / f"machine-of-{organization}"
    folder.mkdir()
    table = patients()
    write_csv(folder / "patients.csv", table.names, table.hospitals[HOSPITAL[organization]])
    text = what.text.replace("edg_…", world.keys[organization])
    for address in ("https://portal.example", "https://your-portal.example"):
        text = text.replace(address, world.portal.url)
    environment = getattr(world, organization).environment
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [*program, text], cwd=folder, env=with_programs(environment), stdout=log, stderr=log, text=True
        )
    try:
        yield process
    except BaseException:
        print((folder / "log").read_text())
        raise
    finally:
        process.kill()
        process.wait()


def registered(world: World) -> int:
    """How many devices acme and metro have."""
    return sum(len(terminal.json("device", "list")) for terminal in (world.acme, world.metro))
