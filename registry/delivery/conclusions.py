"""What may be concluded of two versions from what devices reported of each, at any time and however often one looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.delivery import placement, sequences
from registry.delivery.sequences import LEAST, LEVEL, Arm, Difference, Tally

ARMS: tuple[placement.Arm, placement.Arm] = ("control", "treatment")
# With fewer devices in an arm nobody can tell whether it is the versions or the devices that differ.
LEAST_DEVICES = 3
ACCURACY, ERROR_RATE = "accuracy", "error_rate"
_NAMES = {ACCURACY: "accuracy", ERROR_RATE: "rate of errors"}
_COUNTED = {ACCURACY: "predictions whose outcome is known", ERROR_RATE: "predictions"}


@dataclass(frozen=True)
class Seen:
    """What one device reported of its arm's version."""

    count: int
    errors: int
    judged: int
    right: int


@dataclass(frozen=True)
class Measure:
    """A metric in one arm. `low` to `high` covers the true one at all looks together.

    Without an estimate there is nothing to say: fewer than `LEAST` observations.
    """

    devices: int  # that have reported anything of it
    count: int
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Conclusion:
    """What a metric says: of each arm, of the difference of treatment and control, and which arm is better, or "".

    `apart`: the arms differ beyond chance, but too few devices report for saying that it is the versions that do.
    """

    metric: str
    planned: int
    control: Measure
    treatment: Measure
    difference: Difference | None
    better: str
    apart: bool = False


def conclude(metric: str, seen: Mapping[placement.Arm, Iterable[Seen]], planned: int) -> Conclusion:
    """Compare the arms by "accuracy" or "error_rate". `planned` observations in each arm were settled beforehand."""
    control, treatment = (_arm(metric, seen.get(arm, ())) for arm in ARMS)
    difference = sequences.compare(control, treatment, planned)
    better, apart = "", difference is not None and difference.found
    enough = min(len(control.tallies), len(treatment.tallies)) >= LEAST_DEVICES
    if apart and enough and difference is not None:
        better = "treatment" if (difference.estimate > 0) == (metric == ACCURACY) else "control"
    ours, theirs = _measure(control, planned), _measure(treatment, planned)
    return Conclusion(metric, planned, ours, theirs, difference, better, apart and not enough)


def sentence(found: Conclusion, control: str, treatment: str, winner: str = "") -> str:
    """What may be said now. `winner` is the arm that an earlier look found better, if one did."""
    name, difference = _NAMES[found.metric], found.difference
    if difference is None:
        told = f"{control} has {found.control.count:,} and {treatment} {found.treatment.count:,}"
        return f"Nothing can be said yet: each arm needs {LEAST} {_COUNTED[found.metric]}; {told}."
    low, high = 100 * difference.low, 100 * difference.high
    if found.better:
        ours, other = (treatment, control) if found.better == "treatment" else (control, treatment)
        size, near, far = abs(100 * difference.estimate), *sorted((abs(low), abs(high)))
        way = "higher" if found.metric == ACCURACY else "lower"
        return (
            f"{ours} is better: its {name} is {size:.1f} points {way} than that of {other} "
            f"(between {near:.1f} and {far:.1f})."
        )
    between = f"the {name} of {treatment} is between {_points(low)} and {_points(high)} that of {control}"
    if winner:
        ours = treatment if winner == "treatment" else control
        return f"{ours} was found to be better at an earlier look, which stays true. By now {between}."
    if found.apart:
        few = min(found.control.devices, found.treatment.devices)
        report = f"{few} {'device reports' if few == 1 else 'devices report'}"
        return f"The arms differ: {between}. But only {report} in one of them: it may be the devices that differ."
    enough = min(found.control.count, found.treatment.count) >= found.planned
    reached = f" The {found.planned:,} planned in each arm are reached." if enough else ""
    return f"No difference yet: {between}.{reached}"


def _points(value: float) -> str:
    return f"{abs(value):.1f} points {'below' if value < 0 else 'above'}"


def _arm(metric: str, devices: Iterable[Seen]) -> Arm:
    if metric == ACCURACY:
        return Arm.of((Tally.of_rate(one.judged, one.right) for one in devices), rate=True)
    return Arm.of((Tally.of_rate(one.count, one.errors) for one in devices), rate=True)


def _measure(arm: Arm, planned: int) -> Measure:
    if arm.count < LEAST:
        return Measure(len(arm.tallies), arm.count)
    # The same interval as that of a difference, for one mean: any width that was settled beforehand holds.
    half = float(sequences.half_width(arm.variance, arm.worth, planned, LEVEL))
    return Measure(len(arm.tallies), arm.count, arm.mean, max(arm.mean - half, 0.0), min(arm.mean + half, 1.0))
