"""What the addresses of gates read and answer, as JSON."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from fedportal.common.api import Named, Text, Truth, Whole
from registry.delivery import gates
from registry.models import GateOverride, GatePolicy, GateReport

# --- what comes in ---------------------------------------------------------------------------------------------------


class NewLimits(serializers.Serializer[Any]):
    """PUT /models/{model}/gate: all the limits there are to be; what is left out is not looked at."""

    metric = serializers.ChoiceField(list(gates.METRICS), required=False)
    quality = serializers.FloatField(
        required=False, allow_null=True, help_text="The least accuracy or AUC, or the most loss, on held-out rows."
    )
    gap = serializers.FloatField(
        required=False, allow_null=True, help_text="How far the worst organization may be behind all rows together."
    )
    drift = serializers.FloatField(
        required=False,
        allow_null=True,
        help_text="L2 distance of the weights from those that are rolled out, in parts of the length of these.",
    )
    cosine = serializers.FloatField(
        required=False, allow_null=True, help_text="One less the cosine between the weights and those rolled out."
    )
    size = Whole(required=False, allow_null=True, help_text="Bytes of its file.")
    latency = serializers.FloatField(
        required=False, allow_null=True, help_text="Milliseconds for a batch of 32 rows, on the portal's machine."
    )


class Again(serializers.Serializer[Any]):
    """POST …/gate."""

    remeasure = Truth(required=False, help_text="Also measure the time anew; it is kept otherwise.")


class Reason(serializers.Serializer[Any]):
    """POST …/gate/override."""

    reason = Text(help_text="Why this version goes to devices all the same; it stands in the audit log.")


# --- what goes out ---------------------------------------------------------------------------------------------------


class GatePolicyShape(serializers.Serializer[GatePolicy]):
    """What versions of a model must pass before they go to devices. Revision 0: nobody ever set anything."""

    model_id = serializers.CharField(source="model.public_id")
    revision = serializers.IntegerField()
    metric = serializers.CharField()
    quality = serializers.FloatField(allow_null=True)
    gap = serializers.FloatField(allow_null=True)
    drift = serializers.FloatField(allow_null=True)
    cosine = serializers.FloatField(allow_null=True)
    size = serializers.IntegerField(allow_null=True)
    latency = serializers.FloatField(allow_null=True)
    changed_at = serializers.DateTimeField()


class CheckShape(serializers.Serializer[Any]):
    """A limit and what was found out. `outcome`: passed, failed or unknown. A `figure` can be null with a `reason`."""

    name = serializers.CharField()
    title = serializers.CharField()
    figure = serializers.FloatField(allow_null=True)
    bound = serializers.CharField(help_text='Which way the limit limits: "at least" or "at most".')
    limit = serializers.FloatField()
    outcome = serializers.ChoiceField(["passed", "failed", "unknown"])
    reason = serializers.CharField()


class OverrideShape(serializers.Serializer[GateOverride]):
    """That a version was let through. Who did is told to the organization that owns the model."""

    revision = serializers.IntegerField()
    reason = serializers.CharField()
    at = serializers.DateTimeField()
    by = Named(allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)


class GateReportShape(serializers.Serializer[Any]):
    """Where a version stands with the gate of its model. `open`: it may go to devices."""

    model_id = serializers.CharField()
    version = serializers.CharField()
    open = serializers.BooleanField()
    state = serializers.ChoiceField(["none", *GateReport.State.values], help_text="none: there are no limits.")
    reason = serializers.CharField(help_text="Why it may not go to devices.")
    revision = serializers.IntegerField(allow_null=True)
    checks = CheckShape(many=True)
    against = serializers.CharField(allow_null=True, help_text="The version that drift is the distance from.")
    judged_at = serializers.DateTimeField(allow_null=True)
    overrides = OverrideShape(many=True, help_text="Newest first; at most one holds.")
