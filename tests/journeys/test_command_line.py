"""The whole main job by the command line alone, against the real portal with a real mail server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from fedwire.architectures import Architecture
from fedwire.tensors import decode_model, encode_model
from tests.journeys.story import ARCHITECTURE, FEDERATION, MODEL
from tests.journeys.terminal import DESCRIBED, Terminal, World, world_in


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One portal for the journeys that do not mind each other."""
    with world_in(tmp_path_factory.mktemp("world")) as world:
        yield world


def test_the_main_job_from_founding_to_the_new_version(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        valley = found_and_invite(world)
        push_and_share(world)
        run = train(world, valley)
        look_at_what_came_of_it(world, run)
        pull(world.metro, tmp_path)


def found_and_invite(world: World) -> Terminal:
    """metro comes by its id, valley by a letter."""
    acme, metro = world.acme, world.metro
    assert FEDERATION in acme.run("federation", "create", FEDERATION, "--description", "Three hospitals")
    wanted = ("--org", world.ids["metro"], "--email", "vera@valley.example")
    shown = acme.run("federation", "invite", FEDERATION, *wanted)
    assert "vera@valley.example" in shown
    assert "/invitations/" not in shown, "only the letter has the link"
    assert "active" in metro.run("federation", "join", FEDERATION)
    valley = world.valley()
    roster = acme.json("federation", "members", FEDERATION)
    assert [(row["name"], row["role"], row["status"]) for row in roster] == [
        ("acme", "owner", "active"),
        ("metro", "member", "active"),
        ("valley", "member", "active"),
    ]
    return valley


def push_and_share(world: World) -> None:
    """A file of one's own, shared, seen by a member."""
    weights = world.folder / "first.safetensors"
    architecture = Architecture.parse(ARCHITECTURE)
    weights.write_bytes(encode_model(architecture.manifest(), architecture.initial(0)))
    pushed = world.acme.run("push", MODEL, str(weights), "--architecture", DESCRIBED, "--version", "1.0.0")
    assert "1.0.0" in pushed
    assert f"fedportal federation share {MODEL}" in pushed
    world.acme.run("federation", "share", MODEL, "--federation", FEDERATION)
    assert [row["name"] for row in world.metro.json("model", "list")] == [MODEL]
    assert [row["name"] for row in world.metro.json("federation", "models", FEDERATION)] == [MODEL]


def train(world: World, valley: Terminal) -> str:
    """Start, wait, take part, complete; the run's id."""
    acme, metro = world.acme, world.metro
    plan = ("--rounds", "4", "--min-devices", "3", "--group", "production", "--seed", "3")
    run = acme.json("train", "start", MODEL, *plan)
    assert "Waiting for 3 more devices" in acme.run("train", "status", MODEL)
    watcher = acme.start("train", "watch", MODEL)
    with (
        world.device(acme, "hospital-001", 0, "--group", "production") as first,
        world.device(metro, "hospital-002", 1, "--group", "production", "--json") as second,
        world.device(valley, "hospital-003", 2, "--group", "production"),
    ):
        seen, troubles = watcher.communicate(timeout=90)
        assert (watcher.returncode, troubles) == (0, "")
        told = first.communicate(timeout=30)[0]
        took_part = second.communicate(timeout=30)[0]
    assert "round 4 / 4: completed" in seen
    assert "Version 2.0.0 is published" in seen
    assert "Took part in 4 rounds; the run is completed; version 2.0.0 is published." in told
    assert '"result_version": "2.0.0"' in took_part
    return str(run["id"])


def look_at_what_came_of_it(world: World, run: str) -> None:
    """Contributions, lineage, devices."""
    status = world.acme.json("train", "status", run)
    assert [(row["organization"]["name"], row["updates"], row["expected"]) for row in status["contributions"]] == [
        ("acme", 4, 4),
        ("metro", 4, 4),
        ("valley", 4, 4),
    ]
    shown = world.metro.run("model", "show", MODEL)
    assert "2.0.0, aggregated from 4 rounds, 3 organizations" in shown
    assert run in shown
    assert "valley (4 updates" in shown
    assert [row["version"] for row in world.metro.json("model", "versions", MODEL)] == ["2.0.0", "1.0.0"]
    assert "2.0.0" in world.metro.run("model", "versions", MODEL)
    assert [row["device_identifier"] for row in world.metro.json("device", "list")] == ["hospital-002"]


def pull(terminal: Terminal, folder: Path) -> None:
    """All forms hold the same numbers, and an old version is still there."""
    graph = folder / "pulled.onnx"
    assert terminal.json("pull", MODEL, "--format", "onnx", "--output", str(graph))["bytes"] == graph.stat().st_size
    file, dictionary, old = folder / "pulled.safetensors", folder / "pulled.pt", folder / "old.safetensors"
    terminal.run("pull", MODEL, "--output", str(file))
    said = terminal.json("pull", MODEL, "--format", "state_dict", "--output", str(dictionary))
    assert (said["version"], said["bytes"]) == ("2.0.0", dictionary.stat().st_size)
    terminal.run("pull", MODEL, "--version", "1.0.0", "--output", str(old))
    arrays, tensors = decode_model(file)[1], torch.load(dictionary, weights_only=True)
    assert set(tensors) == set(arrays)
    assert all(np.array_equal(tensors[name].numpy(), arrays[name]) for name in arrays)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(graph).graph.initializer}
    assert all(np.array_equal(held[name].reshape(-1), arrays[name].reshape(-1)) for name in arrays)
    before = decode_model(old)[1]
    assert any(not np.array_equal(before[name], arrays[name]) for name in arrays)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_pausing_resuming_and_stopping_a_run(world: World) -> None:
    world.federation()
    world.model()
    acme = world.acme
    run = acme.json("train", "start", MODEL, "--rounds", "500")
    with world.device(world.metro, "hospital-010", 1):
        give_up = time.monotonic() + 60
        while acme.json("train", "status", MODEL)["run"]["current_round"] < 1:
            assert time.monotonic() < give_up
        assert f"fedportal train resume {MODEL}" in acme.run("train", "pause", MODEL)
        assert acme.json("train", "status", MODEL)["run"]["state"] == "paused"
        assert acme.json("train", "resume", MODEL)["status"] == "running"
        changed = acme.json("train", "schedule", MODEL, "asynchronous", "--most-staleness", "9")["plan"]
        assert (changed["schedule"], changed["buffer"], changed["most_staleness"]) == ("asynchronous", 1, 9)
        made = acme.json("train", "status", MODEL)["run"]["current_round"]
        while (now := acme.json("train", "status", MODEL))["run"]["current_round"] < made + 2:
            assert time.monotonic() < give_up
        assert now["round"]["asynchronous"]
        assert ", asynchronous with a buffer of 1" in acme.run("train", "status", MODEL)
        assert acme.json("train", "stop", MODEL)["status"] == "stopped"
    shown = acme.run("train", "status", run["id"])
    assert "Stopped by acme;" in shown
    assert "wrong_state" in acme.code("train", "stop", MODEL)
    assert [row["status"] for row in acme.json("train", "list", MODEL)] == ["stopped"]
    assert run["id"] in acme.run("train", "list")


