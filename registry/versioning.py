"""Semantic versions: three numbers, ordered by value."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from fedwire.errors import FedportalError

Bump = Literal["major", "minor", "patch"]
_PATTERN = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})", re.ASCII)


class Version(NamedTuple):
    """A version as numbers; compares by value."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def bumped(self, bump: Bump) -> Version:
        """The version after this one."""
        if bump == "major":
            return Version(self.major + 1, 0, 0)
        if bump == "minor":
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


FIRST = Version(1, 0, 0)


def parse(text: str) -> Version:
    """The version that `text` says. Raises `version_invalid`."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise FedportalError("version_invalid", version=text[:60])
    return Version(*map(int, match.groups()))
