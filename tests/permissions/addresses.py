"""Every address of the portal with its methods, found and not listed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from fedportal.door import front, hooks

_PLACE = re.compile(r"<(?:\w+:)?(\w+)>")


def django_addresses() -> list[tuple[str, str]]:
    """(method, route) of everything Django answers. A view that does not say its methods counts as GET and POST."""
    return [
        (method, route) for route, view in _walk(get_resolver().url_patterns, "") for method in sorted(_methods(view))
    ]


def door_addresses() -> list[tuple[str, str]]:
    """(method, pattern) of everything answered in front of Django."""
    return [*front.ROUTES, *hooks.patterns()]


def places(route: str) -> list[str]:
    """The names of the parts of a route that stand for objects, in order."""
    return _PLACE.findall(route)


def filled(route: str, world: dict[str, str], renamed: dict[str, str]) -> str:
    """The address with the world's ids in its places."""
    return "/" + _PLACE.sub(lambda match: world[renamed.get(match[1], match[1])], route)


def _walk(patterns: list[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def _methods(view: Any) -> set[str]:
    of_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if of_class is not None:
        names = {name for name in of_class.http_method_names if hasattr(of_class, name)}
        return {name.upper() for name in names - {"options", "head"}}
    return set(getattr(view, "methods", ("GET", "POST")))
