"""What the addresses of rollouts read and answer, as JSON. Percentages are of devices, limits as in `Rollout`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from fedportal.common.api import Text, Truth, Whole
from fedwire.states import RolloutState, word
from registry import selectors
from registry.models import Rollout
from registry.services import gatekeeping

MOST_FAILURES = 20

# --- what comes in ---------------------------------------------------------------------------------------------------


class Step(serializers.Serializer[Any]):
    """A step of a schedule: this percentage for at least so long."""

    percentage = serializers.FloatField()
    wait_seconds = Whole(default=0)


class NewRollout(serializers.Serializer[Any]):
    """POST /models/{model}/rollouts. Without `version` the latest, without `group` all devices."""

    version = Text(required=False)
    rollout_percentage = serializers.FloatField(required=False)
    target_percentage = serializers.FloatField(required=False)
    increment_step = serializers.FloatField(required=False)
    start_immediately = Truth(required=False)
    group = Text(required=False, allow_blank=True)
    schedule = Step(many=True, required=False)
    window_seconds = Whole(required=False)
    least = Whole(required=False, help_text="Fewer predictions say nothing.")
    error_rate = serializers.FloatField(required=False)
    latency_ms = serializers.FloatField(required=False)
    accuracy = serializers.FloatField(required=False)
    auto_rollback = Truth(required=False)


class Share(serializers.Serializer[Any]):
    """POST /rollouts/{rollout}/set."""

    rollout_percentage = serializers.FloatField()


class Back(serializers.Serializer[Any]):
    """POST …/rollback."""

    version = Text(required=False)
    reason = Text(required=False, allow_blank=True)


class Reports(serializers.Serializer[Any]):
    """POST /devices/{device}/health: {batch, model, version, count, errors, latencies, judged, right} each."""

    reports = serializers.ListField(child=serializers.DictField(), help_text="At most 100.")


# --- what goes out ---------------------------------------------------------------------------------------------------


class Taken(serializers.Serializer[Any]):
    """How many reports were new."""

    new = serializers.IntegerField()


class Failure(serializers.Serializer[Any]):
    """A device that could not do what the rollout wants, and why."""

    id = serializers.CharField(source="device.public_id")
    identifier = serializers.CharField(source="device.identifier")
    reason = serializers.CharField(source="error")


class RolloutShape(serializers.Serializer[Rollout]):
    """A rollout, with the number of its devices by state and what was seen in its window."""

    id = serializers.CharField(source="public_id")
    model_id = serializers.CharField(source="model.public_id")
    model_name = serializers.CharField(source="model.name")
    version = serializers.CharField(source="version.version")
    previous_version = serializers.CharField(source="previous_version.version", default=None, allow_null=True)
    group = serializers.CharField(source="group_name")
    status = serializers.ChoiceField([(state, state) for state in RolloutState], source="state")
    words = serializers.SerializerMethodField(help_text="The status as people read it.")
    rollout_percentage = serializers.SerializerMethodField()
    target_percentage = serializers.SerializerMethodField()
    increment_step = serializers.SerializerMethodField()
    schedule = serializers.SerializerMethodField()
    is_rollback = serializers.BooleanField()
    devices = serializers.SerializerMethodField(help_text="State of the installation → how many devices.")
    outstanding = serializers.SerializerMethodField(help_text="Devices in use that have not answered yet.")
    failures = serializers.SerializerMethodField(help_text="Devices that failed, the first 20.")
    health = serializers.SerializerMethodField()
    gate = serializers.SerializerMethodField(
        help_text='Why no further device gets the version: "gate_failed", "gate_unjudged", or "" for nothing.'
    )
    auto_rollback = serializers.BooleanField()
    error_rate = serializers.FloatField(allow_null=True)
    latency_ms = serializers.FloatField(allow_null=True)
    accuracy = serializers.FloatField(allow_null=True)
    least = serializers.IntegerField()
    window_seconds = serializers.IntegerField()
    reason = serializers.CharField()
    crossed_at = serializers.DateTimeField(allow_null=True)
    rolled_back_at = serializers.DateTimeField(allow_null=True)
    restored_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()

    def get_words(self, rollout: Rollout) -> str:
        return word("rollout", rollout.state)

    def get_rollout_percentage(self, rollout: Rollout) -> float:
        return rollout.share / 100

    def get_target_percentage(self, rollout: Rollout) -> float:
        return rollout.target / 100

    def get_increment_step(self, rollout: Rollout) -> float:
        return rollout.increment / 100

    def get_schedule(self, rollout: Rollout) -> list[dict[str, float]]:
        return [{"percentage": share / 100, "wait_seconds": wait} for share, wait in rollout.steps]

    def get_devices(self, rollout: Rollout) -> dict[str, int]:
        return selectors.installed_by_state(rollout)

    def get_outstanding(self, rollout: Rollout) -> int:
        return selectors.outstanding(rollout)

    @extend_schema_field(Failure(many=True))
    def get_failures(self, rollout: Rollout) -> Any:
        return Failure(selectors.failures(rollout)[:MOST_FAILURES], many=True).data

    def get_health(self, rollout: Rollout) -> dict[str, Any]:
        return selectors.health_of(rollout)

    def get_gate(self, rollout: Rollout) -> str:
        return gatekeeping.standing(rollout.version).code


class RolloutList(serializers.Serializer[Any]):
    rollouts = RolloutShape(many=True)
    total = serializers.IntegerField()
