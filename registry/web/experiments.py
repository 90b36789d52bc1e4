"""Experiments: the list, one with its two arms and what may be concluded now, and what one may do with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import fleet, permissions
from federations.web.page import confirm, may, one_page, own_organization, page
from fedwire.errors import FedportalError
from fedwire.states import ExperimentState, word
from registry import experiment_selectors, selectors
from registry.delivery.conclusions import Conclusion
from registry.models import Experiment, Model
from registry.services import arms, experiments, joint
from registry.services.underway import ACTION
from registry.web import intervals, outlook
from registry.web.outlook import percent
from registry.wording import counted

MOST_OFFERS = 20
ACTS = ("start", "stop", "promote")
STATES = {
    "start": {ExperimentState.DRAFT},
    "stop": {ExperimentState.DRAFT, ExperimentState.RUNNING},
    "promote": {ExperimentState.RUNNING},
}


@page()
def index(request: Any) -> HttpResponse:
    """The experiments on the devices of one's organization; of one model, if it is named."""
    organization = own_organization(request)
    named = request.GET.get("model", "")
    model = selectors.find_model(request.actor, named) if named else None
    rows = one_page(request, experiment_selectors.listed(request.actor, model))
    for row in rows:
        row.word, row.percent = word("experiment", row.state), percent(row.share)
        row.better = row.version_of(row.winner).version if row.winner else ""
    context = {
        "rows": rows,
        "model": model,
        "query": f"model={model.public_id}&" if model else "",
        "may_deploy": may(request, ACTION, organization),
        "offers": _offers(request, model),
    }
    return render(request, "registry/experiments.html", context)


@page()
def one(request: Any, experiment: str) -> HttpResponse:
    """An experiment: its arms, their intervals, and the sentence of what may be concluded now."""
    found = experiment_selectors.find_experiment(request.actor, experiment)
    decisive = arms.conclusion(found)
    others = [arms.conclusion(found, metric) for metric in Experiment.Metric.values if metric != found.metric]
    may_deploy = may(request, ACTION, found.organization)
    states = experiment_selectors.devices_by_arm(found)
    context = {
        "experiment": found,
        "word": word("experiment", found.state),
        "sentence": experiment_selectors.sentence(found, decisive),
        "better": decisive.better or found.winner,
        "arms": [_arm(found, arm, decisive, states[arm]) for arm in ("control", "treatment")],
        "metric": found.get_metric_display(),
        "pictures": _pictures(found, decisive),
        "others": [picture for other in others for picture in _pictures(found, other)],
        "percent": percent(found.share),
        "organizations": experiment_selectors.organizations(found),
        "planned": f"{found.planned:,}",
        "limits": outlook.limits(found),
        "window": outlook.lasting(found.window_seconds),
        "winner": found.version_of(found.winner) if found.winner else None,
        "rollout": experiment_selectors.promoted_into(found),
        "acts": {act for act in ACTS if found.state in STATES[act]} if may_deploy else set(),
        "may_deploy": may_deploy,
        "restored_in": outlook.took(found.stopped_at, found.restored_at),
        "going_back": found.state == ExperimentState.STOPPED and found.started_at and found.restored_at is None,
    }
    return render(request, "registry/experiment.html", context)


@page("GET", "POST")
def join(request: Any, experiment: str) -> HttpResponse:
    """Take part in another organization's experiment with one's own devices; GET asks whether one means it."""
    organization = own_organization(request)
    found = experiment_selectors.find_offered(request.actor, experiment)
    permissions.require(request.actor, ACTION, organization)
    if request.method == "GET":
        context = {"offer": found, "percent": percent(found.share), "groups": fleet.labels(organization)}
        return render(request, "registry/experiment_join.html", context)
    label = request.POST.get("group", "")
    own = joint.join(request.actor, found, fleet.find_label(organization, label) if label else None)
    messages.success(request, "You take part: every device gets the version of its arm.")
    return redirect(f"/experiments/{own.public_id}")


