"""What the addresses of runs read and answer, as JSON. A run is called a session there, as clients know it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from fedportal.common.api import Text, Whole
from training.services import compression

# --- what comes in ---------------------------------------------------------------------------------------------------


class NewSession(serializers.Serializer[Any]):
    """POST /training/sessions. `min_devices` and `min_participants` are the same; privacy beyond "none" is refused."""

    model_id = Text(help_text="Id or name of the model.")
    federation_id = Text(required=False, allow_null=True, help_text="Id or name; needed if it is shared with several.")
    version = Text(required=False, allow_null=True, help_text="The version to start from; the latest by default.")
    group = Text(required=False, allow_null=True, allow_blank=True, help_text="Only devices with this label.")
    strategy = Text(required=False, allow_null=True)
    rounds = Whole()
    min_devices = Whole(required=False, allow_null=True)
    min_participants = Whole(required=False, allow_null=True)
    round_seconds = Whole(required=False, allow_null=True)
    mode = Text(required=False, allow_null=True, help_text="cross_silo asks everybody, cross_device a sample.")
    sample = serializers.JSONField(
        required=False, allow_null=True, help_text="Devices a round asks: a whole number, or a fraction with a point."
    )
    quota = Whole(required=False, allow_null=True, help_text="At least so many devices of each organization.")
    cap = Whole(required=False, allow_null=True, help_text="At most so many devices of each organization.")
    over_selection = serializers.FloatField(
        required=False, allow_null=True, help_text="So many times the minimum is asked."
    )
    stragglers = Text(required=False, allow_null=True, help_text="wait, cut or grace.")
    grace_seconds = Whole(required=False, allow_null=True, help_text="After the quorum, for the others.")
    schedule = Text(required=False, allow_null=True, help_text="synchronous or asynchronous.")
    buffer = Whole(required=False, allow_null=True, help_text="Asynchronous: answers a model is made of.")
    most_staleness = Whole(
        required=False, allow_null=True, help_text="Asynchronous: how many models old a start may be."
    )
    staleness_exponent = serializers.FloatField(
        required=False, allow_null=True, help_text="Asynchronous: an answer counts (1 + staleness) to minus this."
    )
    config = serializers.DictField(required=False, allow_null=True)
    privacy = Text(required=False, allow_null=True)
    epsilon = serializers.FloatField(required=False, allow_null=True)


class NewSchedule(serializers.Serializer[Any]):
    """POST /training/sessions/{run}/schedule. What is left out stays as it is."""

    schedule = Text(help_text="synchronous or asynchronous.")
    buffer = Whole(required=False, allow_null=True, help_text="Answers a model is made of.")
    most_staleness = Whole(required=False, allow_null=True, help_text="How many models old a start may be.")
    staleness_exponent = serializers.FloatField(
        required=False, allow_null=True, help_text="An answer counts (1 + staleness) to minus this."
    )


# --- what goes out ---------------------------------------------------------------------------------------------------


class Reference(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()


class PlanShape(serializers.Serializer[Any]):
    """Whom a round asks and when it closes; `sentence` says it in words."""

    mode = serializers.CharField()
    sample = serializers.FloatField(allow_null=True)
    quota = serializers.IntegerField()
    cap = serializers.IntegerField()
    over_selection = serializers.FloatField()
    stragglers = serializers.CharField()
    grace_seconds = serializers.IntegerField()
    schedule = serializers.CharField()
    buffer = serializers.IntegerField()
    most_staleness = serializers.IntegerField()
    staleness_exponent = serializers.FloatField()
    sentence = serializers.CharField()


class SessionShape(serializers.Serializer[Any]):
    """A run by itself."""

    session_id = serializers.CharField()
    id = serializers.CharField()
    name = serializers.CharField(allow_blank=True)
    status = serializers.CharField()
    model_id = serializers.CharField()
    model = Reference()
    federation = Reference()
    organization = Reference()
    state = serializers.CharField()
    word = serializers.CharField()
    strategy = serializers.CharField()
    config = serializers.DictField()
    current_round = serializers.IntegerField()
    total_rounds = serializers.IntegerField()
    min_participants = serializers.IntegerField()
    round_seconds = serializers.IntegerField()
    group = serializers.CharField(allow_blank=True)
    plan = PlanShape()
    reason = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    base_version = serializers.CharField()
    result_version = serializers.CharField(allow_null=True)
    best_round = serializers.IntegerField(allow_null=True)
    best_loss = serializers.FloatField(allow_null=True)
    best_value = serializers.FloatField(allow_null=True)
    progress = serializers.FloatField()


class SessionList(serializers.Serializer[Any]):
    sessions = SessionShape(many=True)
    total = serializers.IntegerField()


class ExpectedShape(serializers.Serializer[Any]):
    """An organization of the federation: its devices in the group, how many are there, how many are expected to
    be asked, and how many of those to answer."""

    organization = Reference()
    state = serializers.CharField()
    devices = serializers.IntegerField()
    present = serializers.IntegerField()
    expected = serializers.IntegerField()
    answering = serializers.FloatField()
    reason = serializers.CharField(allow_blank=True)
    last_seen_at = serializers.DateTimeField(allow_null=True)


class ProblemShape(serializers.Serializer[Any]):
    """Something in the way. An `error` keeps the run from starting, a `warning` does not."""

    level = serializers.ChoiceField(choices=["error", "warning"])
    code = serializers.CharField()
    field = serializers.CharField(allow_blank=True)
    message = serializers.CharField()
    next_step = serializers.CharField(allow_blank=True)


class PreviewShape(serializers.Serializer[Any]):
    """What starting a run would do. `ok`: whether it would start at all."""

    ok = serializers.BooleanField()
    sentence = serializers.CharField()
    expected = serializers.IntegerField()
    need = serializers.IntegerField()
    plan = serializers.CharField()
    federation = Reference(allow_null=True)
    version = serializers.CharField(allow_null=True)
    settings = serializers.DictField()
    organizations = ExpectedShape(many=True)
    problems = ProblemShape(many=True)


class SnapshotShape(serializers.Serializer[Any]):
    """Everything the run's page shows; `sequence` is the number of the last event it contains."""

    run = serializers.DictField()
    sequence = serializers.IntegerField()
    round = serializers.DictField(allow_null=True)
    participants = serializers.ListField(child=serializers.DictField())
    tally = serializers.DictField()
    barred = serializers.ListField(child=serializers.DictField())
    label = serializers.DictField(help_text="What is protected from whom; see /training/sessions/{run}/label.")
    preflight = serializers.ListField(child=serializers.DictField())
    contributions = serializers.ListField(child=serializers.DictField())
    curves = serializers.ListField(child=serializers.DictField())
    names = serializers.DictField(child=serializers.CharField())
    best_version = serializers.CharField(allow_null=True)
    flagged = serializers.ListField(child=serializers.DictField())
    manages = serializers.CharField(allow_blank=True)
    actions = serializers.DictField(child=serializers.BooleanField())
    paused = serializers.DictField(allow_null=True)


