"""`fedportal simulate` against the real portal: drop-outs, attackers, several processes, a virtual clock, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk.simulation import crews
from tests.journeys.documentation import block, pasted
from tests.journeys.story import MODEL
from tests.journeys.terminal import DESCRIBED, Terminal
from tests.running import Portal


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """acme's terminal at a portal of its own."""
    with Portal() as portal:
        terminal = Terminal(tmp_path_factory.mktemp("acme"))
        key = portal.found("acme", "olga@acme.example")["api_key"]
        terminal.run("login", "--url", portal.url, "--api-key", key)
        yield terminal


def in_service(terminal: Terminal) -> list[str]:
    return [row["device_identifier"] for row in terminal.json("device", "list") if row["status"] == "active"]


def simulated(terminal: Terminal, *words: str) -> Any:
    return terminal.json("simulate", *words)


def test_attackers_and_drop_outs_are_played_measured_and_reported(acme: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    told = simulated(
        *(acme, "--data", "digits", "--devices", "14", "--rounds", "2", "--seed", "2"),
        *("--strategy", "median", "--set", "faulty=2", "--attackers", "2:sign-flip", "--learning-rate", "0.5"),
        *("--dropout", "0.15:any", "--min-devices", "7", "--round-seconds", "3", "--report", str(file)),
    )
    counts, dropped = told["counts"], sum(n for name, n in told["counts"].items() if name.startswith("dropped"))
    assert (told["state"], len(told["rounds"])) == ("completed", 2)
    assert dropped > 0
    assert 14 <= counts["answered: train"] < 28
    assert told["accuracy"] > 0.7 > 0.2 > told["start_accuracy"]
    assert {one["identifier"]: one["flagged"] > 0 for one in told["suspects"] if one["attack"]} != {}
    assert told["attackers_flagged"] == 2
    page = file.read_text()
    assert f"{100 * told['accuracy']:.2f} %" in page
    assert f'<td class="n">{told["rounds"][0]["bytes_up"]:,}</td>' in page
    run = acme.json("train", "status", told["run"])
    assert [row["updates"] for row in run["contributions"]] == [counts["answered: train"]]
    assert in_service(acme) == []


def test_the_virtual_clock_gives_the_same_times_and_models_again(acme: Terminal) -> None:
    words = ("--devices", "6", "--rounds", "2", "--speeds", "lognormal:1:100", "--virtual-clock", "--seed", "4")
    first, second = simulated(acme, *words), simulated(acme, *words)
    slowest = max(first["durations"])
    assert [one["at"] for one in first["rounds"]] == [pytest.approx(slowest), pytest.approx(2 * slowest)]
    assert first["clock_seconds"] == pytest.approx(2 * slowest)
    assert first["seconds"] < slowest, "nobody waited for it"
    for name in ("accuracy", "loss", "durations", "clock_seconds"):
        assert first[name] == second[name], name


def test_asynchronous_rounds_do_not_wait_for_the_slowest_device(acme: Terminal) -> None:
    words = ("--devices", "6", "--speeds", "lognormal:1:100", "--virtual-clock", "--seed", "4", "--min-devices", "1")
    first, second = (simulated(acme, *words, "--rounds", "4", "--buffer", "2") for _ in range(2))
    assert (first["state"], len(first["rounds"])) == ("completed", 4)
    assert first["rounds"][0]["at"] == pytest.approx(sorted(first["durations"])[1])
    assert first["rounds"][2]["at"] < max(first["durations"])
    for name in ("accuracy", "loss", "clock_seconds"):
        assert first[name] == second[name], name


def test_processes_share_the_devices_of_a_run_that_was_there_before(acme: Terminal) -> None:
    acme.run("push", MODEL, "--architecture", DESCRIBED)
    acme.run("federation", "share", MODEL, "--federation", "simulation")
    run = acme.json("train", "start", MODEL, "--rounds", "2", "--min-devices", "4", "--round-seconds", "20")["id"]
    told = simulated(
        *(acme, "--run", run, "--devices", "5", "--processes", "2", "--attackers", "1:nonsense"), "--keep-devices"
    )
    assert (told["run"], told["state"], told["model"]) == (run, "completed", MODEL)
    assert told["counts"]["answered: statistics"] == 5
    assert told["counts"]["answered: train"] == 8
    assert told["counts"]["refused"] == told["errors"]["not_finite"] >= 1
    left = in_service(acme)
    assert len(left) == 5
    for identifier in left:
        acme.run("device", "retire", identifier, "--yes")


def test_ctrl_c_stops_the_run_and_retires_the_devices(acme: Terminal) -> None:
    simulation = acme.start("simulate", "--devices", "4", "--rounds", "5000")
    give_up = time.monotonic() + 60
    while not any(row["status"] == "running" for row in acme.json("train", "list")):
        assert time.monotonic() < give_up
    simulation.send_signal(signal.SIGINT)
    _, said = simulation.communicate(timeout=180)
    assert simulation.returncode == 130, said
    assert said.endswith("Interrupted.\n")
    assert acme.json("train", "list")[0]["status"] == "stopped"
    assert in_service(acme) == []


def test_people_type_what_the_page_says_and_read_what_came_of_it(acme: Terminal, tmp_path: Path) -> None:
    config = json.loads((acme.home / "config.json").read_text())
    values = {"https://portal.example": config["url"], "edg_…": config["api_key"]}
    shown = pasted(block("docs/simulation.md", "sh", "fedportal simulate").filled(values), tmp_path, acme.environment)
    assert "30 devices, 3 rounds: completed." in shown
    assert "accuracy on the test set" in shown
    assert re.search(r"attackers flagged +2 of 2 ", shown)
    assert "simulated time" in shown
    assert (tmp_path / "simulation.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("--skew even", "field_invalid", "iid"),
        ("--dropout 0.1:later", "field_invalid", "taken"),
        ("--attackers 30:noise", "field_invalid", "not all can be attackers"),
        ("--virtual-clock --processes 2", "field_invalid", "one process"),
        ("nothing", "not_found", "no such model"),
        ("--strategy nothing", "strategy_unknown", "nothing"),
        ("--report /nowhere/report.html", "file_unwritable", "/nowhere"),
        ("--data digits --devices 9999", "field_invalid", "less than one"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_a_next_step_and_leaves_no_device(
    acme: Terminal, words: str, code: str, says: str
) -> None:
    said = acme.try_("simulate", *words.split(), "--json")
    assert (said.code, said.out) == (1, "")
    assert (said.error["error"], said.error["next_step"] != "") == (code, True)
    assert says in said.error["message"]
    assert in_service(acme) == []


@pytest.mark.skipif(not crews.available("ray"), reason="Ray is not installed here")
def test_actors_of_ray_share_the_devices(acme: Terminal) -> None:
    told = simulated(acme, "--devices", "4", "--rounds", "1", "--ray", "--processes", "2")
    assert (told["state"], told["answered"]) == ("completed", 4)
    assert in_service(acme) == []


@pytest.mark.skipif(crews.available("ray"), reason="Ray is installed here")
def test_ray_is_asked_for_by_name_where_it_is_not_installed(acme: Terminal) -> None:
    said = acme.refused("simulate", "--ray")
    assert "Simulating on Ray needs the package ray, which is not installed." in said
    assert "pip install ray" in said
