"""The form that starts a run: its strategy's settings, whom the first round would ask, and what stands in the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations.web.labels import worded
from federations.web.page import page
from fedwire.errors import FedportalError
from training.aggregation.strategies import STRATEGIES
from training.services import compression, previews, runs
from training.services.preflight import ERROR
from training.services.previews import Preview
from training.services.terms import AHEAD, FIELDS
from training.web import protecting, shares, startform
from training.web.startform import again

__all__ = ["again", "fragment", "new"]


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Start a run; with GET the form and a preview of what it says."""
    form: QueryDict = request.POST if request.method == "POST" else request.GET
    context, status = _shown(request, form), 200
    if request.method == "POST":
        error, preview = context.get("error"), context.get("preview")
        if error is None and preview is not None and preview.ok:
            try:
                run = runs.start(request.actor, **startform.wish(request.actor, context["said"]))
            except FedportalError as refusal:  # the world changed since the preview a moment ago
                error = context["error"] = refusal
            else:
                messages.success(
                    request, f"Training of {run.model.name} has started. This page shows it as it happens."
                )
                return redirect(f"/runs/{run.public_id}")
        status = error.status if error is not None else 400
    return render(request, "training/new.html", context, status=status)


@page()
def fragment(request: Any) -> HttpResponse:
    """The parts of the form that depend on what was chosen, for `static/js/start.js`."""
    return render(request, "training/parts/start.html", _shown(request, request.GET))


def _shown(request: Any, form: QueryDict) -> dict[str, Any]:
    """What the form shows for what was typed."""
    offered = startform.choices(request.actor)
    said = startform.said_in(form, offered, sent=request.method == "POST")
    chosen = next((choice for choice in offered if choice.model.public_id == said.get("model")), None)
    context: dict[str, Any] = {
        "choices": offered,
        "chosen": chosen,
        "said": said,
        "numbers": startform.numbers_of(chosen.model if chosen else None),
        "measured": startform.measured(chosen.model if chosen else None),
        "groups": startform.groups(request.actor) if offered else [],
        "strategies": STRATEGIES.values(),
        "strategy": STRATEGIES.get(said["strategy"]),
        "codecs": compression.TITLES.items(),
        "fractional": said.get("codec") in compression.FIELDS["codec_fraction"],
        "barred": None if offered else startform.seen_share(request.actor),
    }
    wrong: dict[str, str] = {}
    if offered or request.method == "POST":
        try:
            preview = previews.of(request.actor, **startform.wish(request.actor, said))
        except FedportalError as error:
            context["error"] = error
        else:
            context["preview"], wrong = preview, startform.wrong_fields(preview.problems)
            context["problems"] = _ordered(preview)
    context["plan"] = startform.plan_fields(said, wrong)
    context["settings"] = startform.strategy_fields(said["strategy"], said, wrong)
    context["sampled"] = startform.sampling_fields(said, wrong)
    context["modes"], context["rules"], context["checks"] = startform.MODES, startform.RULES, startform.CHECKS
    context["asks_a_part"] = any(said.get(name) for name in FIELDS if name not in AHEAD)
    context["schedules"], context["ahead"] = startform.SCHEDULES, startform.asynchronous_fields(said, wrong)
    context["says_ahead"] = any(said.get(name) or wrong.get(name) for name in AHEAD)
    context |= protecting.context(said, wrong)
    context["shares"] = shares.rows(said, startform.number)
    # A template cannot ask for a name with a dot in it.
    context["wrong"] = {name.removeprefix("config."): sentence for name, sentence in wrong.items()}
    return context


def _ordered(preview: Preview) -> list[Any]:
    """What keeps the run from starting first; fields are called as the form does."""
    return [
        replace(problem, sentence=worded(problem.sentence, problem.field))
        for problem in sorted(preview.problems, key=lambda problem: problem.level != ERROR)
    ]