class RoundShape(serializers.Serializer[Any]):
    """One attempt of a round. `metrics` are those of the model it began with."""

    number = serializers.IntegerField()
    attempt = serializers.IntegerField()
    kind = serializers.CharField()
    state = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    opened_at = serializers.DateTimeField()
    deadline = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    digest = serializers.CharField(allow_blank=True)
    sha256 = serializers.CharField(allow_blank=True, source="result_blob")
    bytes_up = serializers.IntegerField()
    bytes_down = serializers.IntegerField()
    bytes_plain = serializers.IntegerField(help_text="What the updates would have taken as float32.")
    ratio = serializers.SerializerMethodField(help_text="bytes_plain / bytes_up: how well updates were compressed.")
    metrics = serializers.DictField()
    drift = serializers.FloatField(allow_null=True)
    asynchronous = serializers.BooleanField()
    staleness = serializers.DictField(help_text="How many of its answers began from a model so many rounds older.")

    def get_ratio(self, row: dict[str, Any]) -> float | None:
        return compression.ratio(row["bytes_plain"], row["bytes_up"])


class RoundList(serializers.Serializer[Any]):
    rounds = RoundShape(many=True)
    total = serializers.IntegerField()


class EventShape(serializers.Serializer[Any]):
    sequence = serializers.IntegerField()
    kind = serializers.CharField()
    at = serializers.DateTimeField()
    text = serializers.CharField()
    data = serializers.DictField()


class EventList(serializers.Serializer[Any]):
    """Events after a number, in order. `more`: whether there are further ones."""

    events = EventShape(many=True)
    more = serializers.BooleanField()


class StatusShape(serializers.Serializer[Any]):
    """How the model's current or last run stands. Accuracy is a fraction from 0 to 1."""

    session_id = serializers.CharField()
    id = serializers.CharField()
    model_id = serializers.CharField()
    status = serializers.CharField()
    current_round = serializers.IntegerField()
    total_rounds = serializers.IntegerField()
    active_devices = serializers.IntegerField()
    loss = serializers.FloatField(allow_null=True)
    accuracy = serializers.FloatField(allow_null=True)
    auc = serializers.FloatField(allow_null=True)
    personal = serializers.DictField(allow_null=True, help_text="The same of devices' own models; null without any.")
    devices = serializers.DictField(
        allow_null=True, help_text="Of the common model and of own models: mean over devices, worst device."
    )
    trend = serializers.ListField(child=serializers.DictField())
    contributions = serializers.ListField(child=serializers.DictField())
    waiting = serializers.DictField(allow_null=True)
    barred = serializers.ListField(child=serializers.DictField())
    reason = serializers.CharField(allow_blank=True)
    result_version = serializers.CharField(allow_null=True)


class StoppedShape(serializers.Serializer[Any]):
    session_id = serializers.CharField()
    id = serializers.CharField()
    status = serializers.CharField()
    last_round = serializers.IntegerField()
    reason = serializers.CharField()


class PublishedShape(serializers.Serializer[Any]):
    """The version that holds the model of a run's best round."""

    id = serializers.CharField()
    round = serializers.IntegerField()
    version = serializers.CharField()
    version_id = serializers.CharField()
    digest = serializers.CharField()


class StrategyShape(serializers.Serializer[Any]):
    """A strategy: what it computes, from which paper, and its parameters."""

    name = serializers.CharField()
    title = serializers.CharField()
    formula = serializers.CharField()
    paper = serializers.CharField()
    parameters = serializers.ListField(child=serializers.DictField())
    needs_individual_updates = serializers.BooleanField()
    needs_device_state = serializers.BooleanField()
    personal = serializers.BooleanField(help_text="Whether each device has a model of its own.")
    local = serializers.DictField(allow_null=True, help_text="The pattern that says what stays on the devices.")
    schedules = serializers.ListField(child=serializers.CharField())


class StrategyList(serializers.Serializer[Any]):
    strategies = StrategyShape(many=True)
