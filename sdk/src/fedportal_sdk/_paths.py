"""Addresses of the portal with ids and names in them."""

from __future__ import annotations

import re
from urllib.parse import quote

from fedwire.errors import FedportalError

# What an id, a name, an address or a version may look like; nothing else gets into a path.
REFERENCE = re.compile(r"[^\s/\\?#][^/\\?#\x00-\x1f]*")


def path_of(route: str, **names: str) -> str:
    """The route with the names in it. Raises `invalid_name` for what can be neither an id nor a name."""
    for value in names.values():
        if not REFERENCE.fullmatch(value) or value in (".", ".."):
            raise FedportalError("invalid_name", name=value)
    return route.format(**{name: quote(value, safe="") for name, value in names.items()})
