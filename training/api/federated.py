"""The addresses of sessions as other federated-learning clients know them: an adapter on runs, see `training.sessions`.

Such clients are served with the names they send and read; everything a session can do is a run's doing.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from federations.selectors import find_federation
from fedportal.common.api import Door, Text, Whole, limit_offset
from registry.selectors import find_by_alias
from training import selectors, sessions
from training.models import Run
from training.services import runs

PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most this many (50, at most 200)."),
    OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out this many."),
]


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "integer"}]})
class Workload(serializers.Field[Any, Any, Any, Any]):
    """A model: its id or name as text, or its alias as a whole number."""

    def to_internal_value(self, data: Any) -> str | int:
        if isinstance(data, bool) or not isinstance(data, (str, int)) or not str(data).strip():
            raise serializers.ValidationError("it must be the id, the name or the alias of a model.")
        if isinstance(data, int) and not 0 <= data < 10**18:
            raise serializers.ValidationError("no model has such an alias.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class SessionConfig(serializers.Serializer[Any]):
    """How it trains. `dp_sigma` above 0 and `secure_aggregation` are refused: no run gives them yet."""

    algorithm = serializers.ChoiceField(choices=list(sessions.ALGORITHMS), required=False, allow_null=True)
    local_epochs = Whole(required=False, allow_null=True)
    learning_rate = serializers.FloatField(required=False, allow_null=True)
    batch_size = Whole(required=False, allow_null=True)
    min_participants = Whole(required=False, allow_null=True)
    proximal_mu = serializers.FloatField(required=False, allow_null=True, help_text="Of fed_prox.")
    dp_sigma = serializers.FloatField(required=False, allow_null=True)
    secure_aggregation = serializers.BooleanField(required=False, allow_null=True)


class NewFederatedSession(serializers.Serializer[Any]):
    """POST /federated/sessions."""

    name = Text(help_text="What the session is called beside its model.")
    base_workload_id = Workload(help_text="Id, name or whole-number alias of the model.")
    total_rounds = Whole()
    config = serializers.DictField(required=False, allow_null=True, help_text="See SessionConfig of the answer.")
    federation = Text(required=False, allow_null=True, help_text="Id or name; needed if the model is in several.")


class ParticipantShape(serializers.Serializer[Any]):
    """A device that has or had a part. Rounds and rows are those that count in closed training rounds."""

    host_id = serializers.CharField()
    name = serializers.CharField()
    organization_id = serializers.CharField()
    status = serializers.CharField(help_text="selected, training, gradient_sent, declined, late or dropped.")
    rounds_completed = serializers.IntegerField()
    total_samples = serializers.IntegerField()
    last_seen_at = serializers.DateTimeField(allow_null=True)


class FederatedSessionShape(serializers.Serializer[Any]):
    """A session by itself."""

    id = serializers.CharField(help_text="The run's id: /training/sessions/{id} tells more.")
    name = serializers.CharField()
    status = serializers.CharField(help_text="pending, running, paused, completed, failed or cancelled.")
    current_round = serializers.IntegerField(help_text="Training rounds closed.")
    total_rounds = serializers.IntegerField()
    reason = serializers.CharField(allow_blank=True, help_text="Why it failed or was cancelled.")
    base_workload_id = serializers.CharField()
    result_version = serializers.CharField(allow_null=True)
    federation = serializers.DictField(child=serializers.CharField())
    config = SessionConfig()
    created_at = serializers.DateTimeField()


class FederatedSessionInFullShape(FederatedSessionShape):
    """A session with its participants, the first 1,000 of `participant_count`."""

    participant_count = serializers.IntegerField()
    participants = ParticipantShape(many=True)


class FederatedSessionList(serializers.Serializer[Any]):
    sessions = FederatedSessionShape(many=True)
    total = serializers.IntegerField()


class FederatedSessions(Door):
    """/federated/sessions"""

    @extend_schema(operation_id="federated_sessions_list", parameters=PAGE, responses=FederatedSessionList)
    def get(self, request: Request) -> Response:
        """The sessions you may see, newest first, without their participants."""
        found: list[Run]
        found, total = limit_offset(request, selectors.runs_for(self.actor))
        return Response({"sessions": [sessions.told(run) for run in found], "total": total})

    @extend_schema(request=NewFederatedSession, responses={201: FederatedSessionInFullShape})
    def post(self, request: Request) -> Response:
        """Start training a model, in the vocabulary of sessions. In which federation follows where there is one."""
        said = self.body(NewFederatedSession)
        model = find_by_alias(self.actor, said["base_workload_id"])
        reference = said.get("federation")
        federation = find_federation(self.actor, reference) if reference else None
        wish = sessions.wanted({**said, "config": said.get("config") or {}})
        run = runs.start(self.actor, model, federation=federation or sessions.federation_of(self.actor, model), **wish)
        return Response(sessions.in_full(selectors.find_run(self.actor, run.public_id)), status=201)


class OneFederatedSession(Door):
    """/federated/sessions/{run}"""

    @extend_schema(responses=FederatedSessionInFullShape)
    def get(self, request: Request, run: str) -> Response:
        """A session with its participants."""
        return Response(sessions.in_full(selectors.find_run(self.actor, run)))
