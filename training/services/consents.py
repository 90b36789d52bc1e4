"""Consent to federated inference: given by an organization for one federation, with its own limits, and taken back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from federations import permissions
from federations.models import Federation, Member, Organization, Policy
from federations.permissions import Actor
from federations.services import audit, members
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire import inference
from fedwire.errors import FedportalError
from fedwire.inference import Asked
from fedwire.states import InferenceState, MemberState
from training.models import InferenceConsent, InferencePart

ACTION = "organization.consent_inference"
MONTH = timedelta(days=30)
MOST_PLANS = 1000
FIELDS = ("summaries", "least_count", "least_noise", "plans_a_month")


def of(federation: Federation, organization: Organization) -> InferenceConsent | None:
    """The organization's consent in the federation, if it stands."""
    return InferenceConsent.objects.filter(
        federation=federation, organization=organization, withdrawn_at__isnull=True
    ).first()


def given(federation: Federation) -> QuerySet[InferenceConsent]:
    """The consents that stand, of active members only. One that was given before its organization left the federation
    does not count after it came back."""
    here = Member.objects.filter(
        Q(joined_at__isnull=True) | Q(joined_at__lte=OuterRef("given_at")),
        federation=federation,
        organization=OuterRef("organization"),
        state=MemberState.ACTIVE,
    )
    rows = InferenceConsent.objects.filter(Exists(here), federation=federation, withdrawn_at__isnull=True)
    return rows.select_related("organization").order_by("organization_id")


def give(
    actor: Actor,
    federation: Federation,
    *,
    summaries: Sequence[str] = inference.SUMMARIES,
    least_count: int = inference.DEFAULT_COUNT,
    least_noise: float = 0.0,
    plans_a_month: int = 10,
) -> InferenceConsent:
    """Let plans of this federation run on the devices of the actor's organization, within these limits.

    In the place of an earlier consent; the same again writes nothing. A plan that runs and is beyond it counts nothing
    of the organization when it ends. Raises `forbidden`, `field_invalid`, and
    `wrong_state` for who is no active member.
    """
    organization = allowed(actor, federation)
    said = _checked(summaries, least_count, least_noise, plans_a_month)
    with unit():
        members.lock(federation)
        place = federation.members.filter(organization=organization).first()
        if place is None or place.state != MemberState.ACTIVE:
            state = str(place.state) if place else "no member"
            raise FedportalError(
                "wrong_state", what="Your organization", state=state, hint="Only active members consent."
            )
        before = of(federation, organization)
        if before is not None and all(getattr(before, name) == said[name] for name in FIELDS):
            return before
        found, _ = InferenceConsent.objects.update_or_create(
            federation=federation,
            organization=organization,
            defaults={**said, "given_by": actor.person, "given_at": clock.now(), "withdrawn_at": None},
        )
        audit.record(organization, actor, "inference.consented", federation.public_id, **said)
    return found


def refusal(consent: InferenceConsent, asked: Asked, used: int, budgeted: bool) -> str:
    """Why this plan is beyond the consent, when so many plans were counted in the last 30 days; "" if it is within.
    `budgeted`: the organization has a privacy budget, which bounds plans with noise in the place of their number."""
    if reason := beyond(consent, asked):
        return reason
    if used >= consent.plans_a_month and not (asked.noise and budgeted):
        kind = "plans without noise" if budgeted else "plans"
        return f"{consent.organization.name} has taken part in its {consent.plans_a_month} {kind} of the last 30 days"
    return ""


def beyond(consent: InferenceConsent, asked: Asked) -> str:
    """Why the consent does not go as far as what is asked, however often that was; "" if it does."""
    name = consent.organization.name
    if asked.summary not in consent.summaries:
        return f"{name} does not consent to summaries of the kind {asked.summary}"
    if asked.least_count < consent.least_count:
        return f"{name} asks for cells of at least {consent.least_count} rows"
    if asked.noise < consent.least_noise:
        return f"{name} asks for noise of at least {consent.least_noise:g}"
    return ""


def with_budget(federation: Federation) -> frozenset[int]:
    """The members that have a privacy budget."""
    rows = Policy.objects.filter(organization__federation_members__federation=federation, privacy_epsilon__isnull=False)
    return frozenset(rows.values_list("organization", flat=True))


def used(federation: Federation, budgeted: Collection[int]) -> Mapping[int, int]:
    """Organization → in how many plans of the last 30 days its devices were asked; of those that have a budget, in how
    many without noise. One query."""
    recent = InferencePart.objects.filter(
        Q(plan__asked__noise=0) | ~Q(organization__in=budgeted),
        plan__federation=federation,
        plan__started_at__gt=clock.now() - MONTH,
    ).exclude(plan__state=InferenceState.PLANNED)
    rows = recent.order_by().values_list("organization").annotate(plans=Count("plan", distinct=True))
    return dict(rows)


def allowed(actor: Actor, federation: Federation) -> Organization:
    """The organization for which the actor may consent here. Raises `forbidden`."""
    permissions.require(actor, "federation.view", federation)
    organization = actor.organization
    if organization is None:
        raise FedportalError("forbidden", action="consent", who="Act for an organization that is a member.")
    permissions.require(actor, ACTION, organization)
    return organization


def _checked(
    summaries: Sequence[str], least_count: int, least_noise: float, plans_a_month: int
) -> dict[str, list[str] | int | float]:
    if not summaries or not set(summaries) <= set(inference.SUMMARIES):
        raise _wrong("summaries", f"it must be some of {', '.join(inference.SUMMARIES)}.")
    if type(least_count) is not int or not inference.LEAST_COUNT <= least_count <= inference.MOST_COUNT:
        raise _wrong("least_count", f"it must be from {inference.LEAST_COUNT} to {inference.MOST_COUNT}.")
    if least_noise and not inference.LEAST_NOISE <= least_noise <= inference.MOST_NOISE:
        limits = f"{inference.LEAST_NOISE:g} to {inference.MOST_NOISE:g}"
        raise _wrong("least_noise", f"it must be 0, or from {limits}.")
    if type(plans_a_month) is not int or not 0 <= plans_a_month <= MOST_PLANS:
        raise _wrong("plans_a_month", f"it must be from 0 to {MOST_PLANS}.")
    return {
        "summaries": [name for name in inference.SUMMARIES if name in summaries],
        "least_count": least_count,
        "least_noise": float(least_noise),
        "plans_a_month": plans_a_month,
    }


def _wrong(field: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=field, reason=reason)
