"""What happens is told to those who want to hear it: people by letter, programs by webhook.

`tell` is called inside the unit of what it tells of, so that nothing is told of what did not happen. It writes one row,
whoever hears of it: the act and its locks do not wait for letters, which `spreading` writes after the commit. `KINDS`
is the literal table of what can be told, to which roles, and whether by letter unless they chose otherwise. The first
news of a kind leave at once; what follows within `QUIET` is gathered into one letter, so that two hundred registering
devices are two letters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.db import transaction

from federations.models import Choice, Letter, Membership, News, Organization, Person, Role, Webhook
from federations.services import audit, letters, throttle
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

EVERYONE = frozenset(Role)
LEADS = frozenset({Role.OWNER, Role.ADMIN})
TRAINERS = frozenset({Role.OWNER, Role.DATA_SCIENTIST})
OPERATORS = frozenset({Role.OWNER, Role.ADMIN, Role.DEVICE_OPERATOR})
OFFICERS = frozenset({Role.OWNER, Role.PRIVACY_OFFICER})

# Between two letters of one kind to one person about one organization.
QUIET = timedelta(minutes=10)
# News that one letter tells; of more it tells the number.
LINES = 20
TEST_LETTERS, TEST_SECONDS = 5, 60 * 60
SALT = "fedportal.notifications.unsubscribe"
_doorbells: list[Callable[[int], object]] = []


@dataclass(frozen=True)
class Kind:
    """Something that can be told: what it is called, which roles may hear it, and whether they do by default."""

    name: str
    title: str
    roles: frozenset[Role]
    email: bool = True


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("member.joined", "An organization joined a federation you own", LEADS),
        Kind("member.declined", "An organization declined your invitation", LEADS),
        Kind("member.left", "An organization left a federation you own", LEADS),
        Kind("member.suspended", "Your organization was suspended, reinstated or removed", LEADS),
        Kind("federation.dissolved", "A federation you are in was dissolved", LEADS),
        Kind("agreement.published", "A study agreement waits for your acceptance", LEADS | OFFICERS),
        Kind("agreement.expiring", "A study agreement expires within two weeks", LEADS | OFFICERS),
        Kind("agreement.expired", "A study agreement has expired", LEADS | OFFICERS),
        Kind("roots.proposed", "An organization asks for its place in your federation's list of keys", LEADS),
        Kind("model.shared", "A model was shared with a federation you are in", TRAINERS, email=False),
        Kind("run.started", "A run started in a federation you are in", TRAINERS | OPERATORS, email=False),
        Kind("run.waiting", "A run waits for devices", TRAINERS | OPERATORS),
        Kind("run.finished", "A run completed, failed or was stopped", TRAINERS),
        Kind("inference.started", "Your devices are asked for a summary of what a model says", TRAINERS | OFFICERS),
        Kind("inference.finished", "A summary that you asked devices for is there, or is not", TRAINERS),
        Kind("update.flagged", "An update of a device was unlike the others of its round", TRAINERS | OPERATORS),
        Kind("device.registered", "A device registered", OPERATORS, email=False),
        Kind("device.ended", "A device was quarantined, revoked or retired", OPERATORS, email=False),
        Kind("rollout.rolled_back", "A version failed on your devices and was rolled back", TRAINERS | OPERATORS),
        Kind("rollout.unwell", "A version fails on your devices and waits for you", TRAINERS | OPERATORS),
        Kind("experiment.stopped", "A version failed in an experiment, which was stopped", TRAINERS | OPERATORS),
        Kind("experiment.decided", "An experiment found one version to be better", TRAINERS | OPERATORS),
        Kind("policy.changed", "Your organization's policy changed", LEADS | OFFICERS),
        Kind("budget.exhausted", "Your privacy budget is not enough for another round of a run", LEADS | OFFICERS),
        Kind("webhook.failing", "A webhook was switched off because it kept failing", LEADS),
    )
}


def tell(
    organization: Organization, kind: str, *, sentence: str, address: str, data: Mapping[str, Any] | None = None
) -> None:
    """Tell the organization's people and webhooks, inside the unit of what happened; they hear after its commit.

    `sentence` is the news as one whole sentence (it becomes the subject too); `address` the page that shows it, from
    the root ("/runs/run_…"); `data` plain JSON values for programs, ids rather than names. Raises KeyError for an
    unknown kind.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("news belong into the unit of their act")
    known = KINDS[kind].name
    news = News.objects.create(
        organization=organization, kind=known, sentence=sentence, address=address, data=dict(data or {})
    )
    for bell in _doorbells:
        bell(news.pk)


