"""What was measured in a simulation, as plain values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from fedportal_sdk.simulation.device import Point
from fedportal_sdk.simulation.fleet import Log
from fedwire.states import RoundKind, RoundState

# Beyond so many devices a picture of who holds what shows nothing.
MOST_SHOWN = 60


@dataclass(frozen=True)
class RoundSeen:
    """A training round that is done. `seconds`: by the portal's clock; accuracy and loss are of the model it made."""

    number: int
    attempt: int
    seconds: float
    bytes_up: int
    accuracy: float | None = None
    loss: float | None = None
    at: float | None = None  # when that model was first handed out, by the run's clock


@dataclass(frozen=True)
class Suspect:
    """A device that attacked, or whose updates were flagged. `attack`: its kind, "" for an honest device."""

    identifier: str
    attack: str
    flagged: int  # rounds
    reason: str = ""


@dataclass
class Outcome:
    """A simulation from the outside. Times are seconds; `clock` says whose: "real" or "virtual"."""

    run: str
    model: str
    state: str
    reason: str
    strategy: str
    devices: int
    settings: dict[str, str]
    clock: str
    rounds: list[RoundSeen] = field(default_factory=list)
    start_accuracy: float | None = None
    start_loss: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    seconds: float = 0.0  # real, from the first round's opening to the last one's end
    clock_seconds: float = 0.0  # by the run's clock
    enrolling_seconds: float = 0.0
    durations: list[float] = field(default_factory=list)
    holdings: list[dict[str, int]] = field(default_factory=list)  # per device: class → rows, of the first ones

    @property
    def accuracy(self) -> float | None:
        """On the test set, of the last model that was measured."""
        return next((one.accuracy for one in reversed(self.rounds) if one.accuracy is not None), None)

    @property
    def loss(self) -> float | None:
        """On the test set, of the last model that was measured."""
        return next((one.loss for one in reversed(self.rounds) if one.loss is not None), None)

    @property
    def answered(self) -> int:
        """How many updates were acknowledged."""
        return self.counts.get(f"answered: {RoundKind.TRAIN}", 0)

    @property
    def ms_per_device(self) -> float | None:
        """Milliseconds that passed for each update that was acknowledged."""
        return 1000 * self.seconds / self.answered if self.answered else None

    @property
    def rounds_per_minute(self) -> float | None:
        """Training rounds that were done."""
        return 60 * len(self.rounds) / self.seconds if self.seconds else None

    @property
    def attackers(self) -> list[Suspect]:
        """The devices that attacked."""
        return [one for one in self.suspects if one.attack]

    @property
    def false_flags(self) -> list[Suspect]:
        """Honest devices of which an update was flagged."""
        return [one for one in self.suspects if not one.attack]

    def reached(self, accuracy: float) -> float | None:
        """When, by the run's clock, a model of at least this accuracy was first handed out; None if none was."""
        good = (one.at for one in self.rounds if one.accuracy is not None and one.accuracy >= accuracy)
        return next((at for at in good if at is not None), None)

    def as_json(self) -> dict[str, Any]:
        """Everything that was measured, with what follows from it."""
        derived = {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "answered": self.answered,
            "ms_per_device": self.ms_per_device,
            "rounds_per_minute": self.rounds_per_minute,
            "attackers_flagged": sum(one.flagged > 0 for one in self.attackers),
            "false_flags": len(self.false_flags),
        }
        return {**asdict(self), **derived}


def points_of(logs: Iterable[Log]) -> dict[int, Point]:
    """By rounds trained the model that was then handed out; of several sightings the first."""
    found: dict[int, Point] = {}
    for point in sorted((point for log in logs for point in log.points), key=lambda point: point.at):
        found.setdefault(point.round, point)
    return found


def rounds_seen(rows: Iterable[Mapping[str, Any]], points: Mapping[int, Point]) -> list[RoundSeen]:
    """The training rounds that are done, in order, each with what its model was measured to be."""
    seen = []
    for row in rows:
        if row["kind"] != RoundKind.TRAIN or row["state"] != RoundState.DONE:
            continue
        point = points.get(row["number"])
        measured = {"accuracy": point.accuracy, "loss": point.loss, "at": point.at} if point else {}
        took = between(row["opened_at"], row["closed_at"])
        seen.append(RoundSeen(row["number"], row["attempt"], took, row["bytes_up"], **measured))
    return sorted(seen, key=lambda one: one.number)


def seconds_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """From the opening of the first training round to the end of the last."""
    trained = [row for row in rows if row["kind"] == RoundKind.TRAIN and row["closed_at"]]
    if not trained:
        return 0.0
    return between(min(row["opened_at"] for row in trained), max(row["closed_at"] for row in trained))


def between(start: str, stop: str) -> float:
    """Seconds between two moments in ISO 8601."""
    return (datetime.fromisoformat(stop) - datetime.fromisoformat(start)).total_seconds()


def suspects(flagged: Iterable[Mapping[str, Any]], attacks: Mapping[str, str]) -> list[Suspect]:
    """Attackers and flagged devices. `attacks`: kind by identifier."""
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for one in flagged:
        reasons[one["device"]["identifier"]].append(one["reason"])
    names = sorted(attacks) + sorted(reasons.keys() - attacks.keys())
    return [
        Suspect(name, attacks.get(name, ""), len(reasons[name]), reasons[name][-1] if reasons[name] else "")
        for name in names
    ]


def totals(logs: Iterable[Log]) -> tuple[dict[str, int], dict[str, int]]:
    """Outcomes of tasks and codes of refusals over all processes."""
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for log in logs:
        counts.update(log.counts)
        errors.update(log.errors)
    return dict(sorted(counts.items())), dict(sorted(errors.items()))
