"""How the matrix asks what is answered in front of Django: through the functions that the floors registered there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedportal.door import hooks
from fedportal.door.hooks import DoorRequest
from fedwire import routes
from fedwire.errors import FedportalError

BODIES = {routes.TASK_ANSWER: b'{"samples": 0}', routes.TASK_DECLINE: b""}


def knock(method: str, pattern: str, world: Mapping[str, str], token: str, session: str = "") -> tuple[int, Any]:
    """Status and body of the door's answer; the body of a granted request is None."""
    path = pattern.format(**world)
    try:
        _ask(method, pattern, path, dict(world), token, {"sessionid": session} if session else {})
    except FedportalError as error:
        return error.status, error.body()
    return 200, None


def _ask(method: str, pattern: str, path: str, world: dict[str, str], token: str, cookies: dict[str, str]) -> None:
    desk = hooks.desk()
    found = hooks.find_upload(path) if method == "PUT" else hooks.find_download(path) if "{" in pattern else None
    if found is not None:
        resolver, params = found
        resolver(DoorRequest(method, token, cookies, params, {}, {}, lambda: desk.identify(token)))
        return
    caller = desk.identify(token)
    if pattern == routes.TASK_ANSWER:
        desk.answer(caller, world["task"], BODIES[pattern])
    elif pattern == routes.TASK_DECLINE:
        desk.decline(caller, world["task"], BODIES[pattern])
    elif pattern == routes.DEVICE_ROTATE:
        desk.rotate(caller)
    elif pattern == routes.TASK_NEXT:
        desk.next_tasks([caller.device_pk])
    else:
        raise AssertionError(f"nobody knows how to knock at {pattern}")
