"""How a run protects what its devices send, as it is chosen at its start: read, checked, and said in a few words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from fedwire import gradients, grids
from fedwire.errors import FedportalError
from fedwire.masking import rings
from fedwire.masking import terms as masking
from training.aggregation.strategy import Strategy
from training.privacy import accounting, conflicts
from training.privacy.accounting import Mechanism
from training.privacy.conflicts import Conflict, Setup
from training.privacy.protection import ADAPTIVE, CLIPPINGS, GROUPED, LOCAL, MECHANISMS, RECORDS, SUMS, Protection
from training.services import terms
from training.services.terms import Terms

FIELD = "privacy"
LEAST_CLIP, MOST_CLIP = 1e-9, 1e9
# Less noise than this promises nothing, more leaves nothing to learn.
LEAST_NOISE, MOST_NOISE = 0.01, 1e4
LEAST_RATE = 1e-4
# A smaller δ than this the tables of noise could not keep, see `fedwire.noise.wide_error_of`.
LEAST_DELTA, MOST_DELTA = 1e-9, 0.1
MOST_DEVICES = 100_000
MOST_WEIGHT = 1 << 20
# A group has to hold the devices that a sum needs.
LEAST_GROUP = 2


@dataclass(frozen=True)
class Setting:
    """What a field may be: one of these words, or a number between these bounds."""

    allowed: str
    fits: Callable[[Any], bool]


def _words(allowed: tuple[str, ...]) -> Setting:
    return Setting(f"one of {', '.join(allowed)}", lambda value: isinstance(value, str) and value in allowed)


def _whole(low: int, high: int) -> Setting:
    return Setting(
        f"a whole number from {low:,} to {high:,}", lambda value: type(value) is int and bool(low <= value <= high)
    )


def _number(allowed: str, fits: Callable[[float], bool]) -> Setting:
    # The bounds come first: an integer too large for a float must not raise.
    return Setting(allowed, lambda value: type(value) in (int, float) and fits(value) and math.isfinite(value))


SETTINGS: Mapping[str, Setting] = {
    "sums": _words(SUMS),
    "mechanism": _words(MECHANISMS),
    "clip": _number(f"a number from {LEAST_CLIP:g} to {MOST_CLIP:g}", lambda value: LEAST_CLIP <= value <= MOST_CLIP),
    "noise": _number(
        f"0, or a number from {LEAST_NOISE:g} to {MOST_NOISE:g}",
        lambda value: value == 0 or LEAST_NOISE <= value <= MOST_NOISE,
    ),
    "rate": _number(f"0, or a number from {LEAST_RATE:g} to 1", lambda value: value == 0 or LEAST_RATE <= value <= 1),
    "delta": _number(
        f"a number from {LEAST_DELTA:g} to {MOST_DELTA:g}", lambda value: LEAST_DELTA <= value <= MOST_DELTA
    ),
    "clipping": _words(CLIPPINGS),
    "quantile": _number("a number between 0 and 1", lambda value: 0 < value < 1),
    "least_devices": _whole(2, MOST_DEVICES),
    "least_organizations": _whole(1, MOST_DEVICES),
    "bits": Setting(
        f"one of {', '.join(map(str, rings.BITS))}", lambda value: type(value) is int and value in rings.BITS
    ),
    "most_weight": _whole(1, MOST_WEIGHT),
    "group": _whole(LEAST_GROUP, masking.MOST_DEVICES),
}
_FLOATS = {field.name for field in fields(Protection) if isinstance(field.default, float)}


def checked(value: Any) -> Protection:
    """The protection in `value`, an object of fields of `Protection`; None and {} are none at all.

    Raises `field_invalid` with the field's name for what is unknown, of another type, or out of its range.
    """
    given = _object(value)
    for name, said in given.items():
        if not SETTINGS[name].fits(said):
            raise _invalid(name, f"it must be {SETTINGS[name].allowed}.")
    values: dict[str, Any] = {name: float(said) if name in _FLOATS else said for name, said in given.items()}
    return Protection(**values)


def complaints(value: Any) -> list[FedportalError]:
    """Everything that `checked` refuses, not only the first."""
    try:
        given = _object(value)
    except FedportalError as error:
        return [error]
    wrong = [name for name, said in given.items() if not SETTINGS[name].fits(said)]
    return [_invalid(name, f"it must be {SETTINGS[name].allowed}.") for name in wrong]


def disputes(setup: Setup) -> list[FedportalError]:
    """Everything in the setup that does not go together, each as `field_invalid`."""
    return [_dispute(conflict, setup) for conflict in conflicts.of(setup)]


def check(setup: Setup) -> None:
    """Raises `field_invalid` for the first conflict of the setup."""
    for conflict in conflicts.of(setup):
        raise _dispute(conflict, setup)


def check_rounds(strategy: Strategy, config: Mapping[str, Any], rounds: Terms, min_participants: int) -> None:
    """Raises `field_invalid` where how a run with this configuration protects updates does not go with its rounds."""
    check(setup_of(strategy, config, Protection.of(config), rounds, min_participants))


def setup_of(
    strategy: Strategy,
    config: Mapping[str, Any],
    protection: Protection,
    rounds: Terms | None = None,
    min_participants: int | None = None,
) -> Setup:
    """A run of this strategy with this configuration, as it is stored; the terms of its rounds where they are known."""
    codec = (config.get("codec") or {}).get("name", conflicts.PLAIN_CODEC)
    asynchronous = rounds.asynchronous if rounds is not None else not strategy.synchronous
    asked = whole_of(rounds.sample) if rounds is not None else None
    return Setup(
        protection,
        strategy,
        codec,
        bool(config.get("standardise")),
        asynchronous,
        min_participants,
        asked,
        strategy.least_updates(config.get("parameters") or strategy.checked({})),
    )


def whole_of(sample: Any) -> int | None:
    """How many devices a round asks, where that was said as a number of them and not as a part."""
    return sample if type(sample) is int else None


def stored(protection: Protection) -> dict[str, Any] | None:
    """As it stands in a run's configuration; None for a run that protects nothing."""
    return protection.as_json() if protection.hides or protection.spends else None


