"""The full cast: what a portal looks like after some months, and devices that are slow, absent or hostile.

Everything goes through the public doors, in the same order every time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from deploy.demo import trouble
from deploy.demo.browser import Browser
from deploy.demo.patients import HOSPITALS, LABELS, Patients, Rows, write_csv
from deploy.demo.stage import Stage
from fedportal_sdk._http import Http
from fedwire import routes

NORTH, SOUTH, WEST = HOSPITALS
SECOND = "pathology-v1"
SECOND_ARCHITECTURE = {"kind": "mlp", "inputs": 30, "classes": 2, "hidden": [8], "standardise": True}
SECOND_DESCRIPTION = "The same question as radiology-v1 with one hidden layer, to see whether that helps."
COLLEAGUES = (
    (NORTH, "data-scientist", "data_scientist"),
    (NORTH, "privacy-officer", "privacy_officer"),
    (NORTH, "device-operator", "device_operator"),
    (NORTH, "viewer", "viewer"),
    (SOUTH, "data-scientist", "data_scientist"),
)
# Identifier, organization, what it does, and how many rows it has (None: all of its hospital's).
TROUBLE = (
    ("hospital-004", NORTH, "straggler", None),
    ("hospital-005", SOUTH, "dropout", None),
    ("hospital-006", WEST, "poisoner", None),
    ("hospital-007", WEST, "inverter", 24),
)
AGREEMENT = {
    "title": "Breast cancer study",
    "text": "Purpose: one model that tells malignant from benign tumours from thirty measurements.\n\n"
    "Each hospital trains on its own patients' rows. Rows stay in the hospital; weight updates and sums of metrics "
    "travel.\n\nThe model may be used by every member. Whoever leaves keeps the versions it has pulled.",
}
ROUNDS_ONCE, ROUNDS = 6, 500
# Deadlines are noticed soon, so that rounds are short although somebody is always missing.
SETTINGS = {"SWEEP_SECONDS": 2}
SEEN = ("dropped", "late", "refused")
ENDED = ("completed", "failed", "stopped")


def furnish(stage: Stage, keys: dict[str, str], password: str, federation: str) -> None:
    """People in several roles, keys, invitations that are open, withdrawn and declined."""
    doors = {name: Http(stage.url, key) for name, key in keys.items()}
    for organization, name, role in COLLEAGUES:
        address = f"{name}@{organization}.example"
        team = routes.ORG_MEMBERS.format(org=whoami(doors[organization]))
        doors[organization].json("POST", team, {"email": address, "role": role})
        accept(stage, address, name.replace("-", " ").title(), password)
    doors[NORTH].json("POST", routes.ORG_MEMBERS.format(org=whoami(doors[NORTH])), {"email": f"new@{NORTH}.example"})
    for name, scopes in (("reports", ["runs:read"]), ("ward devices", ["devices:enroll"])):
        doors[NORTH].json("POST", routes.API_KEYS, {"name": name, "scopes": scopes})
    invite = routes.FEDERATION_INVITE.format(federation=federation)
    for name in ("east-clinic", "lake-clinic"):
        doors[NORTH].json("POST", invite, {"emails": [f"owner@{name}.example"]})
    listed = doors[NORTH].json("GET", routes.FEDERATION_INVITATIONS.format(federation=federation))
    lake = next(row for row in listed if row["email"] == "owner@lake-clinic.example")
    doors[NORTH].json("POST", routes.INVITATION.format(invitation=lake["id"]) + "/revoke", {})


def agree(stage: Stage, keys: dict[str, str], password: str, federation: str) -> None:
    """A study agreement that every member has accepted; each member's owner does it in the browser."""
    published = Http(stage.url, keys[NORTH]).json(
        "POST", routes.FEDERATION_AGREEMENTS.format(federation=federation), AGREEMENT
    )
    address = routes.FEDERATION_AGREEMENT.format(federation=federation, agreement=published["id"])
    for name in (SOUTH, WEST):
        owner = Browser(stage.url)
        owner.submit(f"{stage.url}/sign-in", "password", email=f"owner@{name}.example", password=password)
        owner.call(address + "/accept", {})


def whoami(door: Http) -> str:
    """The caller's organization."""
    return str(door.json("GET", routes.WHOAMI)["organization"]["id"])


