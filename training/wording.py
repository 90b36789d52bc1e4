"""The pieces of JSON and the sentences in which a run is told, the same in events, snapshots and the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from fedportal.common import clock
from fedwire.states import AssignmentState, RoundKind, RoundState, SumState, word

MOST_NAMES = 5
# States in which the last refusal is what a card tells: nothing usable came.
REFUSED = "refused"
UNSETTLED = (AssignmentState.OFFERED, AssignmentState.TRAINING, AssignmentState.DECLINED, AssignmentState.EXPIRED)
# How it starts when a run ends because its numbers grew without end, and the code by which a device says so.
GREW, NOT_FINITE = "The weights grew beyond all bounds", "not_finite"
# A device sends the code alone: the sentence of the error may quote its data.
DEVICE_CODES = {
    NOT_FINITE: f"{GREW[0].lower()}{GREW[1:]} here",
    "data_shape": "its data have another number of columns than the model takes",
    "data_columns": "its data lack columns that the model takes by name",
    "data_column_twice": "its data have two columns of the same name",
    "data_labels": "its data hold a class that the model does not know",
    "data_classes": "its data hold other classes than the model has",
    "data_not_numeric": "its data hold text where the model takes numbers",
}
# What a running run is called while its round has too few devices, and a part whose round was called off.
RUN_WAITS = "waiting"
CALLED_OFF = "called off"
# Why a part was closed of which the round had no more need, and what it is called: nobody is to blame.
NOT_NEEDED, UNNEEDED = "the round had enough answers", "not needed"
# Rounds that train nothing, as the log calls them.
ROUND_NAMES = {
    RoundKind.CHECK: "Checking the devices",
    RoundKind.STATISTICS: "Gathering statistics",
    RoundKind.EVALUATE: "Measuring the last model",
}


class Party(NamedTuple):
    """A device with its organization, as far as they are shown."""

    device_id: str
    identifier: str
    organization_id: str
    organization: str


class Share(NamedTuple):
    """What one organization gave: its devices, the updates that came of those asked for, and the rows behind them."""

    organization_id: str
    organization: str
    devices: int
    updates: int
    expected: int
    samples: int


def participant(
    party: Party,
    state: str = AssignmentState.OFFERED,
    *,
    reason: str = "",
    samples: int | None = None,
    seconds: float | None = None,
    devices: int | None = None,
    share: float | None = None,
    last_seen_at: datetime | None = None,
    refusal: Mapping[str, Any] | None = None,
    unusual: str = "",
    called_off: bool = False,
    staleness: int = 0,
) -> dict[str, Any]:
    """A device's card. `word` is what it shows: "refused" while the last thing the device sent was refused.

    `devices`: for how many an edge answered. `share`: of the work that it did. `unusual`: why its update is flagged.
    `called_off`: the round was, so that who had not answered by then is not to blame. `staleness`: how many
    models older than the round's is the one that the device began from.
    """
    if state == AssignmentState.EXPIRED and (called_off or reason == NOT_NEEDED):
        refusal = None
    return {
        "device": {"id": party.device_id, "identifier": party.identifier},
        "organization": {"id": party.organization_id, "name": party.organization},
        "state": str(state),
        "word": word_of(state, refused=bool(refusal), called_off=called_off, reason=reason),
        "reason": refusal["sentence"] if refusal and state in UNSETTLED else told(reason),
        "refusal": dict(refusal) if refusal else None,
        "unusual": unusual,
        "staleness": staleness,
        "samples": samples,
        "seconds": seconds,
        "devices": devices,
        "effort": f"{share:.0%} of the steps" if share else "",
        "last_seen_at": instant(last_seen_at),
    }


def told(reason: str) -> str:
    """A part's reason in words; a device may give a code."""
    return DEVICE_CODES.get(reason, reason)


def grew(where: str, config: Mapping[str, Any]) -> str:
    """Why a run ends whose numbers are not finite, and what to do about it."""
    rate = config.get("parameters", {}).get("learning_rate")
    of = f" of {rate:g}" if isinstance(rate, (int, float)) else ""
    return f"{GREW} {where}. Most likely the learning rate{of} is too high: run again with a lower one."


def word_of(state: str, *, refused: bool, called_off: bool = False, reason: str = "") -> str:
    """What a part is called on its card."""
    if state == AssignmentState.EXPIRED and (called_off or reason == NOT_NEEDED):
        return CALLED_OFF if called_off else UNNEEDED
    return REFUSED if refused and state in UNSETTLED else word("assignment", state)


def closed(number: int, attempt: int, count: int, reason: str) -> dict[str, Any]:
    """The data of `assignments.closed`: so many devices of the round are out, all that had not answered."""
    name = word_of(AssignmentState.EXPIRED, refused=False, reason=reason)
    return {"number": number, "attempt": attempt, "count": count, "word": name, "reason": reason}


