"""An edge between the real portal and its organization's devices: what its page tells an operator to type is typed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FederatedClient
from fedwire import routes
from fedwire.tensors import decode_model
from tests.journeys.documentation import block, with_programs
from tests.journeys.story import FEDERATION, MODEL, Device, Story, patients
from tests.journeys.terminal import Terminal
from tests.protocol.wire import eventually
from tests.running import Portal, free_port

PAGE = "docs/edge.md"
NAMES = ("acme", "metro", "valley")


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """One portal for all journeys of this page."""
    with Portal() as portal:
        yield Story(portal)


@contextmanager
def edge_at(terminal: Terminal, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `fedportal edge run …` and the address at which it serves; killed afterwards."""
    process = terminal.start("edge", "run", *words)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"served at (http\S+)", line):
                yield process, found[1]
                break
        else:
            raise AssertionError("the edge did not begin to serve")
    finally:
        process.kill()
        process.communicate()


def taking(
    stack: ExitStack, key: str, identifier: str, url: str, csv_file: Path, home: Path, group: str = "ward"
) -> Device:
    """A device at work in a thread."""
    client = FederatedClient(key, identifier, url, home)
    stack.callback(client.close)
    client.register(groups=[group])
    return Device(client, lambda one: one.train(MODEL, csv_file, "diagnosis"))


def weights_of(story: Story, run: str, folder: Path) -> dict[str, Any]:
    """The tensors of the version that the run published."""
    version = story.snapshot(run)["run"]["result_version"]
    address = routes.MODEL_DOWNLOAD.format(model=MODEL, version=version)
    path = folder / f"{run}.safetensors"
    path.write_bytes(story.doors["acme"].send("GET", address).data)
    return decode_model(path)[1]


@pytest.mark.parametrize("strategy", ["fedavg", "fednova"])
def test_devices_behind_an_edge_make_the_same_model_as_without_one(story: Story, tmp_path: Path, strategy: str) -> None:
    """Three hospitals take part one by one, then through an edge of metro. Passes over all rows know no order."""
    files = [patients(tmp_path / f"{number}.csv", number, 100 + 30 * number) for number in range(3)]
    plan = {"rounds": 3, "config": {"batch_size": 1000, "epochs": 2}}
    base = story.versions()[0]["version"]
    with ExitStack() as stack:
        flat = [
            taking(
                stack,
                story.keys[name],
                f"{strategy}-{name}",
                story.portal.url,
                files[number],
                tmp_path / name,
                strategy,
            )
            for number, name in enumerate(NAMES)
        ]
        run = start(story, strategy, version=base, group=strategy, min_devices=3, **plan)
        without = story.completed(run)
        assert [device.join().rounds for device in flat] == [3, 3, 3]
    terminal = Terminal(tmp_path / "edge", FEDPORTAL_URL=story.portal.url, FEDPORTAL_API_KEY=story.keys["metro"])
    named = ("--identifier", f"edge-{strategy}")
    key = terminal.json("edge", "key", *named)["key"]
    with (
        edge_at(terminal, *named, "--group", f"{strategy}-edge", "--port", "0", "--least-devices", "3") as (_, url),
        ExitStack() as stack,
    ):
        behind = [
            taking(stack, key, f"ward-{number}", url, files[number], tmp_path / f"ward-{number}") for number in range(3)
        ]
        second = start(story, strategy, version=base, group=f"{strategy}-edge", **plan)
        with_edge = story.completed(second)
        assert [device.join().rounds for device in behind] == [3, 3, 3]
        shown = terminal.json("edge", "status", *named)
    assert shown["running"] is True
    assert [row["device_identifier"] for row in shown["devices"]] == ["ward-0", "ward-1", "ward-2"]
    seen = {row["device_identifier"]: row for row in story.call("metro", "GET", routes.DEVICES)["devices"]}
    assert not any(name.startswith("ward") for name in seen)
    assert seen[f"edge-{strategy}"]["capabilities"]["devices_behind"] == 3
    assert [row["updates"] for row in with_edge["contributions"]] == [3]
    rows = [sum(row["samples"] for row in found["contributions"]) for found in (without, with_edge)]
    assert rows[0] == rows[1]
    ours, theirs = weights_of(story, second, tmp_path), weights_of(story, run, tmp_path)
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
    for one, other in zip(without["curves"], with_edge["curves"], strict=True):
        assert one["accuracy"] == pytest.approx(other["accuracy"], abs=1e-9)
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)


