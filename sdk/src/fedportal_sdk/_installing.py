"""What a device does when its organization gives it a version of a model: fetch, check, change over, say so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from fedportal_sdk._door import DeviceDoor
from fedportal_sdk._retry import Stop, Stopped
from fedportal_sdk.installed import Installed
from fedwire.errors import FedportalError
from fedwire.messages import Task

T = TypeVar("T")
log = logging.getLogger("fedportal")


class Installer:
    """Takes tasks of the kind `install`, whatever else the device works for. `tell` is told of what happens."""

    def __init__(self, door: DeviceDoor, installed: Installed, stop: Stop, tell: Callable[..., None]) -> None:
        self._door, self._installed, self._stop, self._tell = door, installed, stop, tell

    def take(self, task: Task, remote: Callable[[Callable[[], Any]], Any]) -> None:
        """Do the task and answer it, or decline it with the reason. `remote` makes each call to the portal.

        Raises what ends taking part; a task that was closed meanwhile is passed over.
        """
        named = {"task": task["id"], "model": task["model"], "version": task["install"]["version"]}
        try:
            reason = self._reason_not_to(task, remote, named)
            if reason:
                self._tell("declined", reason=reason, **named)
                remote(lambda: self._door.decline(task["id"], reason))
            else:
                remote(lambda: self._door.answer(task["id"], {"samples": 0}))
                self._tell("installed" if named["version"] else "uninstalled", **named)
        except FedportalError as error:
            if error.code not in ("task_closed", "answer_differs", "not_found"):
                raise
            self._tell("closed", reason=error.message, **named)

    def _reason_not_to(self, task: Task, remote: Callable[[Callable[[], Any]], Any], named: dict[str, Any]) -> str:
        """Have what the task asks for; "" when that was done, otherwise why not, as a code."""
        asked = task["install"]

        def progress(done: int, total: int) -> None:
            if self._stop.is_set():
                raise Stopped
            self._tell("downloading", done=done, total=total, **named)

        try:
            if asked["version"]:
                content = remote(lambda: self._door.file(task, asked["size"], progress))
                name, described = task.get("model_name", ""), task.get("architecture")
                self._installed.put(task["model"], name, asked["version"], task["base_digest"], content, described)
            else:
                self._installed.remove(task["model"])
        except OSError as error:
            log.warning("Version %s was not installed: %s.", asked["version"], error.strerror or error)
            return "file_unwritable"
        except FedportalError as error:
            if error.code not in ("digest_mismatch", "data_missing"):
                raise
            log.warning("Version %s was not installed: %s", asked["version"], error.message)
            return error.code
        return ""
