"""People: how they come to be, sign in, passwords.

Whoever is here has proven their address: by a code (`newcomers`), by an invitation's letter, or an operator vouches.
"""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib.auth import authenticate, password_validation
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from federations import permissions
from federations.models import Person
from federations.permissions import Actor
from federations.services import audit, keys, letters, organizations, throttle
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError


def sign_up(email: str, password: str, name: str = "", organization_name: str = "") -> Person:
    """A new person whose address needs no proof, with an organization of their own if a name for it is given.

    For programs; whoever signs up by themselves comes through `newcomers`. Raises `field_invalid` for an unusable
    address or password, `name_taken`, and what `organizations.found` raises; then nobody is signed up.
    """
    newcomer = prepare(email, password, name)
    with unit():
        person = admit(newcomer)
        if organization_name:
            organizations.found(organization_name, person)
        note_sign_up(person)
    return person


def has_account(email: str) -> bool:
    """Whether somebody has signed up with this address. For those only who have shown that it is theirs."""
    return Person.objects.filter(email=Person.objects.normalize(email)).exists()


def prepare(email: str, password: str, name: str = "") -> Person:
    """A new person who is not stored yet, for `admit`. Call it outside a unit: hashing a password takes a while.

    Raises `field_invalid`.
    """
    address = checked_address(email)
    newcomer = Person(email=address, name=checked_name(name))
    check_password(password, newcomer)
    newcomer.set_password(password)
    return newcomer


def admit(newcomer: Person) -> Person:
    """Store the person whom `prepare` made and whose address is proven, inside a unit that ends with `note_sign_up`.

    Raises `name_taken` when the address has an account.
    """
    try:
        with transaction.atomic():
            newcomer.save(force_insert=True)
            prove(newcomer, newcomer.email)
    except IntegrityError as error:
        raise FedportalError("name_taken", what="person", name=newcomer.email) from error
    return newcomer


def note_sign_up(person: Person) -> None:
    """The entry in the portal's log, the last act of the unit, for everybody waits for that chain."""
    audit.record(None, person, "person.signed_up", person.public_id)


def prove(person: Person, address: str) -> bool:
    """Note that `address` of the person is proven (inside the unit of that act); whether it was not before."""
    known, made = EmailAddress.objects.get_or_create(
        user=person, email=address, defaults={"verified": True, "primary": True}
    )
    if not made and not known.verified:
        EmailAddress.objects.filter(pk=known.pk).update(verified=True, primary=True)
        return True
    return bool(made)


def is_proven(person: Person) -> bool:
    """Whether the person has shown that letters to their address reach them."""
    return bool(EmailAddress.objects.filter(user=person, email=person.email, verified=True).exists())


def sign_in(email: str, password: str, ip: str) -> Person:
    """The person with this address and password. The caller goes on with the further steps of the sign-in.

    Raises `sign_in_failed`, or `too_many_tries` whether or not the password is right; an unknown address costs the
    same time as a wrong password. Raises `address_unproven` for the right password of a person with such an address.
    """
    account = Person.objects.normalize(email)
    throttle.before_sign_in(ip, account)
    person = authenticate(username=account, password=password)
    if not isinstance(person, Person):
        throttle.failed_sign_in(ip, account)
        raise FedportalError("sign_in_failed")
    if not is_proven(person):
        raise FedportalError("address_unproven")
    return person


def request_reset(email: str, ip: str) -> None:
    """Send a link to choose a new password, if there is such a person; the answer and its time are the same if not.

    Raises `too_many_tries`.
    """
    address = Person.objects.normalize(email)
    throttle.before_reset(ip, address)
    found = Person.objects.filter(email=address, is_active=True).first()
    person = found or Person(email=address)
    uid = urlsafe_base64_encode(force_bytes(person.public_id))
    link = f"{settings.FEDPORTAL_PUBLIC_URL}/password-reset/{uid}/{default_token_generator.make_token(person)}"
    with unit():
        letters.write(person.email, "password_reset", link=link, person=person.name)
        audit.record(None, person, "person.reset_requested", person.public_id)
        if found is None:  # the work is done, and leaves nothing
            transaction.set_rollback(True)


