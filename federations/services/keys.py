"""Keys: `edg_<8 public characters>_<43 secret characters>_<6 check characters>`, shown once, stored as an HMAC.

The secret part has 256 bits of chance, so a fast keyed hash is the right way to store it. A key is looked up by its
public part; an unknown one costs the same work as a wrong one.
"""

from __future__ import annotations

import hmac
import secrets
import string
import zlib
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import Q

from federations import permissions, roles
from federations.models import ApiKey, Device, DeviceKey, Membership, Organization, Person, Role
from federations.permissions import Actor
from federations.services import audit
from fedportal.common import clock, sql
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import DeviceState

ALPHABET = string.digits + string.ascii_letters
LOOKUP, SECRET, CHECK = 8, 43, 6
# How exactly `last_used_at` is kept; more often would mean a write with every request.
USED_EVERY = timedelta(minutes=1)
MAX_NAME = 100


_KEY, _DEVICE, _ORGANIZATION = (model._meta.db_table for model in (DeviceKey, Device, Organization))
_HOLDER = (
    "SELECT held.id, device.id, device.public_id, device.organization_id, held.secret_hash, device.state,"  # noqa: S608
    " held.revoked_at, held.expires_at, held.first_used_at, owner.suspended_at"
    f" FROM {_KEY} held JOIN {_DEVICE} device ON device.id = held.device_id"
    f" JOIN {_ORGANIZATION} owner ON owner.id = device.organization_id WHERE held.lookup = %s"
)


class Holder(NamedTuple):
    """The device that a key belongs to, as the door knows it."""

    key_pk: int
    device_pk: int
    device_id: str
    organization_pk: int


class Minted(NamedTuple):
    """A new key: its public part, the whole text for its holder, and what is stored."""

    lookup: str
    text: str
    hash: str


def mint() -> Minted:
    """A fresh key that nobody has seen."""
    lookup, secret = _random(LOOKUP), _random(SECRET)
    text = f"edg_{lookup}_{secret}_{_check(lookup, secret)}"
    return Minted(lookup, text, _hash(text))


def find_api_key(token: str) -> ApiKey:
    """The key with its organization and person. Raises `key_invalid`, `key_revoked`, `key_expired`, or
    `organization_suspended`."""
    lookup = lookup_of(token)
    key = ApiKey.objects.select_related("organization", "person").filter(lookup=lookup).first()
    _compare(token, key.secret_hash if key else None)
    assert key is not None
    check_usable(key)
    return key


def check_usable(key: ApiKey) -> None:
    """Raises `key_revoked`, `key_expired` or `organization_suspended` for a key that opens nothing any more."""
    _check_alive(key.revoked_at, key.expires_at)
    if not key.person.is_active:
        raise FedportalError("key_revoked")
    if key.organization.suspended_at is not None:
        raise FedportalError("organization_suspended")


def find_device(token: str) -> tuple[Device, DeviceKey]:
    """The device whose key this is, with one query. The first use of a fresh key ends the keys before it.

    Raises `key_invalid`, `key_revoked`, `key_expired`, `device_inactive` or `organization_suspended`.
    """
    lookup = lookup_of(token)
    key = DeviceKey.objects.select_related("device__organization").filter(lookup=lookup).first()
    _compare(token, key.secret_hash if key else None)
    assert key is not None
    device = key.device
    _check_device(device.state, key.revoked_at, key.expires_at, device.organization.suspended_at)
    if key.first_used_at is None:
        _note_first_use(key.pk, key.device_id)
    return device, key


def find_holder(token: str) -> Holder:
    """The same as `find_device` for the door, through which every device comes several times in every round."""
    row = sql.one(_HOLDER, [lookup_of(token)])
    _compare(token, row[4] if row else None)
    assert row is not None
    moments = [sql.aware(moment) if moment is not None else None for moment in row[6:]]
    _check_device(row[5], moments[0], moments[1], moments[3])
    found = Holder(*row[:4])
    if moments[2] is None:
        _note_first_use(found.key_pk, found.device_pk)
    return found


