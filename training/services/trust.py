"""The organization that a run trusts, where its strategy compares updates with those of one: chosen at its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q

from federations.models import Federation, Member, Organization
from fedwire.errors import FedportalError
from fedwire.states import MemberState
from training.aggregation import strategies
from training.aggregation.strategy import Strategy
from training.models import Run
from training.services.terms import CROSS_SILO, WAIT, Terms

FIELD = "trusted"


def said(strategy: Strategy, value: Any) -> str | None:
    """The organization as it was named; None for a strategy that trusts nobody. Raises `field_invalid`."""
    if not strategy.trusts:
        return None
    if not isinstance(value, str) or not value.strip():
        raise _wrong(f"{strategy.title} needs the name or id of an organization that is trusted.")
    return value.strip()


def settled(strategy: str, named: str | None, federation: Federation, terms: Terms) -> str | None:
    """The id of the organization that was named, an active member of the federation; None where nobody is trusted.

    Its devices must be asked and waited for. Raises `field_invalid`.
    """
    if named is None:
        return None
    found = _found(federation, named)
    if found is None:
        raise _wrong(f"{named} is no active member of {federation.name}.")
    if terms.mode != CROSS_SILO or terms.stragglers != WAIT:
        field = "stragglers" if terms.mode == CROSS_SILO else "mode"
        reason = f"{strategies.find(strategy).title} asks everybody and waits, as it needs {found.name} in every round."
        raise FedportalError("field_invalid", field=field, reason=reason)
    return found.public_id


def complaints(
    strategy: str, config: Mapping[str, Any], federation: Federation | None, terms: Terms
) -> list[FedportalError]:
    """What stands against the organization that a wish names, if anything."""
    if strategy not in strategies.STRATEGIES or federation is None:
        return []
    try:
        settled(strategy, said(strategies.find(strategy), config.get(FIELD)), federation, terms)
    except FedportalError as error:
        return [error]
    return []


def is_trusted(run: Run, organization_id: str) -> bool:
    """Whether the run trusts the organization with this id."""
    return bool(run.config.get(FIELD)) and run.config[FIELD] == organization_id


def organization_of(run: Run) -> int | None:
    """The primary key of the organization that the run trusts, None where it trusts nobody."""
    named = run.config.get(FIELD)
    return Organization.objects.filter(public_id=named).values_list("pk", flat=True).first() if named else None


def _found(federation: Federation, named: str) -> Organization | None:
    members = Member.objects.filter(federation=federation, state=MemberState.ACTIVE)
    places = members.filter(Q(organization__public_id=named) | Q(organization__name=named))
    found = [place.organization for place in places.select_related("organization")]
    # Whoever is called like the id of another is not it.
    return min(found, key=lambda one: one.public_id != named, default=None)


def _wrong(reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=f"config.{FIELD}", reason=reason)
