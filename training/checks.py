"""The preflight of a run as people see it: device by device whether it could train, why not, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q

from federations.models import Organization
from fedwire import checks
from fedwire.errors import CATALOGUE
from fedwire.states import AssignmentState, RoundKind, RoundState, RunState
from training import wording
from training.lifecycle import UNFINISHED
from training.models import Assignment, Round, Run
from training.wording import Party

# A device sends the code alone; these say it without the values that stay there.
SENTENCES: Mapping[str, str] = {
    checks.TOO_FEW: "it has fewer rows than its organization's policy, or its own floor, asks for",
    checks.NO_MEMORY: "it has too little free memory for this model and its rows",
    checks.CLOCK: f"its clock is more than {checks.MOST_CLOCK_SECONDS:g} seconds off the portal's",
    checks.OLD: "its SDK is older than the one that the portal brings",
    checks.NO_ARCHITECTURE: "the model has no described architecture that it could train by itself",
    "torch_missing": "it lacks torch, which this model needs",
    "architecture_invalid": "it cannot build the model",
    "tensor_names": "the model's weights do not fit its architecture",
}
PASSED, FAILED, UNCHECKED, WAITING = "passed", "failed", "not checked", "waiting"
# What a check comes to that nobody answered.
UNANSWERED = (AssignmentState.EXPIRED, AssignmentState.LATE)
ORDER = (FAILED, UNCHECKED, WAITING, PASSED)
OFF, REPORT, LEAVE_OUT, STOP = "off", "report", "leave_out", "stop"
MODES: Mapping[str, str] = {
    OFF: "no",
    REPORT: "say what fails, and start all the same",
    LEAVE_OUT: "leave out the devices that fail",
    STOP: "do not start when one fails",
}
MOST_SHOWN = 200
AGAIN = "It is asked again when it is next heard of, and for nothing else before it has answered."
COLUMNS = (
    *("device__public_id", "device__identifier", "organization__public_id", "organization__name"),
    *("state", "reason", "update__answer__check", "offered_at", "round__closed_at"),
)


def sentence(code: str) -> str:
    """What a code means, without full stop; one that is not known as it is."""
    if not code:
        return ""
    said = SENTENCES.get(code) or wording.told(code)
    return said if said != code or code not in CATALOGUE else CATALOGUE[code].sentence.partition("{")[0].strip(" .:")


def next_step(code: str) -> str:
    """What to do about it; "" where that depends on values that are not known here."""
    step = CATALOGUE[code].next_step if code in CATALOGUE else ""
    return "" if "{" in step else step


def of_run(run: Run) -> list[dict[str, Any]]:
    """The devices of the run's check, those that failed first, MOST_SHOWN at most; [] for a run without. One query."""
    rows = [(row[0], dict(zip(COLUMNS, row[1:], strict=True))) for row in _parts(run)]
    last, leaves_out = max((attempt for attempt, _ in rows), default=0), run.config.get("preflight") == LEAVE_OUT
    # Who is left out is not asked again by another attempt.
    asks_again = run.state == RunState.RUNNING and run.config.get("preflight") != REPORT
    shown = [_row(part, asks_again) for attempt, part in rows if attempt == last or (leaves_out and _is_failing(part))]
    return sorted(shown, key=lambda row: ORDER.index(row["verdict"]))[:MOST_SHOWN]


def why_not(run: Run) -> str:
    """Why a run that is to start only when all pass does not start, as a sentence; "" when it does."""
    if run.config.get("preflight") != STOP:
        return ""
    bad = [row for row in of_run(run) if row["verdict"] == FAILED]
    if not bad:
        return ""
    named = [
        f"{row['device']['identifier']} of {row['organization']['name']}"
        f" ({'; '.join(found['sentence'] for found in row['findings'] if found['level'] == FAILED)})"
        for row in bad
    ]
    return f"The preflight failed on {len(bad)} device{'' if len(bad) == 1 else 's'}: {wording.listed(named)}."


