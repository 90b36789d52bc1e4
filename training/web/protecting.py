"""How a run protects updates, in the form that starts it. Its fields are called `privacy.<name>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from training.privacy.protection import (
    ADAPTIVE,
    CENTRAL,
    DISTRIBUTED,
    GROUPED,
    LOCAL,
    NONE,
    OPEN,
    PLAIN,
    RECORDS,
    SECURE,
    Protection,
)
from training.services import protections
from training.services.protections import FIELD
from training.web.field import Field
from training.web.labels import label

PREFIX = f"{FIELD}."
# What is said by default is said by nothing.
SEEN = (("", "each of them"), (SECURE, "only the sum of all"), (GROUPED, "only the sums of groups"))
ADDED = (
    ("", "nobody"),
    (CENTRAL, "the portal, to the sum"),
    (LOCAL, "each device, enough by itself"),
    (DISTRIBUTED, "each device, its share of what a sum needs"),
    (RECORDS, "each device, to the gradients of its rows"),
)
CLIPS = (("", "stays as it is"), (ADAPTIVE, "follows the norms of the updates"))
# Name, what it is about, the bounds of its input and its step.
_CLIP = ("clip", "The largest L2 norm that an update keeps. Longer ones are shortened.", "0", "1e9", "any")
_ROW = ("clip", "The largest L2 norm that the gradient of a row keeps, in every step.", "0", "1e9", "any")
_RATE = (
    "rate",
    "With what probability a row comes in a step; batch_size is best that part of the rows.",
    "0",
    "1",
    "any",
)
_NOISE = ("noise", "Its standard deviation in the sum, as a multiple of the clip. 1 is usual.", "0", "1e4", "any")
_DELTA = ("delta", "The δ at which ε is told. Far below one over the number of devices.", "0", "0.1", "any")
_QUANTILE = ("quantile", "The part of the updates that the clip leaves as they are.", "0", "1", "any")
_DEVICES = ("least_devices", "No sum is of fewer devices.", "2", str(protections.MOST_DEVICES), "1")
_WEIGHT = (
    *("most_weight", "The most rows that a device counts for in a sum; at 1 every device counts the same."),
    *("1", str(protections.MOST_WEIGHT), "1"),
)
_OWNERS = ("least_organizations", "No sum is of fewer organizations.", "1", str(protections.MOST_DEVICES), "1")
_GROUP = ("group", "A sum is of at most so many devices, and of half as many at least.", "2", "128", "1")


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


def context(said: Mapping[str, str], wrong: Mapping[str, str]) -> dict[str, Any]:
    """What the form's part on privacy shows."""
    return {
        "seen": SEEN,
        "added": ADDED,
        "clips": CLIPS,
        "private": wish(said, str).get(FIELD, {}),
        "protecting": fields(said, wrong),
        "unprotected": {name: wrong.get(f"config.{PREFIX}{name}", "") for name in ("sums", "mechanism", "clipping")},
    }


def fields(said: Mapping[str, str], wrong: Mapping[str, str]) -> list[Field]:
    """The numbers that matter for what was chosen, and those that were typed all the same or are wrong."""
    hides = said.get(f"{PREFIX}sums", PLAIN) not in ("", PLAIN)
    groups = said.get(f"{PREFIX}sums") == GROUPED
    spends = said.get(f"{PREFIX}mechanism", NONE) not in ("", NONE)
    records = said.get(f"{PREFIX}mechanism") == RECORDS
    adapts = said.get(f"{PREFIX}clipping") == ADAPTIVE
    rows = (
        (_ROW if records else _CLIP, hides or spends),
        (_NOISE, spends),
        (_RATE, records),
        (_DELTA, spends),
        (_QUANTILE, adapts),
    )
    return [
        _field(row, said, wrong)
        for row, matters in (
            *rows,
            (_DEVICES, hides),
            (_OWNERS, hides),
            (_WEIGHT, hides and not spends),
            (_GROUP, groups),
        )
        if matters or said.get(PREFIX + row[0]) or wrong.get(f"config.{PREFIX}{row[0]}")
    ]


def _field(row: tuple[str, str, str, str, str], said: Mapping[str, str], wrong: Mapping[str, str]) -> Field:
    name, about, low, high, step = row
    usual = getattr(OPEN, name)
    told = f"{about} {usual:g} unless you say otherwise." if usual else about
    title = label(PREFIX + name)
    return Field(
        PREFIX + name,
        title,
        told,
        said.get(PREFIX + name, ""),
        low,
        high,
        step,
        wrong.get(f"config.{PREFIX}{name}", ""),
    )