def on_news(bell: Callable[[int], object]) -> None:
    """Call `bell(news_pk)` when something is told, inside its unit."""
    _doorbells.append(bell)


# --- choices ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """Whether somebody gets letters of a kind, and whether that is so because they never chose."""

    kind: Kind
    email: bool
    by_default: bool


def wishes(person: Person) -> list[tuple[Organization, list[Wish]]]:
    """For each of the person's organizations, what their role there may hear of."""
    chosen = {
        (organization_pk, kind): email
        for organization_pk, kind, email in Choice.objects.filter(person=person).values_list(
            "organization_id", "kind", "email"
        )
    }
    own = Membership.objects.filter(person=person).select_related("organization").order_by("organization__name")
    return [
        (
            membership.organization,
            [
                Wish(kind, chosen.get((membership.organization_id, name), kind.email), by_default)
                for name, kind in KINDS.items()
                if membership.role in kind.roles
                for by_default in [(membership.organization_id, name) not in chosen]
            ],
        )
        for membership in own
    ]


def choose(person: Person, wanted: Mapping[str, frozenset[str]]) -> int:
    """Let the person hear by letter of exactly the `wanted` kinds, for each organization (public id) named in it.

    Organizations that are not named stay as they are. How many choices changed.
    """
    changed: dict[str, dict[str, bool]] = {}
    with unit():
        for organization, rows in wishes(person):
            if organization.public_id not in wanted:
                continue
            for wish in rows:
                email = wish.kind.name in wanted[organization.public_id]
                if email != wish.email:
                    _set(person, organization, wish.kind, email)
                    changed.setdefault(organization.public_id, {})[wish.kind.name] = email
        if changed:
            audit.record(None, person, "notifications.chosen", person.public_id, changed=changed)
    return sum(len(kinds) for kinds in changed.values())


def send_test(person: Person) -> Letter:
    """Write the person a letter like those of news. Raises `too_many_tries`."""
    throttle.count("test letter", person.public_id, TEST_LETTERS, TEST_SECONDS)
    with unit():
        audit.record(None, person, "notifications.tested", person.public_id)
        letter = Letter(to=person.email, news=letters.no_news(person, "A test letter", None))
        letter.news["lines"].append({"sentence": "This is a test letter. Nothing happened", "address": "/"})
        letter.news["count"] = 1
        letters.compose_news(letter)
        letters.put(letter)
    return letter


# --- the link that ends letters --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subscription:
    """What a letter's link is about."""

    person: Person
    organization: Organization
    kind: Kind


def unsubscribe_link(person: Person, organization: Organization, kind: Kind) -> str:
    """The address at which letters of this kind are ended without signing in. It stays good."""
    token = signing.dumps([person.public_id, organization.public_id, kind.name], salt=SALT)
    return f"{settings.FEDPORTAL_PUBLIC_URL}/unsubscribe/{token}"


def find_subscription(token: str) -> Subscription:
    """What the link is about. Raises `not_found`."""
    try:
        person_id, organization_id, name = signing.loads(token, salt=SALT)
        person = Person.objects.get(public_id=person_id)
        return Subscription(person, Organization.objects.get(public_id=organization_id), KINDS[name])
    except (signing.BadSignature, Person.DoesNotExist, Organization.DoesNotExist, KeyError, ValueError) as error:
        raise FedportalError("not_found", what="link") from error


def unsubscribe(token: str) -> Subscription:
    """End the letters this link is about; again is harmless. Raises `not_found`."""
    found = find_subscription(token)
    with unit():
        rows = Choice.objects.filter(person=found.person, organization=found.organization, kind=found.kind.name)
        if rows.values_list("email", flat=True).first() is not False:
            _set(found.person, found.organization, found.kind, False)
            changed = {found.organization.public_id: {found.kind.name: False}}
            audit.record(None, found.person, "notifications.chosen", found.person.public_id, changed=changed, by="link")
    return found


def tell_switched_off(webhook: Webhook) -> None:
    """The organization hears that a webhook of it was switched off. Called by `deliveries` in the unit of it."""
    tell(
        webhook.organization,
        "webhook.failing",
        sentence="A webhook was switched off because it failed for a day",
        address=f"/webhooks/{webhook.public_id}",
        data={"webhook": webhook.public_id},
    )


# --- inside ----------------------------------------------------------------------------------------------------------


def _set(person: Person, organization: Organization, kind: Kind, email: bool) -> None:
    Choice.objects.update_or_create(person=person, organization=organization, kind=kind.name, defaults={"email": email})
