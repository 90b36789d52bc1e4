"""What people see of runs: found by id, listed, and each as a snapshot. Nothing here changes anything."""

from __future__ import annotations

import math
from typing import Any

from django.db.models import QuerySet

from federations import permissions
from federations.models import Member, Organization
from federations.permissions import Actor
from federations.services import audit
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.states import MOVES, RoundKind, RoundState, RunState, word
from registry.models import Model
from training import checks, curve_points, part_cards, plan_words, standing, tally, wording
from training.aggregation import strategies
from training.aggregation.strategy import ASYNCHRONOUS
from training.lifecycle import ALIVE_ROUNDS, ALIVE_RUNS, TAKING_PART
from training.models import Round, Run
from training.services import best, buffering, cohorts, compression, giving, keeping, labelling, opening, plan, unusual
from training.services.terms import SCHEDULES, Terms

# More points than a picture has pixels are of no use to anybody.
MOST_POINTS = 300
CONFIG = (
    "seed",
    "standardise",
    "evaluate",
    "best",
    "preflight",
    "work_shares",
    "codec",
    "most_update_bytes",
    "local",
    "trusted",
    "privacy",
    "parameters",
)
ROUND = (
    *("pk", "number", "attempt", "kind", "state", "reason", "opened_at", "deadline", "closed_at"),
    *("metrics", "digest", "result_blob", "bytes_up", "bytes_down", "bytes_plain", "drift"),
    *("asynchronous", "staleness"),
)


def runs_for(actor: Actor, *, model: Model | None = None, state: str = "") -> QuerySet[Run]:
    """The runs the actor may see, newest first, with what a list of them shows."""
    seen = permissions.visible(actor, Run.objects.all())
    if model is not None:
        seen = seen.filter(model=model)
    if state:
        seen = seen.filter(state=state)
    return with_names(seen).order_by("-id")


def with_names(rows: QuerySet[Run]) -> QuerySet[Run]:
    """The runs with the rows whose names they show."""
    return rows.select_related("model", "federation", "organization", "started_by", "result_version", "base_version")


def find_run(actor: Actor, public_id: str) -> Run:
    """The run with this id. Raises `not_found` for a missing and for a foreign one alike."""
    run = with_names(permissions.visible(actor, Run.objects.filter(public_id=public_id))).first()
    if run is None:
        raise FedportalError("not_found", what="run")
    return run


def latest_run(actor: Actor, model: Model) -> Run:
    """The model's run that is going on, or its last one. Raises `not_found`."""
    found = list(runs_for(actor, model=model)[:50])
    alive = [run for run in found if run.state in ALIVE_RUNS]
    if not found:
        raise FedportalError("not_found", what="run")
    return (alive or found)[0]


def rounds_of(run: Run) -> QuerySet[Round, dict[str, Any]]:
    """The run's rounds with all attempts, in order."""
    return Round.objects.filter(run=run).order_by("number", "attempt").values(*ROUND)


def snapshot(run: Run, actor: Actor | None = None) -> dict[str, Any]:
    """Everything the run's page shows, as one JSON value with the number of the last event it contains.

    The number of queries does not depend on the number of rounds, devices or organizations. `participants` are the
    first devices of the round, all of a small one; `tally` counts them all.
    """
    # The number is read first: what happens while the rest is read is told again, and a watcher can take that.
    fresh = with_names(Run.objects.filter(pk=run.pk)).get()
    rounds = list(rounds_of(fresh))
    latest = max(rounds, key=lambda row: (row["number"], row["attempt"]), default=None)
    parts = buffering.parts(fresh.pk, latest) if latest is not None else None
    going_on = latest["pk"] if latest is not None and latest["state"] in ALIVE_ROUNDS else None
    called_off = latest is not None and latest["state"] == RoundState.CANCELLED
    whose = unusual.sight(actor, fresh)
    managed = unusual.managed_by(actor)
    counted = tally.of(parts, called_off=called_off)
    shown = standing.round_shown(fresh, latest, counted.standing) if latest else None
    first = part_cards.parts_of(parts, opening.MOST_CARDS) if parts is not None else []
    number = latest["number"] if latest else 0
    shown_cards = part_cards.cards(first, number, _before(rounds, latest), called_off=called_off)
    best_version, may_publish = best.published(fresh, actor)
    waits = ((shown or {}).get("waiting") or {}).get("word") if fresh.state == RunState.RUNNING else None
    return {
        "run": {**overview(fresh), **({"word": waits} if waits else {})},
        "sequence": fresh.sequence,
        "now": clock.now().isoformat(),
        "round": shown,
        "participants": unusual.on_cards(shown_cards, whose),
        "tally": counted.as_json(),
        "barred": _barred(fresh),
        "label": labelling.of(fresh),
        "preflight": checks.of_run(fresh) if plan.checks_first(fresh) else [],
        "flagged": unusual.of_run(fresh, whose, managed),
        "manages": managed,
        "contributions": wording.contributions(giving.shares(fresh, also=going_on)),
        "curves": newest_in_full(thinned(curves(rounds), keep=fresh.best_round)),
        "names": _names(fresh, rounds),
        "actions": {**actions(fresh, actor), "publish_best": may_publish},
        "best_version": best_version.version if best_version is not None else None,
        "paused": _paused(fresh, actor),
    }