def lookup_of(token: str) -> str:
    """The public part of a key. Raises `not_authenticated` for none, `key_invalid` for one that was mistyped."""
    if not token:
        raise FedportalError("not_authenticated")
    parts = token.split("_")
    if len(parts) != 4 or parts[0] != "edg" or (len(parts[1]), len(parts[2])) != (LOOKUP, SECRET):
        raise FedportalError("key_invalid")
    if not token.isascii() or parts[3] != _check(parts[1], parts[2]):
        raise FedportalError("key_invalid")
    return parts[1]


def note_use(key: ApiKey) -> None:
    """Remember that the key was used just now, to the minute."""
    now = clock.now()
    if key.last_used_at is None or now - key.last_used_at > USED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


# --- keys of people --------------------------------------------------------------------------------------------------


def create(
    actor: Actor,
    *,
    name: str,
    scopes: list[str],
    expires_at: datetime | None = None,
    device_limit: int | None = None,
) -> tuple[ApiKey, str]:
    """A key for the acting person in their organization, and its text, which is never shown again.

    It gets only scopes that are of use to the person's role, and a key made with a key none that one lacks. Raises
    `field_invalid`, `forbidden`, `scope_missing`.
    """
    organization = organization_of(actor)
    permissions.require(actor, "organization.make_key", organization)
    _check_wish(actor, name, scopes, expires_at, device_limit)
    with unit():
        key, text = issue(
            organization, actor.person, name=name, scopes=scopes, expires_at=expires_at, device_limit=device_limit
        )
        audit.record(organization, actor, "key.created", key.public_id, scopes=sorted(key.scopes))
    return key, text


def issue(
    organization: Organization,
    person: Person,
    *,
    name: str,
    scopes: list[str],
    expires_at: datetime | None = None,
    device_limit: int | None = None,
) -> tuple[ApiKey, str]:
    """The row and text of a new key, without asking anybody's right and without an audit entry (for services)."""
    minted = mint()
    key = ApiKey.objects.create(
        organization=organization,
        person=person,
        name=name,
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
        device_limit=device_limit,
        lookup=minted.lookup,
        secret_hash=minted.hash,
    )
    return key, minted.text


def revoke(actor: Actor, key: ApiKey) -> ApiKey:
    """End a key: one's own, or with the right to manage keys another person's. Revoking again changes nothing."""
    if key.person != actor.person or key.organization != actor.organization:
        permissions.require(actor, "organization.manage_keys", key.organization)
    else:
        permissions.require(actor, "organization.make_key", key.organization)
    with unit():
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now()):
            audit.record(key.organization, actor, "key.revoked", key.public_id)
    key.refresh_from_db(fields=["revoked_at"])
    return key


def revoke_by_staff(by: Person, key: ApiKey) -> None:
    """Portal staff end a key; the entry stands in its organization's log. Raises `forbidden`."""
    permissions.require_staff(by)
    with unit():
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now()):
            audit.record(key.organization, by, "key.revoked", key.public_id, by="portal staff")


def revoke_all(organization: Organization, person: Person) -> int:
    """End all keys of a person who leaves the organization (inside the unit of that act); how many."""
    return ApiKey.objects.filter(organization=organization, person=person, revoked_at=None).update(
        revoked_at=clock.now()
    )


def revoke_every(person: Person) -> int:
    """End all keys of a person in all organizations, whose logs say so (inside the unit of that act); how many."""
    rows = ApiKey.objects.filter(person=person, revoked_at=None).select_related("organization")
    alive = list(rows.order_by("organization__public_id", "pk"))  # chains are locked in one order
    for key in alive:
        if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=clock.now()):
            audit.record(key.organization, person, "key.revoked", key.public_id, by="a new password")
    return len(alive)


def issue_device_key(device: Device, nonce: str | None = None, expires_at: datetime | None = None) -> str:
    """A fresh key for the device; the ones it has end with the first use of this. Call it inside a unit."""
    minted = mint()
    DeviceKey.objects.create(
        organization_id=device.organization_id,
        device=device,
        lookup=minted.lookup,
        secret_hash=minted.hash,
        nonce=nonce,
        expires_at=expires_at,
    )
    return minted.text


