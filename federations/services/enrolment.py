"""Enrolment: which members' devices are asked to take part, and of the others why not.

Two kinds of reasons. Some hold whatever devices are there: the agreement, the organization's policy on strategies. One
depends on how many devices of the organization would take part together, the disclosure floor of its policy. So
`rules` reads what stands in the rows, in two queries however many members there are, and `Rules.barred` decides when
the caller knows who is there; the upper floor counts devices, this one does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef

from federations.models import Acceptance, Agreement, Federation, Member
from federations.services import agreements
from fedportal.common import clock
from fedwire.states import MemberState


@dataclass(frozen=True)
class Rules:
    """What bars the members of a federation now; keys are primary keys of organizations, active members all."""

    refused: Mapping[int, str]  # the reason that holds however many devices are there
    floors: Mapping[int, int]  # the fewest devices that may take part together, where it is more than one
    names: Mapping[int, str]

    def barred(self, present: Mapping[int, int]) -> Mapping[int, str]:
        """Organization → one sentence, without its full stop, that says why its devices are not asked.

        `present`: how many devices of an organization could take part; who is left out has none.
        """
        few = {
            pk: f"{self.names[pk]} takes part with at least {least} devices and has {present.get(pk, 0)} there"
            for pk, least in self.floors.items()
            # An organization without any device there is missing, not barred.
            if pk not in self.refused and 0 < present.get(pk, 0) < least
        }
        return {**self.refused, **few} if few else self.refused


def barred(
    federation: Federation | int, *, strategy: str = "", present: Mapping[int, int] | None = None
) -> Mapping[int, str]:
    """Organization → why its devices are not asked to take part in a run with `strategy` ("": any).

    Without `present` the floors of policies are left out.
    """
    return rules(federation, strategy=strategy).barred(present or {})


def rules(federation: Federation | int, *, strategy: str = "", together: bool = True) -> Rules:
    """What bars the active members of the federation (or of the one with this primary key). Two queries.

    `together`: whether devices that are asked together also count together. Where they do not, an organization whose
    devices take part only with others of their own has no place.
    """
    federation_pk = federation if isinstance(federation, int) else federation.pk
    versions = Agreement.objects.filter(federation_id=federation_pk).order_by("-version")
    agreement = versions.values("pk", "version", "expires_at").first()
    rows = Member.objects.filter(federation_id=federation_pk, state=MemberState.ACTIVE).order_by("pk")
    columns = {
        "pk": "organization_id",
        "name": "organization__name",
        "least": "organization__policy__least_devices",
        "strategies": "organization__policy__allowed_strategies",
    }
    if agreement is not None:
        accepted = Acceptance.objects.filter(agreement=agreement["pk"], organization=OuterRef("organization_id"))
        rows = rows.annotate(accepted=Exists(accepted))
        columns["accepted"] = "accepted"
    found = [dict(zip(columns, row, strict=True)) for row in rows.values_list(*columns.values())]
    reasons = {row["pk"]: _reason(row, agreement, strategy, together) for row in found}
    return Rules(
        refused={pk: reason for pk, reason in reasons.items() if reason},
        floors={row["pk"]: row["least"] for row in found if together and (row["least"] or 0) > 1},
        names={row["pk"]: row["name"] for row in found},
    )


def _reason(row: Mapping[str, Any], agreement: Mapping[str, Any] | None, strategy: str, together: bool) -> str:
    if agreement is not None:
        expires_at = agreement["expires_at"]
        if expires_at is not None and expires_at <= clock.now():
            return f"the study agreement expired on {agreements.day(expires_at)}"
        if not row["accepted"]:
            return f"{row['name']} has not accepted version {agreement['version']} of the study agreement"
    if strategy and row["strategies"] and strategy not in row["strategies"]:
        return f"{row['name']} does not allow the strategy {strategy}"
    if not together and (row["least"] or 0) > 1:
        alone = f"{row['name']} takes part with at least {row['least']} devices together"
        return f"{alone}, which asynchronous rounds do not promise"
    return ""
