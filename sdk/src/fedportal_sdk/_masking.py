"""A device's part in secure aggregation: the update that waits, and the session that hides it.

A training task with `masking` is trained and answered without its update, which waits here in memory. Then come tasks
of the kind `secagg`, one for each phase of a session (`docs/decisions/0023`), which `fedwire.masking.session` answers.
One vector is kept: the update until it is masked, then what was sent of it, in case it is asked for again. A restart
loses both, for nothing of a session is ever on disk but what the device said in it; such a device declines, and takes
part in the next round.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from fedportal_sdk._journal import PORTAL, FileJournal
from fedportal_sdk._policy import DevicePolicy
from fedportal_sdk._trust import Trust
from fedportal_sdk.local import Refusal
from fedwire.errors import FedportalError
from fedwire.masking import groups
from fedwire.masking.groups import Chain, Drawing, Lot
from fedwire.masking.roots import fingerprint
from fedwire.masking.session import Session, vector_digest
from fedwire.masking.statements import PROTOCOL, Advert, is_signed, refused
from fedwire.masking.terms import Terms, told
from fedwire.messages import Answer, Task
from fedwire.states import TaskKind
from fedwire.tensors import Float32

log = logging.getLogger("fedportal")

ABILITIES: frozenset[str] = frozenset({PROTOCOL})
PHASES = ("reveal", "advertise", "share", "mask", "agree", "unmask")
LAST_PHASE = PHASES[-1]
LOST = "this device does not have what it trained for this round any more; it was started again, or came too late"
# The device's id, its organization's and its own key.
Identity = tuple[str, str, Ed25519PrivateKey]
Said = tuple[Answer, memoryview | None]


@dataclass
class Waiting:
    """What was trained for one attempt of a round. `update` [P]; `rows`: trained on; `base`: SHA-256 of the model;
    `told`: that of what it was trained with.

    `chain`: what its group is drawn with, where the cohort has several; `drawing`: the list that was drawn from last.
    """

    attempt: tuple[str, int, int]
    model: str
    base: str
    told: str
    update: Float32
    rows: int
    chain: Chain = field(default_factory=Chain)
    drawing: Drawing | None = None


@dataclass
class Part:
    """This device in one session. `said`: by task, so that what is asked again gets the same answer. `group`: of which
    devices, with their organizations, where they drew that."""

    session: Session
    terms: Terms
    group: Mapping[str, str] | None = None
    said: dict[str, Said] = field(default_factory=dict)


class Masking:
    """The sessions of one device, one at a time.

    `who` gives the device's identity and `policy` what its owner demands, both anew for each task. `tell` is told of
    every refusal. All refusals are `Refusal`: the task is declined, and the device takes part in the next one.
    """

    def __init__(
        self,
        who: Callable[[], Identity],
        policy: Callable[[], DevicePolicy],
        journal: FileJournal,
        tell: Callable[..., None],
    ) -> None:
        self._who, self._policy, self._journal, self._tell = who, policy, journal, tell
        self._trust = Trust(journal)
        self._waiting: Waiting | None = None
        self._part: Part | None = None

    def check(self, task: Task) -> None:
        """Raises `Refusal` for a training task that this device's owner does not agree to, before it is trained."""
        with self._declining(task):
            policy, masking = self._policy(), task.get("masking")
            for name in ("noise", "gradients"):
                if name in task["training"] and not task["training"][name]["noise"] >= policy.least_own_noise:
                    raise refused("there is less noise than this device asks for.")
            if masking is None:
                if policy.only_masked:
                    raise refused("this device sends no update that is not masked.")
                return
            if masking.get("protocol") != PROTOCOL:
                raise refused(f"this device knows {PROTOCOL} only.")
            if task["training"].get("codec") or task["answer"].get("individual"):
                raise refused("an update that is written in fewer bytes, or looked at by itself, cannot be masked.")
            if self._journal.rounds(task["model"]) >= policy.rounds_a_day:
                raise refused("this device masked enough updates of this model today.")

    def keep(self, task: Task, update: Float32, rows: int) -> Answer:
        """The answer to a training task whose update [P], trained on so many rows, now waits here."""
        self._part = None
        of = _attempt(task), task["model"], task["base_digest"], told(task)
        waiting = self._waiting = Waiting(*of, update, rows)
        return {"samples": 1, "ready": True, "masking": {"commitment": waiting.chain.commitment}}

    def forget(self) -> None:
        """The run is over: nothing waits any more."""
        self._waiting = self._part = None

    def step(self, task: Task, document: Mapping[str, Any]) -> Said:
        """The answer to one phase, and the masked vector's bytes where that is the one to send. Raises `Refusal`."""
        with self._declining(task):
            asked = task.get("masking") or {}
            taken = (self._reveal, self._advertise, self._share, self._mask, self._agree, self._unmask)
            steps = dict(zip(PHASES, taken, strict=True))
            if asked.get("phase") not in steps:
                raise refused(f"this device's SDK does not know the phase {str(asked.get('phase'))[:20]!r}.")
            part = self._part
            if part is not None and asked["session"] == part.terms.session and task["id"] in part.said:
                return part.said[task["id"]]
            said = steps[asked["phase"]](task, asked, document)
            if self._part is not None:  # what is drawn comes before the session, and is the same when asked again
                self._part.said[task["id"]] = said
            return said

    def _reveal(self, task: Task, asked: Mapping[str, Any], document: Mapping[str, Any]) -> Said:
        waiting, drawing = self._trained(task), Drawing.of(document["drawing"])
        if not is_signed(asked["server"], "drawing", drawing.fields(), document["signature"]):
            raise refused("the list of a draw is not signed by the portal's key.")
        self._check_portal(asked["server"])
        if ((drawing.run, drawing.round, drawing.attempt), drawing.base_model) != (waiting.attempt, waiting.base):
            raise refused("the list of a draw is of another round or model.")
        if drawing != waiting.drawing:
            device, organization, _ = self._who()
            groups.check(drawing, Lot(device, organization, waiting.chain.commitment), waiting.drawing)
            waiting.drawing = drawing
        return _answer(number=waiting.chain.number(drawing.draw)), None

    def _advertise(self, task: Task, asked: Mapping[str, Any], document: Mapping[str, Any]) -> Said:
        waiting, policy, certificate = self._trained(task), self._policy(), self._trust.certificate()
        terms = Terms(**asked["terms"])
        _check_about(terms, asked["session"], task, waiting)
        group = self._group(terms, waiting, document)
        session = Session(terms, asked["server"], self._who(), policy.masking, self._journal)
        self._check_portal(asked["server"])
        if certificate is None and policy.require_certificates:  # better now than when others have begun with it
            raise refused("this device demands certificates of all, and has none itself.")
        self._part = Part(session, terms, group)
        shown = {} if certificate is None else {"certificate": certificate}
        return _answer(advert=asdict(session.advert), **shown), None

    def _share(self, task: Task, asked: Mapping[str, Any], document: Mapping[str, Any]) -> Said:
        part, roster = self._of(asked), [Advert(**advert) for advert in document["adverts"]]
        if part.group is not None:
            groups.check_roster(part.group, roster)
        certified = self._policy().require_certificates
        self._trust.check(part.terms.federation, document, roster, certified=certified)
        sealed, signature = part.session.share(roster, document["signature"])
        return _answer(sealed=sealed, signature=signature), None

    def _mask(self, task: Task, asked: Mapping[str, Any], document: Mapping[str, Any]) -> Said:
        part, waiting = self._of(asked), self._waiting
        if waiting is None:
            raise Refusal(LOST)
        if not self._journal.spend(part.terms.session, waiting.model, self._policy().rounds_a_day):
            raise refused("this device masked enough updates of this model today.")
        weight = 1 if part.terms.noise else min(waiting.rows, part.terms.most_weight)
        vector = part.session.mask(asked["delivered"], part.terms.ring.encode(waiting.update, weight))
        self._waiting = None
        digest = vector_digest(vector)
        return _answer(signature=part.session.signed_vector(digest)) | {"sha256": digest}, _bytes(vector)

    def _agree(self, task: Task, asked: Mapping[str, Any], document: Mapping[str, Any]) -> Said:
        part = self._of(asked)
        signature = part.session.agree(document["survivors"], document["signature"])
        part.said.clear()  # the vector has arrived
        return _answer(signature=signature), None

    def _unmask(self, task: Task, asked: Mapping[str, Any], document: Mapping[str, Any]) -> Said:
        given, signature = self._of(asked).session.unmask(document["agreed"])
        return _answer(given=given, signature=signature), None

    def _group(self, terms: Terms, waiting: Waiting, document: Mapping[str, Any]) -> Mapping[str, str] | None:
        """This device's group, as it works it out itself; None where nobody drew any."""
        if waiting.drawing is None:
            if terms.beacon:
                raise refused("the terms are of a group that this device did not draw.")
            return None
        drawn, group = groups.group_of(waiting.drawing, document["numbers"], self._who()[0])
        if drawn != terms.beacon:
            raise refused("the terms are of another group than this device drew.")
        return group

    def _trained(self, task: Task) -> Waiting:
        """What waits for this task's session. Raises `Refusal` when it is lost, or is in a session already."""
        if self._waiting is None or self._waiting.attempt != _attempt(task):
            raise Refusal(LOST)
        if self._part is not None:
            raise refused("this update is in another session already.")
        return self._waiting

    def _check_portal(self, key: str) -> None:
        """Raises `masking_refused` for another key of the portal than it had when this device first met it."""
        if not self._journal.pin(PORTAL, key):
            known = fingerprint(self._journal.pinned(PORTAL))
            raise refused(f"the portal has another key ({fingerprint(key)}) than before ({known}).")

    def _of(self, asked: Mapping[str, Any]) -> Part:
        if self._part is None or asked["session"] != self._part.terms.session:
            raise Refusal(LOST)
        return self._part

    @contextmanager
    def answering(self, task: Task) -> Iterator[None]:
        """Make a `Refusal` of the portal's, which is of this device's part alone, as of one of its own."""
        try:
            yield
        except FedportalError as error:
            if error.code != "masking_refused":
                raise
            self._say(task, error.message)
            raise Refusal(error.message) from error

    @contextmanager
    def _declining(self, task: Task) -> Iterator[None]:
        """Make a `Refusal` of what is refused, and tell the device's owner. What else is wrong is the portal's."""
        try:
            yield
        except FedportalError as error:
            if error.code not in ("masking_refused", "field_invalid"):
                raise
            self._say(task, error.message)
            raise Refusal(error.message) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.debug("What the portal sent: %s", error)
            sentence = refused("what the portal sent is not as the protocol has it.").message
            self._say(task, sentence)
            raise Refusal(sentence) from error

    def _say(self, task: Task, sentence: str) -> None:
        log.warning("%s It stays and takes part in the next task.", sentence)
        self._tell("refused", reason=sentence, run=task["run"], round=task["round"])


