"""An organization's policy: the limits that it sets, whoever starts a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from federations.models import Organization, Policy


def of(organization: Organization) -> Policy:
    """The organization's policy; the defaults, not stored, when it never set one."""
    return Policy.objects.filter(organization=organization).first() or Policy(organization=organization)


def of_all(organization_pks: Iterable[int]) -> Mapping[int, Policy]:
    """Primary key of an organization → its policy, for those that set one."""
    return {policy.organization_id: policy for policy in Policy.objects.filter(organization__in=list(organization_pks))}