def test_a_device_registers_rotates_and_is_revoked(world: World, tmp_path: Path) -> None:
    key = world.metro.run(
        "key", "create", "devices", "--scope", "devices:enroll", "--devices", "1", "--days", "7"
    ).strip()
    machine = Terminal(tmp_path / "machine", FEDPORTAL_URL=world.portal.url, FEDPORTAL_API_KEY=key)
    registered = machine.json("device", "register", "--identifier", "hospital-020", "--group", "production")
    other = Terminal(tmp_path / "other", FEDPORTAL_URL=world.portal.url, FEDPORTAL_API_KEY=key)
    assert other.code("device", "register", "--identifier", "hospital-020") == "device_taken"
    assert other.code("device", "register", "--identifier", "hospital-021") == "enrolment_full"
    secrets = list((tmp_path / "machine" / "devices").rglob("*"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets if path.is_file())
    before = [path.read_text() for path in secrets if path.suffix == ".json"]
    assert machine.json("device", "rotate", "--identifier", "hospital-020")["id"] == registered["id"]
    assert [path.read_text() for path in secrets if path.suffix == ".json"] != before
    listed = {row["device_identifier"]: row for row in world.metro.json("device", "list")}["hospital-020"]
    assert (listed["groups"], listed["status"]) == (["production"], "active")
    world.metro.run("device", "groups", "hospital-020", "pilot", "production")
    world.metro.run("device", "quarantine", "hospital-020")
    assert "quarantined" in world.metro.run("device", "list")
    world.metro.run("device", "restore", "hospital-020")
    said = world.metro.try_("device", "revoke", "hospital-020", typed="n\n")
    assert said.code == 1
    world.metro.run("device", "revoke", "hospital-020", typed="y\n")
    assert machine.code("device", "rotate", "--identifier", "hospital-020") in ("key_revoked", "device_inactive")
    assert world.acme.code("device", "revoke", "hospital-020", "--yes") == "not_found"


def test_people_and_keys_of_an_organization(world: World) -> None:
    acme = world.acme
    assert "otto@acme.example" in acme.run("team", "add", "otto@acme.example", "--role", "viewer")
    world.letters.link_for("otto@acme.example")
    found = acme.json("team", "list")
    assert [row["email"] for row in found["members"]] == ["olga@acme.example"]
    assert [(row["email"], row["role"]) for row in found["invitations"]] == [("otto@acme.example", "viewer")]
    assert "otto@acme.example" in acme.run("team", "list")
    assert acme.code("team", "role", "olga@acme.example", "viewer") == "last_owner"
    assert acme.code("team", "remove", "nobody@acme.example", "--yes") == "not_found"
    made = acme.json("key", "create", "reading", "--scope", "models:read")
    reader = Terminal(world.folder / "reader", FEDPORTAL_URL=world.portal.url, FEDPORTAL_API_KEY=made["key"])
    assert "models:read" in reader.run("whoami")
    assert reader.code("federation", "create", "another") == "scope_missing"
    acme.run("key", "revoke", made["id"])
    assert reader.code("whoami") == "key_revoked"
    assert made["key"] not in acme.try_("key", "list", "--json").out
