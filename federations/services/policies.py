"""An organization's policy: the limits that it sets, whoever starts a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from django.conf import settings

from federations import above, permissions
from federations.models import Organization, Policy
from federations.permissions import Actor
from federations.services import audit, notifications, organizations
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

MAX_EPSILON = 1000.0
# With a larger δ an ε would say nothing.
MAX_DELTA = 0.1
MAX_DEVICES = 1_000_000
MAX_KEY_DAYS = 3650
MAX_RESIDENCY = 60

# limit → what it is called
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "privacy_epsilon": "privacy budget ε",
        "privacy_delta": "privacy budget δ",
        "least_records": "fewest rows of a device",
        "least_devices": "fewest devices together",
        "allowed_strategies": "allowed strategies",
        "residency": "data residency",
        "device_key_days": "lifetime of device keys",
        "auto_rollback": "automatic rollback",
        "rollback_error_rate": "error rate for a rollback",
    }
)


def of(organization: Organization) -> Policy:
    """The organization's policy; the defaults, not stored, when it never set one."""
    return Policy.objects.filter(organization=organization).first() or Policy(organization=organization)


def of_all(organization_pks: Iterable[int]) -> Mapping[int, Policy]:
    """Primary key of an organization → its policy, for those that set one."""
    return {policy.organization_id: policy for policy in Policy.objects.filter(organization__in=list(organization_pks))}


def drafted(organization: Organization, **limits: Any) -> Policy:
    """The organization's policy with these limits instead, checked and not stored.

    Raises `field_invalid` for a limit that is unknown or unusable.
    """
    policy = of(organization)
    for name, value in limits.items():
        if name not in TITLES:
            raise _invalid(name, f"there is no such limit; there are {', '.join(TITLES)}.")
        setattr(policy, name, _CHECKS[name](name, value))
    if policy.privacy_delta is not None and policy.privacy_epsilon is None:
        raise _invalid("privacy_delta", "δ says nothing without ε.")
    return policy


def change(actor: Actor, organization: Organization, **limits: Any) -> Policy:
    """Set these limits; the others stay. Limits that are as they were already write nothing.

    Raises `forbidden`, `not_found`, `field_invalid`; then nothing has changed.
    """
    permissions.require(actor, "organization.set_policy", organization)
    drafted(organization, **limits)
    with unit():
        organizations.lock(organization)
        before, policy = of(organization), drafted(organization, **limits)
        changed = [name for name in TITLES if getattr(before, name) != getattr(policy, name)]
        if not changed:
            return before
        policy.changed_at = clock.now()
        policy.save()
        moves = {name: {"before": getattr(before, name), "after": getattr(policy, name)} for name in changed}
        audit.record(organization, actor, "policy.changed", organization.public_id, **moves)
        notifications.tell(
            organization,
            "policy.changed",
            sentence=f"{actor.person} changed the policy of {organization}: {', '.join(TITLES[n] for n in changed)}.",
            address="/policy",
            data={"changed": changed},
        )
    return policy


def _invalid(field: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=field, reason=reason)


def _number(field: str, value: Any) -> float:
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer too large for a float
        pass
    raise _invalid(field, "it is not a number.")


def _epsilon(field: str, value: Any) -> float | None:
    if value is None:
        return None
    if not 0 < _number(field, value) <= MAX_EPSILON:
        raise _invalid(field, f"it must be above 0 and at most {MAX_EPSILON:g}.")
    return float(value)


def _delta(field: str, value: Any) -> float | None:
    if value is None:
        return None
    if not 0 < _number(field, value) <= MAX_DELTA:
        raise _invalid(field, f"it must be above 0 and at most {MAX_DELTA:g}, such as 0.00001.")
    return float(value)


def _count(field: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _invalid(field, f"it must be a whole number from {least} to {most}.")
    return value


def _records(field: str, value: Any) -> int:
    return _count(field, value, 0, settings.FEDPORTAL_MAX_SAMPLES)


def _devices(field: str, value: Any) -> int:
    return _count(field, value, 0, MAX_DEVICES)


def _key_days(field: str, value: Any) -> int | None:
    return None if value is None else _count(field, value, 1, MAX_KEY_DAYS)


def _strategies(field: str, value: Any) -> list[str]:
    known = above.strategies()
    if not isinstance(value, (list, tuple)) or any(name not in known for name in value):
        raise _invalid(field, f"it must be a list of {', '.join(known)}; an empty one allows all.")
    return sorted(set(value))


def _residency(field: str, value: Any) -> str:
    if not isinstance(value, str) or len(value.strip()) > MAX_RESIDENCY or not value.strip().isprintable():
        raise _invalid(field, f"it must be printable text of at most {MAX_RESIDENCY} characters.")
    return value.strip()


def _truth(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _invalid(field, "it must be true or false.")
    return value


def _rate(field: str, value: Any) -> float:
    if not 0 < _number(field, value) <= 1:
        raise _invalid(field, "it must be a share above 0 and at most 1, such as 0.05.")
    return float(value)


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "privacy_epsilon": _epsilon,
    "privacy_delta": _delta,
    "least_records": _records,
    "least_devices": _devices,
    "allowed_strategies": _strategies,
    "residency": _residency,
    "device_key_days": _key_days,
    "auto_rollback": _truth,
    "rollback_error_rate": _rate,
}
