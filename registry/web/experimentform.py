"""The form that plans an experiment: which two versions, on which devices, decided by what, within which limits."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations import fleet, permissions
from federations import selectors as places
from federations.models import Device
from federations.services import policies
from federations.web.page import own_organization, page
from fedwire.errors import FedportalError
from fedwire.states import DeviceState
from registry import selectors
from registry.models import Experiment, Model
from registry.services import experiments, underway
from registry.services.underway import ACTION
from registry.web.rolloutform import MOST_MODELS, MOST_VERSIONS, OF_FORM, limits, number, share_in

DEFAULTS = {
    "treatment_percentage": "50",
    "planned": "1000",
    "window_seconds": "600",
    "least": "50",
    "metric": "accuracy",
}


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Plan an experiment between two versions of a model, and start it."""
    organization = own_organization(request)
    permissions.require(request.actor, ACTION, organization)
    said: QueryDict = request.POST if request.method == "POST" else request.GET
    model = selectors.find_model(request.actor, said["model"]) if said.get("model") else None
    error = None
    if request.method == "POST":
        if model is None:
            raise FedportalError("field_invalid", field="model", reason="choose one.")
        try:
            made = _planned(request, model, said)
        except FedportalError as refusal:
            if refusal.code not in OF_FORM:
                raise
            error = refusal
        else:
            later = "It waits to be started." if said.get("start") == "later" else "Its devices get their versions now."
            messages.success(request, f"The experiment is planned. {later}")
            return redirect(f"/experiments/{made.public_id}")
    context = _shown(request, model, said) | {"error": error}
    return render(request, "registry/experiment_new.html", context, status=error.status if error else 200)


def _planned(request: Any, model: Model, said: QueryDict) -> Experiment:
    """The experiment that the form describes. Raises what `experiments.create` raises."""
    organization = own_organization(request)
    group, found = said.get("group", ""), limits(said)
    planned = number(said.get("planned") or DEFAULTS["planned"], "planned")
    return experiments.create(
        request.actor,
        selectors.find_version(model, said.get("treatment") or "latest"),
        control=selectors.find_version(model, said["control"]) if said.get("control") else None,
        name=said.get("name", "").strip(),
        share=share_in(said.get("treatment_percentage") or DEFAULTS["treatment_percentage"], "treatment_percentage"),
        group=fleet.find_label(organization, group) if group else None,
        federation=places.find_federation(request.actor, said["federation"]) if said.get("federation") else None,
        metric=said.get("metric") or DEFAULTS["metric"],
        planned=int(planned) if planned is not None and planned == int(planned) else 0,
        start_now=said.get("start") != "later",
        auto_stop=said["auto_stop"] == "yes" if said.get("auto_stop") in ("yes", "no") else None,
        **found,
    )


def _shown(request: Any, model: Model | None, said: QueryDict) -> dict[str, Any]:
    """What the form shows for what was typed."""
    organization = own_organization(request)
    policy = policies.of(organization)
    context: dict[str, Any] = {
        "model": model,
        "said": said if request.method == "POST" else DEFAULTS | said.dict(),
        "metrics": Experiment.Metric.choices,
        "groups": fleet.labels(organization),
        "devices": Device.objects.filter(organization=organization, state=DeviceState.ACTIVE).count(),
        "policy_error_rate": f"{100 * policy.rollback_error_rate:g}",
        "policy_stops": policy.auto_rollback,
    }
    if model is None:
        found = selectors.models_for(request.actor).filter(latest_version__isnull=False)
        return context | {"models": found[:MOST_MODELS]}
    versions = list(selectors.versions_of(model).defer("manifest", "parent__manifest")[:MOST_VERSIONS])
    last = underway.last_version(organization, model)
    # The newest is tried, against what the devices were last given, or else the one before it.
    return context | {
        "versions": versions,
        "federations": selectors.federations_of(request.actor, model) if model.organization == organization else [],
        "control": said.get("control") or (last.version if last else versions[1].version if len(versions) > 1 else ""),
        "treatment": said.get("treatment") or (versions[0].version if versions else ""),
        "rollout": underway.rollout(organization, model),
        "running": underway.experiment(organization, model),
    }