def told(half: Mapping[str, Any], protection: Protection) -> dict[str, Any]:
    """A strategy's device half with the noise that each device is to add to its own update, or to the gradients that it
    trains with, and that it has to know how."""
    asked = {"clip": protection.clip, "noise": protection.noise}
    if protection.mechanism == LOCAL:
        return {**half, "noise": asked, "requires": [*half.get("requires", ()), grids.ABILITY]}
    if protection.mechanism == RECORDS:
        asked["rate"] = protection.rate
        return {**half, "gradients": asked, "requires": [*half.get("requires", ()), gradients.ABILITY]}
    return dict(half)


def shown(protection: Protection) -> str:
    """The protection in a few words."""
    if not (protection.hides or protection.spends):
        return "none: the portal sees each update"
    words = []
    if protection.hides:
        words.append("sums of groups only" if protection.sums == GROUPED else "sums only")
    if protection.spends:
        rate = f", rate {protection.rate:g}" if protection.rate else ""
        words.append(f"{protection.mechanism} noise {protection.noise:g} × clip{rate}, δ {protection.delta:g}")
    clip = f"clip {protection.clip:g}"
    if protection.clipping == ADAPTIVE:
        clip += f" to begin with, then the {protection.quantile:g} quantile"
    return ", ".join([*words, clip])


def foreseen(protection: Protection, each: Mechanism | None, rounds: int) -> str:
    """What so many rounds, each of this cost, keep from whom, before the first of them; "" where nothing is kept."""
    words = []
    if protection.hides:
        least = f"{protection.least_devices} devices of {protection.least_organizations} organizations"
        what = "sums of groups of updates" if protection.sums == GROUPED else "sums of updates"
        words.append(f"The portal sees only {what}, each of at least {least}.")
    if each is not None:
        spent = accounting.epsilon([replace(each, rounds=each.rounds * rounds)], protection.delta)
        told = f"ε is {spent:.3g}" if math.isfinite(spent) else "ε is beyond all use"
        words.append(f"After {rounds:,} rounds {told} at δ = {protection.delta:g}, for any one {protection.unit}.")
    if each is not None and protection.mechanism == RECORDS:
        words.append(
            f"A round is {each.rounds:,} steps on every device, in each of which a row comes with the probability "
            f"{each.rate:g}, by a coin that only its device sees."
        )
    return " ".join(words)


def _object(value: Any) -> dict[str, Any]:
    """The fields that say something. Raises `field_invalid`."""
    if value is not None and not isinstance(value, Mapping):
        raise FedportalError("field_invalid", field=f"config.{FIELD}", reason="it must be an object of settings.")
    given = {name: said for name, said in (value or {}).items() if said is not None}
    for name in given:
        if name not in SETTINGS:
            raise _invalid(str(name), f"there is no such setting; there are {', '.join(SETTINGS)}.")
    return given


def _dispute(conflict: Conflict, setup: Setup) -> FedportalError:
    # The terms of rounds are no part of the configuration.
    place = conflict.field if conflict.field in terms.FIELDS else f"config.{conflict.field}"
    return FedportalError("field_invalid", field=place, reason=conflict.reason(setup))


def _invalid(field: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=f"config.{FIELD}.{field}", reason=reason)