def changed(number: int, attempt: int, card: Mapping[str, Any], asynchronous: bool = False) -> dict[str, Any]:
    """The data of `assignment.changed`: a card without what did not change. A refusal stays until something is sent.

    `asynchronous`: the part belongs to whichever round is open, and not only to that with its number.
    """
    same = {"last_seen_at", "unusual", "staleness", *(() if card["refusal"] else ("refusal",))}
    told = {"number": number, "attempt": attempt, **{key: card[key] for key in card if key not in same}}
    return {**told, "asynchronous": True} if asynchronous else told


def too_old(most: int) -> str:
    """Why a part of an asynchronous round was closed whose answer would be too stale."""
    return f"the model that it began from is more than {most} model{'' if most == 1 else 's'} old"


def waiting(
    have: int, need: int, missing: Mapping[str, str], until: datetime, quotas: Mapping[str, int] | None = None
) -> dict[str, Any] | None:
    """For whom a round waits that has `have` of `need` devices; None when it has enough.

    `missing`: organization → why its devices are not asked; "" when it has none available. `quotas`: organization → how
    many of its devices the plan asks for beyond those that take part.
    """
    quotas = quotas or {}
    if have >= need and not quotas:
        return None
    devices = _more_devices(need - have, quotas)
    then = "the round is tried again"
    return {
        "have": have,
        "need": need,
        "for": list(dict.fromkeys([*missing, *quotas])),
        "until": until.isoformat(),
        "then": then,
        "word": RUN_WAITS,
        "lead": f"Waiting for {devices}. If they have not come at the deadline, {then}.",
        "sentence": f"Waiting for {devices}{_why(missing)} until {moment(until)}; then {then}.",
    }


def _more_devices(lacking: int, quotas: Mapping[str, int]) -> str:
    """ "3 more devices, among them 2 of metro"; "1 more device of metro" where only a quota is short."""
    least = max(lacking, sum(quotas.values()))
    devices = f"{least} more device{'' if least == 1 else 's'}"
    if not quotas:
        return devices
    if sum(quotas.values()) < least:
        return f"{devices}, among them {listed([f'{count} of {name}' for name, count in quotas.items()])}"
    if len(quotas) == 1:
        return f"{devices} of {next(iter(quotas))}"
    return f"{devices}: {listed([f'{count} of {name}' for name, count in quotas.items()])}"


def _why(missing: Mapping[str, str]) -> str:
    """ " (metro has none available; valley has not accepted …)": a reason of several organizations is said once."""
    absent = [name for name, reason in missing.items() if not reason]
    said = [f"{listed(absent)} {'has' if len(absent) == 1 else 'have'} none available"] if absent else []
    reasons = list(dict.fromkeys(reason for reason in missing.values() if reason))
    more = len(reasons) - MOST_NAMES
    said += [*reasons[:MOST_NAMES], f"and {more} more"] if more > 0 else reasons
    return f" ({'; '.join(said)})" if said else ""


def stragglers(have: int, names: Sequence[str], count: int, until: datetime, then: str) -> dict[str, Any]:
    """For which devices a round waits of which `have` answers are in: `count`, of which the first have names here."""
    return {
        "have": have,
        "need": have + count,
        "for": list(names),
        "until": until.isoformat(),
        "then": then,
        "lead": f"Waiting for {count} device{'' if count == 1 else 's'}. At the deadline {then}.",
        "sentence": f"Waiting for {listed(names, count)} until {moment(until)}; then {then}.",
    }


def held(starter: str) -> dict[str, Any]:
    """Why a run opens no round while the organization that started it is suspended."""
    then = "the next round opens"
    return {
        "have": 0,
        "need": 0,
        "for": [starter],
        "until": None,
        "then": then,
        "lead": (told := f"{starter}, which started this run, is suspended. Once it is reinstated, {then}."),
        "sentence": told,
    }


def contributions(shares: Iterable[Share]) -> list[dict[str, Any]]:
    """What each organization gave; `share` is its part of all rows."""
    shares = sorted(shares, key=lambda share: (share.organization, share.organization_id))
    total = sum(share.samples for share in shares)
    return [
        {
            "organization": {"id": share.organization_id, "name": share.organization},
            "devices": share.devices,
            "updates": share.updates,
            "expected": share.expected,
            "samples": share.samples,
            "share": round(share.samples / total, 6) if total else 0.0,
        }
        for share in shares
    ]


def then_of(kind: str) -> str:
    """What happens at the deadline of a round that has enough answers."""
    return "the run ends without them" if kind == RoundKind.EVALUATE else "the round goes on without them"


def parts(done: int, count: int) -> str:
    """How far a round has come whose model is made in parts."""
    return f"aggregating: {done} of {count} parts"


