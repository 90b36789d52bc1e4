"""An input of a form as its template shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """An input of the form. `step` "any" for a number with decimals, `wrong` what is not right about the value."""

    name: str
    label: str
    help: str
    value: str
    low: str = ""
    high: str = ""
    step: str = "1"
    wrong: str = ""
    text: bool = False  # words are meant and no number
