"""What stands in the way of a run, all of it at once, and how its first round would begin. Pure: facts go in.

An error is what `runs.start` refuses. A warning is what it accepts and people regret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fedwire.errors import FedportalError
from fedwire.states import MemberState
from training.services.terms import CROSS_DEVICE, Terms
from training.wording import listed

ERROR, WARNING = "error", "warning"
# Above this learning rate people are warned.
STEEP = 10
# An encoded update that takes more of the plain one's bytes than this is hardly worth what it loses.
WORTH = 0.9


@dataclass(frozen=True)
class Problem:
    """Something to know before the start. `field`: of the wish, "" for none; `code`: of the catalogue, or a word."""

    level: str
    code: str
    field: str
    sentence: str
    next_step: str = ""


@dataclass(frozen=True)
class Place:
    """An organization of the federation. `known`: its devices in the group; `present`: those that are there now."""

    id: str
    name: str
    state: str
    known: int = 0
    present: int = 0
    last_seen_at: datetime | None = None
    barred: str = ""
    grouped: bool = False  # whether only devices of a group are meant
    floor: int = 0  # the fewest rows of a device by its policy, and how many of `present` sent fewer last time
    few: int = 0
    asked: int | None = None  # how many a draw of the plan is expected to ask; None: all that are there
    cap: int = 0  # the most of the plan; 0 without
    answers: float = 1.0  # how many of the devices that were asked answered lately, from 0 to 1

    @property
    def expected(self) -> int:
        """How many of its devices the first round is expected to ask."""
        if self.state != MemberState.ACTIVE or self.barred:
            return 0
        return self.present if self.asked is None else self.asked

    @property
    def giving(self) -> int:
        """How many of those would train: not those that have too few rows for the policy."""
        if not self.present:
            return 0
        return self.expected * max(self.present - self.few, 0) // self.present

    @property
    def answering(self) -> float:
        """How many of those are expected to answer, going by the last rounds."""
        return round(self.giving * self.answers, 1)

    @property
    def possible(self) -> int:
        """How many of its devices could take part at once if all were there."""
        if self.state != MemberState.ACTIVE or self.barred:
            return 0
        return min(self.known, self.cap) if self.cap else self.known

    @property
    def reason(self) -> str:
        """Why it is not expected with all it has; "" when it is."""
        if self.state != MemberState.ACTIVE:
            return "has not joined yet" if self.state == MemberState.INVITED else f"is {self.state}"
        if self.barred:
            return self.barred
        if not self.known:
            return "has no device in this group" if self.grouped else "has registered no device"
        if self.few:
            return f"{self.few} would decline: fewer than {self.floor} rows"
        return "" if self.present == self.known else "is not there" if not self.present else "is not there with all"


@dataclass(frozen=True)
class Facts:
    """What is known of a wish and of the world. `refused`: what stands against it however the world is."""

    model: str
    places: Sequence[Place]
    need: int
    group: str = ""
    terms: Terms = field(default_factory=Terms)
    round_seconds: float = 0.0
    refused: Sequence[FedportalError] = ()
    going_on: Sequence[str] = ()  # runs of the same model, each in a few words
    slowest: float | None = None  # seconds that the slowest of the last rounds took
    standardise: bool = False
    rate: float | None = None  # the learning rate that was asked for
    failed: str = ""  # why the last run with the same settings failed, if its numbers grew without end
    written: tuple[str, int, int] | None = None  # the codec of the updates, and their bytes with it and plain
    rounds: int = 0
    afforded: int | None = None  # so many of them fit into the own organization's privacy budget; None: no limit
    lessened: Mapping[str, int] = field(default_factory=dict)  # group that is asked for less work → its devices


def problems(facts: Facts) -> list[Problem]:
    """All of them, errors first."""
    found = [of(error) for error in facts.refused]
    found += _running(facts)
    if facts.failed:
        sentence = f"The last run with these settings failed. {facts.failed}"
        found.append(Problem(WARNING, "grew", "config.learning_rate", sentence))
    if facts.rate is not None and facts.rate > STEEP and not facts.failed:
        sentence = f"A learning rate of {facts.rate:g} is very high: the numbers may grow beyond all bounds."
        found.append(Problem(WARNING, "steep", "config.learning_rate", sentence, "Most models learn with 0.001 to 1."))
    found += [*_hardly_smaller(facts.written), *_unaffordable(facts)]
    if facts.places:
        found += [
            *_too_few(facts),
            *_quotas(facts),
            *_buffer(facts),
            *_sampled(facts),
            *_unlabelled(facts),
            *_left_out(facts.places),
            *_small(facts.places),
            *_alone(facts.places),
        ]
    if facts.slowest is not None and facts.round_seconds < facts.slowest:
        found.append(_hasty(facts.slowest, facts.round_seconds))
    return found


def _unaffordable(facts: Facts) -> list[Problem]:
    """The own organization's budget ends before the run does."""
    if facts.afforded is None or facts.afforded >= facts.rounds:
        return []
    so_many = f"{facts.afforded or 'none'} of the {facts.rounds} rounds"
    sentence = f"Your organization's privacy budget is enough for {so_many}; then its devices are left out."
    return [
        Problem(WARNING, "budget", "config.privacy", sentence, "Add noise, plan fewer rounds, or raise the budget.")
    ]


