"""The news of members coming and going, told inside the unit of the act: to the federation's owner what a member does,
to a member what the owner does."""

from __future__ import annotations

from federations.models import Federation, Organization
from federations.services import notifications
from fedwire.states import MemberState

# What a member does → its kind of news, and what the owner reads.
_BY_MEMBERS = {
    MemberState.ACTIVE: ("member.joined", "{organization} joined {federation}."),
    MemberState.DECLINED: ("member.declined", "{organization} declined your invitation to {federation}."),
    MemberState.LEFT: ("member.left", "{organization} left {federation}."),
}
# (before, after) → what the member reads of what the owner did.
_BY_OWNER = {
    (MemberState.ACTIVE, MemberState.SUSPENDED): "{owner} suspended {organization} in {federation}.",
    (MemberState.SUSPENDED, MemberState.ACTIVE): "{owner} reinstated {organization} in {federation}.",
    (MemberState.ACTIVE, MemberState.REMOVED): "{owner} removed {organization} from {federation}.",
    (MemberState.SUSPENDED, MemberState.REMOVED): "{owner} removed {organization} from {federation}.",
    (MemberState.INVITED, MemberState.REMOVED): "{owner} took back the invitation of {organization} to {federation}.",
}


def answered(federation: Federation, organization: Organization, state: str) -> None:
    """Tell the owner that the organization joined, declined or left."""
    kind, sentence = _BY_MEMBERS[MemberState(state)]
    _tell(federation.organization, kind, sentence, federation, organization)


def declined_letter(federation: Federation) -> None:
    """Tell the owner that somebody who was invited by letter declined; whom, stands in the list of letters."""
    sentence = "Somebody who was invited by email declined your invitation to {federation}."
    _tell(federation.organization, "member.declined", sentence, federation, None)


def managed(federation: Federation, organization: Organization, before: str, after: str) -> None:
    """Tell the member that the owner suspended, reinstated or removed it."""
    sentence = _BY_OWNER[MemberState(before), MemberState(after)]
    _tell(organization, "member.suspended", sentence, federation, organization)


def dissolved(federation: Federation, organization: Organization) -> None:
    """Tell a member that the federation is no more."""
    _tell(organization, "federation.dissolved", "{owner} dissolved {federation}.", federation, organization)


def _tell(
    to: Organization, kind: str, sentence: str, federation: Federation, organization: Organization | None
) -> None:
    names = {"owner": federation.organization.name, "federation": federation.name}
    data = {"federation": federation.public_id}
    if organization is not None:
        names["organization"] = organization.name
        data["organization"] = organization.public_id
    # Who is out does not see the federation any more; its list is a page that it does see.
    out = to != federation.organization and kind in ("member.suspended", "federation.dissolved")
    address = "/federations" if out else f"/federations/{federation.public_id}"
    notifications.tell(to, kind, sentence=sentence.format(**names), address=address, data=data)
