"""The page that shows a run as it happens, and the buttons on it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions
from federations.web.page import confirm, page
from fedwire.errors import FedportalError
from fedwire.states import RunState
from training import progress, selectors
from training.services import runs
from training.web.charts import charts, legend
from training.web.lists import WORDS
from training.web.starting import again

VERBS = {"pause": runs.pause, "resume": runs.resume, "stop": runs.stop}
MOST_NEWS = 30


@page()
def one(request: Any, run: str) -> HttpResponse:
    """The run as it is now; `static/js/run.js` keeps the page true from here."""
    found = selectors.find_run(request.actor, run)
    shown = selectors.snapshot(found, request.actor)
    for given in shown["contributions"]:
        given["percent"] = round(100 * given["share"])
    events = [progress.message(event) for event in found.events.order_by("-sequence")[:MOST_NEWS]]
    context = {
        "run": found,
        "shown": shown,
        "percent": round(100 * shown["run"]["progress"]),
        "charts": charts(shown["curves"], shown["names"]),
        "legend": legend(shown["names"]),
        "news": events,
        "live": {"snapshot": shown, "words": WORDS, "socket": f"/ws/runs/{found.public_id}"},
        "over": found.state in (RunState.COMPLETED, RunState.FAILED, RunState.STOPPED),
        "again": "?" + urlencode(again(found)),
        "may_train": permissions.can(request.actor, "model.train", found.model),
        "settled": {
            "Strategy": found.strategy,
            "Rounds": found.total_rounds,
            "Least devices": found.min_participants,
            "Deadline": f"{found.round_seconds} s a round",
            "Group": found.group or "all devices",
            "From version": found.base_version.version,
            **{
                name.replace("_", " ").capitalize(): value for name, value in found.config.get("parameters", {}).items()
            },
        },
    }
    return render(request, "training/one.html", context)


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
        }[verb]
        title = f"{verb.capitalize()} the training of {found.model.name}?"
        return confirm(request, title=title, consequence=consequence, button=verb.capitalize(), back=address)
    VERBS[verb](request.actor, found)
    return redirect(address)
