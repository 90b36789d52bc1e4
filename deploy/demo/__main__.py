"""`python3 dev.py demo [--once] [--secure] [--cast full] [--port N] [--folder PATH] [--start-after SECONDS]`."""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.demo import cast, yardsticks
from deploy.demo.browser import Browser
from deploy.demo.patients import HOSPITALS, LABELS, Patients, Rows, patients, write_csv
from deploy.demo.receiver import Receiver
from deploy.demo.stage import ROOT, Stage
from fedportal_sdk._http import Http
from fedportal_sdk.trainers import Plan
from fedwire import routes
from fedwire.architectures import Architecture

FEDERATION, MODEL = "healthcare-consortium", "radiology-v1"
NORTH, SOUTH, WEST = HOSPITALS
# With --secure: devices of each hospital, and what makes the portal see their sum only; a device's weight is its rows.
WARDS = 4
PRIVACY = {"sums": "secure", "clip": 10.0, "most_weight": 256}
ARCHITECTURE = {"kind": "logistic", "inputs": 30, "classes": 2, "standardise": True}
DESCRIPTION = (
    "Tells malignant (M) from benign (B) breast tumours by thirty measurements of the cell nuclei in a fine-needle "
    "biopsy. Each hospital brings a row for each patient and the column diagnosis."
)
ROUNDS = 20
TRAINING = {"epochs": 2, "learning_rate": 0.2, "batch_size": 16, "seed": 1}
GOOD_ACCURACY = 0.94


