"""The page that shows a run as it happens, and the buttons on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions
from federations.permissions import Actor
from federations.selectors import person_for
from federations.web.page import confirm, page
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RoundState, RunState
from registry.models import Share
from registry.selectors import may_train
from training import checks, plan_words, selectors, wording
from training.aggregation.strategy import ASYNCHRONOUS, SYNCHRONOUS
from training.models import Run
from training.privacy.protection import Protection
from training.selectors import cards
from training.services import best, compression, keeping, local, protections, runs, schedules
from training.services.terms import Terms
from training.web.cards import panel
from training.web.charts import MEASURES, Chart, charts, further, legend
from training.web.fairness import fairness, slices
from training.web.labels import label
from training.web.lists import WORDS
from training.web.log import page_of_log
from training.web.own_models import own_models
from training.web.starting import again


def _to(schedule: str) -> Callable[[Actor, Run], object]:
    return lambda actor, run: schedules.switch(actor, run, {"schedule": schedule})


VERBS: dict[str, Callable[[Actor, Run], object]] = {
    "pause": runs.pause,
    "resume": runs.resume,
    ASYNCHRONOUS: _to(ASYNCHRONOUS),
    SYNCHRONOUS: _to(SYNCHRONOUS),
    "stop": runs.stop,
    "keep": keeping.keep,
    "publish-best": best.publish,
}
ENDED = (RunState.COMPLETED, RunState.FAILED, RunState.STOPPED)


@page()
def one(request: Any, run: str) -> HttpResponse:
    """The run as it is now; `static/js/run.js` keeps the page true from here."""
    found = selectors.find_run(request.actor, run)
    shown = selectors.snapshot(found, request.actor)
    for given in shown["contributions"]:
        given["percent"] = round(100 * given["share"])
    asked = request.GET
    wanted = (shown["round"] or {}).get("buffer") or 0
    devices = panel(
        shown["participants"],
        shown["tally"],
        asked.dict(),
        partial(cards, found, request.actor),
    )
    if wanted:
        devices["percent"] = min(round(100 * devices["sent"] / wanted), 100)
    if devices["large"]:  # the page keeps alive what it shows
        shown["participants"] = devices["cards"]
    chosen = asked.getlist("metric") if asked.get("chosen") else None
    trains = may_train(request.actor, found.model, found.federation)
    context = {
        "run": found,
        "shown": shown,
        "title": _title(shown),
        "percent": round(100 * shown["run"]["progress"]),
        "panel": devices,
        "charts": _charts(shown, chosen),
        "further": further(shown["curves"], chosen),
        "own": own_models(found, shown["curves"], shown["names"]),
        "fairness": fairness(shown["curves"], shown["names"]),
        "slices": slices(shown["curves"]),
        "legend": legend(shown["curves"], shown["names"]),
        "log": page_of_log(found, asked.get("before", ""), asked.get("only", ""), upto=shown["sequence"]),
        "live": {"snapshot": shown, "words": WORDS, "socket": f"/ws/runs/{found.public_id}"},
        "over": found.state in ENDED,
        "best": _best(shown),
        "earlier": _earlier(shown),
        "again": "?" + urlencode(again(found)),
        "may_train": trains,
        "not_again": _not_again(found),
        "may_control": permissions.can(request.actor, "run.control", found),
        "may_not": _may_not(request.actor, found, trains),
        "who_quarantines": _who_quarantines(),
        "settled": _settled(found),
        "starter": _starter(request.actor, found),
        "took": wording.span((found.finished_at - found.started_at).total_seconds())
        if found.started_at and found.finished_at
        else "",
    }
    return render(request, "training/one.html", context)


def _title(shown: dict[str, Any]) -> str:
    """Where the run is; `static/js/sentences.js` says the same."""
    run, of = shown["run"], shown["round"]
    if run["state"] in ENDED:
        return _ended(run, of)
    if of is None:
        return f"Round {run['current_round']} of {run['total_rounds']}"
    if of["kind"] == RoundKind.CHECK:
        return "Before round 1: the devices check themselves"
    if of["kind"] == RoundKind.STATISTICS:
        return "Before round 1: statistics for standardisation"
    if of["kind"] == RoundKind.EVALUATE:
        return "After the last round: evaluation"
    again = f", attempt {of['attempt']}" if of["attempt"] > 1 else ""
    kind = f", {ASYNCHRONOUS}" if of["asynchronous"] else ""
    return f"Round {of['number']} of {run['total_rounds']}{kind}{again}"


def _ended(run: dict[str, Any], of: dict[str, Any] | None) -> str:
    """How far the run came; `static/js/sentences.js` says the same."""
    rounds = run["total_rounds"]
    if run["state"] == RunState.COMPLETED:
        return f"All {rounds} rounds are done" if rounds > 1 else "The round is done"
    word = run["state"].capitalize()
    if of is None or of["kind"] in (RoundKind.CHECK, RoundKind.STATISTICS):
        return f"{word} before round 1 of {rounds}"
    if of["kind"] == RoundKind.EVALUATE:
        return f"{word} after round {rounds} of {rounds}"
    return f"{word} {'after' if of['state'] == RoundState.DONE else 'in'} round {of['number']} of {rounds}"


def _charts(shown: dict[str, Any], chosen: Sequence[str] | None) -> list[Chart]:
    """The curves; of an ended run nothing more is to come."""
    found = charts(shown["curves"], shown["names"], chosen)
    if shown["run"]["config"]["evaluate"] is False:
        found = [one if one.lines or one.name not in dict(MEASURES) else _unmeasured(one) for one in found]
    if shown["run"]["plan"]["schedule"] == ASYNCHRONOUS:  # said also while there is nothing to see
        found = [_expected(one) if one.name == "staleness" and not one.lines else one for one in found]
    if shown["run"]["state"] not in ENDED:
        return found
    return [one if one.lines else one._replace(summary="Nothing was measured.") for one in found]


def _unmeasured(empty: Chart) -> Chart:
    return empty._replace(summary="Not measured in this run.")


def _expected(empty: Chart) -> Chart:
    return empty._replace(summary="No answer has been counted yet.", expected=True)


def _best(shown: dict[str, Any]) -> str:
    """Which model is the best; `static/js/sentences.js` says the same."""
    number, value = shown["run"]["best_round"], shown["run"]["best_value"]
    if number is None:
        return ""
    which = f"the model of round {number}" if number else "the version that the run began with"
    told = f" ({_best_by(shown)} {value:.4f})" if value is not None else ""
    if shown["run"]["state"] in ENDED:
        return f"Best of this run: {which}{told}."
    return f"Best so far: {which}{told}. A new model has to do better for the organizations that measured both."


def _earlier(shown: dict[str, Any]) -> str:
    """What to know when the best model is not the published one; `static/js/sentences.js` says the same."""
    run = shown["run"]
    number, last = run["best_round"], run["total_rounds"]
    if not run["result_version"] or number is None or number == last:
        return ""
    measured = {point["number"]: set(point["organizations"]) for point in shown["curves"]}
    if not measured.get(number, set()) & measured.get(last, set()):
        return " No organization measured both it and the best one, so the two do not compare."
    if number == 0:
        return f" By {_best_by(shown)}, no round did better than the version that the run began with."
    kept = "" if shown["best_version"] else "; it is kept with the run and can be published too"
    return f" The best by {_best_by(shown)}, that of round {number}, is an earlier one{kept}."


def _best_by(shown: dict[str, Any]) -> str:
    return str((shown["run"]["config"].get("best") or {}).get("metric", "loss"))


def _criterion(chosen: dict[str, Any]) -> str:
    return f"{chosen['metric']}, {'more' if chosen['greater'] else 'less'} is better"


def _starter(actor: Actor, run: Run) -> str:
    """Who started the run: the person for their colleagues, the organization for others."""
    person = person_for(actor, run.organization, run.started_by)
    return f"{person} of {run.organization.name}" if person else run.organization.name


def _may_not(actor: Actor, run: Run, trains: bool) -> str:
    """Who may do what the buttons would do, in one sentence, for a reader who has none of them; "" for others."""
    control = run.state not in ENDED and not permissions.can(actor, "run.control", run)
    train = not trains and not _not_again(run)
    doing = {(True, True): "pause, stop or repeat", (True, False): "pause or stop", (False, True): "repeat"}
    if (control, train) not in doing:
        return ""
    if control:
        who = permissions.who_may("run.control", run, actor)
    elif not permissions.can(actor, "model.train", run.model):
        who = permissions.who_may("model.train", run.model, actor)
    else:
        who = permissions.who_may("federation.train", run.federation, actor)
    return who.replace(" may do this", f" may {doing[control, train]} this run")


def _who_quarantines() -> str:
    """Who puts a device into quarantine: people of its own organization."""
    who = permissions.who_may("organization.manage_devices").removesuffix(" may do this.")
    return f"{who} of its organization may put it there."


def _not_again(run: Run) -> str:
    """What stands in the way of running it again for everybody, whatever their rights."""
    if run.federation.dissolved_at is not None:
        return "the federation was dissolved."
    if not Share.objects.filter(model=run.model, federation=run.federation).exists():
        return "the model is not shared with this federation any more."
    return ""


def _settled(run: Run) -> dict[str, Any]:
    """How the run was started."""
    shares = run.config.get("work_shares") or {}
    parameters, mode = run.config.get("parameters", {}), run.config.get("preflight", checks.OFF)
    return {
        **({"Name": run.name} if run.name else {}),
        "Strategy": run.strategy,
        "Rounds": run.total_rounds,
        "Each round": plan_words.told(Terms.of(run.plan), run.min_participants),
        "Least devices": run.min_participants,
        "Deadline": f"{wording.span(run.round_seconds)} a round",
        "Group": run.group or "all devices",
        "From version": run.base_version.version,
        **({"Best round by": _criterion(chosen)} if (chosen := best.of(run)) != best.DEFAULT else {}),
        **({"Check before round 1": checks.MODES[mode]} if mode != checks.OFF else {}),
        **{f"Work of {name}": f"{share:.0%} of the steps" for name, share in shares.items()},
        "Seed": run.config.get("seed", "–"),
        "Updates": compression.shown(run.config.get("codec")),
        **({"Most bytes of an update": f"{most:,}"} if (most := run.config.get("most_update_bytes")) else {}),
        **local.shown(run.config),
        **({"Privacy": protections.shown(Protection.of(run.config))} if run.config.get("privacy") else {}),
        **{label(name): value for name, value in parameters.items()},
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
            ASYNCHRONOUS: "Rounds go on whenever enough answers are in; slower devices answer later and count less.",
            SYNCHRONOUS: "The open round takes all answers that are in when it closes; the next asks everybody anew.",
            "keep": "The model of the last round that was closed becomes a version of the model.",
            "publish-best": "The model of the best round becomes the next minor version. It stays one for good.",
        }[verb]
        button, of = verb.capitalize(), {"keep": "what came of the training"}.get(verb, "the training")
        if verb == "publish-best":
            button, of = "Publish", "the best model"
        if verb in (ASYNCHRONOUS, SYNCHRONOUS):
            button, of = f"Make {verb}", "the rounds"
        title = f"{button} {of} of {found.model.name}?"
        return confirm(request, title=title, consequence=consequence, button=button, back=address)
    VERBS[verb](request.actor, found)
    return redirect(address)
