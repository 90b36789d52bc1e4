"""What a device does beside training, each kind of task by whoever knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from fedportal_sdk._door import DeviceDoor
from fedportal_sdk._inferring import Inferrer
from fedportal_sdk._installing import Installer
from fedportal_sdk._policy import DevicePolicy
from fedportal_sdk._retry import Stop
from fedportal_sdk.installed import Installed
from fedportal_sdk.local import Work
from fedwire.messages import Task
from fedwire.states import TaskKind


class Aside(Protocol):
    """Takes tasks of one kind."""

    def take(self, task: Task, remote: Callable[[Callable[[], Any]], Any]) -> None:
        """Do the task and answer it, or decline it; `remote` makes each call to the portal."""


def asides(
    door: DeviceDoor,
    work: Work,
    folder: Path,
    policy: Callable[[], DevicePolicy],
    model: str | None,
    least_records: int,
    stop: Stop,
    tell: Callable[..., None],
) -> Mapping[str, Aside]:
    """Kind of task → who takes it, for the device in `folder`."""
    inferrer = Inferrer(
        door, work, folder, policy=policy, model=model, least_records=least_records, stop=stop, tell=tell
    )
    installer = Installer(door, Installed(folder / "installed"), stop, tell)
    return {TaskKind.INSTALL: installer, TaskKind.INFER: inferrer}
