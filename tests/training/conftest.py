"""A shared model, devices that are there, and what they do: all through the services, with real rows and files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federations.models import Device, DeviceTask, Organization
from federations.services import device_tasks, task_rows
from federations.services import federations as federation_services
from fedportal.celery import app as celery_app
from fedportal.common import blobs, clock
from fedwire import codecs, metrics, statistics
from fedwire.architectures import Architecture
from fedwire.tensors import Manifest, decode_model, encode_update, unflatten
from registry.models import Model
from registry.services import models as model_services
from registry.services import versions
from tests.cast import Cast, assemble, register, scene
from training import selectors
from training.models import Round, Run
from training.services import runs

LOGISTIC = {"kind": "logistic", "inputs": 3, "classes": 2}
STANDARDISED = {**LOGISTIC, "standardise": True}
MODEL = "radiology-v1"


class Site:
    """A device and what it would do: its update, its rows, its report."""

    def __init__(self, device: Device, samples: int, move: float) -> None:
        self.device = device
        self.samples = samples
        self.move = move

    def tasks(self) -> list[DeviceTask]:
        """The open tasks of the device, oldest first."""
        return list(self.device.tasks.filter(state__in=task_rows.UNFINISHED).order_by("id"))

    @property
    def task(self) -> DeviceTask:
        """The one open task."""
        (task,) = self.tasks()
        return task

    def take(self) -> DeviceTask:
        """Let the task leave for the device."""
        task = self.task
        device_tasks.note_taken([task.pk])
        return task

    def vector(self, task: DeviceTask) -> np.ndarray:
        """An update that depends on the device, its seed and the round only."""
        manifest = Manifest.from_json(task.content["manifest"])
        generator = np.random.default_rng([task.content["training"]["seed"], task.content["round"]])
        return (self.move + generator.standard_normal(manifest.parameters)).astype(np.float32)

    def upload(self, task: DeviceTask, vector: np.ndarray | None = None) -> str:
        """Store the update as the door would; its digest."""
        manifest = Manifest.from_json(task.content["manifest"])
        vector = self.vector(task) if vector is None else vector
        plan, drawn = task.content["training"].get("codec"), (task.content["training"]["seed"], task.content["round"])
        if plan is None:
            sha = blobs.put(encode_update(manifest, unflatten(manifest, vector)))
        else:
            sha = blobs.put(codecs.of(plan, manifest).encode(vector, codecs.draws(*drawn)).tobytes())
        device_tasks.note_upload(task.pk, sha, float(np.linalg.norm(vector)))
        return sha

    def answer(self, task: DeviceTask | None = None, vector: np.ndarray | None = None, **more: Any) -> dict[str, Any]:
        """Do the task and answer it; the receipt."""
        task = task or self.task
        said: dict[str, Any] = {"samples": self.samples, "seconds": 0.25}
        if task.update_bytes:
            said["sha256"] = self.upload(task, vector)
        if task.kind == "statistics":
            rows = np.random.default_rng(self.samples).normal(self.move, 2.0, (self.samples, 3))
            said["statistics"] = statistics.of(rows)
        if task.content["answer"]["metrics"]:
            said["evaluation"] = self.report(task)
        return self.say(task, {**said, **more})

    def report(self, task: DeviceTask) -> dict[str, Any]:
        """Held-out rows on which the model does better from round to round."""
        rows = 10
        loss = 1.0 / task.content["round"]
        return dict(metrics.evaluation([0.9] * rows, [1] * (rows - 2) + [0] * 2, [loss] * rows))

    def say(self, task: DeviceTask, answer: dict[str, Any]) -> dict[str, Any]:
        return device_tasks.answer(self.device.pk, task.public_id, json.dumps(answer).encode())[0]

    def decline(self, reason: str = "no power") -> None:
        device_tasks.decline(self.device.pk, self.task.public_id, json.dumps({"reason": reason}).encode())

    def seen(self) -> None:
        """The device made itself heard."""
        Device.objects.filter(pk=self.device.pk).update(last_seen_at=clock.now())

    def vanish(self) -> None:
        """Nobody has heard of the device for long."""
        Device.objects.filter(pk=self.device.pk).update(last_seen_at=clock.now() - timedelta(days=1))

    def arrive(self) -> None:
        """The device comes to wait and there is nothing for it."""
        self.seen()
        device_tasks.tell_idle([self.device.pk])


class Stage:
    """The cast, a shared model, and devices on call."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.olga = cast.actor("olga")
        self.model = self.shared(MODEL, LOGISTIC)

    def shared(self, name: str, architecture: dict[str, Any]) -> Model:
        """A model of acme with initial weights, shared with the federation."""
        model = model_services.create(self.olga, name=name, architecture=architecture)
        versions.initial(self.olga, model, seed=1)
        model_services.share(self.olga, model, self.cast.federation)
        return model

    def site(self, organization: Organization, identifier: str, samples: int = 10, move: float = 1.0) -> Site:
        """A device of the organization that is there."""
        keys = {org.pk: self.cast.keys[who] for who, org in (("olga", self.cast.acme), ("mia", self.cast.metro))}
        key = keys.get(organization.pk) or self.cast.keys["vera"]
        made = Device.objects.get(public_id=register(key, identifier)["id"])
        site = Site(made, samples, move)
        site.seen()
        return site

    def three(self) -> list[Site]:
        """Two devices of acme, one of metro."""
        acme, metro = self.cast.acme, self.cast.metro
        return [
            self.site(acme, "acme-1", 10, 1.0),
            self.site(acme, "acme-2", 20, -1.0),
            self.site(metro, "metro-1", 30, 0.5),
        ]

    def valley_joins(self) -> None:
        federation_services.join(self.cast.actor("vera"), self.cast.federation)

    def start(self, **options: Any) -> Run:
        """A run of three rounds with seed 7 unless said otherwise."""
        config = {"seed": 7, **options.pop("config", {})}
        defaults = {"rounds": 3, "min_participants": 1, "federation": self.cast.federation}
        return runs.start(self.olga, options.pop("model", self.model), config=config, **{**defaults, **options})

    def snapshot(self, run: Run) -> dict[str, Any]:
        return selectors.snapshot(run, self.olga)


