"""The page of an organization's policy: each limit in plain words, what it would mean now, and who changed what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import above, permissions, selectors
from federations.models import ApiKey, AuditEntry, Organization, Person, Policy
from federations.services import policies
from federations.web.page import may, one_page, own_organization, page
from fedwire.errors import FedportalError

HISTORY = 10


class Effect(StrEnum):
    """What is done about a limit today."""

    HOLDS = "holds"
    SHOWN = "shown"


BADGES = {Effect.HOLDS: "Holds", Effect.SHOWN: "Shown"}


@dataclass(frozen=True)
class Limit:
    """A limit as the page explains it: what it is, and what it does today. `reads` makes a value of what was typed."""

    name: str
    about: str
    today: str
    reads: Callable[[Any, str], Any]
    effect: Effect = Effect.HOLDS


def _text(form: Any, name: str) -> str:
    return str(form.get(name, "")).strip()


def _float(form: Any, name: str) -> float | None:
    text = _text(form, name).replace(",", ".")
    try:
        return float(text) if text else None
    except ValueError as error:
        raise FedportalError("field_invalid", field=name, reason="it is not a number.") from error


def _whole(form: Any, name: str) -> int | None:
    text = _text(form, name)
    if text and not (text.isascii() and text.isdigit() and len(text) < 12):
        raise FedportalError("field_invalid", field=name, reason="it is not a whole number.")
    return int(text) if text else None


def _count(form: Any, name: str) -> int:
    return _whole(form, name) or 0


def _list(form: Any, name: str) -> list[str]:
    return list(form.getlist(name))


def _ticked(form: Any, name: str) -> bool:
    return name in form


LIMITS: Mapping[str, Limit] = {
    limit.name: limit
    for limit in (
        Limit(
            "least_records",
            "The fewest rows that anything a device sends may stand for. The fewer rows, the more an update can tell "
            "about each of them.",
            "A device that trains on fewer rows declines, also to give statistics or to evaluate. The portal refuses "
            "and removes what an older device sends nevertheless. About a fifth of a device's rows is held out for "
            "evaluation and does not count. It holds from the next round on. A device may have a higher floor of its "
            "own, which nobody lowers from here.",
            _count,
        ),
        Limit(
            "least_devices",
            "The fewest of your devices that take part together.",
            "With fewer there, none of yours is asked. It is looked at when devices are asked: one that declines or "
            "drops out afterwards does not call the others back.",
            _count,
        ),
        Limit(
            "allowed_strategies",
            "The ways of combining updates that you agree to. None ticked: all, also those that come later.",
            "A run with another strategy does not ask your devices.",
            _list,
        ),
        Limit(
            "residency",
            "Where your data lie, such as EU.",
            "Beside your name, to the members of your federations. It is a label: nothing checks where data lie.",
            _text,
            effect=Effect.SHOWN,
        ),
        Limit(
            "device_key_days",
            "After how many days a device's key ends. Empty: it does not.",
            "For keys that are given from now on. A device changes its key by itself at two thirds of its life; "
            "one that was away for longer registers again.",
            _whole,
        ),
        Limit(
            "privacy_epsilon",
            "How much all runs with noise together may reveal about whether one of your devices took part, or one "
            "record where a run adds noise for records, in the measure of differential privacy: the smaller, the less. "
            "Empty: no limit.",
            "A round that would go beyond it, counted over all federations, does not ask your devices; the others go "
            "on. Runs without noise promise nothing and spend nothing. What is spent stands under Privacy budget.",
            _float,
        ),
        Limit(
            "privacy_delta",
            "How likely that measure may fail, such as 0.00001. It goes with ε.",
            "At this δ the budget is counted. Empty: 0.00001.",
            _float,
        ),
        Limit(
            "auto_rollback",
            "Go back by itself to the version before, when a version that is rolled out fails too often.",
            "Every device returns to what it had before, once. A rollout may say otherwise for itself.",
            _ticked,
        ),
        Limit(
            "rollback_error_rate",
            "The share of failed predictions that is too often, such as 0.05.",
            "For rollouts that begin from now on, where they have no share of their own. Chance alone takes no "
            "version back.",
            _float,
        ),
    )
}


@page("GET", "POST")
def policy(request: Any) -> HttpResponse:
    """The policy; POST sets it, or with `act=preview` says what it would mean."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view", organization)
    stored = policies.of(organization)
    context: dict[str, Any] = {"policy": stored, "said": stored, "chosen": stored.allowed_strategies}
    if request.method == "POST":
        context |= {"said": request.POST, "chosen": request.POST.getlist("allowed_strategies")}
        try:
            limits = {name: limit.reads(request.POST, name) for name, limit in LIMITS.items()}
            if request.POST.get("act") != "preview":
                policies.change(request.actor, organization, **limits)
                messages.success(request, "The policy is set. It holds from the next round on.")
                return redirect("/policy")
            draft = policies.drafted(organization, **limits)
            context |= {"draft": draft, "differences": _differences(stored, draft)}
        except FedportalError as error:
            if error.code != "field_invalid":
                raise
            context["error"] = error
    context |= {
        "may_set": may(request, "organization.set_policy", organization),
        "limits": {
            name: {"title": policies.TITLES[name].capitalize(), "badge": BADGES[one.effect], **vars(one)}
            for name, one in LIMITS.items()
        },
        "strategies": above.strategies().items(),
        "left_out": above.left_out(organization, context.get("draft", stored)),
        "shown": {name: _shown(getattr(stored, name)) for name in LIMITS},
    }
    if may(request, "organization.view_audit", organization):
        context |= _history(request, organization)
    return render(
        request, "federations/policy.html", context, status=context["error"].status if "error" in context else 200
    )


