"""Files of versions on their way out: which file answers for a form, and links that open one of them for minutes.

A link is an address with a signature. It is good for one file, by its digest, and for whom it was made: it opens
nothing any more once that person, or the key they came with, could not fetch the file themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.core.signing import BadSignature, Signer

from federations import permissions
from federations.models import ApiKey, Organization, Person
from federations.permissions import Actor
from federations.services import keys
from fedportal.common import clock
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.formats import SAFETENSORS
from registry import formats, selectors, tasks
from registry.models import Artifact, Model, ModelVersion

LINKS_LAST = timedelta(minutes=5)


@dataclass(frozen=True)
class Deliverable:
    """A file of a version. `blob` is its SHA-256."""

    version: ModelVersion
    form: str
    blob: str
    size: int


@dataclass(frozen=True)
class Link:
    """Where a file can be fetched without a key, until when, and what it then must be."""

    url: str
    format: str
    version: str
    sha256: str
    size: int
    expires_at: datetime


def find(actor: Actor, model: str, version: str, form: str) -> Deliverable:
    """The file that answers for this form of a version.

    Raises `format_pending` while a worker makes it, and `format_unavailable`, `format_needs_architecture` or
    `format_failed` when there is none.
    """
    named = formats.canonical(form)
    found = selectors.find_model(actor, model)
    permissions.require(actor, "model.pull", found)
    of = selectors.find_version(found, version)
    if named == SAFETENSORS:
        return Deliverable(of, named, of.blob, of.size)
    made = tasks.order(actor, of, named)
    if made.state == Artifact.State.FAILED:
        left = ", ".join(one for one in formats.possible(of.architecture) if one != named)
        raise FedportalError("format_failed", format=named, reason=made.reason, available=left)
    if made.state == Artifact.State.PENDING:
        address = routes.MODEL_LINK.format(model=found.public_id, version=of.version)
        raise FedportalError("format_pending", format=named, ask=f"{address}?{urlencode({'format': named})}")
    return Deliverable(of, named, made.blob, made.size)


def link(actor: Actor, model: str, version: str, form: str) -> Link:
    """A link to the file, for this actor. Raises what `find` raises."""
    file = find(actor, model, version, form)
    assert actor.organization is not None  # who may pull acts for an organization
    expires = clock.now().replace(microsecond=0) + LINKS_LAST
    who = (actor.person.public_id, actor.organization.public_id, actor.key.public_id if actor.key else "-")
    of, number = file.version.model, file.version.version
    text = "/".join((file.form, file.blob, *who, str(int(expires.timestamp()))))
    address = routes.MODEL_FILE.format(model=of.public_id, version=number)
    query = urlencode({"link": _signer(of.public_id, number).sign(text)})
    url = f"{settings.FEDPORTAL_PUBLIC_URL.rstrip('/')}{address}?{query}"
    return Link(url, file.form, number, file.blob, file.size, expires)


def opened(model: str, version: str, text: str) -> Deliverable:
    """The file that a link opens. Raises `link_invalid` for one that is not the portal's, and `link_expired`."""
    try:
        form, blob, person, organization, key, until = _signer(model, version).unsign(text).split("/")
    except BadSignature as error:
        raise FedportalError("link_invalid") from error
    if int(until) <= clock.now().timestamp():
        raise FedportalError("link_expired")
    try:
        file = find(_holder(person, organization, key), model, version, form)
    except FedportalError as error:
        raise FedportalError("link_expired") from error  # whoever holds only a link learns nothing more
    if file.blob != blob:
        raise FedportalError("link_expired")
    return file


def states(actor: Actor, model: str, version: str) -> list[selectors.File]:
    """Every form of a version there is or could be, and how far it is."""
    found: Model = selectors.find_model(actor, model)
    return selectors.files_of(selectors.find_version(found, version))


def _holder(person: str, organization: str, key: str) -> Actor:
    """Who the link was made for, as they are now. Raises the error with which they would be refused."""
    if key != "-":
        row = ApiKey.objects.select_related("organization", "person").filter(public_id=key).first()
        if row is None:
            raise FedportalError("key_revoked")
        keys.check_usable(row)
        return Actor(row.person, row.organization, row)
    who = Person.objects.filter(public_id=person, is_active=True, memberships__organization__public_id=organization)
    found, of = who.first(), Organization.objects.filter(public_id=organization).first()
    if found is None or of is None:
        raise FedportalError("not_authenticated")
    return Actor(found, of)


def _signer(model: str, version: str) -> Signer:
    """Signs for one version only."""
    return Signer(salt=f"registry.deliverables:{model}:{version}")