def cards(
    run: Run, actor: Actor | None, show: str, find: str, number: int, size: int
) -> tuple[list[dict[str, Any]], int]:
    """Page `number`, from 1, of the devices in the latest round, trouble first, and how many there are on all pages; of
    those called `show` and with `find` in their or their organization's name where these are not "". A page beyond the
    last is the last."""
    latest = list(rounds_of(run).order_by("-number", "-attempt")[:2])
    if not latest:
        return [], 0
    called_off = latest[0]["state"] == RoundState.CANCELLED
    shown = buffering.parts(run.pk, latest[0])
    chosen = tally.chosen(shown, show, find, called_off=called_off)
    count = chosen.count()
    start = size * (min(number, max(-(-count // size), 1)) - 1)
    parts = chosen[start : start + size].values(*part_cards.PART)
    before = latest[1] if len(latest) > 1 else None
    found = part_cards.cards(list(parts), latest[0]["number"], before, called_off=called_off)
    return unusual.on_cards(found, unusual.sight(actor, run)), count


def overview(run: Run) -> dict[str, Any]:
    """The run by itself; needs the rows of `with_names`."""
    version, terms = run.result_version, Terms.of(run.plan)
    return {
        "id": run.public_id,
        "name": run.name,
        "model": {"id": run.model.public_id, "name": run.model.name},
        "federation": {"id": run.federation.public_id, "name": run.federation.name},
        "organization": {"id": run.organization.public_id, "name": run.organization.name},
        "state": run.state,
        "word": word("run", run.state),
        "strategy": run.strategy,
        "config": {name: run.config.get(name) for name in CONFIG},
        "current_round": run.current_round,
        "total_rounds": run.total_rounds,
        "min_participants": run.min_participants,
        "round_seconds": run.round_seconds,
        "group": run.group,
        "plan": {**terms.as_json(), "sentence": plan_words.told(terms, run.min_participants)},
        "reason": run.reason,
        "created_at": run.created_at.isoformat(),
        "started_at": wording.instant(run.started_at),
        "finished_at": wording.instant(run.finished_at),
        "base_version": run.base_version.version,
        "result_version": version.version if version else None,
        "best_round": run.best_round,
        "best_loss": run.best_loss,
        "best_value": run.best_value,
        "progress": progress_of(run),
    }


def progress_of(run: Run) -> float:
    """How much of the run is done, from 0 to 1."""
    if run.state == RunState.COMPLETED:
        return 1.0
    return round(min(run.current_round / run.total_rounds, 1.0), 4)


def actions(run: Run, actor: Actor | None) -> dict[str, bool]:
    """What the actor may do with the run now."""
    may = actor is not None and permissions.can(actor, "run.control", run)
    to = {"pause": RunState.PAUSED, "resume": RunState.RUNNING, "stop": RunState.STOPPED}
    allowed = {verb: may and state in MOVES["run"][run.state] for verb, state in to.items()}
    resumes = allowed["resume"] and run.state == RunState.PAUSED
    terms, strategy = Terms.of(run.plan), strategies.find(run.strategy)
    switches = {
        schedule: may
        and run.state in ALIVE_RUNS
        and schedule != terms.schedule
        and schedule in strategy.schedules
        and not (schedule == ASYNCHRONOUS and terms.quota)
        for schedule in SCHEDULES
    }
    return {**allowed, **switches, "resume": resumes, "keep": may and keeping.may_keep(run)}


def curves(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A point for every model that was measured, and for every training round that is done.

    The metrics of the model that a round made stand with the next round; until that is done its point says only what
    the round took.
    """
    done = {row["number"]: row for row in rounds if row["state"] == RoundState.DONE}
    trained = {number: row for number, row in done.items() if row["kind"] == RoundKind.TRAIN}
    measured = {max(number - 1, 0): row["metrics"] for number, row in sorted(done.items()) if row["metrics"]}
    return [
        curve_points.of(number, measured.get(number, {}), took(trained.get(number)))
        for number in sorted({*measured, *trained})
    ]


def thinned(points: list[dict[str, Any]], keep: int | None = None) -> list[dict[str, Any]]:
    """At most about `MOST_POINTS` of the points, evenly, with the first, the last and that of the round `keep`."""
    if len(points) <= MOST_POINTS:
        return points
    step = math.ceil(len(points) / MOST_POINTS)
    last = len(points) - 1
    return [point for i, point in enumerate(points) if i % step == 0 or i == last or point["number"] == keep]


def newest_in_full(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points; how organizations and slices differ in detail stays with the newest that says it."""
    for name in ("fairness", "slices", "devices"):
        for point in [point for point in points if name in point][:-1]:
            del point[name]
    return points


def took(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a closed round took, and what it did to the model: `metrics` are those of the model before it."""
    if row is None or row["closed_at"] is None:
        return None
    return {
        "seconds": round((row["closed_at"] - row["opened_at"]).total_seconds(), 3),
        "bytes_up": row["bytes_up"],
        "bytes_down": row["bytes_down"],
        **compression.measured(row),
        "drift": row["drift"],
        **buffering.summary(row["staleness"]),
        "metrics": row["metrics"],
    }


def active_devices(run: Run) -> int:
    """How many devices take part in the round that is going on."""
    alive = Round.objects.filter(run=run, state__in=ALIVE_ROUNDS).values("pk", "asynchronous").first()
    return buffering.parts(run.pk, alive).filter(state__in=TAKING_PART).count() if alive else 0


def _paused(run: Run, actor: Actor | None) -> dict[str, Any] | None:
    """{"by", "at"}: which organization paused the run, or which colleague for its own people; None if it is not."""
    if run.state != RunState.PAUSED:
        return None
    event = run.events.filter(kind="run.paused").order_by("-sequence").first()
    if event is None:
        return None
    by = event.data.get("by") or {}
    own = actor.organization if actor is not None and actor.organization is not None else None
    colleague = None
    if own is not None and own.public_id == by.get("id"):
        colleague = audit.colleague_behind(own, run.organization, "run.paused", run.public_id)
    return {"by": str(colleague or by.get("name", "")), "at": event.at.isoformat()}


def _barred(run: Run) -> list[dict[str, Any]]:
    """The members whose devices are not asked in the next round, each with the reason; nobody once the run is over."""
    if run.state not in ALIVE_RUNS:
        return []
    return [
        {"organization": {"id": organization.public_id, "name": organization.name}, "reason": reason}
        for organization, reason in cohorts.barred(run)
    ]


def _before(rounds: list[dict[str, Any]], latest: dict[str, Any] | None) -> dict[str, Any] | None:
    """The attempt before the latest."""
    earlier = [row for row in rounds if row is not latest]
    return max(earlier, key=lambda row: (row["number"], row["attempt"]), default=None)


def _names(run: Run, rounds: list[dict[str, Any]]) -> dict[str, str]:
    """The names of the organizations that are or were in the federation, and of who started the run.

    First those that measured something, in the order in which they first did, so that each keeps its colour whoever
    joins later.
    """
    places = Member.objects.filter(federation_id=run.federation_id).values("organization_id")
    found = Organization.objects.filter(pk__in=places) | Organization.objects.filter(pk=run.organization_id)
    names = dict(found.order_by("name").values_list("public_id", "name"))
    by_name = sorted(names, key=lambda key: names[key].casefold())
    first: dict[str, None] = {}
    for row in sorted(rounds, key=lambda row: row["number"]):
        there = row["metrics"].get("organizations", {}) if row["state"] == RoundState.DONE else {}
        first.update(dict.fromkeys(key for key in by_name if key in there))
    return {key: names[key] for key in [*first, *(key for key in by_name if key not in first)]}
