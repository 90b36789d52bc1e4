"""The doors of an edge: the portal's device protocol, address by address (docs/protocol.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from fedportal_sdk.edge.connection import Connection
from fedportal_sdk.edge.enrolment import Enrolment, Member
from fedportal_sdk.edge.parts import Part
from fedportal_sdk.edge.rounds import LONGEST_WAIT, Rounds
from fedportal_sdk.edge.uploads import Desk, receive, stored_bytes
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.states import TaskKind

_SHA256 = re.compile(r"[0-9a-f]{64}")
RunState = Callable[[str], dict[str, Any]]


class Doors(Connection):
    """One device's connection. A subclass made by `doors` knows the edge."""

    enrolment: ClassVar[Enrolment]
    rounds: ClassVar[Rounds]
    run_state: ClassVar[RunState]
    uploads: ClassVar[Desk]

    def serve(self) -> None:
        """Find the address; raises `not_found`, `method_not_allowed`."""
        try:
            path = urlsplit(self.path).path
        except ValueError:
            raise FedportalError("not_found", what="address") from None
        for pattern, methods in ADDRESSES:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if self.command not in methods:
                raise FedportalError("method_not_allowed", method=self.command)
            return methods[self.command](self, *match.groups())
        raise FedportalError("not_found", what="address")

    def register(self) -> None:
        """POST …/devices/register."""
        self.give(201, self.enrolment.register(self.token, self.json()))

    def heartbeat(self, device: str) -> None:
        """POST …/devices/<id>/heartbeat."""
        member = self._member()
        if device not in (member.id, member.identifier):
            raise FedportalError("not_found", what="device")
        self.give(200, self.enrolment.heartbeat(member, self.json()))

    def rotate(self) -> None:
        """POST …/device/rotate."""
        member = self._member()
        self.body()
        self.give(200, self.enrolment.rotate(member))

    def next_task(self) -> None:
        """GET …/device/tasks/next?wait=25."""
        member = self._member()
        asked = parse_qs(urlsplit(self.path).query).get("wait", [f"{LONGEST_WAIT}"])[-1]
        try:
            wait = float(asked)
        except ValueError:
            wait = -1.0
        if not 0 <= wait < 1e6:
            raise FedportalError("field_invalid", field="wait", reason="it is not a number of seconds.")
        task = self.rounds.next_task(member, wait, self.is_gone)
        self.give(204) if task is None else self.give(200, task)

    def model(self, task: str) -> None:
        """GET …/tasks/<id>/model."""
        current = self.rounds.part(self._member(), task).open
        if not current.task["base_digest"]:
            raise FedportalError("not_found", what="model for this task")
        self.give_file(current.model, current.task["base_digest"])

    def stored(self, task: str) -> None:
        """HEAD …/tasks/<id>/update."""
        part = self._uploading(task)
        self.uploads.settle(part.staging)
        whole = part.open.manifest.update_bytes
        have = whole if part.upload else stored_bytes(part.staging)
        self.begin(200, 0, {"Upload-Offset": str(have), "Upload-Length": str(whole)})

    def update(self, task: str) -> None:
        """PUT …/tasks/<id>/update."""
        member, part = self._member(), self._uploading(task)
        offset, length = _natural(self.headers.get("Upload-Offset", "0"), "Upload-Offset"), self.unread
        digest = self.headers.get("Upload-Digest")
        if digest is not None and not _SHA256.fullmatch(digest):
            raise FedportalError("field_invalid", field="Upload-Digest", reason="it is not a SHA-256 in hexadecimal.")
        whole = part.open.manifest.update_bytes
        if part.upload and (digest == part.upload or (offset, length) == (whole, 0)):
            self._throw_away()
            return self._told(whole, whole)
        partial = self.headers.get("Upload-Complete") == "?0"
        if offset + length != whole and not (partial and offset + length < whole):
            raise FedportalError("length_wrong", expected=whole, announced=offset + length)
        if part.upload and offset:
            raise FedportalError("offset_mismatch", stored=whole, offset=offset)
        with self.uploads.writing(part.staging, self.cut):
            sha256 = receive(part.staging, part.open.manifest, offset, self.pieces(), digest)
            if sha256 is not None:
                self.rounds.stored(member, task, sha256)
        return self._told(whole if sha256 is not None else stored_bytes(part.staging), whole)

    def answer(self, task: str) -> None:
        """POST …/tasks/<id>/answer."""
        member = self._member()
        receipt, first = self.rounds.answer(member, task, self.body())
        self.give(201 if first else 200, receipt)

    def decline(self, task: str) -> None:
        """POST …/tasks/<id>/decline."""
        member = self._member()
        self.give(200, self.rounds.decline(member, task, self.body()))

    def run(self, run: str) -> None:
        """GET …/device/runs/<run>, for devices that took part in it."""
        if not self.rounds.took_part(self._member(), run):
            raise FedportalError("not_found", what="run")
        self.give(200, type(self).run_state(run))

    def _member(self) -> Member:
        return self.enrolment.identify(self.token)

    def _uploading(self, task: str) -> Part:
        """The part that an update belongs to. Raises `not_found` where none is asked for, `task_closed`."""
        part = self.rounds.part(self._member(), task)
        if part.open.task["kind"] != TaskKind.TRAIN:
            raise FedportalError("not_found", what="upload for this task")
        if part.state != "offered":
            raise FedportalError("task_closed", task=task, state=part.state)
        return part

    def _throw_away(self) -> None:
        for _ in self.pieces():
            pass

    def _told(self, stored: int, whole: int) -> None:
        self.give(200, {"stored": stored, "complete": stored == whole}, {"Upload-Offset": str(stored)})


def doors(enrolment: Enrolment, rounds: Rounds, run_state: RunState) -> type[Doors]:
    """What answers the requests of this edge's devices. `run_state` says how a run stands."""
    known = {"enrolment": enrolment, "rounds": rounds, "run_state": staticmethod(run_state), "uploads": Desk()}
    return type("EdgeDoors", (Doors,), known)


def _natural(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise FedportalError("field_invalid", field=name, reason="it is not a whole number of at most 15 digits.")
    return int(text)


def _address(route: str) -> re.Pattern[str]:
    """The route with a group for each of its names."""
    return re.compile("".join("([A-Za-z0-9_.-]{1,120})" if part[0] == "{" else re.escape(part) for part in _cut(route)))


def _cut(route: str) -> list[str]:
    return [part for part in re.split(r"(\{\w+\})", route) if part]


Methods = Mapping[str, Callable[..., None]]
ADDRESSES: tuple[tuple[re.Pattern[str], Methods], ...] = (
    (_address(routes.TASK_NEXT), {"GET": Doors.next_task}),
    (_address(routes.TASK_MODEL), {"GET": Doors.model, "HEAD": Doors.model}),
    (_address(routes.TASK_UPDATE), {"PUT": Doors.update, "HEAD": Doors.stored}),
    (_address(routes.TASK_ANSWER), {"POST": Doors.answer}),
    (_address(routes.TASK_DECLINE), {"POST": Doors.decline}),
    (_address(routes.DEVICE_REGISTER), {"POST": Doors.register}),
    (_address(routes.DEVICE_HEARTBEAT), {"POST": Doors.heartbeat}),
    (_address(routes.DEVICE_ROTATE), {"POST": Doors.rotate}),
    (_address(routes.DEVICE_RUN), {"GET": Doors.run}),
)