def current(run: Run) -> Round:
    """The run's latest round."""
    return run.rounds.order_by("-number", "-attempt")[0]


def weights_of(blob: str) -> np.ndarray:
    """The flat vector of a logistic model's file."""
    _, arrays = decode_model(blobs.path(blob))
    return np.concatenate([arrays["layers.0.bias"].ravel(), arrays["layers.0.weight"].ravel()])


def rewind(run: Run, seconds: float = 3600) -> None:
    """Let the open round's deadline be past."""
    past = clock.now() - timedelta(seconds=seconds)
    run.rounds.filter(state="open").update(deadline=past)


@pytest.fixture
def bells() -> Iterator[None]:
    """Doorbells are answered at once, in the same thread, as a worker would."""
    celery_app.conf.task_always_eager = True
    yield
    celery_app.conf.task_always_eager = False


@pytest.fixture
def stage(transactional_db: None, bells: None, cheap: None, settings: Any, tmp_path: Path) -> Stage:
    """Everything in place; commits are real, so what follows a commit happens."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    return scene(build).enter(tmp_path)


def build() -> Stage:
    """The stage with its cast, made by the services that make it in life."""
    return Stage(assemble())


@pytest.fixture
def silent(stage: Stage) -> Callable[[], None]:
    """Call it and no bell is heard any more: the broker takes messages and nobody answers."""

    def hush() -> None:
        celery_app.conf.task_always_eager = False

    return hush


ARCHITECTURE = Architecture.parse(LOGISTIC)