def of(error: FedportalError) -> Problem:
    """An error of the catalogue as a problem."""
    return Problem(ERROR, error.code, field_of(error), error.message, error.next_step)


def field_of(error: FedportalError) -> str:
    """The field of the wish that an error names; "config.…" for the strategy's and the run's own settings."""
    fields = {
        "strategy_unknown": "strategy",
        "strategy_schedule": "schedule",
        "not_shared": "federation",
        "ambiguous_name": "federation",
    }
    if error.code == "strategy_parameter":
        return f"config.{error.context.get('name')}"
    return fields.get(error.code) or str(error.context.get("field", "version"))


def forecast(facts: Facts) -> str:
    """How the first round would begin, as one sentence."""
    expected = sum(place.giving for place in facts.places)
    first = "The first round, which pools the columns' statistics," if facts.standardise else "The first round"
    short = _short(facts)
    if expected >= facts.need and not short:
        places = sum(place.giving > 0 for place in facts.places)
        return f"{first} would begin at once with {_devices(expected)} of {_count(places, 'organization')}."
    lacking = facts.need - expected
    if lacking <= 0:
        return f"{first} would wait for {_lacking(facts, short)}."
    more = f"{lacking} more device{'' if lacking == 1 else 's'}" if expected else _devices(lacking)
    return f"{first} would wait for {more}{_why(facts.places)}."


def _short(facts: Facts) -> dict[str, int]:
    """Organization → how many of its devices the quota asks for beyond those that would train."""
    quota = facts.terms.quota
    return {one.name: quota - one.giving for one in facts.places if one.possible and one.giving < quota}


def _lacking(facts: Facts, short: Mapping[str, int]) -> str:
    of = [f"{count} of {name}" for name, count in short.items()]
    return f"more devices: {listed(of)}, for the quota of {facts.terms.quota} of each organization"


def _quotas(facts: Facts) -> list[Problem]:
    """Organizations that could not meet the quota with all that they have, and quotas that outgrow the sample."""
    quota = facts.terms.quota
    poor = [one.name for one in facts.places if one.possible and one.known < quota]
    found = []
    if poor:
        has = "has" if len(poor) == 1 else "have each"
        sentence = f"{listed(poor)} {has} fewer devices than the {quota} of each organization that the plan asks for."
        step = "Every round would wait for more until its deadline and be tried again. Lower the quota."
        found.append(Problem(WARNING, "quota", "quota", sentence, step))
    room = facts.terms.target(facts.need, sum(one.present for one in facts.places if one.possible))
    least = sum(min(quota, one.present) for one in facts.places if one.possible)
    if room is not None and least > room:
        sentence = f"The quota asks for {least} devices of all organizations together, and a round for {room}."
        found.append(Problem(WARNING, "quota", "quota", sentence, "The quota counts: a round would ask the more."))
    return found


def _buffer(facts: Facts) -> list[Problem]:
    """A buffer that the devices there cannot fill, because each gives one answer to a model."""
    possible = sum(place.possible for place in facts.places)
    if not facts.terms.asynchronous or possible >= facts.terms.buffer:
        return []
    sentence = f"A model is made of {facts.terms.buffer} answers, and only {_devices(possible)} could give one each."
    step = "A model is then made when all have answered, as in synchronous rounds. Ask for fewer answers."
    return [Problem(WARNING, "buffer", "buffer", sentence, step)]


def _sampled(facts: Facts) -> list[Problem]:
    """A sample of which too few are expected to answer."""
    answering = sum(one.answering for one in facts.places)
    asked = sum(one.expected for one in facts.places)
    if facts.terms.mode != CROSS_DEVICE or asked < facts.need or answering >= facts.need:
        return []
    sentence = (
        f"Of the {_devices(asked)} that a round asks, about {answering:g} would answer, going by the last rounds."
    )
    step = f"A round needs {facts.need}: ask more of them, or it is tried again and again."
    return [Problem(WARNING, "few_answers", "sample", sentence, step)]


