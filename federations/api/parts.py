"""What several addresses of this floor need."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from federations.permissions import Actor
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