def absent(run: Run, organizations: Iterable[Organization]) -> dict[int, str]:
    """Organization → why its devices are not asked, for those of which a device was left out after the check, or came
    later and looks at itself now."""
    if run.config.get("preflight", OFF) == OFF or run.pk is None:
        return {}
    checking = asked(run).filter(state__in=UNFINISHED, round__state=RoundState.DONE)
    kept_out = (
        (failing(run), "devices of {} failed the preflight"),
        (unanswered(run), "a device of {} did not answer its check"),
    )
    why: dict[int, str] = {}
    for parts, reason in (
        *(kept_out if run.config["preflight"] != REPORT else ()),
        (checking, "a device of {} checks itself"),
    ):
        why |= dict.fromkeys(parts.values_list("organization_id", flat=True), reason)
    return {one.pk: why[one.pk].format(one.name) for one in organizations if one.pk in why}


def over(run: Run) -> Round | None:
    """The run's check of its devices, once it is over; None before, and in a run without."""
    if run.config.get("preflight", OFF) == OFF:
        return None
    return Round.objects.filter(run=run, kind=RoundKind.CHECK, state=RoundState.DONE).first()


def asked(run: Run) -> Any:
    """The parts of devices that need not be asked for a check now: answers, and those of the check that is over whose
    time runs, or, where the run just reports what fails, ran out."""
    parts = Assignment.objects.filter(round__run=run, round__kind=RoundKind.CHECK)
    answered = (AssignmentState.SUBMITTED, AssignmentState.DECLINED)
    closed = UNANSWERED if run.config.get("preflight") == REPORT else ()
    return parts.filter(Q(state__in=answered) | Q(state__in=(*UNFINISHED, *closed), round__state=RoundState.DONE))


def unanswered(run: Run | int) -> Any:
    """The parts of the check that is over whose time ran out without an answer."""
    return Assignment.objects.filter(
        round__run=run, round__kind=RoundKind.CHECK, round__state=RoundState.DONE, state__in=UNANSWERED
    )


def _is_failing(part: Mapping[str, Any]) -> bool:
    return part["state"] == AssignmentState.SUBMITTED and bool(part["reason"])


def failing(run: Run) -> Any:
    """The parts of the run's check of devices that said they cannot train."""
    return Assignment.objects.filter(
        round__run=run, round__kind=RoundKind.CHECK, state=AssignmentState.SUBMITTED
    ).exclude(reason="")


def _parts(run: Run) -> Sequence[Any]:
    parts = Assignment.objects.filter(round__run=run, round__kind=RoundKind.CHECK)
    rows: Sequence[Any] = parts.order_by("organization__name", "device__identifier").values_list(
        "round__attempt", *COLUMNS
    )
    return rows


def _row(part: Mapping[str, Any], asks_again: bool) -> dict[str, Any]:
    party = Party(*(part[name] for name in COLUMNS[:4]))
    report = part["update__answer__check"] or {}
    findings = [_finding(FAILED, code) for code in report.get("failed", [])]
    findings += [_finding("warned", code) for code in report.get("warned", [])]
    verdict = _verdict(part["state"], report)
    if verdict == FAILED and not findings:
        step = AGAIN if asks_again and part["round__closed_at"] is not None else ""
        findings = [
            {"level": FAILED, "code": "", "sentence": f"it did not answer: {part['reason']}", "next_step": step}
        ]
    if verdict == UNCHECKED:
        findings = [{"level": "warned", "code": "", "sentence": wording.told(part["reason"]), "next_step": ""}]
    return {
        "device": {"id": party.device_id, "identifier": party.identifier},
        "organization": {"id": party.organization_id, "name": party.organization},
        "verdict": verdict,
        "late": part["round__closed_at"] is not None and part["offered_at"] > part["round__closed_at"],
        "findings": findings,
        "sdk_version": report.get("sdk_version"),
        "clock_seconds": report.get("clock_seconds"),
        "memory_mb": report.get("memory_mb"),
    }


def _finding(level: str, code: str) -> dict[str, Any]:
    return {"level": level, "code": code, "sentence": sentence(code), "next_step": next_step(code)}


def _verdict(state: str, report: Mapping[str, Any]) -> str:
    if state == AssignmentState.SUBMITTED:
        return FAILED if report.get("failed") else PASSED
    if state == AssignmentState.DECLINED:
        return UNCHECKED
    return WAITING if state in (AssignmentState.OFFERED, AssignmentState.TRAINING) else FAILED
