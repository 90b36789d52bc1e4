"""A portal with a federation, a model, a run and its devices, and a look at all that it has stored."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from fedportal_sdk import FederatedClient
from fedwire import routes
from fedwire.errors import CATALOGUE
from fedwire.messages import Task
from fedwire.states import TaskState
from fedwire.tensors import Manifest
from tests.journeys.story import MODEL, Story
from tests.protocol.wire import Device, Reply
from tests.running import Portal

# What changes anyway, refusal or not: that somebody was seen, the portal's own pulse, letters that leave, uploads that
# were announced, and how often somebody tried. A refusal itself is told to those who watch the run, once for a task and
# a reason.
PASSING = {"last_seen_at", "last_used_at"}
TOLD: dict[str, set[str]] = {"training_run": {"sequence"}, "training_assignment": {"refusal"}}
REFUSED = "assignment.refused"
NOT_LOOKED_AT = {
    "training_pulse",
    "federations_heartbeat",
    "django_session",
    "federations_tries",
    "federations_letter",
    "federations_news",
    "registry_stagedupload",
    "sqlite_sequence",
}
FOLDERS = ("blobs", "uploads", "scratch")


class Scene:
    """Two devices with an open task each, in a run that needs both."""

    def __init__(self, portal: Portal, folder: Path) -> None:
        self.portal, self.folder = portal, folder
        self.story = Story(portal)
        self.metro = self._device("metro", "hospital-001")
        self.acme = self._device("acme", "hospital-002")
        self.run = self.story.start(rounds=2, devices=2, round_seconds=600, standardise=False)
        self.tasks = {device.id: self._task(device) for device in (self.metro, self.acme)}

    @property
    def manifest(self) -> Manifest:
        """Of the model that is trained."""
        return Manifest.from_json(self.tasks[self.metro.id]["manifest"])

    @property
    def _database(self) -> str:
        return f"file:{self.portal.data_dir}/var/fedportal.sqlite3?mode=ro"

    def task(self, device: Device) -> str:
        """The id of the device's open task."""
        return str(self.tasks[device.id]["id"])

    def heartbeat(self) -> None:
        """Both devices say that they are there."""
        for device in (self.metro, self.acme):
            with device.wire() as wire:
                assert wire.post(routes.DEVICE_HEARTBEAT.format(device=device.id), {}).status == 200

    def stored(self) -> dict[str, str]:
        """A digest of the rows of every table and of the files of every folder."""
        found: dict[str, str] = {}
        with closing(sqlite3.connect(self._database, uri=True)) as database:
            database.row_factory = sqlite3.Row
            tables = [row["name"] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            for table in set(tables) - NOT_LOOKED_AT:
                rows = [dict(row) for row in database.execute(f'SELECT * FROM "{table}" ORDER BY 1')]
                passing = PASSING | TOLD.get(table, set())
                rows = [row for row in rows if row.get("kind") != REFUSED]
                kept = [{name: value for name, value in row.items() if name not in passing} for row in rows]
                found[table] = _digest(kept)
        for name in FOLDERS:
            files = sorted(path for path in (self.portal.data_dir / "var" / name).rglob("*") if path.is_file())
            found[f"folder {name}"] = _digest([[path.name, path.stat().st_size] for path in files])
        return found

    def _device(self, name: str, identifier: str) -> Device:
        client = FederatedClient(self.story.keys[name], identifier, self.portal.url, self.folder / f"home-{name}")
        record = client.register()
        client.close()
        return Device(self.portal, {"pk": 0, "id": record.id, "key": record.device_key})

    def _task(self, device: Device) -> Task:
        reply = device.next(wait=20)
        assert reply.status == 200, reply
        task: Task = reply.json()
        assert task.get("model_name", MODEL) == MODEL
        self._wait_until_noted(str(task["id"]))
        return task

    def _wait_until_noted(self, task: str) -> None:
        """The portal writes down who took a task a moment after the task has left: only then is all at rest."""
        until = time.monotonic() + 30
        while self._state(task) == TaskState.OPEN:
            assert time.monotonic() < until, "nobody wrote down that the task was taken"
            time.sleep(0.01)

    def _state(self, task: str) -> str:
        with closing(sqlite3.connect(self._database, uri=True)) as database:
            query = "SELECT state FROM federations_devicetask WHERE public_id = ?"
            return str(database.execute(query, (task,)).fetchone()[0])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=repr, sort_keys=True).encode()).hexdigest()


def check_refusal(reply: Reply, status: int, code: str) -> str:
    """The refusal's sentence, after a look at its form: a code, a whole sentence, a next step."""
    said: dict[str, Any] = reply.json()
    assert (reply.status, said["error"], said["status_code"]) == (status, code, status), said
    assert said["message"] == said["detail"]
    assert said["message"].endswith("."), said["message"]
    assert said["next_step"].endswith("."), said["next_step"]
    assert "{" not in said["next_step"]
    assert CATALOGUE[code].status == status
    return str(said["message"])


def update_path(task: str) -> str:
    """Where a task's update goes."""
    return routes.TASK_UPDATE.format(task=task)
