"""What several addresses of this floor need."""

from __future__ import annotations

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from federations.permissions import Actor
from federations.services.invitations import Written
from fedwire.errors import FedportalError

PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most this many (50, at most 200)."),
    OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out this many."),
]
# Lists without an envelope say the number of all rows here.
TOTAL = "X-Total-Count"


def check_organization(actor: Actor, org_id: str | None) -> None:
    """Raises `organization_mismatch` when a request names another organization than the key's or session's."""
    if org_id and (actor.organization is None or org_id not in (actor.organization.public_id, actor.organization.name)):
        raise FedportalError("organization_mismatch", org_id=org_id[:40])


def link_to_copy(written: Written) -> str | None:
    """The secret link of a letter, where no mail server is set up; with one, only the letter holds it."""
    return None if settings.FEDPORTAL_EMAIL_URL else written.link
