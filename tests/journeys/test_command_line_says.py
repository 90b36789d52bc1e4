"""What the command line says: help with examples, tables for people, one JSON document for programs, errors that name
the next step."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fedportal_sdk.cli.main import PARTS, main
from fedwire.architectures import Architecture
from fedwire.tensors import encode_model
from tests.journeys.story import FEDERATION, MODEL
from tests.journeys.terminal import DESCRIBED, NOBODY, PROGRAM, Terminal, World, world_in
from tests.running import free_port

WIDE = {"kind": "linear", "inputs": 1_000_000}


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every word and its command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


LEAVES = {" ".join(path) for path, command in commands() if not isinstance(command, click.Group)}
GROUPS = sorted(" ".join(path) for path, command in commands() if isinstance(command, click.Group))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """acme and metro in a federation that has a model."""
    with world_in(tmp_path_factory.mktemp("world")) as world:
        world.federation()
        world.model()
        yield world


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_a_bare_word_shows_its_help_with_examples(group: str, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    bare = terminal.run(*group.split())
    assert bare == terminal.run(*group.split(), "--help")
    assert "Example" in bare or "fedportal login --url" in bare
    assert "Commands:" in bare


def test_every_command_says_what_it_does_and_speaks_json() -> None:
    for path, command in commands():
        assert command.get_short_help_str(200), path
        if not isinstance(command, click.Group):
            assert any(parameter.name == "as_json" for parameter in command.params), path


def test_the_overview_says_of_each_command_what_the_command_says() -> None:
    context = click.Context(main)
    shown = {name: part.help for name, part in PARTS.items()}
    commands = {name: main.get_command(context, name) for name in PARTS}
    assert shown == {name: command and command.get_short_help_str(200) for name, command in commands.items()}


def test_every_command_prints_one_json_document(tmp_path: Path) -> None:
    asked: set[str] = set()
    with world_in(tmp_path) as world:
        for terminal, words in story(world):
            found = terminal.json(*words)
            assert found is not None
            asked.add(max((leaf for leaf in LEAVES if " ".join(words).startswith(leaf)), key=len))
    assert asked == LEAVES


def story(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """Each command once, in an order that makes sense, as (who, words)."""
    acme, metro, ids, folder = world.acme, world.metro, world.ids, world.folder
    key = metro.json("key", "create", "more")
    data = folder / "patients.csv"
    data.write_text("a,b,c,d,e,f,y\n" + "".join(f"{i},1,2,3,4,5,{i // 10}\n" for i in range(20)))
    login = ["login", "--url", world.portal.url, "--api-key", key["key"]]
    yield metro, login
    for words in (["whoami"], ["key", "create", "k"], ["key", "list"], ["federation", "list"], ["team", "list"]):
        yield acme, words
    yield acme, ["federation", "create", FEDERATION]
    yield acme, ["federation", "invite", FEDERATION, "--org", ids["metro"], "--email", "vera@valley.example"]
    yield metro, ["federation", "decline", FEDERATION]
    acme.run("federation", "invite", FEDERATION, "--org", ids["metro"])
    yield metro, ["federation", "join", FEDERATION]
    yield from agreement(world)
    yield acme, ["federation", "invitations", FEDERATION]
    letter = acme.json("federation", "invitations", FEDERATION)[0]["id"]
    yield acme, ["federation", "resend", letter]
    yield acme, ["federation", "withdraw", letter]
    yield acme, ["federation", "members", FEDERATION]
    yield acme, ["federation", "suspend", FEDERATION, ids["metro"]]
    yield acme, ["federation", "reinstate", FEDERATION, ids["metro"]]
    yield acme, ["push", MODEL, "--architecture", DESCRIBED]
    yield acme, ["federation", "share", MODEL, "--federation", FEDERATION]
    yield metro, ["federation", "models", FEDERATION]
    for words in (["model", "list"], ["model", "versions", MODEL], ["model", "show", MODEL]):
        yield metro, words
    yield metro, ["pull", MODEL, "--output", str(folder / "pulled.safetensors")]
    yield metro, ["serve", MODEL, "--port", "0", "--seconds", "0"]
    yield from gating(world)
    yield metro, ["device", "check", MODEL, "--data", str(data), "--target", "y"]
    for verb in ("register", "rotate"):
        yield metro, ["device", verb, "--identifier", "hospital-001"]
    yield from trust(world)
    yield acme, ["train", "start", MODEL, "--rounds", "3", "--strategy", "finetune", "--set", "learning_rate=0.001"]
    mine = ["--identifier", "hospital-001", "--data", str(data), "--target", "y"]
    yield metro, ["device", "run", MODEL, *mine, "--rounds", "2"]
    yield metro, ["device", "personal", MODEL, *mine, "--output", str(folder / "mine.safetensors"), "--forget"]
    for verb in ("status", "pause", "resume", "schedule", "stop", "watch", "keep", "publish-best", "list"):
        yield acme, ["train", verb, MODEL, *(["synchronous"] if verb == "schedule" else [])]
    yield metro, ["audit", "leakage", MODEL, "--images", "5"]
    yield from delivery(world)
    yield from trial(world)
    yield acme, ["simulate", "--devices", "3", "--rounds", "1"]
    yield metro, ["device", "list"]
    for act in (["groups", "pilot"], ["quarantine"], ["restore"], ["renew"], ["reset"], ["revoke", "--yes"]):
        yield metro, ["device", act[0], "hospital-001", *act[1:]]
    yield from edges(world, mine[2:])
    yield from people(world)
    yield from inferences(world)
    yield from webhooks(world)
    yield acme, ["federation", "unshare", MODEL, "--federation", FEDERATION]
    yield metro, ["federation", "leave", FEDERATION, "--yes"]
    acme.run("federation", "invite", FEDERATION, "--org", ids["metro"])
    yield acme, ["federation", "remove", FEDERATION, ids["metro"], "--yes"]


def gating(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """The model gets limits; a version that no run measured is let through, and that is taken back."""
    yield world.acme, ["gate", "set", MODEL, "--size", "1000000", "--latency", "10000"]
    yield world.acme, ["gate", "check", MODEL]
    world.acme.run("gate", "set", MODEL, "--quality", "0.8")
    refused = world.acme.try_("gate", "check", MODEL)
    assert (refused.code, "unknown" in refused.out, "no run that began with it" in refused.out) == (1, True, True)
    for words in (["deploy", MODEL, "--rollout", "1%"], ["rollback", MODEL, "--to-version", "1.0.0", "--yes"]):
        assert world.metro.code(*words) == "gate_failed"
    yield world.metro, ["gate", "show", MODEL]
    named = [MODEL, "--version", "1.0.0"]
    yield world.acme, ["gate", "override", *named, "--reason", "Nobody has measured it yet."]
    yield world.acme, ["gate", "withdraw", *named]
    world.acme.run("gate", "set", MODEL, "--quality", "none", "--size", "none", "--latency", "none")


def agreement(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    text = world.folder / "agreement.txt"
    text.write_text("Data stay where they are.\nResults are shared.")
    wanted = [FEDERATION, "--title", "Study agreement", "--file", str(text), "--expires", "2999-12-31"]
    yield world.acme, ["federation", "agreement", "publish", *wanted]
    yield world.metro, ["federation", "agreement", "show", FEDERATION]
    agreed = world.metro.json("federation", "agreement", "show", FEDERATION)["id"]
    yield world.metro, ["federation", "agreement", "accept", FEDERATION, "--agreement", agreed]


def trust(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """metro makes its root, asks for its place, and certifies the device that was registered."""
    named, identity = ["--identifier", "hospital-001"], str(world.folder / "identity.json")
    yield world.metro, ["device", "policy", *named]
    yield world.metro, ["team", "root-key"]
    yield world.metro, ["federation", "roots", FEDERATION, "--ask"]
    yield world.metro, ["device", "identity", *named, "--output", identity]
    yield world.metro, ["device", "certify", identity]


def delivery(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """metro sends a version to its devices, steers it, and takes it back."""
    yield world.metro, ["deploy", MODEL, "--version", "1.0.0", "--rollout", "1%"]
    for words in (["show", MODEL], ["list"], ["advance", MODEL], ["set", MODEL, "50%"], ["pause", MODEL]):
        yield world.metro, ["rollout", *words]
    for verb in ("resume", "complete"):
        yield world.metro, ["rollout", verb, MODEL]
    yield world.metro, ["rollback", MODEL, "--yes"]


def trial(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """acme compares two versions of a model of its own, promotes one, and gives up another comparison."""
    world.acme.run("push", "scans", "--architecture", DESCRIBED)
    world.acme.run("push", "scans", "--architecture", DESCRIBED, "--seed", "2", "--version", "2.0.0")
    planned = ["experiment", "create", "scans", "--treatment", "2.0.0", "--control", "1.0.0"]
    yield world.acme, planned
    for words in (["start", "scans"], ["show", "scans"], ["list"], ["promote", "scans", "--arm", "control", "--yes"]):
        yield world.acme, ["experiment", *words]
    world.acme.run(*planned)
    yield world.acme, ["experiment", "stop", "scans"]
    world.acme.run("federation", "share", "scans", "--federation", FEDERATION)
    world.acme.run("rollout", "complete", "scans")
    world.acme.run(*planned, "--federation", FEDERATION, "--start")
    yield world.metro, ["experiment", "offered"]
    offer = world.metro.json("experiment", "offered")[0]["id"]
    yield world.metro, ["experiment", "join", offer, "--yes"]


def edges(world: World, data: list[str]) -> Iterator[tuple[Terminal, list[str]]]:
    """A device retires, and an edge with one device behind it takes part in a round."""
    world.metro.run("device", "register", "--identifier", "hospital-002")
    yield world.metro, ["device", "retire", "hospital-002", "--yes"]
    named = ["--identifier", "edge-metro"]
    yield world.metro, ["edge", "key", *named]
    port = free_port()
    key = world.metro.json("edge", "key", *named)["key"]
    url = f"http://127.0.0.1:{port}"
    ward = Terminal(world.folder / "ward", FEDPORTAL_URL=url, FEDPORTAL_API_KEY=key)
    world.acme.run("train", "start", MODEL, "--rounds", "3")
    behind = ward.start("device", "run", "--identifier", "ward-7", *data)
    try:
        yield world.metro, ["edge", "run", MODEL, *named, "--port", str(port), "--rounds", "1"]
    finally:
        behind.kill()
        behind.communicate()
    world.acme.run("train", "stop", MODEL)
    yield world.metro, ["edge", "status", *named]
    yield world.metro, ["edge", "reset", "ward-7", *named]
    yield world.metro, ["edge", "revoke", "ward-7", "--yes", *named]


def people(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """The policy is set; a colleague comes, gets another role and goes; so does a key."""
    yield world.metro, ["team", "policy"]
    yield world.metro, ["team", "set-policy", "--privacy-budget", "4.0", "--strategies", "fedavg"]
    yield world.metro, ["team", "budget"]
    yield world.acme, ["team", "add", "otto@acme.example"]
    world.accept("otto@acme.example")
    yield world.acme, ["team", "role", "otto@acme.example", "auditor"]
    yield world.acme, ["team", "remove", "otto@acme.example", "--yes"]
    yield world.acme, ["key", "revoke", world.acme.json("key", "create", "short")["id"]]


def inferences(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """A plan is made, looked at and called off."""
    acme, words = world.acme, ["--federation", FEDERATION, "--summary", "counts", "--wait"]
    yield acme, ["infer", "start", MODEL, *words]
    yield acme, ["infer", "consent", FEDERATION, "--least-noise", "1"]
    yield acme, ["infer", "list", FEDERATION]
    made = acme.json("infer", "list", FEDERATION)[0]["id"]
    yield acme, ["infer", "show", made]
    yield acme, ["infer", "cancel", made, "--yes"]


def webhooks(world: World) -> Iterator[tuple[Terminal, list[str]]]:
    """A webhook comes, is tried and goes; nobody answers there."""
    added = ["team", "webhook", "add", f"http://{NOBODY}/hook", "--kind", "run.finished"]
    yield world.acme, added
    yield world.acme, ["team", "webhook", "list"]
    made = world.acme.json("team", "webhook", "list")[0]["id"]
    yield world.acme, ["team", "webhook", "test", made]
    yield world.acme, ["team", "webhook", "remove", made, "--yes"]


REFUSALS = [
    ("metro", "federation members nowhere", "not_found", "id or name"),
    ("metro", "federation members ../../keys", "invalid_name", "letters"),
    ("metro", "federation join nowhere", "not_found", "id or name"),
    ("acme", f"federation create {FEDERATION}", "name_taken", "another name"),
    ("acme", "federation create rounds", "reserved_name", "another name"),
    ("acme", f"federation invite {FEDERATION} --org org_nobody", "not_found", "Check the id"),
    ("acme", f"federation invite {FEDERATION} --email nonsense", "field_invalid", "Correct --email"),
    ("metro", f"federation invite {FEDERATION} --email a@b.example", "forbidden", "owner"),
    ("metro", f"federation agreement show {FEDERATION}", "no_agreement", f"agreement publish {FEDERATION} --title"),
    ("metro", f"federation agreement show {FEDERATION} --version 2", "no_agreement", "Its owner publishes one"),
    ("metro", f"federation agreement publish {FEDERATION} --title A --file README.md", "forbidden", "owner"),
    ("metro", f"push {MODEL} --architecture @architecture.json", "data_missing", "Check the path"),
    ("acme", "push another nowhere.safetensors", "data_missing", "Check the path"),
    ("acme", f"push {MODEL} README.md", "not_safetensors", "safetensors"),
    ("acme", "push another --architecture {", "architecture_invalid", "docs/protocol.md"),
    ("acme", f"pull {MODEL} --version 9.0.0 --output x", "not_found", "id or name"),
    ("acme", f"pull {MODEL} --output /nowhere/x", "file_unwritable", "--output"),
    ("acme", f"pull {MODEL} --output /", "file_unwritable", "--output"),
    ("acme", f"train status {MODEL}", "no_run", f"fedportal train start {MODEL}"),
    ("acme", "train status run_nothing", "not_found", "id or name"),
    ("acme", f"train start {MODEL} --strategy gossip", "strategy_unknown", "fedavg"),
    ("acme", f"train start {MODEL} --strategy krum", "field_invalid", "Correct --min-devices"),
    ("acme", f"train start {MODEL} --strategy fedper", "field_invalid", "Correct --local"),
    ("acme", f"train start {MODEL} --learning-rate nan", "bad_request", "send it again"),
    ("metro", f"train start {MODEL}", "forbidden", "owner"),
    ("metro", f"train start {MODEL} --dry-run", "forbidden", "owner"),
    ("acme", f"train start {MODEL} --set magic=1", "strategy_parameter", "start again"),
    ("acme", f"train start {MODEL} --codec topk --set fraction=0.1", "strategy_parameter", "with --codec-fraction."),
    ("acme", f"train start {MODEL} --set min_participant=2", "strategy_parameter", "Say it with --min-devices."),
    ("acme", f"train start {MODEL} --set learningrate=2", "strategy_parameter", "Say it with --learning-rate."),
    ("metro", f"deploy {MODEL} --version 9.0.0 --yes", "not_found", "id or name"),
    ("metro", f"deploy {MODEL} --rollout 10% --group nowhere", "not_found", "id or name"),
    ("metro", f"rollout show {MODEL}", "no_rollout", f"fedportal deploy {MODEL} --rollout 10%"),
    ("metro", f"rollout pause {MODEL}", "no_rollout", f"fedportal deploy {MODEL} --rollout 10%"),
    ("metro", f"rollback {MODEL} --yes", "no_rollout", f"fedportal deploy {MODEL} --rollout 10%"),
    ("metro", f"rollback {MODEL} --to-version 9.0.0 --yes", "not_found", "id or name"),
    ("metro", f"experiment show {MODEL}", "no_experiment", f"fedportal experiment create {MODEL} --treatment"),
    ("metro", "experiment join exp_nothing --yes", "not_found", "id or name"),
    ("metro", "experiment stop exp_nothing", "not_found", "id or name"),
    ("acme", f"experiment create {MODEL} --treatment 1.0.0 --control 1.0.0", "field_invalid", "Correct --treatment"),
    ("acme", f"experiment create {MODEL} --treatment 1.0.0 --share 100%", "field_invalid", "Correct --control"),
    ("metro", "rollout show rol_nothing", "not_found", "id or name"),
    ("metro", "device revoke nobody --yes", "not_found", "id or name"),
    ("metro", f"device personal {MODEL}", "no_personal_model", "fedper"),
    ("metro", "key revoke key_nobody", "not_found", "id or name"),
    ("metro", "device run --data nowhere.csv", "data_missing", "Check the path"),
    ("acme", f"federation roots {FEDERATION} --sign org_nobody --yes", "not_found", "id or name"),
    ("metro", "device certify README.md", "field_invalid", "identity"),
    ("metro", "serve radiology-v9", "not_found", "id or name"),
    ("metro", "serve nowhere.safetensors", "data_missing", "Check the path"),
    ("metro", f"serve {MODEL} --version 9.0.0", "not_found", "id or name"),
    ("metro", "serve README.md", "serve_undescribed", "--architecture"),
    ("metro", f"serve {MODEL} --report-health --identifier nobody", "not_configured", "FEDPORTAL_DEVICE"),
    ("metro", "edge status --identifier edge-nowhere", "edge_unknown", "fedportal edge key"),
    ("metro", "edge run --port 0 --certificate README.md", "field_invalid", "Correct --certificate"),
    ("metro", "edge run --port 0 --least-devices 3 --quorum 2", "field_invalid", "Correct --quorum"),
]


@pytest.mark.parametrize(("who", "words", "code", "next_step"), REFUSALS)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    world: World, who: str, words: str, code: str, next_step: str
) -> None:
    terminal: Terminal = getattr(world, who)
    assert next_step in terminal.refused(*words.split())
    assert terminal.code(*words.split()) == code


def test_without_a_key_every_command_says_how_to_log_in(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert "fedportal login" in terminal.refused("federation", "list")
    assert terminal.code("train", "start", MODEL) == "not_configured"
    assert terminal.code("login", "--url", "portal", "--api-key", "edg_x") == "field_invalid"
    nobody = f"http://127.0.0.1:{free_port()}"
    assert "is the portal running?" in terminal.refused("login", "--url", nobody, "--api-key", "edg_x")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_key_is_not_saved(world: World, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert terminal.code("login", "--url", world.portal.url, "--api-key", "edg_wrong") == "key_invalid"
    assert list(tmp_path.iterdir()) == []
    terminal.run("login", "--url", world.portal.url + "/api/v1/", typed=f" {world.keys['acme']} \n")
    assert "olga@acme.example" in terminal.run("whoami")
    assert (tmp_path / "config.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "words", ["federation invite x", "push x", "train start", "deploy", "train start x --rounds 0"]
)
def test_a_command_that_is_not_understood_points_to_its_help(tmp_path: Path, words: str) -> None:
    said = Terminal(tmp_path).try_(*words.split())
    assert (said.code, said.out) == (2, "")
    assert "--help" in said.err


def test_a_start_says_what_may_surprise_and_what_it_waits_for(world: World) -> None:
    world.acme.run("push", "later", "--architecture", DESCRIBED)
    world.acme.run("federation", "share", "later", "--federation", FEDERATION)
    started = world.acme.try_("train", "start", "later", "--min-devices", "7")
    assert started.code == 0
    assert "warning: No device could ever take part." in started.err
    assert "Started run_" in started.out
    watching = world.acme.start("train", "watch", "later")
    try:
        assert watching.stdout is not None
        assert "waiting. Waiting for 7 more devices" in watching.stdout.readline()
    finally:
        watching.kill()
        watching.communicate()
        world.acme.run("train", "stop", "later")


def test_what_others_wrote_is_text_and_not_markup(world: World) -> None:
    world.acme.run("push", "odd", "--architecture", DESCRIBED)
    file = world.folder / "odd.safetensors"
    world.acme.run("pull", "odd", "--output", str(file))
    world.acme.run("push", "odd", str(file), "--notes", "[red]stop[/red] \x1b[31m")
    assert "[red]stop[/red]" in (shown := world.acme.run("model", "show", "odd"))
    assert "\x1b" not in shown


def test_bars_are_for_people_at_a_terminal_only(world: World, tmp_path: Path) -> None:
    file = tmp_path / "wide.safetensors"
    architecture = Architecture.parse(WIDE)
    file.write_bytes(encode_model(architecture.manifest(), architecture.initial(0)))
    out, shown = on_a_terminal(world.acme, "push", "wide", str(file))
    assert "Pushed wide 1.0.0" in out
    assert "pushing wide.safetensors" in shown
    out, shown = on_a_terminal(world.acme, "push", "wide", str(file), "--json")
    assert out.startswith("{")
    assert shown == ""
    out, shown = on_a_terminal(world.acme, "pull", "wide", "--output", str(tmp_path / "copy"))
    assert "pulling copy" in shown
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    assert "described --architecture" in world.acme.refused("pull", "wide", "--format", "onnx")
    assert world.acme.code("pull", "wide", "--format", "onnx") == "format_needs_architecture"
    out, shown = on_a_terminal(world.acme, "pull", MODEL, "--format", "onnx", "--output", str(tmp_path / "graph"))
    assert "The portal is making the onnx form" in shown
    assert (tmp_path / "graph").exists()
    out, shown = on_a_terminal(world.acme, "train", "status", MODEL, "--json")
    assert "no_run" in shown


def test_what_reaches_every_device_at_once_is_asked_about(world: World) -> None:
    asked = world.acme.try_("deploy", MODEL, typed="n\n")
    assert (asked.code, "the latest version to all your devices" in asked.err) == (1, True)
    assert "Begin one: fedportal deploy" in world.acme.run("rollout", "list", MODEL)
    world.acme.run("deploy", MODEL, "--schedule", "5%:1h,100%", "--error-rate", "2%")
    shown = world.acme.run("rollout", "show", MODEL)
    assert ("5 % for 1h" in shown, "more than 2 % of predictions fail" in shown) == (True, True)
    assert world.acme.try_("rollout", "advance", MODEL, typed="n\n").code == 1
    assert world.acme.json("rollout", "show", MODEL)["rollout_percentage"] == 5
    assert world.acme.try_("rollback", MODEL, typed="n\n").code == 1
    assert "goes back from 0 devices" in world.acme.run("rollback", MODEL, typed="y\n")
    assert "Begin another: `fedportal deploy" in world.acme.refused("rollout", "set", MODEL, "50%")


def test_an_experiment_says_what_may_be_concluded_and_asks_before_it_ends(world: World) -> None:
    acme = world.acme
    acme.run("push", "trial", "--architecture", DESCRIBED)
    acme.run("push", "trial", "--architecture", DESCRIBED, "--seed", "2", "--version", "2.0.0")
    assert "None yet. Plan one" in acme.run("experiment", "list", "trial")
    begun = acme.run("experiment", "create", "trial", "--treatment", "2.0.0", "--control", "1.0.0", "--start")
    assert "2.0.0 against 1.0.0 is running: 0 get 2.0.0, 0 get 1.0.0." in begun
    shown = acme.run("experiment", "show", "trial")
    assert "Nothing can be said yet: each arm needs 20 predictions whose outcome is known" in shown
    refused = acme.refused("experiment", "promote", "trial", "--yes")
    assert "experiment promote exp_" in refused
    assert "experiment stop exp_" in acme.refused("deploy", "trial", "--yes")
    asked = acme.try_("experiment", "stop", "trial", typed="n\n")
    assert (asked.code, "return to what they had" in asked.err) == (1, True)
    assert "is stopped" in acme.run("experiment", "stop", "trial", typed="y\n")


def test_tables_lose_nothing_without_a_terminal(world: World) -> None:
    rows = world.acme.json("federation", "members", FEDERATION)
    shown = world.acme.run("federation", "members", FEDERATION)
    assert all(row["org_id"] in shown for row in rows)
    assert "…" not in shown


def on_a_terminal(terminal: Terminal, *words: str) -> tuple[str, str]:
    """What the command writes to standard output, a file, and to standard error, a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(PROGRAM), *words],
        env=terminal.environment | {"TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the last one at the other end is gone
        pass
    finally:
        os.close(ours)
    out = process.communicate(timeout=60)[0]
    return out, shown.decode()


def test_a_dry_run_says_what_would_happen_and_starts_nothing(world: World) -> None:
    before = world.acme.json("train", "list")
    said = world.acme.run("train", "start", MODEL, "--min-devices", "2", "--set", "momentum=0.5", "--dry-run")
    assert "would wait for" in said
    assert "metro" in said
    assert "Nothing was started." in said
    refused = world.acme.try_("train", "start", MODEL, "--set", "epochs=0", "--set", "momentum=7", "--dry-run")
    assert refused.code == 1
    assert refused.out.count("error: ") == 2
    assert world.acme.json("train", "start", MODEL, "--dry-run")["ok"]
    assert world.acme.try_("train", "start", MODEL, "--set", "momentum").code == 2
    assert world.acme.json("train", "list") == before