def person_of_reset(uid: str, token: str) -> Person:
    """Whose password this link changes. Raises `not_found` when it is used, too old or wrong."""
    try:
        public_id = urlsafe_base64_decode(uid).decode()
    except ValueError as error:
        raise FedportalError("not_found", what="reset link") from error
    person = Person.objects.filter(public_id=public_id, is_active=True).first() if public_id.isprintable() else None
    if person is None or not default_token_generator.check_token(person, token):
        raise FedportalError("not_found", what="reset link")
    return person


def reset_password(uid: str, token: str, password: str) -> Person:
    """Choose a new password by the letter's link, which proves the address; open sessions and API keys end, and a
    letter says so. A second factor stays on.

    Raises `not_found`, `field_invalid`.
    """
    person = person_of_reset(uid, token)
    _set_password(person, password, by_letter=True)
    return person


def change_password(actor: Actor, old: str, new: str, ip: str) -> None:
    """Change one's own password; open sessions and API keys end, and a letter says so.

    Raises `sign_in_failed` for a wrong old one, `field_invalid`, `too_many_tries`.
    """
    throttle.before_sign_in(ip, actor.person.email)
    if actor.key is not None or not actor.person.check_password(old):
        throttle.failed_sign_in(ip, actor.person.email)
        raise FedportalError("sign_in_failed")
    _set_password(actor.person, new)


def rename(person: Person, name: str) -> None:
    """Change how one is called here. Raises `field_invalid`."""
    shown = checked_name(name)
    with unit():
        if Person.objects.filter(pk=person.pk).exclude(name=shown).update(name=shown):
            audit.record(None, person, "person.renamed", person.public_id)


def set_active(by: Person, person: Person, active: bool) -> None:
    """Portal staff lock a person out, sessions and keys at once, or let them in again. Raises `forbidden`."""
    permissions.require_staff(by)
    with unit():
        if Person.objects.filter(pk=person.pk, is_active=not active).update(is_active=active):
            audit.record(None, by, "person.activated" if active else "person.deactivated", person.public_id)


def checked_address(email: str) -> str:
    """The one spelling of an address. Raises `field_invalid`.

    Only ASCII: look-alike letters of other scripts would make two people of one address, or one of two.
    """
    if not email.isascii():
        raise FedportalError("field_invalid", field="email", reason="use an address in plain ASCII letters.")
    address = Person.objects.normalize(email)
    try:
        if len(address) > 254:
            raise ValidationError("too long")
        validate_email(address)
    except ValidationError as error:
        raise FedportalError("field_invalid", field="email", reason="it is not an email address.") from error
    return address


def checked_name(name: str) -> str:
    """How a person is called, in one spelling. Raises `field_invalid`."""
    shown = " ".join(name.split())
    if len(shown) > 100 or not shown.isprintable():
        raise FedportalError("field_invalid", field="name", reason="it needs at most 100 printable characters.")
    return shown


def check_password(password: str, person: Person) -> None:
    """Raises `field_invalid` for a password that is too short, too common or too like the person."""
    try:
        password_validation.validate_password(password, person)
    except ValidationError as error:
        raise FedportalError("field_invalid", field="password", reason=" ".join(error.messages)) from error
    if len(password) > 1000:  # hashing it would be work for free
        raise FedportalError("field_invalid", field="password", reason="it is longer than 1000 characters.")


def _set_password(person: Person, password: str, *, by_letter: bool = False) -> None:
    """Whoever has the old password or what was opened with it is out: sessions by Django's hash of it, keys here."""
    check_password(password, person)
    before = person.password
    person.set_password(password)
    with unit():
        if not Person.objects.filter(pk=person.pk, password=before).update(password=person.password):
            raise FedportalError("conflict")
        ended = keys.revoke_every(person)
        said = {"address_verified": True} if by_letter and prove(person, person.email) else {}
        audit.record(None, person, "person.password_changed", person.public_id, keys_revoked=ended, **said)
        letters.write(
            person.email,
            "password_changed",
            link=f"{settings.FEDPORTAL_PUBLIC_URL}/password-reset",
            person=person.name,
            keys=ended,
        )