def _unlabelled(facts: Facts) -> list[Problem]:
    """Groups that are asked for less work and have no device."""
    empty = [name for name, count in facts.lessened.items() if not count]
    if not empty:
        return []
    of = f" of the group {facts.group}" if facts.group else ""
    where = empty[0] if len(empty) == 1 else f"any of {listed(empty)}"
    sentence = f"No device{of} is in {where}, so none is asked for less work by that."
    step = "Put devices into the group, on the page of each, or leave it out. Rounds look anew whenever they begin."
    return [Problem(WARNING, "no_such_group", "config.work_shares", sentence, step)]


def _why(places: Iterable[Place]) -> str:
    missing = [place.name for place in places if place.state == MemberState.ACTIVE and not place.giving]
    if not missing:
        return ""
    return f": {listed(missing)} {'has' if len(missing) == 1 else 'have'} none that would take part"


def _running(facts: Facts) -> list[Problem]:
    if not facts.going_on:
        return []
    sentence = f"{facts.model} is in training already: {'; '.join(facts.going_on)}."
    next_step = "Each run publishes a version of its own. Wait for it, or stop it, unless you want both."
    return [Problem(WARNING, "going_on", "model", sentence, next_step)]


def _too_few(facts: Facts) -> list[Problem]:
    possible = sum(place.possible for place in facts.places)
    if possible >= facts.need:
        return []
    where = f" in the group {facts.group}" if facts.group else ""
    if not possible:
        sentence = f"No device{where} could ever take part."
    else:
        cap = f" with at most {facts.terms.cap} of each organization" if facts.terms.cap else ""
        sentence = f"Only {_devices(possible)}{where} could ever take part{cap}, and a round needs {facts.need}."
    next_step = "The run waits until more register. Ask for fewer, or let the members register devices first."
    if facts.group and not possible:
        next_step = "Leave the group empty for all devices, or put devices into it first; until then the run waits."
    return [
        Problem(
            WARNING, "too_few", "group" if facts.group and not possible else "min_participants", sentence, next_step
        )
    ]


def _left_out(places: Iterable[Place]) -> list[Problem]:
    return [
        Problem(
            WARNING,
            "left_out",
            "",
            f"{place.name}'s devices are not asked: {place.barred}.",
            "They are asked from the first round on that this no longer holds.",
        )
        for place in places
        if place.barred and place.state == MemberState.ACTIVE
    ]


def _small(places: Iterable[Place]) -> list[Problem]:
    return [
        Problem(
            WARNING,
            "few_rows",
            "",
            f"{place.name}'s policy asks for at least {place.floor} rows of a device: {place.few} of its"
            f" {_devices(place.expected)} there sent fewer last time and would decline.",
            "They take part once they have more rows, or the policy asks for fewer.",
        )
        for place in places
        if place.few and place.expected
    ]


def _alone(places: Sequence[Place]) -> list[Problem]:
    giving = [place for place in places if place.giving]
    if len(giving) != 1 or len(places) < 2:
        return []
    sentence = f"Of all members only {giving[0].name} has devices that would take part."
    return [Problem(WARNING, "alone", "", sentence, "Ask for enough devices that others must take part, or wait.")]


def _hardly_smaller(written: tuple[str, int, int] | None) -> list[Problem]:
    """A codec that saves nothing worth it, as on a model so small that most of an update is its header."""
    if written is None or written[1] <= WORTH * written[2]:
        return []
    codec, encoded, plain = written
    saves = "nothing" if encoded >= plain else "almost nothing"
    sentence = f"With the codec {codec} an update of this model takes {encoded:,} bytes, and {plain:,} plain."
    step = f"Leave the codec out: it saves {saves} here, and plain updates are exact."
    return [Problem(WARNING, "codec_saves_nothing", "config.codec", sentence, step)]


def _hasty(slowest: float, seconds: float) -> Problem:
    sentence = f"A round may take {seconds:g} s, and one of the last took {slowest:.0f} s."
    return Problem(WARNING, "hasty", "round_seconds", sentence, "Give rounds more time, or some devices will be late.")


def _devices(count: int) -> str:
    return _count(count, "device")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_json(problem: Problem) -> dict[str, Any]:
    """The problem as the API shows it."""
    return {
        "level": problem.level,
        "code": problem.code,
        "field": problem.field,
        "message": problem.sentence,
        "next_step": problem.next_step,
    }
