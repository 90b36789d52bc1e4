"""What the addresses of experiments read and answer, as JSON. Percentages are of devices; rates are from 0 to 1."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from fedportal.common.api import Named, Text, Truth, Whole
from fedwire.states import ExperimentState, word
from registry import experiment_selectors as selectors
from registry.delivery.conclusions import Conclusion, Measure
from registry.models import Experiment
from registry.services import arms

# --- what comes in ---------------------------------------------------------------------------------------------------


class NewExperiment(serializers.Serializer[Any]):
    """POST /experiments. Without `control_version` that of the last completed rollout, without `group` all devices."""

    model_id = Text(help_text="Its id or name.")
    treatment_version = Text()
    control_version = Text(required=False)
    name = Text(required=False, allow_blank=True)
    treatment_percentage = serializers.FloatField(required=False, help_text="Of the devices: above 0 and below 100.")
    group = Text(required=False, allow_blank=True)
    federation = Text(required=False, allow_blank=True, help_text="Its members may join; its id or name.")
    metric = serializers.ChoiceField(Experiment.Metric.choices, required=False)
    planned = Whole(required=False, help_text="Observations in each arm, at which the intervals are the narrowest.")
    start_immediately = Truth(required=False)
    window_seconds = Whole(required=False)
    least = Whole(required=False, help_text="Fewer predictions say nothing of an arm's health.")
    error_rate = serializers.FloatField(required=False)
    latency_ms = serializers.FloatField(required=False)
    accuracy = serializers.FloatField(required=False)
    auto_stop = Truth(required=False)


class Joined(serializers.Serializer[Any]):
    """POST /experiments/{experiment}/join. Without `group` with all devices."""

    group = Text(required=False, allow_blank=True)


class Why(serializers.Serializer[Any]):
    """POST /experiments/{experiment}/stop."""

    reason = Text(required=False, allow_blank=True)


class Chosen(serializers.Serializer[Any]):
    """POST /experiments/{experiment}/promote. Without `arm` the one that was found better."""

    arm = serializers.ChoiceField(["control", "treatment"], required=False)
    rollout_percentage = serializers.FloatField(required=False)


# --- what goes out ---------------------------------------------------------------------------------------------------


class ExperimentShape(serializers.Serializer[Experiment]):
    """An experiment, with the number of its devices by arm."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    model_id = serializers.CharField(source="model.public_id")
    model_name = serializers.CharField(source="model.name")
    control_version = serializers.CharField(source="control.version")
    treatment_version = serializers.CharField(source="treatment.version")
    treatment_percentage = serializers.SerializerMethodField()
    group = serializers.CharField(source="group_name")
    federation_id = serializers.CharField(source="federation.public_id", default=None, allow_null=True)
    lead_id = serializers.CharField(source="lead.public_id", default=None, allow_null=True)
    metric = serializers.CharField()
    planned = serializers.IntegerField()
    status = serializers.ChoiceField([(state, state) for state in ExperimentState], source="state")
    words = serializers.SerializerMethodField(help_text="The status as people read it.")
    devices = serializers.SerializerMethodField(help_text="Arm → how many devices are in it.")
    winner = serializers.CharField(help_text='"control", "treatment" or "": the arm that was found better.')
    winning_version = serializers.SerializerMethodField()
    rollout_id = serializers.SerializerMethodField(help_text="What it was promoted into.")
    auto_stop = serializers.BooleanField()
    error_rate = serializers.FloatField(allow_null=True)
    latency_ms = serializers.FloatField(allow_null=True)
    accuracy = serializers.FloatField(allow_null=True)
    least = serializers.IntegerField()
    window_seconds = serializers.IntegerField()
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    found_at = serializers.DateTimeField(allow_null=True)
    crossed_at = serializers.DateTimeField(allow_null=True)
    stopped_at = serializers.DateTimeField(allow_null=True)
    restored_at = serializers.DateTimeField(allow_null=True)
    promoted_at = serializers.DateTimeField(allow_null=True)

    def get_treatment_percentage(self, experiment: Experiment) -> float:
        return experiment.share / 100

    def get_words(self, experiment: Experiment) -> str:
        return word("experiment", experiment.state)

    def get_devices(self, experiment: Experiment) -> dict[str, int]:
        return selectors.members_by_arm(experiment)

    def get_winning_version(self, experiment: Experiment) -> str | None:
        return experiment.version_of(experiment.winner).version if experiment.winner else None

    def get_rollout_id(self, experiment: Experiment) -> str | None:
        return selectors.promoted_into(experiment)


class ExperimentList(serializers.Serializer[Any]):
    experiments = ExperimentShape(many=True)
    total = serializers.IntegerField()


class OfferShape(serializers.Serializer[Experiment]):
    """An experiment of another organization that one may join: its plan, none of its numbers."""

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    organization = Named()
    federation = Named()
    model_id = serializers.CharField(source="model.public_id")
    model_name = serializers.CharField(source="model.name")
    control_version = serializers.CharField(source="control.version")
    treatment_version = serializers.CharField(source="treatment.version")
    treatment_percentage = serializers.SerializerMethodField()
    metric = serializers.CharField()
    planned = serializers.IntegerField()

    def get_treatment_percentage(self, experiment: Experiment) -> float:
        return experiment.share / 100


class OfferList(serializers.Serializer[Any]):
    experiments = OfferShape(many=True)
    total = serializers.IntegerField()


class MeasureShape(serializers.Serializer[Measure]):
    """A metric in one arm; the interval covers the true one at all looks together."""

    devices = serializers.IntegerField(help_text="That have reported.")
    count = serializers.IntegerField()
    estimate = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)


class DifferenceShape(serializers.Serializer[Any]):
    """Treatment less control. `p` is a p-value that holds however often one looks."""

    estimate = serializers.FloatField()
    low = serializers.FloatField()
    high = serializers.FloatField()
    p = serializers.FloatField()


class ConclusionShape(serializers.Serializer[Conclusion]):
    """What one metric says."""

    metric = serializers.CharField()
    control = MeasureShape()
    treatment = MeasureShape()
    difference = DifferenceShape(allow_null=True)
    better = serializers.CharField(help_text='"control", "treatment" or "".')


class ResultsShape(serializers.Serializer[Experiment]):
    """What may be concluded now. The experiment's own metric decides; the others are shown beside it."""

    id = serializers.CharField(source="public_id")
    status = serializers.CharField(source="state")
    winner = serializers.CharField()
    organizations = serializers.SerializerMethodField(help_text="How many run it together; the numbers are of all.")
    sentence = serializers.SerializerMethodField()
    conclusion = serializers.SerializerMethodField()
    others = serializers.SerializerMethodField()
    installations = serializers.SerializerMethodField(help_text="Arm → state of the installation → how many devices.")

    def get_organizations(self, experiment: Experiment) -> int:
        return selectors.organizations(experiment)

    def get_sentence(self, experiment: Experiment) -> str:
        return selectors.sentence(experiment, arms.conclusion(experiment))

    def get_conclusion(self, experiment: Experiment) -> Any:
        return ConclusionShape(arms.conclusion(experiment)).data

    def get_others(self, experiment: Experiment) -> Any:
        others = [metric for metric in Experiment.Metric.values if metric != experiment.metric]
        return ConclusionShape([arms.conclusion(experiment, metric) for metric in others], many=True).data

    def get_installations(self, experiment: Experiment) -> dict[str, dict[str, int]]:
        return selectors.devices_by_arm(experiment)