def start(story: Story, strategy: str, *, rounds: int, group: str, **wish: Any) -> str:
    """Start a run among the devices of a group, so that those of another journey are not waited for; its id."""
    config = {"learning_rate": 0.5, "seed": 3, "standardise": True, "batch_size": 16, **wish.pop("config", {})}
    asked = {"model_id": MODEL, "federation_id": FEDERATION, "strategy": strategy, "rounds": rounds, "group": group}
    asked |= {"min_devices": 1, "round_seconds": 60, "config": config, **wish}
    return str(story.call("acme", "POST", routes.SESSIONS, asked)["session_id"])


def test_an_edge_that_is_killed_in_a_round_goes_on_and_every_device_counts_once(story: Story, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "edge", FEDPORTAL_URL=story.portal.url, FEDPORTAL_API_KEY=story.keys["valley"])
    port = str(free_port())
    words = ("--identifier", "edge-valley", "--group", "killed", "--port", port, "--least-devices", "2")
    key = terminal.run("edge", "key", "--identifier", "edge-valley").strip()
    with ExitStack() as stack:
        with edge_at(terminal, *words) as (process, url):
            wards = [
                taking(stack, key, f"ward-{n}", url, patients(tmp_path / f"{n}.csv", n), tmp_path / f"ward-{n}")
                for n in range(2)
            ]
            run = start(story, "fedavg", rounds=6, group="killed")
            story.wait_for(run, lambda s: s["run"]["current_round"] >= 2)
            process.kill()
        with edge_at(terminal, *words):
            ended = story.completed(run)
            assert [ward.join().state for ward in wards] == ["completed"] * 2
    assert [row["updates"] for row in ended["contributions"]] == [6]
    assert {row["samples"] % 6 for row in ended["contributions"]} == {0}


def test_a_strategy_that_must_see_each_update_gets_none_and_says_why(story: Story, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "edge", FEDPORTAL_URL=story.portal.url, FEDPORTAL_API_KEY=story.keys["metro"])
    key = terminal.run("edge", "key", "--identifier", "edge-robust").strip()
    words = ("--identifier", "edge-robust", "--group", "robust", "--port", "0")
    with edge_at(terminal, *words) as (_, url), ExitStack() as stack:
        taking(stack, key, "ward-0", url, patients(tmp_path / "0.csv", 0), tmp_path / "ward-0")
        run = start(story, "median", rounds=1, group="robust", min_devices=3, config={"standardise": False})
        snapshot = story.wait_for(run, lambda s: any(c["state"] == "declined" for c in s["participants"]))
    assert "must see each device's update" in {card["reason"] for card in snapshot["participants"]}.pop()
    story.call("acme", "POST", routes.SESSION.format(run=run) + "/stop", {})


def test_what_the_page_says_is_typed(story: Story, tmp_path: Path) -> None:
    """The operator's lines and the device engineer's, with addresses, keys and the certificate left out."""
    port = free_port()
    terminal = Terminal(tmp_path / "edge", FEDPORTAL_URL=story.portal.url, FEDPORTAL_API_KEY=story.keys["metro"])
    terminal.run("login", "--url", story.portal.url, "--api-key", story.keys["metro"])
    key = terminal.run(*block(PAGE, "sh", "edge key").text.split()[1:]).strip()
    words = block(PAGE, "sh", "edge run").text.replace(" --certificate edge.pem", "").split()
    served = ["127.0.0.1" if word == "0.0.0.0" else word for word in words[3:]]
    data = patients(tmp_path / "patients.csv", 1)
    engineer = block(PAGE, "sh", "device run").filled({"https://edge.metro.example:8100": f"http://127.0.0.1:{port}"})
    with ExitStack() as stack, edge_at(terminal, *served, "--group", "page", "--port", str(port)):
        for number in range(3):
            machine = tmp_path / f"ward-{number}"
            machine.mkdir()
            (machine / "patients.csv").write_bytes(data.read_bytes())
            text = engineer.replace("edg_…", key).replace("ward-7-a", f"ward-7-{number}")
            environment = with_programs({**terminal.environment, "FEDPORTAL_HOME": str(machine / "home")})
            for name in ("FEDPORTAL_URL", "FEDPORTAL_API_KEY"):
                environment.pop(name)
            with open(machine / "log", "w") as log:
                process = subprocess.Popen(
                    ["bash", "-e", "-c", text], cwd=machine, env=environment, stdout=log, stderr=log
                )
            stack.callback(process.wait)
            stack.callback(process.kill)
        run = start(story, "fedavg", rounds=1, group="page")
        story.completed(run)
        status = terminal.run(*block(PAGE, "sh", "edge status").text.split()[1:])
        eventually(lambda: all("completed" in path.read_text() for path in tmp_path.glob("ward-*/log")), 30)
    assert "running" in status
    assert all(f"ward-7-{number}" in status for number in range(3))
    assert terminal.code("edge", "status", "--identifier", "edge-other") == "edge_unknown"
