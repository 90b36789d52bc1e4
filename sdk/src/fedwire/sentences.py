"""How the sentences of the catalogue get their values: those that are not known stay open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from string import Formatter
from typing import Any

# What names may hold, unless whoever refuses one says otherwise (`usable`).
NAMES_HOLD = "letters, digits, spaces, dots, dashes or underscores"
# From so many seconds on a time to wait is told in this unit of so many seconds.
_UNITS = ((90 * 60, 3600, "hour"), (90, 60, "minute"), (0, 1, "second"))


class _Ellipsis:
    """A value that is not known."""

    def __str__(self) -> str:
        return "…"

    __repr__ = __str__


class Unknown(dict[str, Any]):
    """Has an ellipsis for every value."""

    def __missing__(self, key: str) -> _Ellipsis:
        return _Ellipsis()


class _Missing(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def fill(text: str, context: Mapping[str, Any]) -> str:
    """The text with its values; a question mark for what is missing."""
    return Formatter().vformat(text, (), _Missing({"usable": NAMES_HOLD, "wait": _wait(context), **context}))


def _wait(context: Mapping[str, Any]) -> str:
    """The time to wait as people say it, rounded up: "40 seconds", "15 minutes", "2 hours"."""
    seconds = context.get("seconds")
    if not isinstance(seconds, (int, float)):
        return "a moment"
    size, unit = next((row[1:] for row in _UNITS if seconds > row[0]), (1, "second"))
    count = max(1, math.ceil(seconds / size))
    return f"{count} {unit}{'' if count == 1 else 's'}"
