"""Devices that answer plans of inference: the device's half is the SDK's own, the portal is asked directly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from federations.models import DeviceTask, Organization
from federations.services import device_tasks
from fedportal.common import blobs
from fedportal_sdk._inferring import Inferrer
from fedportal_sdk._policy import DevicePolicy
from fedportal_sdk._retry import Stop
from fedportal_sdk.data import load
from fedportal_sdk.local import TableWork
from fedwire.tensors import Manifest, decode_model, encode_model
from registry.services import versions
from tests.training.conftest import ARCHITECTURE, Site, Stage
from training.models import InferencePlan
from training.services import consents, inference


class Clinic:
    """A device with rows of its own; `policy` is what lies beside it. It is also its own way to the portal."""

    def __init__(self, site: Site, rows: np.ndarray, labels: np.ndarray, folder: Path) -> None:
        self.site, self.rows, self.folder = site, rows, folder
        self.work, self.policy = TableWork(load((rows, labels), "target")), DevicePolicy()
        self.inferrer = Inferrer(
            self,  # type: ignore[arg-type]
            self.work,
            folder,
            policy=lambda: self.policy,
            model=None,
            least_records=0,
            stop=Stop(),
            tell=lambda event, **values: None,
        )

    def act(self) -> DeviceTask:
        """Take the open task and do what the SDK makes of it; the task."""
        task = self.site.take()
        self.again(task)
        return task

    def again(self, task: DeviceTask) -> None:
        """The same task once more, as after a restart."""
        said = {"id": task.public_id, "kind": task.kind, "base_digest": task.base_blob, **task.content}
        self.inferrer.take(said, lambda call: call())  # type: ignore[arg-type]

    def model(self, task: Any, progress: Callable[[int, int], None]) -> Any:
        manifest = Manifest.from_json(task["manifest"])
        return SimpleNamespace(arrays=decode_model(blobs.path(task["base_digest"]), manifest)[1])

    def answer(self, task_id: str, answer: Any) -> Any:
        return device_tasks.answer(self.site.device.pk, task_id, json.dumps(answer).encode())[0]

    def decline(self, task_id: str, reason: str) -> Any:
        return device_tasks.decline(self.site.device.pk, task_id, json.dumps({"reason": reason}).encode())


class Ward:
    """The stage with three hospitals that consented, and clinics."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        self.federation, self.olga = stage.cast.federation, stage.olga
        stage.valley_joins()
        # Rows whose first column is above 0 are of class 1.
        weights = {"layers.0.weight": np.array([[1, 0, 0]], np.float32), "layers.0.bias": np.zeros(1, np.float32)}
        blob = blobs.put(encode_model(ARCHITECTURE.manifest(), weights))
        versions.publish(stage.model, blob=blob, parent=versions.latest(stage.model), source="rule")
        self.owners = {"olga": stage.cast.acme, "mia": stage.cast.metro, "vera": stage.cast.valley}
        for who in self.owners:
            consents.give(stage.cast.actor(who), self.federation)

    def clinic(self, owner: Organization, name: str, rows: int = 40) -> Clinic:
        """A device of this organization with so many rows, half of them of each class."""
        site = self.stage.site(owner, name)
        table = np.random.default_rng(len(name) + rows).normal(size=(rows, 3))
        return Clinic(site, table, np.arange(rows) % 2, self.folder / name)

    def three(self, rows: int = 40) -> list[Clinic]:
        """One clinic of each hospital, the only devices that there are."""
        self.stage.cast.device.delete()
        return [self.clinic(owner, f"{owner.name}-1", rows) for owner in self.owners.values()]

    def plan(self, **options: Any) -> InferencePlan:
        """A plan of acme over the shared model, of counts unless said otherwise."""
        names = {"least_devices", "least_organizations", "seconds", "begin", "name"}
        bounds = {name: options.pop(name) for name in names & options.keys()}
        said = {"summary": "counts", **options}
        return inference.plan(self.olga, self.federation, self.stage.model, said=said, **bounds)


def fresh(plan: InferencePlan) -> InferencePlan:
    return InferencePlan.objects.get(pk=plan.pk)
