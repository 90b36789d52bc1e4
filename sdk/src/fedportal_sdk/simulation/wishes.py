"""What is to be simulated, as people write it: `lognormal:1`, `dirichlet:0.5`, `0.1:upload`, `4:sign-flip`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedwire.errors import FedportalError

MOST_DEVICES = 100_000
DATA = ("synthetic", "digits", "breast-cancer")
# What each word may be followed by, with what stands there when nothing is said; None: it must be said.
SKEWS: Mapping[str, tuple[float | None, ...]] = {"iid": (), "dirichlet": (None,), "classes": (None,)}
SPEEDS: Mapping[str, tuple[float | None, ...]] = {
    "constant": (1.0,),
    "uniform": (None, None),
    "lognormal": (1.0, 1.0),
}
# Where a device drops out: it was asked and does not come; it has its task; half of its update is there; all of it is,
# and the answer is not.
PHASES = ("absent", "taken", "upload", "answer")
ANY = "any"
KINDS = ("sign-flip", "noise", "label-flip", "nonsense")

Phase = Literal["absent", "taken", "upload", "answer"]


@dataclass(frozen=True)
class Skew:
    """How classes are spread over devices: `iid`, `dirichlet` with alpha, or so many `classes` on each device."""

    kind: str = "iid"
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Skew:
        """`iid`, `dirichlet:ALPHA` or `classes:K`. Raises `field_invalid`."""
        kind, numbers = _word("skew", text, SKEWS)
        amount = numbers[0] if numbers else 0.0
        if kind != "iid" and amount <= 0:
            raise _wrong("skew", f"{text!r} needs a number above 0.")
        if kind == "classes" and not amount.is_integer():
            raise _wrong("skew", f"{text!r} needs a whole number of classes.")
        return cls(kind, amount)

    def __str__(self) -> str:
        return self.kind if self.kind == "iid" else f"{self.kind}:{self.amount:g}"


@dataclass(frozen=True)
class Speeds:
    """How long one training takes a device, in seconds; each device draws its own once.

    `constant`: so long; `uniform`: from, to; `lognormal`: σ of the logarithm, and the median.
    """

    kind: str = "constant"
    numbers: tuple[float, ...] = (0.0,)

    @classmethod
    def parse(cls, text: str) -> Speeds:
        """`constant:SECONDS`, `uniform:LOW:HIGH` or `lognormal:SIGMA[:MEDIAN]`. Raises `field_invalid`."""
        kind, numbers = _word("speeds", text, SPEEDS)
        if any(number < 0 for number in numbers) or (kind == "uniform" and numbers[0] > numbers[1]):
            raise _wrong("speeds", f"{text!r} is no time that a training can take.")
        return cls(kind, numbers)

    def __str__(self) -> str:
        return ":".join((self.kind, *(f"{number:g}" for number in self.numbers)))


@dataclass(frozen=True)
class Dropout:
    """With which probability a device drops out of a task, and where: one of PHASES, or `any` of them."""

    rate: float = 0.0
    phase: str = "taken"

    @classmethod
    def parse(cls, text: str) -> Dropout:
        """`RATE` or `RATE:PHASE`. Raises `field_invalid`."""
        share, _, phase = text.partition(":")
        rate = _number("dropout", share)
        if not 0 <= rate < 1:
            raise _wrong("dropout", f"the rate {share!r} is not from 0 to below 1.")
        if (phase or "taken") not in (*PHASES, ANY):
            raise _wrong("dropout", f"the phase {phase!r} is none of {', '.join((*PHASES, ANY))}.")
        return cls(rate, phase or "taken")

    def __str__(self) -> str:
        return f"{self.rate:g}:{self.phase}"


@dataclass(frozen=True)
class Attackers:
    """So many devices that send something else: one of KINDS. `factor`: what sign-flip multiplies its update by."""

    count: int
    kind: str
    factor: float = -4.0

    @classmethod
    def parse(cls, text: str) -> Attackers:
        """`N:KIND`, and for sign-flip `N:sign-flip:FACTOR`. Raises `field_invalid`."""
        count, _, rest = text.partition(":")
        kind, _, factor = rest.partition(":")
        if not (count.isascii() and count.isdigit()):
            raise _wrong("attackers", f"{text!r} does not begin with a number of devices.")
        if kind not in KINDS or (factor and kind != "sign-flip"):
            raise _wrong("attackers", f"{rest!r} is none of {', '.join(KINDS)}.")
        return cls(int(count), kind, _number("attackers", factor) if factor else -4.0)

    def __str__(self) -> str:
        return f"{self.count}:{self.kind}" + (f":{self.factor:g}" if self.kind == "sign-flip" else "")


@dataclass(frozen=True)
class Settings:
    """Everything that is drawn, and from which seed. The same settings draw the same devices in every process.

    `data`: one of DATA. `rows`: of each device, where data are made. `threads`: how many devices speak at once.
    `virtual`: durations pass on a clock of their own, which jumps from answer to answer, instead of being waited for.
    """

    devices: int = 20
    data: str = "synthetic"
    rows: int = 40
    skew: Skew = field(default_factory=Skew)
    speeds: Speeds = field(default_factory=Speeds)
    dropout: Dropout = field(default_factory=Dropout)
    attackers: tuple[Attackers, ...] = ()
    seed: int = 0
    threads: int = 8
    virtual: bool = False

    def __post_init__(self) -> None:
        for name, most in (("devices", MOST_DEVICES), ("rows", 1_000_000), ("threads", 256)):
            if not 1 <= getattr(self, name) <= most:
                raise _wrong(name, f"it must be from 1 to {most}.")
        if self.data not in DATA:
            raise _wrong("data", f"it must be one of {', '.join(DATA)}.")
        if self.seed < 0:
            raise _wrong("seed", "it must be at least 0.")
        if self.attacking >= self.devices:
            raise _wrong("attackers", f"of {self.devices} devices not all can be attackers.")

    @property
    def attacking(self) -> int:
        """How many devices attack."""
        return sum(some.count for some in self.attackers)


def _word(name: str, text: str, known: Mapping[str, tuple[float | None, ...]]) -> tuple[str, tuple[float, ...]]:
    """The word before the first colon, and the numbers behind it, the unsaid ones filled in."""
    word, *said = text.split(":")
    if word not in known or len(said) > len(known[word]):
        raise _wrong(name, f"{text!r} is none of {', '.join(map(_usage, known.items()))}.")
    numbers = [_number(name, number) for number in said]
    for default in known[word][len(said) :]:
        if default is None:
            raise _wrong(name, f"{text!r} is not complete; write {_usage((word, known[word]))}.")
        numbers.append(default)
    return word, tuple(numbers)


def _usage(entry: tuple[str, tuple[float | None, ...]]) -> str:
    word, numbers = entry
    return ":".join((word, *("NUMBER" for _ in numbers)))


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(name, f"{text!r} is not a number.")
    return number


def _wrong(name: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=name, reason=reason)
