"""Percentages and labels of devices, as addresses are given them."""

from __future__ import annotations

from federations.fleet import find_label
from federations.models import DeviceGroup
from federations.permissions import Actor
from fedwire.errors import FedportalError
from registry.delivery.placement import WHOLE


def share(percentage: float, field: str = "rollout_percentage") -> int:
    """Hundredths of a percent. Raises `field_invalid` for what is none, or finer than that."""
    found = percentage * WHOLE / 100
    if not 0 < found <= WHOLE or abs(found - round(found)) > 1e-6:
        reason = "it must be above 0 and at most 100, in steps of 0.01."
        raise FedportalError("field_invalid", field=field, reason=reason)
    return round(found)


def group(actor: Actor, name: str) -> DeviceGroup | None:
    """The label of the actor's organization; None where none is said. Raises `not_found`."""
    if not name or actor.organization is None:
        return None
    return find_label(actor.organization, name)
