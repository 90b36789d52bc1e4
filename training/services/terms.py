"""The plan of a run's rounds: whom they ask, what they need, and when they close. Pure.

What was said is checked once, when the run is started, and stored with it; what was left out follows from the rest, so
that nobody has to set seven numbers to get a sensible round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedwire.errors import FedportalError
from training.aggregation.strategy import ASYNCHRONOUS, SYNCHRONOUS

CROSS_SILO, CROSS_DEVICE = "cross_silo", "cross_device"
MODES = (CROSS_SILO, CROSS_DEVICE)
# When a round closes of which not everybody has answered: at its deadline, with its quorum, or a while after that.
WAIT, CUT, GRACE = "wait", "cut", "grace"
STRAGGLERS = (WAIT, CUT, GRACE)
SCHEDULES = (SYNCHRONOUS, ASYNCHRONOUS)
# How asynchronous rounds are made; a run that begins with synchronous ones may say it for later.
AHEAD = ("schedule", "buffer", "most_staleness", "staleness_exponent")
FIELDS = ("mode", "sample", "quota", "cap", "over_selection", "stragglers", "grace_seconds", *AHEAD)
MOST_DEVICES = 100_000
MOST_OVER_SELECTION = 10.0
MOST_GRACE_SECONDS = 3600
DEFAULT_GRACE_SECONDS = 30
# What is asked for beyond the minimum where only that was said: what Bonawitz et al. 2019 (arXiv:1902.01046) ask.
DEFAULT_OVER_SELECTION = 1.3
MOST_MODELS = 10_000
DEFAULT_MOST_STALENESS = 100
# s(τ) = 1/√(1+τ), as in Nguyen et al. 2022 (arXiv:2106.06639).
DEFAULT_EXPONENT = 0.5
MOST_EXPONENT = 10.0


@dataclass(frozen=True)
class Terms:
    """How the rounds of a run are made.

    `sample`: how many devices a round asks, a whole number, or the fraction of those that are there; None: as many as
    `over_selection` times the minimum. `quota` and `cap`: the fewest and the most devices of each organization, 0
    without. `grace_seconds` follow the quorum when `stragglers` is "grace".

    `schedule`: how rounds follow one another. In asynchronous ones `sample` limits how many devices are at work at
    once, a model is made of every `buffer` answers (0: as the strategy and the minimum suggest), those count s(τ) =
    (1+τ)^-`staleness_exponent`, and none is taken that is more than `most_staleness` models old.
    """

    mode: str = CROSS_SILO
    sample: float | None = None
    quota: int = 0
    cap: int = 0
    over_selection: float = 1.0
    stragglers: str = WAIT
    grace_seconds: int = 0
    schedule: str = SYNCHRONOUS
    buffer: int = 0
    most_staleness: int = DEFAULT_MOST_STALENESS
    staleness_exponent: float = DEFAULT_EXPONENT

    @property
    def asynchronous(self) -> bool:
        """Whether the rounds that open now are asynchronous."""
        return self.schedule == ASYNCHRONOUS

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> Terms:
        """The terms that are stored with a run; {} are those of a run that asks everybody and waits for all."""
        return cls(**{name: plan[name] for name in FIELDS if name in plan})

    def as_json(self) -> dict[str, Any]:
        """The terms as they are stored and shown."""
        return asdict(self)

    def target(self, need: int, available: int) -> int | None:
        """How many devices a round asks that needs `need` answers while `available` devices are there; None: all.
        Of an asynchronous round, how many are at work at once."""
        if self.mode == CROSS_SILO:
            return None
        asked = math.ceil(round(need * self.over_selection, 9))
        if self.asynchronous and self.sample is not None:  # who has answered makes room, so fewer may fill a buffer
            asked = 1
        if isinstance(self.sample, int):
            asked = max(asked, self.sample)
        elif self.sample is not None:
            asked = max(asked, math.ceil(round(available * self.sample, 9)))
        return asked


def checked(said: Mapping[str, Any], need: int = 1) -> Terms:
    """The terms in what was `said` for a round that needs `need` answers; None is nothing said. Raises `field_invalid`.

    A sample or over-selection means the mode "cross_device", seconds of grace the straggler rule "grace", a buffer
    alone the schedule "asynchronous", and who asks for more than the minimum is not made to wait for all of them.
    """
    said = {name: value for name, value in said.items() if value is not None}
    sample = _sample(said.get("sample"), 1 if said.get("schedule") == ASYNCHRONOUS else need)
    over = _over_selection(said.get("over_selection"))
    mode = _one_of("mode", said.get("mode"), MODES) or (CROSS_DEVICE if sample is not None or over > 1 else CROSS_SILO)
    if mode == CROSS_SILO and (sample is not None or over > 1):
        field = "sample" if sample is not None else "over_selection"
        raise _wrong(field, "it belongs to the mode cross_device; cross_silo asks everybody who is there.")
    if mode == CROSS_DEVICE and sample is None and "over_selection" not in said:
        over = DEFAULT_OVER_SELECTION
    quota, cap = _count("quota", said.get("quota")), _count("cap", said.get("cap"))
    if cap and quota > cap:
        raise _wrong("quota", f"it asks for {quota} devices of each organization, and the cap lets in {cap}.")
    grace = _grace(said.get("grace_seconds"))
    rule = _one_of("stragglers", said.get("stragglers"), STRAGGLERS) or (GRACE if grace else CUT if over > 1 else WAIT)
    if grace and rule != GRACE:
        raise _wrong("grace_seconds", f"it belongs to the straggler rule grace, not to {rule}.")
    grace = (grace or DEFAULT_GRACE_SECONDS) if rule == GRACE else 0
    return Terms(mode, sample, quota, cap, over, rule, grace, **_ahead(said, quota))


def rescheduled(now: Terms, said: Mapping[str, Any]) -> Terms:
    """These terms with what was `said` of AHEAD instead; None is nothing said. Raises `field_invalid`."""
    kept = {name: getattr(now, name) for name in AHEAD}
    kept.update({name: value for name, value in said.items() if value is not None})
    return replace(now, **_ahead(kept, now.quota))


def _ahead(said: Mapping[str, Any], quota: int) -> dict[str, Any]:
    """The fields of AHEAD."""
    buffer = _count("buffer", said.get("buffer"))
    schedule = _one_of("schedule", said.get("schedule"), SCHEDULES) or (ASYNCHRONOUS if buffer else SYNCHRONOUS)
    if schedule == ASYNCHRONOUS and quota:
        raise _wrong("quota", "asynchronous rounds count whoever answers, so none can promise so many of each.")
    oldest, exponent = said.get("most_staleness"), said.get("staleness_exponent")

    def models(number: Any) -> bool:
        return isinstance(number, int) and 0 <= number <= MOST_MODELS

    if oldest is not None:
        _number("most_staleness", oldest, models, f"a whole number from 0 to {MOST_MODELS}")
    if exponent is not None:
        fits = f"a number from 0 to {MOST_EXPONENT:g}"
        _number("staleness_exponent", exponent, lambda number: 0 <= number <= MOST_EXPONENT, fits)
    return {
        "schedule": schedule,
        "buffer": buffer,
        "most_staleness": DEFAULT_MOST_STALENESS if oldest is None else oldest,
        "staleness_exponent": DEFAULT_EXPONENT if exponent is None else float(exponent),
    }


def complaints(said: Mapping[str, Any], need: int = 1) -> list[FedportalError]:
    """Everything that `checked` refuses: each field by itself, or, when those are right, what does not go together."""
    found = [error for name in said if (error := _refusal({name: said[name]}, need)) is not None]
    together = None if found else _refusal(said, need)
    return found if together is None else [together]


def _refusal(said: Mapping[str, Any], need: int) -> FedportalError | None:
    try:
        checked(said, need)
    except FedportalError as error:
        return error
    return None


def _wrong(field: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=field, reason=reason)


def _one_of(field: str, value: Any, allowed: tuple[str, ...]) -> str:
    """The word, with a hyphen for its underscore if one likes; "" when nothing was said."""
    if value in (None, ""):
        return ""
    word = value.replace("-", "_") if isinstance(value, str) else value
    if word not in allowed:
        raise _wrong(field, f"it must be one of {', '.join(allowed)}.")
    return str(word)


def _number(field: str, value: Any, fits: Callable[[Any], bool], allowed: str) -> Any:
    # The bounds come first: an integer too large for a float must not raise.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value) or not math.isfinite(value):
        raise _wrong(field, f"it must be {allowed}.")
    return value


def _sample(value: Any, need: int) -> float | None:
    """A whole number is so many devices, any other number from 0 to 1 the fraction of those that are there."""
    if value is None:
        return None

    def fits(number: Any) -> bool:
        return 1 <= number <= MOST_DEVICES if isinstance(number, int) else 0 < number <= 1

    allowed = f"a whole number of devices from 1 to {MOST_DEVICES}, or a fraction of them above 0 and up to 1.0"
    sample: float = _number("sample", value, fits, allowed)
    if isinstance(sample, int) and sample < need:
        raise _wrong("sample", f"a round that asks {sample} devices cannot have the {need} answers that it needs.")
    return sample


def _over_selection(value: Any) -> float:
    if value is None:
        return 1.0
    allowed = f"a number from 1 to {MOST_OVER_SELECTION:g}"
    return float(_number("over_selection", value, lambda number: 1 <= number <= MOST_OVER_SELECTION, allowed))


def _count(field: str, value: Any) -> int:
    def fits(number: Any) -> bool:
        return isinstance(number, int) and 0 <= number <= MOST_DEVICES

    return int(_number(field, 0 if value is None else value, fits, f"a whole number from 0 to {MOST_DEVICES}"))


def _grace(value: Any) -> int:
    def fits(number: Any) -> bool:
        return isinstance(number, int) and 1 <= number <= MOST_GRACE_SECONDS

    allowed = f"a whole number from 1 to {MOST_GRACE_SECONDS}"
    return 0 if value is None else int(_number("grace_seconds", value, fits, allowed))
