"""How the round that goes on stands, as pages and the API show it: its devices, and for whom it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db.models import F

from fedportal.common import clock
from fedwire.errors import CATALOGUE
from fedwire.states import AssignmentState, RoundState, RunState, word
from training import wording
from training.lifecycle import ALIVE_ROUNDS, UNFINISHED
from training.models import Assignment, Run
from training.part_cards import PART
from training.services import cohorts, needs, opening, seats, shards
from training.services.plan import Standing

# Refusals after which the same device would send the same again: it was told that the request itself is wrong.
FOR_GOOD = frozenset(code for code, kind in CATALOGUE.items() if kind.status == 400)
# A round that has lasted longer says for whom it still waits.
PATIENCE = timedelta(seconds=10)
# So many of those that are missing are named one by one.
MOST_MISSING = 20


def round_shown(run: Run, row: dict[str, Any], standing: Standing) -> dict[str, Any]:
    """A round without its devices; `waiting` says for whom it waits, until when, and what one can do about it."""
    return {
        "number": row["number"],
        "attempt": row["attempt"],
        "kind": row["kind"],
        "state": row["state"],
        "word": _word(row),
        "reason": row["reason"],
        "opened_at": row["opened_at"].isoformat(),
        "deadline": row["deadline"].isoformat(),
        "asynchronous": row["asynchronous"],
        "buffer": needs.of(run, row["kind"], row["asynchronous"]).buffer if row["asynchronous"] else 0,
        "waiting": _waiting(run, row, standing),
    }


def _waiting(run: Run, row: dict[str, Any], standing: Standing) -> dict[str, Any] | None:
    """For whom the run waits: more devices, after a while those that have not answered, or its suspended starter.

    A paused run waits for whoever resumes it, which is said elsewhere. Who was refused for good is said at once.
    """
    if run.state == RunState.PAUSED:
        return None
    if row["state"] != RoundState.OPEN:
        if row["state"] in ALIVE_ROUNDS or run.state != RunState.RUNNING:
            return None
        free = opening.may_go_on(Run.objects.filter(pk=run.pk)).exists()
        return None if free else wording.held(run.organization.name)
    shortage = needs.shortage(run, row["kind"], standing.having(row["kind"]), row["asynchronous"])
    told = shortage.told(row["deadline"]) if shortage is not None else None
    if shortage is not None and told is not None:
        absent = _absent(run, shortage.missing)
        return {**told, "missing": absent, "advice": _advice_for_few(run, any(one["known"] for one in absent))}
    if not standing.unfinished:
        return None
    if row["asynchronous"]:  # nobody is waited for in particular: the next answers will do, whosever they are
        return None
    unfinished = Assignment.objects.filter(round_id=row["pk"], state__in=UNFINISHED).values(*PART)
    if clock.now() - row["opened_at"] < PATIENCE:
        unfinished = unfinished.filter(refusal__code__in=sorted(FOR_GOOD))
    late = list(unfinished.order_by("organization__name", "device__identifier")[:MOST_MISSING])
    if not late:
        return None
    names = [f"{part['device__identifier']} of {part['organization__name']}" for part in late]
    enough = standing.enough(needs.of(run, row["kind"]))
    then = wording.then_of(row["kind"]) if enough else "the round is tried again"
    answered = standing.answered(row["kind"])
    told = wording.stragglers(answered, names, standing.unfinished, row["deadline"], then)
    return {**told, "missing": [_late(part) for part in late], "advice": _advice_for_late(late, enough)}


def _absent(run: Run, missing: Mapping[str, str]) -> list[dict[str, Any]]:
    """The organizations of which no device takes part, each with the device that was heard of last. One query."""
    found: dict[str, tuple[str, Any]] = {}
    devices = (
        cohorts.of_members(run)
        .filter(organization__name__in=list(missing))
        .order_by(F("last_seen_at").asc(nulls_first=True), "pk")
    )
    for name, identifier, seen in devices.values_list("organization__name", "identifier", "last_seen_at"):
        found[name] = (identifier, seen)  # the one seen last wins
    rows = []
    for name, reason in list(missing.items())[:MOST_MISSING]:
        identifier, seen = found.get(name, ("", None))
        why = reason.removeprefix(f"{name} ") or ("" if identifier else "has no active device")
        told = _missing(f"{identifier} of {name}" if identifier else name, why, seen)
        rows.append({**told, "known": bool(identifier)})
    return rows


def _late(part: dict[str, Any]) -> dict[str, Any]:
    who = f"{part['device__identifier']} of {part['organization__name']}"
    doing = "it trains" if part["state"] == AssignmentState.TRAINING else "it has not come for its work"
    if part["refusal"]:
        doing = f"what it sent was refused. {part['refusal']['sentence'].rstrip('.')}"
    return _missing(who, doing, part["device__last_seen_at"])


def _missing(who: str, reason: str, seen: Any) -> dict[str, Any]:
    return {"who": who, "reason": reason, "last_seen_at": wording.instant(seen)}


def _advice_for_few(run: Run, known: bool) -> list[str]:
    """What one can do about a round that has too few devices. `known`: whether there are devices that could come."""
    advice = []
    if known:
        advice.append("Start the device where the data is, with fedportal device run. It joins the round by itself.")
    if run.group:
        advice.append(f"Put a device into the group {run.group}, or stop this run and start one without a group.")
    elif not known:
        advice.append("Register a device where the data is, on the page Devices. It joins the round by itself.")
    return [
        *advice,
        f"If nobody can come, stop this run and run it again with fewer than {run.min_participants} devices a round.",
    ]


def _advice_for_late(late: Sequence[Mapping[str, Any]], enough: bool) -> list[str]:
    """What one can do about devices that have not answered yet; of some no answer that counts will come by itself."""
    codes = [part["refusal"]["code"] for part in late if part["refusal"]]
    for_good = [code for code in codes if code in FOR_GOOD]
    steps = [step for code in dict.fromkeys(for_good) if "{" not in (step := CATALOGUE[code].next_step)]
    advice = ["The same would be refused again, so whoever runs the device has to mend it.", *steps] if for_good else []
    if enough:
        nobody = "the round goes on without them at its deadline."
        return [*advice, f"Nobody else has to do anything: {nobody}" if advice else f"Nothing has to be done: {nobody}"]
    if len(for_good) < len(late):
        advice.append("Look whether the device runs and reaches the portal. It may answer until the deadline.")
    return advice


def _word(row: dict[str, Any]) -> str:
    if row["state"] == RoundState.MASKING:
        return seats.word_of(row["pk"])
    made = shards.word_of(row["pk"]) if row["state"] == RoundState.AGGREGATING else ""
    return made or word("round", row["state"])
