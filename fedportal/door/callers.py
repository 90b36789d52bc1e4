"""Which device a key belongs to, remembered for half a second, so that a round costs one look-up and not four."""

from __future__ import annotations

import time

from fedportal.door import hooks
from fedportal.door.hooks import Caller
from fedwire.errors import FedportalError

# A revoked key must end within one second everywhere.
REMEMBER_SECONDS = 0.4

_known: dict[str, tuple[Caller, float]] = {}


def known(token: str) -> Caller | None:
    """The device of this key if it was looked up a moment ago. Touches no database."""
    entry = _known.get(token)
    return entry[0] if entry is not None and entry[1] > time.monotonic() else None


def identify(token: str) -> Caller:
    """The device of this key; call it in a thread. Raises `not_authenticated` without one, and what the desk raises."""
    if caller := known(token):
        return caller
    if not token:
        raise FedportalError("not_authenticated")
    caller = hooks.desk().identify(token)
    _known[token] = (caller, time.monotonic() + REMEMBER_SECONDS)
    return caller


def forget(token: str) -> None:
    """Look this key up anew next time."""
    _known.pop(token, None)


def tidy() -> None:
    """Drop what is no longer believed."""
    now = time.monotonic()
    for token in [token for token, (_, until) in list(_known.items()) if until <= now]:
        _known.pop(token, None)
