"""What happens is told to those who want to hear it: people by letter, programs by webhook.

`tell` is called inside the unit of what it tells of, so that nothing is told of what did not happen. `KINDS` is the
literal table of what can be told, to which roles, and whether by letter unless they chose otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from federations.models import Membership, Organization, Role
from federations.services import letters

EVERYONE = frozenset(Role)
LEADS = frozenset({Role.OWNER, Role.ADMIN})
TRAINERS = frozenset({Role.OWNER, Role.DATA_SCIENTIST})
OPERATORS = frozenset({Role.OWNER, Role.ADMIN, Role.DEVICE_OPERATOR})
OFFICERS = frozenset({Role.OWNER, Role.PRIVACY_OFFICER})


@dataclass(frozen=True)
class Kind:
    """Something that can be told: what it is called, which roles may hear it, and whether they do by default."""

    name: str
    title: str
    roles: frozenset[Role]
    email: bool = True


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("member.joined", "An organization joined a federation you own", LEADS),
        Kind("member.declined", "An organization declined your invitation", LEADS),
        Kind("member.left", "An organization left a federation you own", LEADS),
        Kind("member.suspended", "Your organization was suspended, reinstated or removed", LEADS),
        Kind("federation.dissolved", "A federation you are in was dissolved", LEADS),
        Kind("agreement.published", "A study agreement waits for your acceptance", LEADS | OFFICERS),
        Kind("agreement.expiring", "A study agreement expires within two weeks", LEADS | OFFICERS),
        Kind("agreement.expired", "A study agreement has expired", LEADS | OFFICERS),
        Kind("model.shared", "A model was shared with a federation you are in", TRAINERS, email=False),
        Kind("run.started", "A run started in a federation you are in", TRAINERS | OPERATORS, email=False),
        Kind("run.waiting", "A run waits for devices", TRAINERS | OPERATORS),
        Kind("run.finished", "A run completed, failed or was stopped", TRAINERS),
        Kind("device.registered", "A device registered", OPERATORS, email=False),
        Kind("device.ended", "A device was quarantined, revoked or retired", OPERATORS, email=False),
        Kind("policy.changed", "Your organization's policy changed", LEADS | OFFICERS),
    )
}


def tell(
    organization: Organization, kind: str, *, sentence: str, address: str, data: Mapping[str, Any] | None = None
) -> None:
    """Tell the organization's people, inside the unit of what happened.

    `sentence` is the news as one whole sentence (it becomes the subject too); `address` the page that shows it, from
    the root ("/runs/run_…"); `data` plain JSON values for programs, ids rather than names. Raises KeyError for an
    unknown kind.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("news belong into the unit of their act")
    told = KINDS[kind]
    for membership in _hearers(organization, told):
        letters.write(
            membership.person.email,
            "notice",
            organization,
            link=settings.FEDPORTAL_PUBLIC_URL + address,
            person=membership.person.name,
            sentence=letters.as_words(sentence),
            title=told.title,
            organization_name=letters.as_words(organization.name),
        )


def _hearers(organization: Organization, kind: Kind) -> list[Membership]:
    if not kind.email:
        return []
    of = Membership.objects.filter(organization=organization, role__in=kind.roles, person__is_active=True)
    return list(of.select_related("person").order_by("pk"))