def organization_of(actor: Actor) -> Organization:
    """The organization the actor acts for. Raises `forbidden` for a person who is in none."""
    if actor.organization is None:
        raise FedportalError("forbidden", action="do this", who="Found an organization or accept an invitation first.")
    return actor.organization


def _check_wish(
    actor: Actor, name: str, scopes: list[str], expires_at: datetime | None, device_limit: int | None
) -> None:
    if not name.strip() or len(name) > MAX_NAME:
        raise FedportalError("field_invalid", field="name", reason=f"it needs 1 to {MAX_NAME} characters.")
    unknown = [scope for scope in scopes if scope not in roles.SCOPES]
    if unknown or not scopes:
        reason = f"use one or more of {', '.join(roles.SCOPES)}."
        raise FedportalError("field_invalid", field="scopes", reason=reason)
    _check_role(actor, scopes)
    if actor.key is not None and roles.ANY_SCOPE not in actor.key.scopes:
        for scope in scopes:
            if scope not in actor.key.scopes:
                raise FedportalError("scope_missing", scope=scope)
    if (
        actor.key is not None
        and actor.key.expires_at is not None
        and (expires_at is None or expires_at > actor.key.expires_at)
    ):
        raise FedportalError("field_invalid", field="expires_at", reason="it outlives the key it is made with.")
    if expires_at is not None and expires_at <= clock.now():
        raise FedportalError("field_invalid", field="expires_at", reason="it lies in the past.")
    if device_limit is not None and device_limit < 1:
        raise FedportalError("field_invalid", field="device_limit", reason="it must be at least 1.")


def _check_role(actor: Actor, scopes: list[str]) -> None:
    """Raises `forbidden` for a scope of which the person's role may do nothing."""
    role = permissions.role_of(actor)
    usable = roles.scopes_of(role) if role else ()
    for scope in scopes:
        if scope not in usable:
            having = [each.label for each in Role if scope in roles.scopes_of(each)]
            raise FedportalError(
                "forbidden", action=f"make a key for {scope}", who=f"It is of use to these roles: {', '.join(having)}."
            )


def _note_first_use(key_pk: int, device_pk: int) -> None:
    now = clock.now()
    with unit():
        if DeviceKey.objects.filter(pk=key_pk, first_used_at=None).update(first_used_at=now):
            older = Q(device=device_pk, pk__lt=key_pk, revoked_at=None)
            DeviceKey.objects.filter(older).update(revoked_at=now)


def _check_device(
    state: str, revoked_at: datetime | None, expires_at: datetime | None, suspended_at: datetime | None
) -> None:
    if state in (DeviceState.REVOKED, DeviceState.RETIRED):
        raise FedportalError("device_inactive", state=state)
    _check_alive(revoked_at, expires_at)
    if suspended_at is not None:
        raise FedportalError("organization_suspended")


def _check_alive(revoked_at: datetime | None, expires_at: datetime | None) -> None:
    if revoked_at is not None:
        raise FedportalError("key_revoked")
    if expires_at is not None and expires_at <= clock.now():
        raise FedportalError("key_expired", expired_at=expires_at.date().isoformat())


def _compare(token: str, stored: str | None) -> None:
    if not hmac.compare_digest(_hash(token), stored or "0" * 64):
        raise FedportalError("key_invalid")


def _hash(text: str) -> str:
    return hmac.digest(settings.FEDPORTAL_PEPPER.encode(), text.encode(), "sha256").hex()


def _check(lookup: str, secret: str) -> str:
    """CRC-32 of the rest in six characters: a mistyped key is told from an unknown one without the database."""
    number, text = zlib.crc32(f"edg_{lookup}_{secret}".encode()), ""
    for _ in range(CHECK):
        number, digit = divmod(number, len(ALPHABET))
        text = ALPHABET[digit] + text
    return text


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def holder_is_member(key: ApiKey) -> bool:
    """Whether the key's person still is in its organization."""
    return Membership.objects.filter(organization=key.organization_id, person=key.person_id).exists()
