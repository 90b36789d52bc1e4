"""Runs: the list, and the page that shows one as it happens."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions
from federations import selectors as places
from federations.web.page import confirm, one_page, page
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RunState
from training import progress, selectors
from training.services import runs
from training.web.charts import charts, legend
from training.web.lists import WORDS, with_progress
from training.web.starting import again

VERBS = {"pause": runs.pause, "resume": runs.resume, "stop": runs.stop}
MOST_NEWS = 30
# Rounds that train nothing, as the log calls them.
ROUND_NAMES = {RoundKind.STATISTICS: "Gathering statistics", RoundKind.EVALUATE: "Measuring the last model"}


@page()
def index(request: Any) -> HttpResponse:
    """The runs one may see, newest first."""
    state, federation = request.GET.get("state", ""), request.GET.get("federation", "")
    seen = selectors.runs_for(request.actor, state=state if state in WORDS else "")
    chosen = places.find_federation(request.actor, federation) if federation else None
    if chosen is not None:
        seen = seen.filter(federation=chosen)
    rows = one_page(request, seen)
    rows.object_list = with_progress(rows.object_list)
    filters = {"state": state, "federation": federation}
    context = {
        "rows": rows,
        "states": WORDS.items(),
        "state": state,
        "chosen": chosen,
        "federations": places.federations(request.actor).order_by("name"),
        "query": _prefix({name: value for name, value in filters.items() if value}),
    }
    return render(request, "training/list.html", context)


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
        "news": [{"at": event["at"], "text": sentence(event)} for event in events],
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


def sentence(event: dict[str, Any]) -> str:
    """An event as one line of the log; `static/js/run.js` says the same."""
    data, kind = event["data"], event["kind"]
    name = ROUND_NAMES.get(data.get("kind", ""), f"Round {data.get('number')}")
    reason = f": {data['reason'].rstrip('.')}" if data.get("reason") else ""
    if kind == "round.opened":
        again = f", attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""
        count = len(data.get("participants", []))
        return f"{name} began with {count} device{'' if count == 1 else 's'}{again}."
    if kind == "round.joined":
        card = data["participant"]
        return f"{card['device']['identifier']} of {card['organization']['name']} joined the round."
    if kind == "assignment.changed":
        return f"{data['device']['identifier']} of {data['organization']['name']}: {data['word']}{reason}."
    if kind == "round.aggregating":
        return f"{name}: the answers are put together."
    if kind == "round.done":
        return f"{name} took {data.get('seconds') or 0:.2f} s."
    if kind == "round.failed":
        return f"{name} failed{reason}."
    version = f" as version {data['version']}" if data.get("version") else ""
    was = "was " if kind in ("run.paused", "run.resumed", "run.stopped") else ""
    return f"The run {was}{kind.split('.')[1]}{version}{reason}."


def _prefix(filters: dict[str, str]) -> str:
    return urlencode(filters) + "&" if filters else ""
