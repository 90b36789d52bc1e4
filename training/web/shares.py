"""Which devices are asked for less work, as rows of the form that starts a run: a label and its share of the steps.

The fields of row n are called `share_group_n` and `share_n`; a row without either is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedwire import effort
from fedwire.errors import FedportalError
from training.services import configs

GROUP, SHARE = "share_group_", "share_"
LEAST = f"{effort.LEAST_SHARE:g}"


@dataclass(frozen=True)
class Row:
    """What was typed into a row. `wrong`: it is no label with a share."""

    number: int
    group: str = ""
    share: str = ""
    wrong: bool = False
    least: str = LEAST

    @property
    def said(self) -> bool:
        return bool(self.group or self.share)


def rows(said: Mapping[str, str], number: Callable[[str], Any]) -> list[Row]:
    """The rows up to the last that says something, and an empty one to go on with. `number` reads a number."""
    typed = [_row(said, place, number) for place in range(1, configs.MOST_SHARES + 1)]
    last = max((row.number for row in typed if row.said), default=0)
    return typed[: last + 1]


def wish(said: Mapping[str, str], number: Callable[[str], Any]) -> dict[str, Any]:
    """{"work_shares": {label: share}}, or nothing. Of a label in two rows the least counts, as of a device with two
    labels; what is no number stays text, which is refused with a sentence."""
    found: dict[str, Any] = {}
    for row in rows(said, number):
        if row.said:
            share = number(row.share)
            found[row.group] = min(found.get(row.group, share), share, key=_size)
    return {"work_shares": found} if found else {}


def again(shares: Mapping[str, float] | None) -> dict[str, Any]:
    """The fields of the form as they were for a run with these shares."""
    numbered = enumerate((shares or {}).items(), 1)
    return {
        name: value
        for place, (group, share) in numbered
        for name, value in ((f"{GROUP}{place}", group), (f"{SHARE}{place}", f"{share:g}"))
    }


def _row(said: Mapping[str, str], place: int, number: Callable[[str], Any]) -> Row:
    group, share = (said.get(f"{name}{place}", "").strip() for name in (GROUP, SHARE))
    try:
        configs.work_shares({group: number(share)} if group or share else {})
    except FedportalError:
        return Row(place, group, share, wrong=True)
    return Row(place, group, share)


def _size(share: Any) -> float:
    return float(share) if isinstance(share, int | float) else -1.0
