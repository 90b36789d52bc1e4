"""The addresses of leakage audits: what may be taken away, and what is reported. Reports hold figures, never rows."""

from __future__ import annotations

import math
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fedportal.common.api import Door, Text, Whole, limit_offset
from training import selectors
from training.api.shapes import Reference
from training.models import LeakageAudit
from training.services import audits

MOST_CASES, MOST_POINTS, MOST_PICTURES, MOST_SIDE = 12, 60, 12, 32
ATTACKS = ("ratios", "search", "informed", "classwise")
TELLING = ("loss", "gain", "update")
SUMS = ("plain", "secure", "grouped")
MECHANISMS = ("none", "central", "local", "distributed", "records")
CASES = ("open", "run", "masked", "sum", "noise")


class Number(serializers.FloatField):
    """A finite number."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, (int, float)) or not math.isfinite(data):
            self.fail("invalid")
        return float(data)


def _share() -> Number:
    return Number(min_value=0, max_value=1)


def _interval() -> serializers.ListField:
    return serializers.ListField(child=_share(), min_length=2, max_length=2)


def _pictures() -> serializers.ListField:
    pixels = serializers.ListField(child=Whole(min_value=0, max_value=16), max_length=MOST_SIDE**2)
    return serializers.ListField(child=pixels, max_length=MOST_PICTURES)


class GuardShape(serializers.Serializer[Any]):
    """How what was attacked was protected. `devices`: how many are in a sum."""

    sums = serializers.ChoiceField(SUMS)
    mechanism = serializers.ChoiceField(MECHANISMS)
    clip = Number(min_value=0)
    noise = Number(min_value=0)
    devices = Whole(min_value=1)
    codec = Text(max_length=20)


class InvertedShape(serializers.Serializer[Any]):
    """Rows sought in updates of one row each, in dB; `floor`: of the better guess without an update."""

    case = serializers.ChoiceField(CASES)
    guard = GuardShape()
    rows = Whole(min_value=1)
    attacks = serializers.DictField(child=Number())
    floor = Number()
    closest = Number()
    share = _share()
    told = Number(allow_null=True)

    def validate_attacks(self, value: dict[str, float]) -> dict[str, float]:
        if not value or not value.keys() <= set(ATTACKS):
            raise serializers.ValidationError(f"an attack is one of {', '.join(ATTACKS)}.")
        return value


class ToldShape(serializers.Serializer[Any]):
    """Rows that were trained on told from others. `found`: of them, at one false alarm in a hundred."""

    case = serializers.ChoiceField(CASES)
    attack = serializers.ChoiceField(TELLING)
    members = Whole(min_value=1)
    others = Whole(min_value=1)
    auc = _share()
    auc_interval = _interval()
    found = _share()
    found_interval = _interval()
    curve = serializers.ListField(child=_interval(), max_length=MOST_POINTS)


class PicturesShape(serializers.Serializer[Any]):
    """Square pictures of public rows, and what came back of them in each case; a number from 0 to 16 for each pixel."""

    side = Whole(min_value=2, max_value=MOST_SIDE)
    truth = _pictures()
    guesses = serializers.DictField(child=_pictures())

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        size, count = attrs["side"] ** 2, len(attrs["truth"])
        rows = [attrs["truth"], *attrs["guesses"].values()]
        if not attrs["guesses"].keys() <= set(CASES) or any(
            len(some) != count or any(len(one) != size for one in some) for some in rows
        ):
            raise serializers.ValidationError("pictures are not all of one size and number.")
        return attrs


class StoredShape(serializers.Serializer[Any]):
    """What came of the files that the portal stores of the organization's devices. PSNR of the row that is nearest to
    anything extracted: among those trained on, and among as many others; null where there were none."""

    updates = Whole(min_value=0)
    rounds = Whole(min_value=0)
    nearest = Number(allow_null=True)
    nearest_other = Number(allow_null=True)


class RowsShape(serializers.Serializer[Any]):
    source = serializers.ChoiceField(("digits", "made", "own"))
    count = Whole(min_value=1)


class ReportShape(serializers.Serializer[Any]):
    """What an audit came to. Pictures are of public rows only."""

    rows = RowsShape()
    round = Whole(min_value=1)
    sdk = Text(max_length=40)
    inversion = InvertedShape(many=True, max_length=MOST_CASES)
    membership = ToldShape(many=True, max_length=3 * MOST_CASES)
    pictures = PicturesShape(allow_null=True, default=None)
    stored = StoredShape(allow_null=True, default=None)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["rows"]["source"] != "digits" and attrs.get("pictures") is not None:
            raise serializers.ValidationError("only public digits have pictures.")
        return attrs


class LeakageAuditShape(serializers.Serializer[Any]):
    """A report with who made it, when, and whether it is of the organization's own rows."""

    at = serializers.DateTimeField(source="created_at")
    organization = Reference()
    own = serializers.BooleanField()
    report = serializers.DictField()


class LeakageAuditList(serializers.Serializer[Any]):
    audits = LeakageAuditShape(many=True)
    total = serializers.IntegerField()


class HeldShape(serializers.Serializer[Any]):
    """What may be taken away to attack it; the files are at `held/{digest}`."""

    run = serializers.CharField()
    architecture = serializers.DictField()
    strategy = serializers.CharField()
    parameters = serializers.DictField()
    codec = serializers.DictField(allow_null=True)
    privacy = serializers.DictField(allow_null=True)
    rounds = serializers.ListField(child=serializers.DictField())


class Leakage(Door):
    """/training/sessions/{run}/leakage"""

    @extend_schema(operation_id="training_sessions_leakage_list", responses=LeakageAuditList)
    def get(self, request: Request, run: str) -> Response:
        """The leakage audits of the run that you may see, newest first."""
        found: list[LeakageAudit]
        found, total = limit_offset(request, audits.of_run(self.actor, selectors.find_run(self.actor, run)))
        return Response({"audits": [shown(one) for one in found], "total": total})

    @extend_schema(request=ReportShape, responses={201: LeakageAuditShape})
    def post(self, request: Request, run: str) -> Response:
        """Report what an audit came to: figures, no rows."""
        found = selectors.find_run(self.actor, run)
        audits.allow(self.actor)
        return Response(shown(audits.report(self.actor, found, self.body(ReportShape))), status=201)


class Held(Door):
    """/training/sessions/{run}/held"""

    @extend_schema(responses=HeldShape)
    def get(self, request: Request, run: str) -> Response:
        """What the portal holds of your organization's devices in this run, to be attacked where the rows are."""
        return Response(audits.held(self.actor, selectors.find_run(self.actor, run)))


def shown(one: LeakageAudit) -> dict[str, Any]:
    """An audit as it travels."""
    organization = {"id": one.organization.public_id, "name": one.organization.name}
    return {"at": one.created_at.isoformat(), "organization": organization, "own": one.own, "report": one.report}
