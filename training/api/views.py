"""The addresses of runs: parse, call one service, render."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from federations.permissions import Actor
from federations.selectors import find_federation
from fedportal.common.api import Door, limit_offset
from fedwire.errors import FedportalError
from registry.selectors import find_model, find_version
from training import progress, selectors
from training.aggregation.strategies import STRATEGIES
from training.api import shapes
from training.models import Run
from training.services import best, keeping, preflight, previews, runs, schedules, unusual
from training.services.terms import FIELDS

PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most this many (50, at most 200)."),
    OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out this many."),
]
FILTERS = [
    OpenApiParameter("model_id", OpenApiTypes.STR, description="Only runs of this model, by id or name."),
    OpenApiParameter("status", OpenApiTypes.STR, description="Only runs in this state."),
]
MOST_EVENTS = 200
TREND = 20
NO_PRIVACY = (None, "", "none")


class Sessions(Door):
    """/training/sessions"""

    @extend_schema(operation_id="training_sessions_list", parameters=[*FILTERS, *PAGE], responses=shapes.SessionList)
    def get(self, request: Request) -> Response:
        """The runs you may see, newest first."""
        query = request.query_params
        model = find_model(self.actor, query["model_id"]) if query.get("model_id") else None
        found: list[Run]
        found, total = limit_offset(request, selectors.runs_for(self.actor, model=model, state=query.get("status", "")))
        return Response({"sessions": [session(run) for run in found], "total": total})

    @extend_schema(request=shapes.NewSession, responses={201: shapes.SessionShape})
    def post(self, request: Request) -> Response:
        """Start training a model in a federation."""
        run = runs.start(self.actor, **_wanted(self.actor, self.body(shapes.NewSession)))
        return Response(session(selectors.find_run(self.actor, run.public_id)), status=201)


class Preview(Door):
    """/training/sessions/preview"""

    @extend_schema(request=shapes.NewSession, responses=shapes.PreviewShape)
    def post(self, request: Request) -> Response:
        """What starting this would do: whom the first round would ask, and everything that stands in the way."""
        return Response(previewed(previews.of(self.actor, **_wanted(self.actor, self.body(shapes.NewSession)))))


class OneSession(Door):
    """/training/sessions/{run}"""

    @extend_schema(responses=shapes.SessionShape)
    def get(self, request: Request, run: str) -> Response:
        """A run."""
        return Response(session(selectors.find_run(self.actor, run)))


class Snapshot(Door):
    """/training/sessions/{run}/snapshot"""

    @extend_schema(responses=shapes.SnapshotShape)
    def get(self, request: Request, run: str) -> Response:
        """Everything the run's page shows, with the number of the last event it contains."""
        return Response(selectors.snapshot(selectors.find_run(self.actor, run), self.actor))


class Rounds(Door):
    """/training/sessions/{run}/rounds"""

    @extend_schema(parameters=PAGE, responses=shapes.RoundList)
    def get(self, request: Request, run: str) -> Response:
        """The run's rounds with all attempts."""
        found = selectors.find_run(self.actor, run)
        rows: list[Any]
        rows, total = limit_offset(request, selectors.rounds_of(found))
        return Response({"rounds": shapes.RoundShape(rows, many=True).data, "total": total})


class Events(Door):
    """/training/sessions/{run}/events"""

    @extend_schema(
        parameters=[OpenApiParameter("after", OpenApiTypes.INT, description="Only events after this number.")],
        responses=shapes.EventList,
    )
    def get(self, request: Request, run: str) -> Response:
        """What happened in the run, in order."""
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 18):
            raise FedportalError("field_invalid", field="after", reason="it must be a whole number from 0.")
        found = selectors.find_run(self.actor, run)
        rows = list(found.events.filter(sequence__gt=int(after)).order_by("sequence")[: MOST_EVENTS + 1])
        whose = unusual.sight(self.actor, found)
        shown = [unusual.told(progress.message(event), whose) for event in rows[:MOST_EVENTS]]
        return Response({"events": shown, "more": len(rows) > MOST_EVENTS})


class Pause(Door):
    """/training/sessions/{run}/pause"""

    @extend_schema(request=None, responses=shapes.SessionShape)
    def post(self, request: Request, run: str) -> Response:
        """Let the open round finish and open no further one."""
        return Response(session(runs.pause(self.actor, selectors.find_run(self.actor, run))))


class Resume(Door):
    """/training/sessions/{run}/resume"""

    @extend_schema(request=None, responses=shapes.SessionShape)
    def post(self, request: Request, run: str) -> Response:
        """Go on with a paused run."""
        return Response(session(runs.resume(self.actor, selectors.find_run(self.actor, run))))


class Schedule(Door):
    """/training/sessions/{run}/schedule"""

    @extend_schema(request=shapes.NewSchedule, responses=shapes.SessionShape)
    def post(self, request: Request, run: str) -> Response:
        """Go on with synchronous or with asynchronous rounds."""
        said = self.body(shapes.NewSchedule)
        schedules.switch(self.actor, selectors.find_run(self.actor, run), said)
        return Response(session(selectors.find_run(self.actor, run)))


class Stop(Door):
    """/training/sessions/{run}/stop"""

    @extend_schema(request=None, responses=shapes.StoppedShape)
    def post(self, request: Request, run: str) -> Response:
        """End the run now; no version is published."""
        return Response(stopped(runs.stop(self.actor, selectors.find_run(self.actor, run))))