def main() -> int:
    """Play the demonstration; 0 when it ended as it should."""
    parser = argparse.ArgumentParser(prog="python3 dev.py demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="run to the end and print one line of JSON")
    parser.add_argument(
        "--cast", choices=("hospitals", "full"), default="hospitals", help="full: also trouble, people and history"
    )
    parser.add_argument(
        "--secure", action="store_true", help="four devices in each hospital, whose updates the portal sees only summed"
    )
    parser.add_argument("--port", type=int, default=None, help="the portal's port (8000; with --once a free one)")
    parser.add_argument("--folder", type=Path, default=None, help="a new folder for everything (var/demo, made anew)")
    parser.add_argument(
        "--start-after", type=float, default=15.0, help="seconds until the run starts (not with --once)"
    )
    options = parser.parse_args()
    # Whoever ends this process ends the portal and the devices with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with it ignored
    try:
        return perform(options)
    except KeyboardInterrupt:
        say("")
        return 0


def perform(options: argparse.Namespace) -> int:
    """Everything between the beginning and Ctrl-C."""
    with folder(options) as place:
        port = options.port if options.port is not None else (0 if options.once else 8000)
        if options.cast != "full":
            with Stage(place, port) as stage:
                return play(stage, options.once, options.start_after, secure=options.secure)
        with Receiver() as receiver, Stage(place, port, WEBHOOK_TEST_HOSTS=receiver.host, **cast.SETTINGS) as stage:
            return play(stage, options.once, options.start_after, receiver)


def play(
    stage: Stage, once: bool, start_after: float, receiver: Receiver | None = None, *, secure: bool = False
) -> int:
    """The story: found, invite, join, push, share, train; with a `receiver` of webhooks the full cast follows."""
    began = time.monotonic()
    rows = patients()
    password = "demonstration-" + secrets.token_hex(4)
    say(f"The portal answers at {stage.url}")
    keys = found_federation(stage, password)
    north = Http(stage.url, keys[NORTH])
    share_model(north, rows.names)
    say(f"{FEDERATION}: {', '.join(HOSPITALS)}; {MODEL} 1.0.0 is shared")
    bring_devices(stage, keys, rows, WARDS if secure else 1)
    if not once:
        say(f"\n    Open      {stage.url}\n    Sign in   owner@{NORTH}.example\n    Password  {password}")
        say(f"    Members   owner@{SOUTH}.example, owner@{WEST}.example (the same password)")
        say(f"    Letters   {stage.letters.folder}: whatever the portal sends, such as links and codes\n")
        say(f"The run starts in {start_after:g} seconds; watch it under Runs.")
        time.sleep(start_after)
    if secure:
        say("One round in the open comes first: it pools the columns' means, which sums under masks do not")
        watch(north, start(north, rounds=1, devices=WARDS * len(HOSPITALS), standardise=True))
        run = start(north, devices=WARDS * len(HOSPITALS), standardise=False, privacy=PRIVACY)
    else:
        run = start(north)
    if not once:
        say(f"    Live      {stage.url}/runs/{run}\n")
    snapshot = watch(north, run)
    result = measure(stage, north, snapshot, rows)
    if receiver is not None:
        result |= further(stage, keys, password, rows, once, receiver)
    result["seconds"] = round(time.monotonic() - began, 2)
    if once:
        print(json.dumps(result), flush=True)
        return 0 if as_promised(result, "3.0.0" if secure else "2.0.0") else 1
    say(f"On {len(rows.held_out)} patients that no hospital has, {MODEL} {result['version']} is right for")
    say(f"{result['accuracy']:.1%}, a model of one hospital alone for {result['local_accuracy']:.1%} on average.")
    say("The pages show what the hospitals measure on rows that they hold out themselves.")
    say("The devices wait for the next run; start one in the browser. Ctrl-C ends everything.")
    stage.wait()
    say("The portal has ended.")
    return 1


def bring_devices(stage: Stage, keys: dict[str, str], rows: Patients, wards: int) -> None:
    """A device in each hospital, or in each of its wards, among which its patients are divided."""
    for number, name in enumerate(HOSPITALS, start=1):
        own = rows.hospitals[name]
        write_csv(stage.folder / f"{name}.csv", rows.names, own)
        for ward in range(wards):
            label = f"-ward-{ward + 1}" if wards > 1 else ""
            part = Rows(own.features[ward::wards], own.diagnoses[ward::wards])
            csv_file = write_csv(stage.folder / f"{name}{label}.csv", rows.names, part)
            stage.device(keys[name], f"hospital-{number:03d}{label}", csv_file)
    counts = ", ".join(str(len(rows.hospitals[name])) for name in HOSPITALS)
    say(f"{'Three' if wards == 1 else wards * len(HOSPITALS)} devices register, with {counts} patients")


def further(
    stage: Stage, keys: dict[str, str], password: str, rows: Patients, once: bool, receiver: Receiver
) -> dict[str, Any]:
    """The full cast: people, histories, and a run in which a straggler, a drop-out and attackers take part."""
    north = Http(stage.url, keys[NORTH])
    cast.furnish(stage, keys, password, FEDERATION)
    cast.agree(stage, keys, password, FEDERATION)
    receiver.secret = north.json("POST", routes.WEBHOOKS, {"url": receiver.url})["secret"]
    say("People in several roles, keys, invitations, a study agreement, a webhook. With the same password, sign in as")
    say(f"    {', '.join(f'{name}@{organization}.example' for organization, name, _ in cast.COLLEAGUES)}")
    runs = cast.histories(north, FEDERATION, MODEL, TRAINING, rows.names)
    say(f"{cast.SECOND} is trained; one run failed, one waits for devices")
    cast.bring_trouble(stage, keys, rows)
    live = cast.start_live(north, FEDERATION, MODEL, TRAINING, once)
    for name, run in {**runs, "with trouble": live}.items():
        say(f"    {name:<13} {stage.url}/runs/{run}")
    if once:
        cast.end_of(north, live)
    heard = sorted(set(receiver.kinds))
    return {"cast": "full", "seen": cast.seen(north, live), "webhook": heard, "runs": {**runs, "live": live}}


def found_federation(stage: Stage, password: str) -> dict[str, str]:
    """North founds and invites; south joins by its id, west by the link in its letter. Everybody's API key."""
    keys = {name: stage.found(name, f"owner@{name}.example", password) for name in (NORTH, SOUTH)}
    north, south = (Http(stage.url, keys[name]["api_key"]) for name in (NORTH, SOUTH))
    about = "Three hospitals that may not share their patients' rows."
    north.json("POST", routes.FEDERATIONS, {"name": FEDERATION, "description": about})
    address = f"owner@{WEST}.example"
    invite = {"org_ids": [keys[SOUTH]["org_id"]], "emails": [address]}
    north.json("POST", routes.FEDERATION_INVITE.format(federation=FEDERATION), invite)
    south.json("POST", routes.FEDERATION_JOIN.format(federation=FEDERATION), {})
    link = stage.letters.link_for(address)
    say(f"{WEST} opens the link in its letter")
    browser = Browser(stage.url)
    said = {"name": "Owner", "new_password": password, "organization_name": WEST, "answer": "accept"}
    browser.submit(link, "new_password", **said)
    west = browser.call(routes.API_KEYS, {"name": "devices", "scopes": ["devices:enroll"]})
    return {name: row["api_key"] for name, row in keys.items()} | {WEST: west["key"]}


def share_model(north: Http, columns: list[str]) -> None:
    """A described model that names its columns and classes, its first weights, shared with the federation."""
    described = {**ARCHITECTURE, "columns": columns, "labels": list(LABELS)}
    wish = {"name": MODEL, "description": DESCRIPTION, "architecture": described}
    model = north.json("POST", routes.MODELS, wish)["id"]
    north.json("POST", routes.MODEL_VERSIONS.format(model=MODEL), {"initial": True, "seed": TRAINING["seed"]})
    north.json("POST", routes.FEDERATION_MODELS.format(federation=FEDERATION), {"model_id": model})


def start(north: Http, *, rounds: int = ROUNDS, devices: int = len(HOSPITALS), **config: Any) -> str:
    """Start the run over all three hospitals; its id."""
    wish = {
        "model_id": MODEL,
        "federation_id": FEDERATION,
        "strategy": "fedavg",
        "rounds": rounds,
        "min_devices": devices,
        "group": "production",
        "config": {**TRAINING, "standardise": True, **config},
    }
    return str(north.json("POST", routes.SESSIONS, wish)["id"])


def watch(north: Http, run: str) -> dict[str, Any]:
    """Follow the run to its end; the last snapshot."""
    shown = -1
    while True:
        snapshot: dict[str, Any] = north.json("GET", routes.SESSION.format(run=run) + "/snapshot")
        state, done = snapshot["run"]["state"], snapshot["run"]["current_round"]
        if done != shown:
            shown = done
            say(f"round {done} / {snapshot['run']['total_rounds']}")
        if state not in ("pending", "running", "paused"):
            return snapshot
        time.sleep(0.1)


def measure(stage: Stage, north: Http, snapshot: dict[str, Any], rows: Patients) -> dict[str, Any]:
    """The figures, all on the rows set aside; the federated model is pulled like any other."""
    run = snapshot["run"]
    if run["state"] != "completed":
        raise SystemExit(f"The run {run['state']}: {run['reason']}")
    version = north.json("GET", routes.MODEL_VERSION.format(model=MODEL, version="latest"))
    path = stage.folder / "pulled.safetensors"
    address = routes.MODEL_DOWNLOAD.format(model=MODEL, version=version["version"]) + "?format=safetensors"
    path.write_bytes(north.send("GET", address).data)
    architecture = Architecture.parse(ARCHITECTURE)
    federated = yardsticks.of_file(architecture, path, rows.held_out)
    plan = Plan.of({**TRAINING, "epochs": TRAINING["epochs"] * ROUNDS})
    locals_ = [yardsticks.alone(architecture, plan, own, rows.held_out) for own in rows.hospitals.values()]
    pooled = yardsticks.alone(architecture, plan, yardsticks.together(rows.hospitals), rows.held_out)
    seconds = [point["seconds"] for point in snapshot["curves"] if point["seconds"] is not None]
    return {
        "rounds": run["current_round"],
        "devices": sum(row["devices"] for row in snapshot["contributions"]),
        "organizations": len(version["lineage"].get("organizations", [])),
        "accuracy": round(federated["accuracy"] or 0.0, 4),
        "auc": round(federated["auc"] or 0.0, 4),
        "local_accuracy": round(statistics.mean(ratios["accuracy"] or 0.0 for ratios in locals_), 4),
        "pooled_accuracy": round(pooled["accuracy"] or 0.0, 4),
        "version": version["version"],
        "seconds": 0.0,
        "ms_per_round_p50": round(1000 * statistics.median(seconds), 2),
        "portal_peak_rss_mb": round(stage.peak_rss_mb(), 1),
    }


def as_promised(result: dict[str, Any], version: str) -> bool:
    """Whether the demonstration showed what it should."""
    return bool(
        result["accuracy"] >= GOOD_ACCURACY
        and result["accuracy"] > result["local_accuracy"]
        and result["version"] == version
        and result["rounds"] == ROUNDS
        and result["organizations"] == len(HOSPITALS)
        and result.get("seen", list(cast.SEEN)) == list(cast.SEEN)
        and "run.finished" in result.get("webhook", ["run.finished"])
    )


@contextmanager
def folder(options: argparse.Namespace) -> Iterator[Path]:
    """Where everything lies: the folder asked for, else a temporary one for --once, else a fresh var/demo."""
    if options.folder is not None:
        place: Path = options.folder.resolve()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise SystemExit(f"{place} is not empty. Name a new folder with --folder.")
        yield place
        return
    if options.once:
        with tempfile.TemporaryDirectory(prefix="fedportal-demo-") as name:
            yield Path(name)
        return
    place = ROOT / "var" / "demo"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    yield place


def say(text: str) -> None:
    """Tell the watcher."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
