"""The form that starts a run."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations import permissions
from federations import selectors as places
from federations.web.page import page
from fedwire.errors import FedportalError
from registry.models import Model, Share
from registry.selectors import find_model, models_for
from training.models import Run
from training.services import configs, runs


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Start a run."""
    said: QueryDict = request.POST if request.method == "POST" else request.GET
    context: dict[str, Any] = {"said": _said(said), "choices": _choices(request)}
    status = 200
    if request.method == "POST":
        try:
            run = _start(request, said)
        except FedportalError as error:
            context["error"], status = error, error.status
        else:
            messages.success(request, f"Training of {run.model.name} has started.")
            return redirect(f"/runs/{run.public_id}")
    return render(request, "training/new.html", context, status=status)


def again(run: Run) -> dict[str, Any]:
    """The fields of the form as they were for this run."""
    kept = {name: run.config.get("parameters", {}).get(name) for name in ("epochs", "learning_rate", "batch_size")}
    fields = {
        "model": run.model.public_id,
        "federation": run.federation.public_id,
        "rounds": run.total_rounds,
        "min_participants": run.min_participants,
        "round_seconds": run.round_seconds,
        "group": run.group,
        **kept,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _start(request: Any, said: QueryDict) -> Run:
    """Start the run that was asked for. Raises what `runs.start` raises."""
    model = find_model(request.actor, _one_of(said, "model"))
    reference = said.get("federation", "")
    config = {
        "epochs": _number(said, "epochs", int),
        "learning_rate": _number(said, "learning_rate", float),
        "batch_size": _number(said, "batch_size", int),
    }
    return runs.start(
        request.actor,
        model,
        federation=places.find_federation(request.actor, reference) if reference else None,
        rounds=_number(said, "rounds", int) or 0,
        group=said.get("group", "").strip(),
        min_participants=_number(said, "min_participants", int) or 0,
        round_seconds=_number(said, "round_seconds", int) or configs.DEFAULT_ROUND_SECONDS,
        config={name: value for name, value in config.items() if value is not None},
    )


def _one_of(said: QueryDict, field: str) -> str:
    """A choice that must be made. Raises `field_invalid`."""
    value = said.get(field, "")
    if not value:
        raise FedportalError("field_invalid", field=field, reason="choose one.")
    return value


def _number(said: QueryDict, field: str, kind: type[int] | type[float]) -> Any:
    """What was typed as a number; None for nothing. Raises `field_invalid`."""
    text = said.get(field, "").strip()
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise FedportalError("field_invalid", field=field, reason=f"it is not {what}.") from None


def _said(said: QueryDict) -> dict[str, str]:
    """What the form shows: what was typed, or sane defaults."""
    defaults = {
        "rounds": "20",
        "min_participants": "2",
        "round_seconds": str(configs.DEFAULT_ROUND_SECONDS),
        "epochs": "1",
        "learning_rate": "0.1",
        "batch_size": "32",
    }
    return {**defaults, **{name: said.get(name, "") for name in said}}


def _choices(request: Any) -> list[dict[str, Any]]:
    """The models one may train, each with the federations it is shared with."""
    found: list[Model] = [
        row for row in models_for(request.actor) if permissions.can(request.actor, "model.train", row)
    ]
    shares = Share.objects.filter(model__in=found, federation__dissolved_at__isnull=True).select_related("federation")
    trained = [share for share in shares if permissions.can(request.actor, "federation.train", share.federation)]
    return [
        {"model": model, "federations": [share.federation for share in trained if share.model_id == model.pk]}
        for model in found
    ]
