"""A portal that asks for masked updates: the phases of decision 0023, played with `training.privacy.unmasking`."""

from __future__ import annotations

import copy
import hashlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.masking import statements
from fedwire.masking.statements import Advert
from fedwire.masking.terms import Terms, least_threshold, told
from fedwire.tensors import encode_model
from tests.sdk.server import Reply, Seen, found, refusal
from training.privacy import unmasking
from training.privacy.unmasking import Roster

ARCHITECTURE = Architecture.parse({"kind": "logistic", "inputs": 2})
MANIFEST = ARCHITECTURE.manifest()
KEY = "edg_abcd1234_" + "x" * 43 + "_zzzzzz"
NAMES = [f"{organization}-{number}" for organization in ("acme", "metro", "valley") for number in range(4)]
TERMS = {"bits": 32, "clip": 10.0, "most_weight": 1, "least_devices": 10, "least_organizations": 3}


@dataclass
class Asked:
    """A task that one device was asked to do, and what became of it."""

    device: str
    body: dict[str, Any]
    document: bytes = b""
    state: str = "open"
    answer: dict[str, Any] = field(default_factory=dict)
    upload: bytes = b""

    @property
    def said(self) -> dict[str, Any]:
        return self.answer.get("masking", {})


class Summing:
    """`count` rounds among the devices of NAMES, each of one attempt. A device of `gone` dies in the phase it is there
    for: it gets that task and is not heard of again. `spoil(phase, device, masking)` may change what is asked."""

    def __init__(self, rounds: int = 1, gone: dict[str, str] | None = None, **terms: Any) -> None:
        self.rounds, self.gone, self.terms_like = rounds, dict(gone or {}), {**TERMS, **terms}
        self.settings: dict[str, dict[str, Any]] = {}  # what a device is told to train with, other than the rest
        self.refuses: Callable[[str, str], str] = lambda *_: ""  # why the portal refuses what a device says in a phase
        self.spoil: Callable[[str, str, dict[str, Any]], None] = lambda *_: None
        self.key = Ed25519PrivateKey.generate()
        self.members: list[dict[str, Any]] = []  # the federation's list
        self.identities: dict[str, str] = {}
        self.weights = ARCHITECTURE.initial()
        self.sums: list[tuple[np.ndarray, int, list[str]]] = []  # mean, weights, survivors of each round that came off
        self.failed: list[str] = []
        self.declined: list[tuple[str, str]] = []
        self.seen: list[Asked] = []
        self.replies = Counter[str]()  # what to answer with `unavailable` first, by the path's last word
        self.round, self.phase = 0, "idle"
        self.tasks: dict[str, Asked] = {}
        self.changed = threading.Condition()

    @property
    def public(self) -> str:
        return self.key.public_key().public_bytes_raw().hex()

    @property
    def model(self) -> bytes:
        return encode_model(MANIFEST, self.weights)

    def __call__(self, number: int, seen: Seen) -> Reply:
        path, _, query = seen.path.partition("?")
        device = seen.headers.get("authorization", "").removeprefix("Bearer edg_device_")
        last = path.rpartition("/")[2]
        body = json.loads(seen.body) if seen.method == "POST" and seen.body else {}
        with self.changed:
            if self.replies[last] > 0:
                self.replies[last] -= 1
                return refusal("unavailable")
            if path == routes.DEVICE_REGISTER:
                return self._register(body)
            if path == routes.TASK_NEXT:
                return self._next(device, float(parse_qs(query)["wait"][0]))
            if path.startswith(f"{routes.API}/device/runs/"):
                over = self.phase == "over"
                return found({"state": "completed" if over else "running", "result_version": "2.0.0"})
            return self._task(path.split("/")[-2], last, seen, body)

    def _register(self, body: dict[str, Any]) -> Reply:
        name = body["device_identifier"]
        self.identities[name] = body["public_key"]
        if len(self.identities) == len(NAMES) and self.phase == "idle":
            self.train()
        organization = name.partition("-")[0]
        return found({"id": name, "org_id": organization, "device_key": f"edg_device_{name}"}, 201)

    def _next(self, device: str, wait: float) -> Reply:
        def waiting() -> Asked | None:
            return next((one for one in self.tasks.values() if one.device == device and one.state == "open"), None)

        self.changed.wait_for(lambda: waiting() is not None or self.phase == "over", timeout=wait)
        task = waiting()
        if task is None:
            return Reply(204)
        if self.gone.get(device) == self.phase:
            task.state = "gone"
            self._advance()
            return Reply(204)
        return found(task.body)

    def _task(self, name: str, last: str, seen: Seen, body: dict[str, Any]) -> Reply:
        task = self.tasks.get(name)
        if task is None or task.state in ("gone", "declined"):
            return refusal("task_closed", state="closed")
        if last == "model":
            return Reply(200, task.document or self.model)
        if last == "update":
            task.upload = seen.body
            return found({"stored": len(seen.body), "complete": True})
        if last == "decline":
            task.state = "declined"
            self.declined.append((task.device, body["reason"]))
        else:
            if task.answer and task.answer != body:
                return refusal("answer_differs")
            if reason := self.refuses(self.phase, task.device):
                return refusal("masking_refused", reason=reason)
            task.answer, task.state = body, "answered"
        self._advance()
        return found({"task": name, "state": task.state, "sha256": "", "samples": 1, "received_at": ""}, 201)

    # What a round is.

    def _ask(self, phase: str, devices: list[str], document: dict[str, Any] | None = None, **masking: Any) -> None:
        """Ask these devices; what is asked of each alone is given by its name: {device: …}."""
        self.phase, self.tasks = phase, {}
        content = b"" if document is None else statements.spelled(document)
        for device in devices:
            own = copy.deepcopy({k: value[device] if k == "delivered" else value for k, value in masking.items()})
            asked = {"phase": phase, "session": self.terms.session, **own} if phase != "train" else own
            self.spoil(phase, device, asked)
            task = Asked(device, self._body(phase, content, asked), content)
            task.body["training"].update(self.settings.get(device, {}))
            self.tasks[task.body["id"]] = task
            self.seen.append(task)
        self.changed.notify_all()

    def _body(self, phase: str, content: bytes, masking: dict[str, Any]) -> dict[str, Any]:
        training = phase == "train"
        digest = hashlib.sha256(self.model if training else content).hexdigest() if training or content else ""
        return {
            "id": "tsk_" + secrets.token_hex(8),
            "kind": "train" if training else "secagg",
            "run": "run_1",
            "model": "mdl_1",
            "model_name": "radiology-v1",
            "round": self.round,
            "attempt": 1,
            "seconds_left": 600,
            "base_digest": digest,
            "manifest": MANIFEST.to_json() if training else [],
            "architecture": ARCHITECTURE.spec() if training else None,
            "training": {"epochs": 1, "learning_rate": 0.1, "batch_size": 8, "seed": 0, "requires": ["fp-sa/1"]},
            "answer": {"update_bytes": 0, "max_samples": 1000, "metrics": False},
            "masking": masking,
        }

    def train(self) -> None:
        """One more round."""
        self.round += 1
        self._ask("train", NAMES, protocol="fp-sa/1")

    def _advance(self) -> None:
        if any(task.state == "open" for task in self.tasks.values()):
            return
        there = {task.device: task for task in self.tasks.values() if task.state == "answered"}
        try:
            if not there:
                raise FedportalError("masking_refused", reason="nobody is left.")
            getattr(self, f"_after_{self.phase}")(there)
        except FedportalError as error:
            self.failed.append(error.message)
            self._close()

    def _close(self) -> None:
        if self.round < self.rounds:
            self.train()
        else:
            self.phase, self.tasks = "over", {}
            self.changed.notify_all()

    def _after_train(self, there: dict[str, Asked]) -> None:
        ready = [device for device, task in there.items() if task.answer.get("ready")]
        plain = Terms(
            session=secrets.token_hex(16),
            federation="fed_1",
            run="run_1",
            round=self.round,
            task=told(self._body("train", b"", {})),
            base_model=hashlib.sha256(self.model).hexdigest(),
            parameters=sum(spec.size for spec in MANIFEST.weights),
            devices=len(NAMES),
            threshold=least_threshold([device.partition("-")[0] for device in ready]),
            **self.terms_like,
        )
        self.terms = unmasking.announced(plain, self.key)
        self._ask(
            "advertise", ready, terms={**self.terms.fields(), "signature": self.terms.signature}, server=self.public
        )

    def _after_advertise(self, there: dict[str, Asked]) -> None:
        adverts = [Advert(**task.said["advert"]) for task in there.values()]
        for advert in adverts:
            unmasking.check_advert(self.terms, advert, self.identities[advert.device])
        self.roster: Roster = unmasking.rostered(self.terms, adverts)
        listed = [{**advert.__dict__} for advert in self.roster.adverts]
        document = {"adverts": listed, "signature": self.roster.signed(self.key)}
        shown = {device: task.said["certificate"] for device, task in there.items() if "certificate" in task.said}
        document |= {"members": self.members, "certificates": shown} if self.members else {}
        self._ask("share", list(there), document)

    def _after_share(self, there: dict[str, Asked]) -> None:
        for device, task in there.items():
            self.roster.check_shares(device, task.said["sealed"], task.said["signature"])
        sharers = tuple(advert.device for advert in self.roster.adverts if advert.device in there)
        self.roster = replace(self.roster, sharers=sharers)
        delivered = {to: {by: there[by].said["sealed"][to] for by in sharers if by != to} for to in sharers}
        self._ask("mask", list(sharers), delivered=delivered)

    def _after_mask(self, there: dict[str, Asked]) -> None:
        self.total = unmasking.empty(self.terms)
        for device, task in there.items():
            assert hashlib.sha256(task.upload).hexdigest() == task.answer["sha256"]
            self.roster.check_vector(device, task.answer["sha256"], task.said["signature"])
            self.total += np.frombuffer(task.upload, self.terms.ring.word)
        self.survivors = [device for device in self.roster.sharers if device in there]
        signature = self.roster.signed_survivors(self.key, self.survivors)
        self._ask("agree", self.survivors, {"survivors": self.survivors, "signature": signature})

    def _after_agree(self, there: dict[str, Asked]) -> None:
        for device, task in there.items():
            self.roster.check_agreement(device, self.survivors, task.said["signature"])
        agreed = {device: task.said["signature"] for device, task in there.items()}
        self._ask("unmask", list(there), {"agreed": agreed})

    def _after_unmask(self, there: dict[str, Asked]) -> None:
        for device, task in there.items():
            self.roster.check_given(device, self.survivors, task.said["given"], task.said["signature"])
        given = {device: task.said["given"] for device, task in there.items()}
        secrets_found = unmasking.recovered(self.roster, self.survivors, given)
        unmasking.unmask(self.total, self.roster, self.survivors, secrets_found)
        mean, weights = self.terms.ring.decode(self.total)
        self.sums.append((mean, weights, self.survivors))
        start = 0
        for spec in MANIFEST.weights:
            part = mean[start : start + spec.size].reshape(spec.shape)
            self.weights = {**self.weights, spec.name: self.weights[spec.name] + part}
            start += spec.size
        self._close()
