"""Devices that take part in secure aggregation: the device's half is the SDK's own, the portal is asked directly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federations.models import Device, DeviceTask, Organization
from federations.services import device_tasks, task_rows
from fedportal.common import blobs, clock
from fedwire.masking import groups, statements
from fedwire.masking.groups import Chain, Drawing, Lot
from fedwire.masking.session import Session, vector_digest
from fedwire.masking.statements import Advert
from fedwire.masking.terms import Policy, Terms, told
from tests.cast import register
from tests.masking.conductor import Notebook
from tests.training.conftest import Stage
from training.models import Run

PRIVACY = {"sums": "secure", "clip": 10.0, "most_weight": 4}
STEPS = ("train", "reveal", "advertise", "share", "mask", "agree", "unmask")


class Sitter:
    """A device. `update` [P] is what it trains each time, `rows` its weight; it dies in the step `until`."""

    def __init__(self, device: Device, key: Ed25519PrivateKey, update: np.ndarray, rows: int) -> None:
        self.device, self.key, self.update, self.rows = device, key, update, rows
        self.until = ""
        self.draws = True  # its SDK knows groups
        self.policy = Policy()
        self.journal = Notebook()
        self.chain, self.told = Chain(), ""
        self.drawing: Drawing | None = None
        self.group: Mapping[str, str] | None = None
        self.session: Session | None = None
        self.terms: Terms | None = None
        self.vector: bytes = b""
        self.certificate: dict[str, Any] = {}
        self.secrets: list[bytes] = []

    @property
    def name(self) -> str:
        return self.device.public_id

    def task(self) -> DeviceTask | None:
        """The task that is open for it, if it still lives when it gets it."""
        task = self.device.tasks.filter(state__in=task_rows.UNFINISHED).order_by("id").first()
        return None if task is None or self.until == step_of(task) else task

    def say(self, task: DeviceTask, **answer: Any) -> dict[str, Any]:
        body = json.dumps({"samples": 1, **answer}).encode()
        return device_tasks.answer(self.device.pk, task.public_id, body)[0]

    def act(self, task: DeviceTask) -> dict[str, Any]:
        """Do the task; the receipt."""
        device_tasks.note_taken([task.pk])
        step = step_of(task)
        if step == "train":
            self.session = self.drawing = self.group = None
            self.chain, self.told = Chain(), told(task.content)
            return self.say(task, ready=True, masking={"commitment": self.chain.commitment} if self.draws else {})
        masking = task.content["masking"]
        document = json.loads(blobs.path(task.base_blob).read_bytes()) if task.base_blob else {}
        return self.say(task, **getattr(self, f"_{step}")(task, masking, document))

    def _reveal(self, task: DeviceTask, asked: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        drawing = Drawing.of(document["drawing"])
        assert statements.is_signed(asked["server"], "drawing", drawing.fields(), document["signature"])
        groups.check(drawing, Lot(self.name, self.device.organization.public_id, self.chain.commitment), self.drawing)
        self.drawing = drawing
        return {"masking": {"number": self.chain.number(drawing.draw)}}

    def _advertise(self, task: DeviceTask, asked: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        self.terms = Terms(**asked["terms"])
        assert self.terms.task == self.told, "all were told the same, seeds aside"
        if self.drawing is not None:
            drawn, self.group = groups.group_of(self.drawing, document["numbers"], self.name)
            assert drawn == self.terms.beacon
        identity = self.name, self.device.organization.public_id, self.key
        self.session = Session(self.terms, asked["server"], identity, self.policy, self.journal)
        self.secrets += [self.session._own, self.session._mask_key.private_bytes_raw()]
        shown = {"certificate": self.certificate} if self.certificate else {}
        return {"masking": {"advert": asdict(self.session.advert), **shown}}

    def _share(self, task: DeviceTask, asked: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        roster = [Advert(**advert) for advert in document["adverts"]]
        if self.group is not None:
            groups.check_roster(self.group, roster)
        sealed, signature = self.live.share(roster, document["signature"])
        return {"masking": {"sealed": sealed, "signature": signature}}

    def _mask(self, task: DeviceTask, asked: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        assert self.terms is not None
        vector = self.live.mask(asked["delivered"], self.terms.ring.encode(self.update, self.rows))
        self.vector = vector.tobytes()
        assert len(self.vector) == task.update_bytes
        device_tasks.note_upload(task.pk, blobs.put(self.vector), None)
        digest = vector_digest(vector)
        return {"sha256": digest, "masking": {"signature": self.live.signed_vector(digest)}}

    def _agree(self, task: DeviceTask, asked: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        return {"masking": {"signature": self.live.agree(document["survivors"], document["signature"])}}

    def _unmask(self, task: DeviceTask, asked: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        given, signature = self.live.unmask(document["agreed"])
        self.secrets += [bytes.fromhex(share) for shares in given.values() for share in shares.values()]
        return {"masking": {"given": given, "signature": signature}}

    @property
    def live(self) -> Session:
        assert self.session is not None, "it has advertised"
        return self.session


def step_of(task: DeviceTask) -> str:
    return str(task.content["masking"]["phase"]) if task.kind == "secagg" else str(task.kind)


def sitters(stage: Stage, parameters: int, each: int = 4) -> list[Sitter]:
    """So many devices of each of three organizations, that are there."""
    found, generator = [], np.random.default_rng(3)
    for organization, who in ((stage.cast.acme, "olga"), (stage.cast.metro, "mia"), (stage.cast.valley, "vera")):
        for number in range(each):
            update = generator.normal(size=parameters).astype(np.float32)
            found.append(
                _sitter(stage, organization, who, f"{organization.name}-site-{number}", update, 1 + number % 4)
            )
    return found


def _sitter(stage: Stage, of: Organization, who: str, name: str, update: np.ndarray, rows: int) -> Sitter:
    key = Ed25519PrivateKey.generate()
    device = Device.objects.select_related("organization").get(
        public_id=register(stage.cast.keys[who], name, key)["id"]
    )
    Device.objects.filter(pk=device.pk).update(last_seen_at=clock.now())
    return Sitter(device, key, update, rows)


def play(devices: Sequence[Sitter], until: Callable[[str], bool] = lambda step: False) -> None:
    """Let every device do what it is asked until nobody is asked any more, or a task of a step `until` is there."""
    while tasks := [(device, task) for device in devices if (task := device.task()) is not None]:
        if any(until(step_of(task)) for _, task in tasks):
            return
        for device, _ in tasks:
            if (task := device.task()) is not None:
                device.act(task)


def expected(devices: Sequence[Sitter]) -> np.ndarray:
    """The weighted mean of their updates, in float64."""
    weights = np.array([device.rows for device in devices], np.float64)
    return np.average([device.update for device in devices], axis=0, weights=weights)


def secure(stage: Stage, **more: Any) -> Run:
    """A run with secure sums."""
    config = {"evaluate": False, "privacy": {**PRIVACY, **more.pop("privacy", {})}, **more.pop("config", {})}
    return stage.start(min_participants=more.pop("min_participants", 10), config=config, **more)
