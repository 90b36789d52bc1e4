"""The pages of a model's gate: its limits, how a version stands with them, and the form that lets one through."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat

from federations import permissions
from federations.web.page import confirm, may, page
from fedwire.errors import FedportalError
from registry import gate_reports, selectors, tasks
from registry.gate_reports import Line, Shown
from registry.models import GateOverride, GateReport, Model
from registry.services import gatekeeping, gates, versions

# Limit → what the form asks, what it means, and what stands behind the field.
LIMITS = {
    "quality": (
        "Held-out rows",
        "The least accuracy or AUC, or the most loss, as the run of a version measured it.",
        "",
    ),
    "gap": ("Worst organization", "How far it may be behind all rows together, in the same metric.", ""),
    "drift": ("Distance of the weights", "L2, in parts of the length of those that are rolled out: 0.5 is half.", ""),
    "cosine": ("Turn of the weights", "One less the cosine with those that are rolled out: 0 is the same way.", ""),
    "size": ("Size of the file", "The most.", "bytes"),
    "latency": ("Time for 32 rows", "On the portal's machine, not on a device; of described architectures.", "ms"),
}
METRICS = {"accuracy": "Accuracy, at least", "auc": "AUC, at least", "loss": "Loss, at most"}
BADGES = {"passed": "good", "failed": "bad", "unknown": "warn"}


@page("GET", "POST")
def policy(request: Any, model: str) -> HttpResponse:
    """What versions of the model must pass before they go to devices."""
    found = selectors.find_model(request.actor, model)
    stored, error = gates.policy_of(found), None
    said: Any = {name: _plain(getattr(stored, name)) for name in ("metric", *LIMITS)}
    if request.method == "POST":
        said = request.POST
        try:
            gates.set_policy(request.actor, found, metric=said.get("metric", ""), **_limits(said))
            messages.success(request, "The limits are set. Every version is judged by them anew.")
            return redirect(f"/models/{found.public_id}/gate")
        except FedportalError as refusal:
            if refusal.code != "field_invalid":
                raise
            error = refusal
    context = {
        "model": found,
        "policy": stored,
        "said": said,
        "error": error,
        "metrics": METRICS.items(),
        "limits": [(name, *words, said.get(name, "")) for name, words in LIMITS.items()],
        "may_set": _own(request, found) and may(request, gates.SET, found.organization),
        "set_action": gates.SET,
        "latest": versions.latest(found),
    }
    return render(request, "registry/gate_policy.html", context, status=error.status if error else 200)


@page("GET", "POST")
def report(request: Any, model: str, version: str) -> HttpResponse:
    """How a version stands; POST has it judged."""
    found = selectors.find_version(selectors.find_model(request.actor, model), version)
    if request.method == "POST":
        tasks.check_gate(request.actor, found, remeasure=bool(request.POST.get("remeasure")))
        return redirect(_address(found.model, found.version))
    return _report(request, found)


@page("POST")
def override(request: Any, model: str, version: str) -> HttpResponse:
    """Let a version through that did not pass."""
    found = selectors.find_version(selectors.find_model(request.actor, model), version)
    try:
        gates.override(request.actor, found, request.POST.get("reason", ""))
    except FedportalError as refusal:
        if refusal.code != "field_invalid":
            raise
        return _report(request, found, refusal)
    messages.success(request, f"{found.model.name} {found.version} may go to devices. That stands in the audit log.")
    return redirect(_address(found.model, found.version))


@page("GET", "POST")
def withdraw(request: Any, model: str, version: str) -> HttpResponse:
    """Take back that a version was let through."""
    found = selectors.find_version(selectors.find_model(request.actor, model), version)
    back = _address(found.model, found.version)
    if request.method == "GET":
        if not _own(request, found.model):
            raise permissions.Refused(request.actor, gates.SET, found.model.organization)
        permissions.require(request.actor, gates.SET, found.model.organization)
        consequence = (
            "No further device gets the version, and what devices have not finished fetching is called back. Devices "
            "that hold it keep it, until a rollback takes it from them."
        )
        title = f"Let {found.model.name} {found.version} through no longer?"
        return confirm(request, title=title, consequence=consequence, button="Take it back", back=back)
    gates.withdraw(request.actor, found)
    messages.success(request, f"{found.model.name} {found.version} goes to no further devices.")
    return redirect(back)


def _report(request: Any, found: Any, error: FedportalError | None = None) -> HttpResponse:
    shown = gate_reports.shown(request.actor, found)
    own = _own(request, found.model)
    may_set = own and may(request, gates.SET, found.model.organization)
    context = {
        "model": found.model,
        "version": found,
        "shown": shown,
        "lines": [(line, BADGES[line.outcome], *_figures(line)) for line in shown.checks],
        "past": [row for row in shown.overrides if not _holds(row, shown)],
        "waiting": shown.state == GateReport.State.PENDING,
        "may_check": shown.state != gate_reports.NONE and (may_set or may(request, "model.push", found.model)),
        "timed": any(line.name == "latency" and line.figure is not None for line in shown.checks),
        "may_set": may_set,
        "may_override": own
        and shown.code == gatekeeping.FAILED
        and may(request, gates.OVERRIDE, found.model.organization),
        "closed_by": shown.code == gatekeeping.FAILED,
        "override_action": gates.OVERRIDE,
        "said": request.POST.get("reason", ""),
        "error": error,
    }
    return render(request, "registry/gate.html", context, status=error.status if error else 200)


def _holds(row: GateOverride, shown: Shown) -> bool:
    return shown.override is not None and shown.override.pk == row.pk


def _figures(line: Line) -> tuple[str, str]:
    """Figure and limit as a person reads them."""
    limit = f"{line.bound} {_shown(line.name, line.limit)}"
    return ("–" if line.figure is None else _shown(line.name, line.figure)), limit


def _shown(name: str, value: float) -> str:
    if name == "size":
        return str(filesizeformat(value))
    text = f"{value:.4g}" if value < 1_000 else f"{value:,.0f}"
    return f"{text} ms" if name == "latency" else text


def _limits(said: QueryDict) -> dict[str, float | None]:
    """The limits of the form. Raises `field_invalid` for what is no number."""
    return {name: _number(said.get(name, ""), name) for name in LIMITS}


def _number(text: str, field: str) -> float | None:
    text = text.strip().replace(",", ".")
    try:
        if not text:
            return None
        return int(text) if field == "size" else float(text)
    except ValueError as error:
        raise FedportalError("field_invalid", field=field, reason="it is not a number.") from error


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)


def _own(request: Any, model: Model) -> bool:
    return bool(request.actor.organization == model.organization)


def _address(model: Model, version: str) -> str:
    return f"/models/{model.public_id}/versions/{version}/gate"