def accept(stage: Stage, address: str, name: str, password: str) -> None:
    """Open the link in the letter, and come in with a new account."""
    said = {"name": name, "new_password": password, "answer": "accept"}
    Browser(stage.url).submit(stage.letters.link_for(address), "new_password", **said)


def histories(north: Http, federation: str, model: str, training: dict[str, Any], columns: list[str]) -> dict[str, str]:
    """A second model with two versions; a run that completed, one that failed, one that waits. Their ids."""
    described = {**SECOND_ARCHITECTURE, "columns": columns, "labels": list(LABELS)}
    wish = {"name": SECOND, "description": SECOND_DESCRIPTION, "architecture": described}
    made = north.json("POST", routes.MODELS, wish)["id"]
    north.json("POST", routes.MODEL_VERSIONS.format(model=SECOND), {"initial": True, "seed": training["seed"]})
    north.json("POST", routes.FEDERATION_MODELS.format(federation=federation), {"model_id": made})
    common = {"federation_id": federation, "strategy": "fedavg", "min_devices": len(HOSPITALS), "group": "production"}
    config = {**training, "standardise": True}
    completed = start(north, {**common, "model_id": SECOND, "rounds": 12, "config": config})
    end_of(north, completed)
    wild = {**config, "learning_rate": 100, "weight_decay": 1, "epochs": 8}  # grows beyond all bounds
    failed = start(north, {**common, "model_id": model, "rounds": 3, "round_seconds": 2, "config": wild})
    end_of(north, failed)
    waiting = {**common, "model_id": SECOND, "rounds": 10, "round_seconds": 86_400, "group": "night-shift"}
    return {"completed": completed, "failed": failed, "waiting": start(north, {**waiting, "config": config})}


def bring_trouble(stage: Stage, keys: dict[str, str], rows: Patients) -> None:
    """Start the devices that are slow, absent or hostile."""
    for identifier, organization, kind, count in TROUBLE:
        own = rows.hospitals[organization]
        some = Rows(own.features[:count], own.diagnoses[:count])
        csv_file: Path = write_csv(stage.folder / f"{identifier}.csv", rows.names, some)
        stage.device(keys[organization], identifier, csv_file, "deploy.demo.trouble", kind)


def start_live(north: Http, federation: str, model: str, training: dict[str, Any], once: bool) -> str:
    """The run in which everybody takes part; its id."""
    wait_for_straggler(north)
    wish = {
        "model_id": model,
        "federation_id": federation,
        "strategy": "fedavg",
        "rounds": ROUNDS_ONCE if once else ROUNDS,
        "min_devices": len(HOSPITALS),
        "round_seconds": trouble.ROUND_SECONDS,
        "config": {**training, "standardise": True},
    }
    return start(north, wish)


def wait_for_straggler(north: Http, seconds: float = 60) -> None:
    """Until the straggler is there; the other troubles come at the same time."""
    give_up = time.monotonic() + seconds
    while not any(row["device_identifier"] == TROUBLE[0][0] for row in north.json("GET", routes.DEVICES)["devices"]):
        if time.monotonic() > give_up:
            raise SystemExit(f"{TROUBLE[0][0]} did not come.")
        time.sleep(0.2)
    time.sleep(2.0)


def start(north: Http, wish: dict[str, Any]) -> str:
    """Start a run; its id."""
    return str(north.json("POST", routes.SESSIONS, wish)["id"])


def end_of(north: Http, run: str, seconds: float = 180) -> str:
    """The state in which the run ended."""
    give_up = time.monotonic() + seconds
    while True:
        state = str(north.json("GET", routes.SESSION.format(run=run))["state"])
        if state in ENDED:
            return state
        if time.monotonic() > give_up:
            raise SystemExit(f"The run {run} is still {state}.")
        time.sleep(0.1)


def seen(north: Http, run: str) -> list[str]:
    """Which troubles the run's log tells of."""
    words: set[str] = set()
    after, more = 0, True
    while more:
        page = north.json("GET", routes.SESSION_EVENTS.format(run=run) + f"?after={after}")
        words |= {event["data"].get("word", "") for event in page["events"]}
        after, more = page["events"][-1]["sequence"] if page["events"] else after, page["more"]
    return sorted(words & set(SEEN))
