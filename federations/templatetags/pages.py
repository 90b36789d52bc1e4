"""What templates of every page write the same way: times and breadcrumbs. Built in, so no template has to load it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.db import models
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString

from federations import permissions, roles, selectors
from federations.models import Organization, Person
from federations.web import labels
from fedwire.errors import FedportalError

register = template.Library()
# How many people are named where one looks for help.
MOST = 4
# What page.js makes of a time: the moment in the reader's zone, how long ago it is, or hours, minutes and seconds.
SHOWN = {
    "": (SafeString(""), "%-d %b %Y %H:%M UTC"),
    "ago": (SafeString(' data-ago tabindex="0"'), "%-d %b %Y %H:%M UTC"),
    "clock": (SafeString(" data-clock"), "%H:%M:%S UTC"),
    "day": (SafeString(" data-day"), "%-d %b %Y"),
}


@register.simple_tag
def time(value: datetime | str | None, shown: str = "", empty: str = "never") -> SafeString:
    """`{% time device.last_seen_at "ago" %}`: UTC, and says so; page.js shows it in the reader's zone.

    `value` may also be what JSON has for a moment. `empty` stands there when there is none.
    """
    moment = parse_datetime(value) if isinstance(value, str) else value
    if moment is None:
        return format_html('<span class="soft">{}</span>', empty)
    moment = moment.astimezone(UTC)
    attributes, pattern = SHOWN[shown]
    exact = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return format_html('<time datetime="{}"{}>{}</time>', exact, attributes, moment.strftime(pattern))


@register.filter
def sentence(error: FedportalError) -> str:
    """`{{ error|sentence }}`: what went wrong, with the label of the field that it is about."""
    return labels.sentence(error)


@register.simple_tag(takes_context=True)
def person_of(context: template.Context, organization: Organization, person: Person | None) -> Person | None:
    """`{% person_of run.organization run.started_by as person %}`: the person for their colleagues; None for others,
    who see the organization and not its people."""
    return selectors.person_for(context.get("actor"), organization, person)


@register.inclusion_tag("parts/crumbs.html")
def crumbs(*names_and_addresses: Any) -> dict[str, Any]:
    """`{% crumbs "Models" "/models" model.name model_address %}`: the way back, from the top; not the page itself."""
    pairs = iter(names_and_addresses)
    return {"crumbs": list(zip(pairs, pairs, strict=True))}


@register.inclusion_tag("parts/who_may.html", takes_context=True)
def who_may(
    context: template.Context, action: str, obj: models.Model | None, *, advise: bool = False
) -> dict[str, Any]:
    """`{% who_may "federation.invite" federation %}`: which roles may, and who has them in the reader's organization.

    For where a reader looks for a button that is not there; with `advise` also what to do now. Says nothing to
    somebody who may.
    """
    actor: permissions.Actor | None = context.get("actor")
    if actor is None or obj is None or permissions.can(actor, action, obj):
        return {"sentence": ""}
    own = actor.organization
    found = list(permissions.people_who_may(action, obj, own)) if own else []
    found.sort(key=lambda membership: (roles.RANK[membership.role], str(membership.person)))
    return {
        "sentence": permissions.who_may(action, obj, actor),
        "advise": advise,
        "people": found[:MOST],
        "more": len(found[MOST:]),
        "organization": own,
        "own_role": permissions.role_of(actor),
    }
