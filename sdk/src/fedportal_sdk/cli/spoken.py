"""How percentages, durations and schedules are said on the command line."""

from __future__ import annotations

import itertools
import re
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PERCENTAGE = re.compile(r"(\d+(?:\.\d+)?)\s*%?", re.ASCII)
_DURATION = re.compile(r"(\d+)\s*([smhd])", re.ASCII)


class Percentage(click.ParamType):
    """ "10%", "12.5%" or "10" as a number above 0 and at most 100."""

    name = "percentage"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails for anything else."""
        said = _PERCENTAGE.fullmatch(str(value).strip())
        if said is None or not 0 < float(said[1]) <= 100:
            self.fail(f"{value!r} is no percentage: say 10% or 12.5%, above 0 and at most 100.", param, ctx)
        return float(said[1])


class Duration(click.ParamType):
    """ "90s", "30m", "1h" or "2d" as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds. Fails for anything else."""
        if isinstance(value, int):
            return value
        said = _DURATION.fullmatch(str(value).strip())
        if said is None:
            self.fail(f"{value!r} is no duration: say 90s, 30m, 1h or 2d.", param, ctx)
        return int(said[1]) * _UNITS[said[2]]


class Schedule(click.ParamType):
    """ "5%:1h,25%:1d,100%" as [(percentage, seconds), …]: each step, and how long it is kept at least."""

    name = "schedule"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[tuple[float, int]]:
        """The steps. Fails for anything else, and for percentages that do not rise."""
        if isinstance(value, list):
            return value
        steps: list[tuple[float, int]] = []
        for step in str(value).split(","):
            share, colon, wait = step.partition(":")
            steps.append((PERCENTAGE.convert(share, param, ctx), DURATION.convert(wait, param, ctx) if colon else 0))
        shares = [share for share, _ in steps]
        if any(after <= before for before, after in itertools.pairwise(shares)):
            self.fail(f"the percentages of {value!r} do not rise.", param, ctx)
        return steps


PERCENTAGE, DURATION, SCHEDULE = Percentage(), Duration(), Schedule()


def percent(number: float) -> str:
    """12.5 as "12.5 %"."""
    return f"{number:g} %"


def lasting(seconds: int) -> str:
    """86400 as "1d", in the words that `Duration` takes."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
