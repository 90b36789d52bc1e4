"""When an edge has waited long enough: its terms, how a round stands, and the decision. Pure; no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fedwire.errors import FedportalError


class Verdict(StrEnum):
    """What to do with a round as it stands."""

    WAIT = "wait"
    CLOSE = "close"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Terms:
    """What the organization asks of a round behind its edge.

    `least_devices`: with fewer answers nothing is sent, so nobody outside sees a mean of fewer. `quorum`: with so many
    answers the others have `grace` seconds left; None: all that are there are waited for. `grace` is also how long a
    round waits for further devices while too few are there. `least_records`: the edge's own floor for every device.
    """

    least_devices: int = 1
    quorum: int | None = None
    grace: float = 10.0
    least_records: int = 0

    def __post_init__(self) -> None:
        if self.least_devices < 1:
            raise FedportalError("field_invalid", field="least_devices", reason="it is at least 1.")
        if self.quorum is not None and self.quorum < self.least_devices:
            reason = f"it is less than the {self.least_devices} devices that must answer."
            raise FedportalError("field_invalid", field="quorum", reason=reason)
        if self.grace < 0:
            raise FedportalError("field_invalid", field="grace", reason="it is not a duration.")


@dataclass(frozen=True)
class Standing:
    """A round as it stands: how many have answered, how many are at work or expected, seconds to its deadline, and
    since how many seconds the quorum is met, or nobody is at work any more."""

    answered: int
    unfinished: int
    left: float
    since_quorum: float | None = None
    since_idle: float | None = None


def decide(terms: Terms, standing: Standing) -> Verdict:
    """Close with what is there, wait for more, or give up because too few will answer."""
    enough = standing.answered >= terms.least_devices
    if standing.left <= 0:
        return Verdict.CLOSE if enough else Verdict.GIVE_UP
    if not standing.unfinished:
        if enough:
            return Verdict.CLOSE
        return Verdict.GIVE_UP if (standing.since_idle or 0.0) >= terms.grace else Verdict.WAIT
    if terms.quorum is not None and standing.since_quorum is not None and standing.since_quorum >= terms.grace:
        return Verdict.CLOSE
    return Verdict.WAIT


def reserve(seconds_left: float) -> float:
    """How much of the portal's time an edge keeps for itself, to add up and to send: a tenth, from 1 to 60 seconds."""
    return min(60.0, max(1.0, seconds_left / 10))