def of(masking: Masking | None) -> Masking:
    """It, or a `Refusal` where there is none."""
    if masking is None:
        raise Refusal("this device takes part in no secure aggregation")
    return masking


def check(masking: Masking | None, task: Task) -> None:
    """Raises `Refusal` for a training task that the device's owner does not agree to, before it is trained."""
    if masking is not None or task.get("masking") is not None:
        of(masking).check(task)


def forget(masking: Masking | None) -> None:
    """The run is over: nothing waits any more."""
    if masking is not None:
        masking.forget()


def named(task: Task) -> dict[str, Any]:
    """What names a task in an event; of one of a session, its phase too."""
    found: dict[str, Any] = {"task": task["id"], "kind": task["kind"], "run": task["run"], "round": task["round"]}
    return found | ({"phase": (task.get("masking") or {}).get("phase")} if task["kind"] == TaskKind.SECAGG else {})


def counts(task: Task, answer: Answer) -> bool:
    """Whether this answer ends a device's part in a training round: who leaves earlier takes a masked one with it."""
    if task["kind"] == TaskKind.SECAGG:
        return (task.get("masking") or {}).get("phase") == LAST_PHASE
    return task["kind"] == TaskKind.TRAIN and not answer.get("ready")


def _attempt(task: Task) -> tuple[str, int, int]:
    return task["run"], task["round"], task["attempt"]


def _check_about(terms: Terms, session: str, task: Task, waiting: Waiting) -> None:
    """Raises `masking_refused` for terms of another session, round or model than the update that waits."""
    if (terms.session, terms.run, terms.round) != (session, task["run"], task["round"]):
        raise refused("the terms are of another session or round.")
    if terms.base_model != waiting.base:
        raise refused("the terms are of another model than the one that was trained from.")
    if terms.task != waiting.told:
        raise refused("the terms are of other settings than this device was told to train with.")
    if terms.parameters != len(waiting.update):
        raise refused("the terms are of another number of parameters.")


def _answer(**masking: Any) -> Answer:
    return {"samples": 1, "masking": masking}


def _bytes(vector: NDArray[Any]) -> memoryview:
    return vector.view(np.uint8).data
