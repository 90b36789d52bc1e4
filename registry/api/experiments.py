"""Experiments' addresses: parse, call one service, render."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from federations import selectors as places
from fedportal.common.api import Door, limit_offset
from registry import experiment_selectors, selectors
from registry.api import experiment_shapes as shapes
from registry.api import rollout_shapes
from registry.api.percentages import group, share
from registry.api.views import PAGE
from registry.models import Experiment
from registry.services import experiments, joint

PLAIN = ("name", "metric", "planned", "auto_stop", *experiments.LIMITS)


class Experiments(Door):
    """/experiments"""

    @extend_schema(
        operation_id="experiments_list",
        parameters=[*PAGE, OpenApiParameter("model", str, description="Only those with this model.")],
        responses=shapes.ExperimentList,
    )
    def get(self, request: Request) -> Response:
        """The experiments on your organization's devices, newest first."""
        model = request.query_params.get("model")
        chosen = selectors.find_model(self.actor, model) if model else None
        rows: list[Experiment]
        rows, total = limit_offset(request, experiment_selectors.experiments_of(self.actor, chosen))
        return Response({"experiments": shapes.ExperimentShape(rows, many=True).data, "total": total})

    @extend_schema(request=shapes.NewExperiment, responses={201: shapes.ExperimentShape})
    def post(self, request: Request) -> Response:
        """Plan an experiment between two versions of a model on your devices; it starts by itself if you say so."""
        said = self.body(shapes.NewExperiment)
        model = selectors.find_model(self.actor, said["model_id"])
        control = said.get("control_version")
        experiment = experiments.create(
            self.actor,
            selectors.find_version(model, said["treatment_version"]),
            control=selectors.find_version(model, control) if control else None,
            share=share(said.get("treatment_percentage", 50.0), "treatment_percentage"),
            group=group(self.actor, said.get("group", "")),
            federation=places.find_federation(self.actor, said["federation"]) if said.get("federation") else None,
            start_now=said.get("start_immediately", False),
            **{name: said[name] for name in PLAIN if name in said},
        )
        return Response(_one(experiment), status=201)


class Offered(Door):
    """/experiments/offered"""

    @extend_schema(operation_id="experiments_offered", parameters=PAGE, responses=shapes.OfferList)
    def get(self, request: Request) -> Response:
        """The running experiments of federations that you may join with your own devices."""
        rows: list[Experiment]
        rows, total = limit_offset(request, experiment_selectors.offered(self.actor))
        return Response({"experiments": shapes.OfferShape(rows, many=True).data, "total": total})


class Join(Door):
    """/experiments/{experiment}/join"""

    @extend_schema(request=shapes.Joined, responses={201: shapes.ExperimentShape})
    def post(self, request: Request, experiment: str) -> Response:
        """Take part with your own devices: an experiment of your own with the same plan, begun at once."""
        found = experiment_selectors.find_offered(self.actor, experiment)
        wanted = group(self.actor, self.body(shapes.Joined).get("group", ""))
        return Response(_one(joint.join(self.actor, found, wanted)), status=201)


class OneExperiment(Door):
    """/experiments/{experiment}"""

    @extend_schema(responses=shapes.ExperimentShape)
    def get(self, request: Request, experiment: str) -> Response:
        """An experiment: its arms, and how many devices are in each."""
        return Response(_one(experiment_selectors.find_experiment(self.actor, experiment)))


class Results(Door):
    """/experiments/{experiment}/results"""

    @extend_schema(responses=shapes.ResultsShape)
    def get(self, request: Request, experiment: str) -> Response:
        """What may be concluded now; look as often as you like."""
        return Response(shapes.ResultsShape(experiment_selectors.find_experiment(self.actor, experiment)).data)


class Start(Door):
    """/experiments/{experiment}/start"""

    @extend_schema(request=None, responses=shapes.ExperimentShape)
    def post(self, request: Request, experiment: str) -> Response:
        """Give every device its arm, and the arm's version."""
        found = experiment_selectors.find_experiment(self.actor, experiment)
        return Response(_one(experiments.start(self.actor, found)))


class Stop(Door):
    """/experiments/{experiment}/stop"""

    @extend_schema(request=shapes.Why, responses=shapes.ExperimentShape)
    def post(self, request: Request, experiment: str) -> Response:
        """Return every device to what it had before; once, however often it is asked for."""
        found = experiment_selectors.find_experiment(self.actor, experiment)
        return Response(_one(experiments.stop(self.actor, found, self.body(shapes.Why).get("reason", ""))))


class Promote(Door):
    """/experiments/{experiment}/promote"""

    @extend_schema(request=shapes.Chosen, responses={201: rollout_shapes.RolloutShape})
    def post(self, request: Request, experiment: str) -> Response:
        """Send the better version, or that of `arm`, to all devices: one rollout, however often it is asked for."""
        said = self.body(shapes.Chosen)
        found = experiment_selectors.find_experiment(self.actor, experiment)
        wanted = share(said.get("rollout_percentage", 100.0))
        rollout = experiments.promote(self.actor, found, said.get("arm", ""), share=wanted)
        return Response(rollout_shapes.RolloutShape(rollout).data, status=201)


def _one(experiment: Experiment) -> Any:
    return shapes.ExperimentShape(experiment).data
