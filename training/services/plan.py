"""What a run does next, and when a round is complete. Pure decisions over rows that are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedwire.states import AssignmentState, RoundKind, RoundState
from training.lifecycle import ALIVE_ROUNDS, UNFINISHED
from training.models import Run
from training.services.terms import CUT, WAIT

# Evaluating takes no longer than training took; whoever left after the last update is not waited for.
EVALUATION_LEAST_SECONDS = 5.0
EVALUATION_FACTOR = 3.0
# Before everything else, where the run asks for it; checking oneself takes seconds.
CHECK_NUMBER = -1
CHECK_MOST_SECONDS = 120.0


@dataclass(frozen=True)
class Step:
    """The next round. `previous`: number of the training round whose model it starts from."""

    number: int
    attempt: int
    kind: RoundKind
    base_blob: str


@dataclass(frozen=True)
class Need:
    """What a round of this kind needs to be settled: so many answers, `quota` of them from each organization of
    `demanded`; `stragglers` says whether it then waits for the others. An asynchronous round is settled at once with
    `buffer` answers, and at its deadline with `least` (a synchronous one has no buffer: 0)."""

    kind: str
    least: int = 1
    quota: int = 0
    demanded: frozenset[int] = frozenset()
    stragglers: str = WAIT
    buffer: int = 0


@dataclass(frozen=True)
class Standing:
    """How many parts of a round stand how: organization → state → how many."""

    parts: Mapping[int, Mapping[str, int]]

    @property
    def unfinished(self) -> int:
        return sum(self._of(UNFINISHED).values())

    def answered(self, kind: str) -> int:
        """How many parts are answers to a round of this kind."""
        return sum(self._of(answering(kind)).values())

    def having(self, kind: str) -> dict[int, int]:
        """Organization → how many of its parts count towards the minimum of a round of this kind."""
        return self._of(counting(kind))

    def counting(self, kind: str) -> int:
        """How many parts count towards the minimum of a round of this kind."""
        return sum(self.having(kind).values())

    def enough(self, need: Need) -> bool:
        """Whether the round may be settled with the answers that are in; nobody is needed to measure the last model."""
        return need.kind == RoundKind.EVALUATE or (self.answered(need.kind) >= need.least and not self.unanswered(need))

    def complete(self, need: Need) -> bool:
        """Whether there is nothing to wait for: all have answered, the rest is cut off, or the buffer is full."""
        if need.buffer and self.answered(need.kind) >= need.buffer:
            return True
        return (need.stragglers == CUT or not self.unfinished) and self.enough(need)

    def lacking(self, need: Need) -> dict[int, int]:
        """Organization → how many devices are missing for its quota, those counted that may still answer."""
        return lacking(need, self.having(need.kind))

    def unanswered(self, need: Need) -> dict[int, int]:
        """Organization → how many answers are missing for its quota."""
        return lacking(need, self._of(answering(need.kind)))

    def _of(self, states: Iterable[str]) -> dict[int, int]:
        wanted = tuple(states)
        return {key: sum(counts.get(state, 0) for state in wanted) for key, counts in self.parts.items()}


def lacking(need: Need, have: Mapping[int, int]) -> dict[int, int]:
    """Organization → how many it lacks for its quota, `have` being how many it has."""
    missing = {key: need.quota - have.get(key, 0) for key in need.demanded}
    return {key: count for key, count in sorted(missing.items()) if count > 0}


def answering(kind: str) -> tuple[str, ...]:
    """The states of parts that are answers to a round of this kind.

    A device may decline to give statistics, or be too old to check itself, and train all the same, so it counts there.
    """
    if kind in (RoundKind.STATISTICS, RoundKind.CHECK):
        return AssignmentState.SUBMITTED, AssignmentState.DECLINED
    return (AssignmentState.SUBMITTED,)


def counting(kind: str) -> tuple[str, ...]:
    """The states of parts that count towards the minimum of a round of this kind: they are answers or may become so."""
    return (*UNFINISHED, *answering(kind))


def next_step(run: Run, last: Mapping[str, Any] | None) -> Step | None:
    """The round that follows `last` (number, attempt, kind, state, base_blob, result_blob of the latest round, None
    before the first). None when the latest is still going on, or when nothing is left to do: see `finished`."""
    if last is None:
        number = CHECK_NUMBER if checks_first(run) else _first(run)
        return Step(number, 1, kind_of(run, number), run.base_version.blob)
    if last["state"] in ALIVE_ROUNDS or finished(run, last):
        return None
    if last["state"] != RoundState.DONE:
        return Step(last["number"], last["attempt"] + 1, RoundKind(last["kind"]), last["base_blob"])
    number = last["number"] + 1 if last["number"] != CHECK_NUMBER else _first(run)
    return Step(number, 1, kind_of(run, number), last["result_blob"])


def checks_first(run: Run) -> bool:
    """Whether the run begins with a check of its devices."""
    return run.config.get("preflight", "off") != "off"


def _first(run: Run) -> int:
    """The number of the run's first round but for the check."""
    return 0 if run.config.get("standardise") else 1


def finished(run: Run, last: Mapping[str, Any] | None) -> bool:
    """Whether the latest round was the run's last."""
    return last is not None and last["state"] == RoundState.DONE and last["number"] >= last_number(run)


def last_number(run: Run) -> int:
    """The number of the run's last round: one more than it trains when the last model is evaluated."""
    return run.total_rounds + bool(run.config.get("evaluate"))


def kind_of(run: Run, number: int) -> RoundKind:
    """What round `number` asks of its devices."""
    if number == CHECK_NUMBER:
        return RoundKind.CHECK
    if number == 0:
        return RoundKind.STATISTICS
    return RoundKind.TRAIN if number <= run.total_rounds else RoundKind.EVALUATE


def seconds_for(run: Run, kind: str, last_seconds: float) -> float:
    """How long a round may take, `last_seconds` being what the one before it took."""
    if kind == RoundKind.CHECK:
        return min(float(run.round_seconds), CHECK_MOST_SECONDS)
    if kind != RoundKind.EVALUATE:
        return float(run.round_seconds)
    return min(float(run.round_seconds), max(EVALUATION_LEAST_SECONDS, EVALUATION_FACTOR * last_seconds))