@page("GET", "POST")
def act(request: Any, experiment: str, act: str) -> HttpResponse:
    """Start, stop or promote; GET asks whether one means it."""
    found = experiment_selectors.find_experiment(request.actor, experiment)
    if act not in ACTS:
        raise FedportalError("not_found", what="page")
    permissions.require(request.actor, ACTION, found.organization)
    back, arm = f"/experiments/{found.public_id}", request.GET.get("arm", "")
    if request.method == "GET":
        if found.state not in STATES[act]:
            messages.info(request, f"The experiment is {word('experiment', found.state)}: it cannot {act} now.")
            return redirect(back)
        title, consequence, button = _question(found, act, arm)
        return confirm(request, title=title, consequence=consequence, button=button, back=back)
    if act == "promote":
        rollout = experiments.promote(request.actor, found, arm)
        messages.success(
            request, f"Version {rollout.version.version} goes to the devices. This page shows it as it happens."
        )
        return redirect(f"/rollouts/{rollout.public_id}")
    if act == "start":
        experiments.start(request.actor, found)
        messages.success(request, "The experiment has started: every device gets the version of its arm.")
    else:
        experiments.stop(request.actor, found)
        messages.success(request, "The experiment is stopped. Its devices return to what they had before.")
    return redirect(back)


def _offers(request: Any, model: Model | None) -> list[Experiment]:
    """What one may join, with this model or with any; the first page of the list only."""
    if request.GET.get("page", "1") != "1":
        return []
    found = experiment_selectors.offered(request.actor)
    return list((found.filter(model=model) if model is not None else found)[:MOST_OFFERS])


def _question(found: Experiment, act: str, arm: str) -> tuple[str, str, str]:
    """Title, consequence and button of the page that asks."""
    count = sum(experiment_selectors.members_by_arm(found).values())
    if act == "start":
        whose = f"the devices in {found.group_name}" if found.group_name else "your devices"
        said = f"{percent(found.share)} of {whose} get {found.treatment.version}, the others {found.control.version}. "
        return f"Start {found.name}?", said + "Stopping it returns every device to what it has now.", "Start"
    if act == "stop":
        said = f"{counted(count, 'device')} return to what they had before. It cannot be taken up again."
        return f"Stop {found.name}?", said, "Stop"
    chosen = arm if arm in ("control", "treatment") else found.winner or arms.conclusion(found).better
    version = found.version_of(chosen).version if chosen else ""
    if not version:
        raise FedportalError("no_winner", name=found.name, id=found.public_id)
    whom = f"all devices in {found.group_name}" if found.group_name else "all your devices"
    doubt = "" if chosen == found.winner else "No look has found it to be the better one. "
    said = f"{doubt}It goes to {whom} as a rollout, and the experiment ends. Rolling that back returns every device to "
    return f"Promote {version}?", f"{said}what it had before the experiment.", f"Promote {version}"


def _arm(found: Experiment, arm: str, told: Conclusion, states: dict[str, int]) -> dict[str, Any]:
    """A row of the table of arms."""
    measure = told.treatment if arm == "treatment" else told.control
    members = experiment_selectors.members_by_arm(found)[arm]
    known = measure.estimate is not None
    return {
        "name": arm,
        "version": found.version_of(arm),
        "devices": members,
        "has_it": states.get("installed", 0),
        "failed": states.get("failed", 0),
        "reporting": measure.devices,
        "count": f"{measure.count:,}",
        "rate": f"{100 * (measure.estimate or 0):.1f} %" if known else "–",
        "between": f"{100 * (measure.low or 0):.1f} to {100 * (measure.high or 0):.1f} %" if known else "too few yet",
        "better": arm == (told.better or found.winner),
    }


def _pictures(found: Experiment, told: Conclusion) -> list[intervals.Picture]:
    names = (found.control.version, found.treatment.version)
    drawn = (intervals.of_arms(told, *names), intervals.of_difference(told, *names))
    return [picture for picture in drawn if picture is not None]
