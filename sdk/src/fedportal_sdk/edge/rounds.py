"""The rounds behind an edge: one of the portal's tasks, offered to the devices, and what they make of it.

A round is open while devices may answer, closing once it is being added up, and then done, or over if nothing came of
it. Devices meet what they meet at the portal: an unfinished task is handed out again, the same answer gets the same
receipt, another one is refused, and whoever comes too late hears `task_closed`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedportal_sdk._config import sync
from fedportal_sdk.edge.combine import Piece
from fedportal_sdk.edge.enrolment import Enrolment, Member, new_id
from fedportal_sdk.edge.merging import check_statistics
from fedportal_sdk.edge.parts import Open, Part, check_upload, device_task, iso, lay
from fedportal_sdk.edge.store import KEPT_ROUNDS, Store, make_private
from fedportal_sdk.edge.terms import Standing, Terms
from fedwire import answers
from fedwire.errors import FedportalError
from fedwire.messages import Task
from fedwire.states import TaskKind
from fedwire.tensors import Manifest

LONGEST_WAIT = 25.0
# A device that asked within this time is there, and one at work that was not heard of for so long is gone.
PRESENT_SECONDS = 30.0
GONE_SECONDS = 90.0
# How often a waiting device's key is looked at.
CHECK_SECONDS = 1.0
MOST_REASON = 300


class Rounds:
    """The rounds in `store`. `terms` are the organization's; `now`: seconds since 1970. Threads share one."""

    def __init__(self, store: Store, enrolment: Enrolment, terms: Terms, now: Callable[[], float] = time.time) -> None:
        self._store, self._enrolment, self._terms, self._now = store, enrolment, terms, now
        # Two bells on one lock: devices wait for tasks, the edge waits for answers, and each is woken for its own.
        lock = threading.RLock()
        self._changed, self._came = threading.Condition(lock), threading.Condition(lock)
        self._waiting: dict[str, object] = {}
        self._closed = False
        self._open = self._restored()

    # -- what the edge does

    def open(self, task: Task, model: bytes | Path | None, deadline: float) -> None:
        """Offer the task until `deadline`; the same task again goes on where it was."""
        with self._changed:
            if self._open is None or self._open.id != task["id"]:
                self._begin(task, deadline)
            assert self._open is not None
            self._open.task, self._open.deadline = task, deadline
            self._store.write("UPDATE rounds SET deadline = ? WHERE task = ?", [deadline, task["id"]])
            if model is not None and not self._open.model.exists():
                lay(model, self._open.model)
            self._changed.notify_all()

    def extend(self, deadline: float) -> None:
        """The portal's task ends at another time than was thought: a portal that was down gives more."""
        with self._changed:
            current = self._current()
            current.deadline = deadline
            self._store.write("UPDATE rounds SET deadline = ? WHERE task = ?", [deadline, current.id])

    def standing(self) -> Standing:
        """How the open round stands."""
        with self._changed:
            current, now = self._current(), self._now()
            rows = self._store.all("SELECT device, state FROM parts WHERE round = ?", [current.id])
            states = {row["device"]: row["state"] for row in rows}
            answered = sum(state == "answered" for state in states.values())
            alive = self._heard_within(GONE_SECONDS, now)
            unfinished = [
                device
                for device in current.expected | states.keys()
                if states.get(device, "offered") == "offered" and device in alive
            ]
            enough = self._terms.quorum is not None and answered >= self._terms.quorum
            current.quorum_at = (current.quorum_at or now) if enough else None
            current.idle_at = (current.idle_at or now) if not unfinished else None
            return Standing(
                answered,
                len(unfinished),
                current.deadline - now,
                now - current.quorum_at if current.quorum_at is not None else None,
                now - current.idle_at if current.idle_at is not None else None,
            )

    def wait(self, seconds: float) -> None:
        """Until something happened, at most so long."""
        with self._came:
            self._came.wait(seconds)

    def close(self) -> list[dict[str, Any]]:
        """Take no more answers; those that were acknowledged, checked as they came."""
        with self._changed:
            current = self._current()
            current.closing = True
            with self._store.unit():
                self._store.write("UPDATE rounds SET state = 'closing' WHERE task = ?", [current.id])
                self._expire(current.id)
            rows = self._store.all("SELECT * FROM parts WHERE round = ? AND state = 'answered'", [current.id])
            self._changed.notify_all()
            return [{"part": row["id"], "upload": row["upload"], **json.loads(row["answer"])} for row in rows]

    def pieces(self, found: list[dict[str, Any]]) -> list[Piece]:
        """The updates that belong to these answers, with those reports that the strategy asks for and no others."""
        current = self._current()
        asked = current.task["answer"].get("reports", ())
        return [
            Piece(
                current.update(said["part"], said["upload"]),
                said["upload"],
                said["samples"],
                {name: said[name] for name in asked if name in said},
            )
            for said in found
        ]

    @property
    def result(self) -> Path:
        """Where the edge's own update goes."""
        return self._current().folder / "result.update"

    def end(self, task: str, reason: str = "") -> None:
        """The portal's task is answered, or came to nothing for this reason: forget its files."""
        with self._changed:
            if self._open is not None and self._open.id == task:
                self._finish(task, "over" if reason else "done", reason)
                self._open = None
                self._changed.notify_all()

    def present(self) -> int:
        """How many devices are there: they wait for a task, or asked for one a moment ago."""
        now = self._now()
        with self._changed:
            return len(self._heard_within(PRESENT_SECONDS, now))

    def stop(self) -> None:
        """Send waiting devices away; they come back by themselves."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- what devices do

    def next_task(self, member: Member, wait: float, gone: Callable[[], bool] = lambda: False) -> Any:
        """The device's task as JSON, None when none came within `wait` seconds or when the device is `gone`.

        Raises `conflict` for a wait that a later one of the same device replaced, `unavailable` while the edge stops,
        `device_inactive` for a device that was locked out meanwhile.
        """
        me, until = object(), time.monotonic() + min(wait, LONGEST_WAIT)
        with self._changed:
            if member.id in self._waiting:
                self._changed.notify_all()
            self._waiting[member.id] = me
            self._came.notify_all()
            try:
                while True:
                    if self._closed:
                        raise FedportalError("unavailable")
                    if self._waiting.get(member.id) is not me:
                        raise FedportalError("conflict")
                    if (task := self._offer(member)) is not None:
                        return task
                    left = until - time.monotonic()
                    if left <= 0 or gone():
                        return None
                    self._changed.wait(min(left, CHECK_SECONDS))
                    if not self._enrolment.is_active(member.id):
                        raise FedportalError("device_inactive", state="revoked")
                    self._enrolment.saw(member.id)
            finally:
                if self._waiting.get(member.id) is me:
                    del self._waiting[member.id]

    def part(self, member: Member, part: str) -> Part:
        """The device's part in the open round. Raises `not_found`, and `task_closed` once it is too late."""
        with self._changed:
            row = self._row(member, part)
            if self._open is None or row["round"] != self._open.id or row["state"] in ("expired", "late", "declined"):
                self._store.write("UPDATE parts SET state = 'late' WHERE id = ? AND state = 'expired'", [part])
                raise FedportalError("task_closed", task=part, state="expired")
            return Part(part, row["state"], row["upload"], self._open)

    def stored(self, member: Member, part: str, sha256: str) -> None:
        """The part's update is whole and synced. Raises `task_closed` when the round went on without it."""
        with self._changed:
            found = self.part(member, part)
            found.staging.replace(found.open.update(part, sha256))
            sync(found.open.folder)  # before it is noted: what is noted is there
            if not self._store.write("UPDATE parts SET upload = ? WHERE id = ? AND state = 'offered'", [sha256, part]):
                raise FedportalError("task_closed", task=part, state="answered")
            if found.upload not in ("", sha256):  # nothing names it any more
                found.open.update(part, found.upload).unlink(missing_ok=True)

    def answer(self, member: Member, part: str, body: bytes) -> tuple[dict[str, Any], bool]:
        """Record the answer exactly once; the receipt, and whether this is the first time.

        Raises `not_found`, `task_closed`, `answer_differs`, `upload_incomplete`, `digest_mismatch`, and what is wrong
        with the answer.
        """
        said = answers.parse(body)
        digest = answers.digest(said)
        with self._changed:
            row = self._row(member, part)
            if row["state"] == "answered":
                if row["digest"] != digest:
                    raise FedportalError("answer_differs", task=part)
                return json.loads(row["receipt"]), False
            current = self.part(member, part).open
            if current.closing:
                raise FedportalError("task_closed", task=part, state="expired")
            checked = self._checked(current.task, said)
            check_upload(current, part, row["upload"], checked.get("sha256", ""))
            receipt = {"task": part, "state": "answered", "sha256": row["upload"], "samples": checked["samples"]}
            receipt["received_at"] = iso(self._now())
            self._store.write(
                "UPDATE parts SET state = 'answered', digest = ?, answer = ?, receipt = ?, changed_at = ?"
                " WHERE id = ? AND state = 'offered'",
                [digest, json.dumps(checked), json.dumps(receipt), self._now(), part],
            )
            self._came.notify_all()
            return receipt, True

    def decline(self, member: Member, part: str, body: bytes) -> dict[str, Any]:
        """The device will not do it. Declining again is the same as once. Raises `not_found`, `task_closed`."""
        reason = (answers.parse(body) if body.strip() else {}).get("reason") or ""
        if not isinstance(reason, str):
            raise FedportalError("field_invalid", field="reason", reason="it is not text.")
        told = "".join(c if c.isprintable() else " " for c in reason)[:MOST_REASON]
        with self._changed:
            row = self._row(member, part)
            if row["state"] != "declined":
                self.part(member, part)
                self._store.write(
                    "UPDATE parts SET state = 'declined', reason = ?, changed_at = ?"
                    " WHERE id = ? AND state = 'offered'",
                    [told, self._now(), part],
                )
                self._came.notify_all()
        return {"task": part, "state": "declined"}

    def took_part(self, member: Member, run: str) -> bool:
        """Whether the device was ever asked in this run."""
        query = "SELECT 1 FROM parts JOIN rounds ON rounds.task = parts.round WHERE device = ? AND run = ? LIMIT 1"
        return self._store.one(query, [member.id, run]) is not None

    # -- inside

    def _begin(self, task: Task, deadline: float) -> None:
        for row in self._store.all("SELECT task FROM rounds WHERE state IN ('open', 'closing')"):
            self._finish(row["task"], "over", "the portal went on")
        # The portal gives a task again that came to nothing here: its files are gone, so it begins anew.
        self._store.write("DELETE FROM parts WHERE round = ?", [task["id"]])
        self._store.write(
            "INSERT INTO rounds (task, run, content, state, opened_at, deadline) VALUES (?, ?, ?, 'open', ?, ?)"
            " ON CONFLICT (task) DO UPDATE SET state = 'open', content = excluded.content",
            [task["id"], task["run"], json.dumps(task), self._now(), deadline],
        )
        self._open = self._made(task, deadline)
        self._open.expected = self._heard_within(PRESENT_SECONDS, self._now())
        self._store.write(
            "DELETE FROM rounds WHERE task IN (SELECT task FROM rounds ORDER BY opened_at DESC LIMIT -1 OFFSET ?)",
            [KEPT_ROUNDS],
        )

    def _restored(self) -> Open | None:
        """The round that was open when the edge ended; who had a part in it is waited for."""
        row = self._store.one("SELECT * FROM rounds WHERE state IN ('open', 'closing') ORDER BY opened_at DESC")
        if row is None:
            return None
        found = self._made(json.loads(row["content"]), row["deadline"])
        found.closing = row["state"] == "closing"
        return found

    def _made(self, task: Task, deadline: float) -> Open:
        # The portal's word is no path.
        folder = self._store.folder / "rounds" / hashlib.sha256(task["id"].encode()).hexdigest()[:24]
        make_private(folder)
        return Open(task, Manifest.from_json(task["manifest"]), folder, deadline)

    def _finish(self, task: str, state: str, reason: str) -> None:
        with self._store.unit():
            self._store.write("UPDATE rounds SET state = ?, reason = ? WHERE task = ?", [state, reason, task])
            self._expire(task)
        folder = self._store.folder / "rounds" / hashlib.sha256(task.encode()).hexdigest()[:24]
        shutil.rmtree(folder, ignore_errors=True)

    def _expire(self, task: str) -> None:
        self._store.write("UPDATE parts SET state = 'expired' WHERE round = ? AND state = 'offered'", [task])

    def _offer(self, member: Member) -> Any:
        """The task of this device in the open round; its part is made when it first asks."""
        current, now = self._open, self._now()
        if current is None or current.closing or current.deadline <= now:
            return None
        query = "SELECT id, state FROM parts WHERE round = ? AND device = ?"
        row = self._store.one(query, [current.id, member.id])
        if row is None:
            fresh = new_id("tsk")
            self._store.write(
                "INSERT INTO parts (id, round, device, state, changed_at) VALUES (?, ?, ?, 'offered', ?)",
                [fresh, current.id, member.id, now],
            )
            return device_task(current, fresh, member, now, self._terms.least_records)
        if row["state"] != "offered":
            return None
        return device_task(current, row["id"], member, now, self._terms.least_records)

    def _current(self) -> Open:
        if self._open is None:
            raise FedportalError("task_closed", state="over")
        return self._open

    def _row(self, member: Member, part: str) -> Any:
        row = self._store.one("SELECT * FROM parts WHERE id = ? AND device = ?", [part, member.id])
        if row is None:
            raise FedportalError("not_found", what="task")
        return row

    def _checked(self, task: Task, said: dict[str, Any]) -> dict[str, Any]:
        shape = task["answer"]
        least = max(shape.get("least_records", 0), self._terms.least_records)
        checked = answers.check(
            said,
            kind=task["kind"],
            limit=shape["max_samples"],
            least_records=least,
            needed=shape.get("reports", ()),
        )
        answers.check_local_work(task["training"], checked)
        if task["kind"] == TaskKind.STATISTICS:
            check_statistics(task, checked)
        return checked

    def _heard_within(self, seconds: float, now: float) -> set[str]:
        """The devices that may take part and wait, or were heard of within this time. One query."""
        heard = self._enrolment.heard().items()
        return {device for device, at in heard if device in self._waiting or now - at < seconds}
