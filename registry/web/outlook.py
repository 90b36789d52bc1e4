"""What happens next with a rollout, in a sentence; and its schedule, steps with what is known of their times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import isinf
from typing import Any, NamedTuple

from fedwire.states import RolloutState
from registry.deliveries import Event, Reach
from registry.delivery.health import Verdict
from registry.models import Experiment, Rollout
from registry.services import health, rollouts
from registry.wording import counted

PROBLEMS = {
    "error_rate": "more predictions fail than the limit allows",
    "latency": "predictions take longer than the limit allows",
    "accuracy": "fewer predictions are right than the limit asks for",
}
UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


class Outlook(NamedTuple):
    """A sentence, around a moment if there is one; `look` is "", "warning" or "error"."""

    before: str
    at: datetime | None = None
    after: str = ""
    look: str = ""


class Step(NamedTuple):
    """A step of a schedule: its share, how long it is kept, when it was reached; `now` is the present one."""

    share: str
    keeps: str
    reached: datetime | None
    now: bool


def percent(share: int) -> str:
    """Hundredths of a percent as people read them: "12.5 %"."""
    return f"{share / 100:g} %"


def lasting(seconds: int) -> str:
    """ "2 hours", "90 seconds"; "" for none."""
    size, unit = next((size, unit) for size, unit in UNITS if seconds % size == 0)
    return counted(seconds // size, unit) if seconds else ""


def took(start: datetime | None, end: datetime | None) -> str:
    """How long from one to the other: "3.2 s", "4 min"; "" when one is not known."""
    if start is None or end is None:
        return ""
    seconds = max((end - start).total_seconds(), 0.0)
    if seconds < 0.1:
        return "less than 0.1 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def next_of(rollout: Rollout, seen: Verdict, reach: Reach, newest: bool, barred: str) -> Outlook:
    """What happens next, and what it waits for; `barred`: why its gate is closed."""
    if barred and not seen.problem:
        return Outlook(f"No further device gets it, for its gate is closed: {barred}.", look="error")
    if rollout.state == RolloutState.PENDING:
        return Outlook(f"It waits to be begun: then {percent(rollout.share)} of the devices get it.")
    if rollout.state == RolloutState.ROLLED_BACK:
        return _back(rollout, reach)
    if seen.problem and newest:
        return _unwell(rollout, seen)
    if rollout.state == RolloutState.PAUSED:
        return Outlook("It is paused: no further device gets it until somebody resumes it.", look="warning")
    if rollout.state == RolloutState.COMPLETED:
        return _kept(rollout, newest)
    return _onward(rollout, seen, reach)


def schedule(rollout: Rollout, reached: Mapping[int, datetime]) -> list[Step]:
    """The steps, in order."""
    present = max((share for share, _ in rollout.steps if share <= rollout.share), default=None)
    begun = rollout.state != RolloutState.PENDING
    return [
        Step(percent(share), lasting(wait), reached.get(share) if begun else None, begun and share == present)
        for share, wait in rollout.steps
    ]


def limits(rollout: Rollout | Experiment) -> list[tuple[str, str]]:
    """What is too bad, as names and values."""
    found = [
        ("Failed predictions", f"more than {100 * rollout.error_rate:g} %") if rollout.error_rate is not None else None,
        ("95 of 100 within", f"{rollout.latency_ms:g} ms") if rollout.latency_ms is not None else None,
        ("Right predictions", f"fewer than {100 * rollout.accuracy:g} %") if rollout.accuracy is not None else None,
    ]
    return [row for row in found if row is not None]


def health_words(seen: Verdict) -> list[tuple[str, str]]:
    """What was reported lately, as names and values."""
    words: list[tuple[str, Any]] = [("Predictions", f"{seen.count:,}")]
    if seen.error_rate is not None:
        words.append(("Failed", f"{100 * seen.error_rate:.3g} %"))
    if seen.latency_ms is not None:
        slow = isinf(seen.latency_ms)
        words.append(("95 of 100 within", "more than 30 s" if slow else f"{seen.latency_ms:g} ms"))
    if seen.accuracy is not None:
        words.append(("Right, of those with a known outcome", f"{100 * seen.accuracy:.3g} %"))
    return words


def _back(rollout: Rollout, reach: Reach) -> Outlook:
    if rollout.restored_at is not None:
        if not reach.joined:
            return Outlook("No device has to go back, or another rollout has taken over.")
        return Outlook("Every device that can be asked has what it had before.")
    return Outlook(
        f"{counted(reach.waiting + reach.failed, 'device')} still to go back to what they had.", look="error"
    )


def _unwell(rollout: Rollout, seen: Verdict) -> Outlook:
    problem = PROBLEMS[seen.problem]
    if rollout.auto_rollback:
        return Outlook(f"It goes back by itself in a moment: {problem}.", look="error")
    return Outlook(f"Roll it back: {problem}, and this rollout does not go back by itself.", look="error")


def _kept(rollout: Rollout, newest: bool) -> Outlook:
    if not newest:
        return Outlook("It is done, and a later rollout has followed.")
    if not rollout.auto_rollback or not limits(rollout):
        return Outlook("It is done: the devices keep the version.")
    watched = rollout.completed_at + health.WATCHED_FOR if rollout.completed_at else None
    return Outlook("It is done. A version that turns out to be unwell still goes back by itself until", watched, ".")


def _onward(rollout: Rollout, seen: Verdict, reach: Reach) -> Outlook:
    further = rollouts.next_share(rollout)
    if rollout.steps:
        at = rollouts.due_at(rollout)
        what = f"It goes to {percent(further)}" if further > rollout.share else "It completes"
        enough = max(seen.count, seen.judged)
        lacking = rollout.least - enough
        if lacking > 0:
            seen_so_far = f"{enough:,} of {counted(rollout.least, 'prediction')}"
            return Outlook(
                f"{what} by itself at the earliest at", at, f", once enough was seen of it: {seen_so_far} so far."
            )
        return Outlook(f"{what} by itself, if nothing is wrong by then, at", at, ".")
    if further > rollout.share:
        return Outlook(f"It stays at {percent(rollout.share)} until somebody widens it.")
    if reach.waiting:
        return Outlook(f"It has come as far as it is to: {counted(reach.waiting, 'device')} still to fetch it.")
    return Outlook("It has come as far as it is to. Complete it, and the next version may go out.")


def standing(rollout: Rollout) -> str:
    """What a model's devices have, after "On your devices:"."""
    version, share = rollout.version.version, percent(rollout.share)
    if rollout.state == RolloutState.ROLLED_BACK:
        before = rollout.previous_version.version if rollout.previous_version else "what they had before"
        return f"{before}, after {version} was rolled back"
    words = {RolloutState.PENDING: f"{version} waits to be begun", RolloutState.PAUSED: f"{version} paused at {share}"}
    return words.get(RolloutState(rollout.state), f"{version} at {share}")


def told(event: Event) -> dict[str, Any]:
    """Something that happened, as a line of the page: words, a moment and a look."""
    details = event.details
    words = {
        "started": f"Made, for {_share_of(details.get('share'))} of the devices",
        "widened": f"Widened to {_share_of(details.get('after'))}",
        "paused": "Paused",
        "resumed": "Resumed",
        "completed": f"Completed at {_share_of(details.get('share'))}",
        "unwell": f"Found unwell: {details.get('reason', '')}",
        "rolled_back": f"Rolled back: {details.get('reason', '')}",
    }
    looks = {"paused": "warn", "completed": "good", "unwell": "bad", "rolled_back": "bad"}
    by = " by itself" if event.by_itself and event.what in ("widened", "completed") else ""
    return {"words": words.get(event.what, event.what) + by, "at": event.at, "look": looks.get(event.what, "")}


def _share_of(share: Any) -> str:
    return percent(share) if isinstance(share, int) else "a share"
