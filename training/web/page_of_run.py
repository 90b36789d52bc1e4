"""The page that shows a run as it happens, and the buttons on it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions
from federations.permissions import Actor
from federations.web.page import confirm, page
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RunState
from registry.selectors import may_train
from training import selectors, wording
from training.models import Run
from training.services import best, runs
from training.web.cards import panel
from training.web.charts import charts, further, legend
from training.web.fairness import fairness, slices
from training.web.lists import WORDS
from training.web.log import page_of_log
from training.web.starting import again

VERBS = {"pause": runs.pause, "resume": runs.resume, "stop": runs.stop, "publish-best": best.publish}
ENDED = (RunState.COMPLETED, RunState.FAILED, RunState.STOPPED)


@page()
def one(request: Any, run: str) -> HttpResponse:
    """The run as it is now; `static/js/run.js` keeps the page true from here."""
    found = selectors.find_run(request.actor, run)
    shown = selectors.snapshot(found, request.actor)
    for given in shown["contributions"]:
        given["percent"] = round(100 * given["share"])
    asked = request.GET
    chosen = asked.getlist("metric") if asked.get("chosen") else None
    context = {
        "run": found,
        "shown": shown,
        "title": _title(shown),
        "percent": round(100 * shown["run"]["progress"]),
        "panel": panel(shown["participants"], asked.get("show", ""), asked.get("devices", "")),
        "charts": charts(shown["curves"], shown["names"], chosen),
        "further": further(shown["curves"], chosen),
        "fairness": fairness(shown["curves"], shown["names"]),
        "slices": slices(shown["curves"]),
        "legend": legend(shown["names"]),
        "log": page_of_log(found, asked.get("before", ""), asked.get("only", ""), upto=shown["sequence"]),
        "live": {"snapshot": shown, "words": WORDS, "socket": f"/ws/runs/{found.public_id}"},
        "over": found.state in ENDED,
        "again": "?" + urlencode(again(found)),
        "may_train": may_train(request.actor, found.model, found.federation),
        "may_control": permissions.can(request.actor, "run.control", found),
        "who_may": permissions.who_may("run.control", found, request.actor),
        "settled": _settled(found),
        "starter": _starter(request.actor, found),
        "took": wording.span((found.finished_at - found.started_at).total_seconds())
        if found.started_at and found.finished_at
        else "",
    }
    return render(request, "training/one.html", context)


def _title(shown: dict[str, Any]) -> str:
    """Where the run is; `static/js/run.js` says the same."""
    run, of = shown["run"], shown["round"]
    if of is None or run["state"] in ENDED:
        return f"Round {run['current_round']} of {run['total_rounds']}"
    if of["kind"] == RoundKind.STATISTICS:
        return "Before round 1: statistics for standardisation"
    if of["kind"] == RoundKind.EVALUATE:
        return "After the last round: evaluation"
    again = f", attempt {of['attempt']}" if of["attempt"] > 1 else ""
    return f"Round {of['number']} of {run['total_rounds']}{again}"


def _starter(actor: Actor, run: Run) -> str:
    """Who started the run: the person for their colleagues, the organization for others."""
    if run.organization != actor.organization or run.started_by is None:
        return run.organization.name
    return f"{run.started_by} of {run.organization.name}"


def _settled(run: Run) -> dict[str, Any]:
    """How the run was started."""
    parameters = run.config.get("parameters", {})
    return {
        "Strategy": run.strategy,
        "Rounds": run.total_rounds,
        "Least devices": run.min_participants,
        "Deadline": f"{wording.span(run.round_seconds)} a round",
        "Group": run.group or "all devices",
        "From version": run.base_version.version,
        "Seed": run.config.get("seed", "–"),
        **{name.replace("_", " ").capitalize(): value for name, value in parameters.items()},
    }


@page("GET", "POST")
def control(request: Any, run: str, verb: str) -> HttpResponse:
    """Pause, resume or stop. Stopping asks first."""
    if verb not in VERBS:
        raise FedportalError("not_found", what="page")
    found = selectors.find_run(request.actor, run)
    address = f"/runs/{found.public_id}"
    if request.method == "GET":
        permissions.require(request.actor, "run.control", found)
        consequence = {
            "stop": "The round that is going on is called off and no version is published. This cannot be undone.",
            "pause": "The open round finishes; no further one opens until you resume.",
            "resume": "The next round opens at once.",
            "publish-best": "The model of the best round becomes the next minor version. It stays one for good.",
        }[verb]
        button, of = ("Publish", "best model") if verb == "publish-best" else (verb.capitalize(), "training")
        title = f"{button} the {of} of {found.model.name}?"
        return confirm(request, title=title, consequence=consequence, button=button, back=address)
    VERBS[verb](request.actor, found)
    return redirect(address)