class Keep(Door):
    """/training/sessions/{run}/keep"""

    @extend_schema(request=None, responses=shapes.SessionShape)
    def post(self, request: Request, run: str) -> Response:
        """Make the last good model of a run that failed or was stopped a version."""
        keeping.keep(self.actor, selectors.find_run(self.actor, run))
        return Response(session(selectors.find_run(self.actor, run)))


class PublishBest(Door):
    """/training/sessions/{run}/publish-best"""

    @extend_schema(request=None, responses=shapes.PublishedShape)
    def post(self, request: Request, run: str) -> Response:
        """Make the model of the best round a version, beside that of the last."""
        found = selectors.find_run(self.actor, run)
        version = best.publish(self.actor, found)
        return Response(
            {
                "id": found.public_id,
                "round": version.lineage["result"]["round"],
                "version": version.version,
                "version_id": version.public_id,
                "digest": version.digest,
            }
        )


class ModelStatus(Door):
    """/training/{model}/status"""

    @extend_schema(responses=shapes.StatusShape)
    def get(self, request: Request, model: str) -> Response:
        """How the model's run stands: the one that is going on, or the last."""
        return Response(status_of(self.actor, selectors.latest_run(self.actor, find_model(self.actor, model))))


class ModelStop(Door):
    """/training/{model}/stop"""

    @extend_schema(request=None, responses=shapes.StoppedShape)
    def post(self, request: Request, model: str) -> Response:
        """Stop the model's run."""
        found = selectors.latest_run(self.actor, find_model(self.actor, model))
        return Response(stopped(runs.stop(self.actor, found)))


class Strategies(Door):
    """/training/strategies"""

    @extend_schema(responses=shapes.StrategyList)
    def get(self, request: Request) -> Response:
        """The strategies there are, each with its formula, paper and parameters."""
        return Response({"strategies": [strategy.schema() for strategy in STRATEGIES.values()]})


def session(run: Run) -> dict[str, Any]:
    """A run in the vocabulary of sessions."""
    shown = selectors.overview(run)
    return {"session_id": run.public_id, "status": run.state, "model_id": shown["model"]["id"], **shown}


def previewed(preview: previews.Preview) -> dict[str, Any]:
    """The answer to a preview."""
    federation, version = preview.federation, preview.version
    return {
        "ok": preview.ok,
        "sentence": preview.sentence,
        "expected": preview.expected,
        "need": preview.need,
        "plan": preview.plan,
        "federation": {"id": federation.public_id, "name": federation.name} if federation else None,
        "version": version.version if version else None,
        "settings": preview.settings,
        "organizations": [
            {
                "organization": {"id": place.id, "name": place.name},
                "state": place.state,
                "devices": place.known,
                "present": place.present,
                "expected": place.expected,
                "answering": place.answering,
                "reason": place.reason,
                "last_seen_at": place.last_seen_at,
            }
            for place in preview.places
        ],
        "problems": [preflight.as_json(problem) for problem in preview.problems],
    }


def stopped(run: Run) -> dict[str, Any]:
    """The answer to a stop."""
    return {
        "session_id": run.public_id,
        "id": run.public_id,
        "status": run.state,
        "last_round": run.current_round,
        "reason": run.reason,
    }


def status_of(actor: Actor, run: Run) -> dict[str, Any]:
    """The short status of a run."""
    shown = selectors.snapshot(run, actor)
    curve = [point for point in shown["curves"] if point["organizations"]]
    last = curve[-1] if curve else {}
    going_on = shown["round"]
    return {
        **{name: session(run)[name] for name in ("session_id", "id", "model_id", "status")},
        **{name: shown["run"][name] for name in ("current_round", "total_rounds", "reason", "result_version")},
        "active_devices": selectors.active_devices(run),
        **{name: last.get(name) for name in ("loss", "accuracy", "auc")},
        **{name: last.get(name) for name in ("personal", "devices")},
        "trend": [{name: point[name] for name in ("number", "loss", "accuracy", "auc")} for point in curve[-TREND:]],
        "contributions": shown["contributions"],
        "waiting": going_on["waiting"] if going_on else None,
        "barred": shown["barred"],
    }


def _wanted(actor: Actor, said: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `runs.start` in what a client sent. Raises `not_found`, and `field_invalid` for privacy."""
    if said.get("privacy") not in NO_PRIVACY or said.get("epsilon") is not None:
        reason = "what a run protects stands in config.privacy; leave this out or send none."
        raise FedportalError("field_invalid", field="privacy", reason=reason)
    model = find_model(actor, said["model_id"])
    reference, version = said.get("federation_id"), said.get("version")
    chosen = {
        "strategy": said.get("strategy"),
        "min_participants": _first(said, "min_participants", "min_devices"),
        "round_seconds": said.get("round_seconds"),
    }
    return {
        "model": model,
        "federation": find_federation(actor, reference) if reference else None,
        "version": find_version(model, version) if version else None,
        "rounds": said["rounds"],
        "group": said.get("group"),
        "config": said.get("config"),
        "plan": {name: said[name] for name in FIELDS if said.get(name) is not None},
        # What is left out, or null, has the service's default.
        **{name: value for name, value in chosen.items() if value is not None},
    }


def _first(said: dict[str, Any], *names: str) -> Any:
    """The first of these fields that says something."""
    return next((said[name] for name in names if said.get(name) is not None), None)