def _history(request: Any, organization: Organization) -> dict[str, Any]:
    """Who changed what, newest first, from the audit log."""
    entries = selectors.audit_entries(organization).filter(action="policy.changed")
    rows = one_page(request, entries, HISTORY)
    names = _names(organization, (row.actor for row in rows))
    for row in rows:
        row.by = names.get(row.actor, row.actor)
        row.moves = _moves(row)
    return {"rows": rows, "history": True}


def _moves(entry: AuditEntry) -> list[tuple[str, str, str]]:
    """Title, before and after of each limit that an entry says was changed."""
    found = []
    for name, move in entry.details.items():
        if isinstance(move, dict):
            before, after = (_read(name, move.get(when)) for when in ("before", "after"))
            found.append((policies.TITLES.get(name, name), _shown(before), _shown(after)))
    return found


def _read(name: str, value: Any) -> Any:
    """A value of the audit log, which keeps numbers with a fraction as text."""
    if isinstance(value, str) and name in LIMITS and LIMITS[name].reads is _float:
        return float(value)
    return value


def _differences(before: Policy, after: Policy) -> list[tuple[str, str, str]]:
    pairs = ((name, getattr(before, name), getattr(after, name)) for name in LIMITS)
    return [(policies.TITLES[name], _shown(old), _shown(new)) for name, old, new in pairs if old != new]


def _shown(value: Any) -> str:
    """A limit's value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        titles = above.strategies()
        return ", ".join(str(titles.get(each, each)) for each in value) or "all"
    if isinstance(value, float):
        return f"{value:.12g}" if value >= 1e-4 else f"{value:f}".rstrip("0")
    return "none" if value in (None, "", 0) else str(value)


def _names(organization: Organization, actors: Iterable[str]) -> dict[str, str]:
    """Public id → the name of the person, or of the person behind the key. Two queries."""
    ids = set(actors)
    people = {person.public_id: str(person) for person in Person.objects.filter(public_id__in=ids)}
    keys = ApiKey.objects.filter(public_id__in=ids, organization=organization).select_related("person")
    return people | {key.public_id: f"{key.person}, with the key {key.name}" for key in keys}