JOINED = {"round.joined": "joined the round", "check.asked": "came later and checks itself first"}
MADE = ("round.masking", "masking.liars", "round.aggregating", "round.part")
ASKED_AGAIN = "did not answer its check and is asked again"


def masking(step: str, done: int, count: int, groups: int = 1) -> str:
    """How far the step of the sessions of secure aggregation is, one for each group."""
    how_far = "" if step == SumState.FOLD else f", {done} of {count} devices"
    how_far += f" in {groups} groups" if groups > 1 else ""
    return f"{word('round', RoundState.MASKING)}: {word('sum', step)}{how_far}"


def sentence(kind: str, data: Mapping[str, Any]) -> str:
    """An event as one line of the log."""
    name = ROUND_NAMES.get(data.get("kind", ""), f"Round {data.get('number')}")
    reason = f": {data['reason'].rstrip('.')}" if data.get("reason") else ""
    if kind == "round.opened":
        again = f", attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""
        count = data.get("asked", data.get("count", len(data.get("participants", []))))
        return f"{name} began with {count} device{'' if count == 1 else 's'}{again}."
    if kind == "assignment.refused":
        return f"{_who(data)} sent something that was refused{reason}."
    if kind in JOINED:
        return f"{_who(data['participant'])} {ASKED_AGAIN if data.get('again') else JOINED[kind]}."
    if kind == "assignment.changed":
        return f"{_who(data)}: {data['word']}{reason}."
    if kind == "assignments.closed":
        return f"{data['count']} devices: {data['word']}{reason}."
    if kind == "round.enough":
        return f"{name} has enough answers; the others may answer until {data['deadline'][11:19]} UTC."
    if kind in MADE:
        return f"{name}: {_made(kind, data)}."
    if kind == "round.done":
        return f"{name} took {data.get('seconds') or 0:.2f} s."
    if kind == "round.failed":
        return f"{name} failed{reason}."
    return _of_run(kind, data, reason)


def _made(kind: str, data: Mapping[str, Any]) -> str:
    """How a round's answers are put together."""
    if kind == "round.masking":
        return str(data["word"])
    if kind == "masking.liars":
        return f"{listed(data['devices'])} gave wrong shares of the secure sum, which is right without them"
    made = f", {data['done']} of {data['parts']} parts" if "parts" in data else ""
    return f"the answers are put together{made}"


def _of_run(kind: str, data: Mapping[str, Any], reason: str) -> str:
    if kind == "run.kept":
        return f"The last good model is kept as version {data['version']}."
    version = f" as version {data['version']}" if data.get("version") else ""
    if kind == "version.published":
        return f"The model of round {data['round']}, the best so far, was published{version}."
    was = "was " if kind in ("run.paused", "run.resumed", "run.stopped", "run.rescheduled") else ""
    by = f" by {data['by']['name']}" if data.get("by") else ""
    did = f"made {data['schedule']}" if kind == "run.rescheduled" else kind.split(".")[1]
    return f"The run {was}{did}{by}{version}{reason}."


def _who(card: Mapping[str, Any]) -> str:
    return f"{card['device']['identifier']} of {card['organization']['name']}"


def flagged(count: int, rounds: Sequence[int], score: float, number: int) -> str:
    """In which rounds a device's updates were flagged, of which `rounds` are the newest, and the highest score; the
    same as in static/js/flagged.js."""
    if count == 1:
        return f"round {number}, score {score:.1f}"
    earlier = ["…"] if count > len(rounds) else []
    named = ", ".join([*earlier, *map(str, rounds)])
    return f"{count} rounds ({named}), highest score {score:.1f} in round {number}"


def exact(value: float) -> str:
    """A number with all its digits and no exponent, as a δ is read: "0.00001"."""
    return format(Decimal(repr(value)).normalize(), "f")


def listed(names: Sequence[str], count: int = 0) -> str:
    """ "acme, metro and valley", of many only the first few; `count`: how many there are if these are not all."""
    names, count = list(names), max(count, len(names))
    if count > MOST_NAMES:
        names = [*names[: MOST_NAMES - 1], f"{count - MOST_NAMES + 1} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def span(seconds: float) -> str:
    """How long, as a person says it, by the two largest units: "1 day", "2 h 5 min", "12 s"."""
    left, said = round(seconds), []
    for size, unit in ((86400, "day"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            said.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
        elif said:
            break
    return " ".join(said[:2]) or "less than a second"


def moment(at: datetime) -> str:
    """A time as a sentence says it, with its day when that is not today; the portal's own zone is UTC."""
    return f"{at:%H:%M} UTC" if at.date() == clock.now().date() else f"{at:%H:%M} UTC on {at.day} {at:%B}"


def instant(at: datetime | None) -> str | None:
    """A moment as JSON."""
    return at.isoformat() if at is not None else None
