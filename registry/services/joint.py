"""Experiments that organizations of a federation run together, each on its own devices and by its own decision.

The one that owns the model leads: it opens its experiment to a federation. Another joins with an experiment of its own
that has the same plan, so starting, stopping, promoting and limits are each organization's own. What devices report is
compared over all that take part: of others an organization learns sums, no devices, and only while it runs itself.
"""

from __future__ import annotations

from django.db.models import F, Q, QuerySet

from federations.models import DeviceGroup, Federation, Organization
from federations.permissions import Actor
from federations.services import audit, organizations
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import ExperimentState, MemberState
from registry.models import Experiment
from registry.services import experiments, gatekeeping, models, rollout_limits, underway

LEAD_STOPPED = "the organization that leads it stopped it"
NOT_SHARED = "its model is no longer shared with your organization"


def offered(organization: Organization) -> QuerySet[Experiment]:
    """The running experiments that the organization may join and has not joined."""
    inside = Federation.objects.filter(
        members__organization=organization, members__state=MemberState.ACTIVE, dissolved_at=None
    )
    found = Experiment.objects.filter(state=ExperimentState.RUNNING, lead=None, federation__in=inside)
    shared = found.filter(federation__shares__model=F("model")).exclude(organization=organization)
    return shared.exclude(followers__organization=organization).distinct()


def join(actor: Actor, lead: Experiment, group: DeviceGroup | None = None) -> Experiment:
    """Take part with the devices of the actor's organization, all or those of a group: its own experiment, begun.

    The plan is the lead's; for what is too bad the organization's own policy decides, and the lead's other limits.
    Raises `forbidden`, `not_found` for one that is not offered (any more), and `wrong_state` while a rollout of the
    model, or another experiment with it, is on its way.
    """
    organization = underway.allowed(actor, lead.model)
    if group is not None and group.organization_id != organization.pk:
        raise FedportalError("not_found", what="group")
    limits = {name: getattr(lead, name) for name in ("window_seconds", "least", "latency_ms", "accuracy")}
    settings = rollout_limits.settled(organization, limits)
    with unit():
        organizations.lock(organization)
        if not offered(organization).filter(pk=lead.pk).exists():
            raise FedportalError("not_found", what="experiment")
        gatekeeping.lock(lead.model_id)
        own = Experiment.objects.create(
            organization=organization,
            lead=lead,
            federation=lead.federation,
            model=lead.model,
            name=lead.name,
            control=lead.control,
            treatment=lead.treatment,
            share=lead.share,
            metric=lead.metric,
            planned=lead.planned,
            group=group,
            group_name=group.name if group else "",
            auto_stop=settings.pop("auto_rollback"),
            created_by=actor.person,
            **settings,
        )
        details = {"lead": lead.public_id, "model": lead.model.public_id}
        audit.record(organization, actor, "experiment.joined", own.public_id, **details)
        return experiments.start(actor, own)


def together(experiment: Experiment) -> QuerySet[Experiment]:
    """The experiment with all that run it together: itself alone, if nobody does."""
    lead = experiment.lead_id or experiment.pk
    return Experiment.objects.filter(Q(pk=lead) | Q(lead=lead))


def sweep() -> None:
    """Stop what has no ground any more: the lead has stopped, or the model is no longer shared."""
    rows = Experiment.objects.filter(state=ExperimentState.RUNNING, lead__isnull=False)
    for own in rows.select_related("lead", "model", "organization"):
        if own.lead is not None and own.lead.state == ExperimentState.STOPPED:
            experiments.halt(audit.PORTAL, own, LEAD_STOPPED)
        elif models.relation(own.model, own.organization) is None:
            experiments.halt(audit.PORTAL, own, NOT_SHARED)
