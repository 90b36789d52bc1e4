"""How a run protects updates, in the form that starts it. Its fields are called `privacy.<name>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.privacy.protection import OPEN, Protection
from training.services.protections import FIELD

PREFIX = f"{FIELD}."


def wish(said: Mapping[str, str], number: Callable[[str], Any]) -> dict[str, Any]:
    """{"privacy": {field: value}}, or nothing."""
    found = {
        name.removeprefix(PREFIX): number(text)
        for name, text in said.items()
        if name.startswith(PREFIX) and text.strip()
    }
    return {FIELD: found} if found else {}


def again(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as they were for the run with this configuration; nothing for what the defaults say by themselves."""
    stored, usual = Protection.of(config).as_json(), OPEN.as_json()
    return {PREFIX + name: value for name, value in stored.items() if value != usual[name]}


def measures_unusually(config: Mapping[str, Any]) -> bool:
    """Whether the run measures every round although it adds noise, or does not although it adds none."""
    return config.get("evaluate") is Protection.of(config).spends
