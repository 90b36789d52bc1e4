"""Signing up by oneself: nobody has an account before the address is proven.

So nobody can prepare an account, an organization or a membership in it for the holder of an address: what was asked for
waits in the browser that asked, with a hash of the password. People whose address is proven otherwise (an invitation's
letter, an operator's command) come through `people`.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

from federations.models import Organization, Person
from federations.services import letters, names, organizations, people, proofs, throttle
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

PURPOSE = "sign-up"


def begin(email: str, password: str, name: str, organization_name: str, ip: str) -> proofs.Waiting:
    """Send a code to the address; what waits for it belongs into the browser's session.

    The answer and its time are the same when the address has an account; then a letter says that it has.
    Raises `field_invalid`, `too_many_tries`, and what founding the organization would raise.
    """
    people.checked_address(email)
    throttle.before_sign_up(ip)  # before the password is hashed, which is dear, and before a name is looked for
    newcomer = people.prepare(email, password, name)
    if organization_name:
        _check_free(names.checked(organization_name))
    throttle.before_code_letter(newcomer.email)
    waiting, code = proofs.begin(
        PURPOSE, newcomer.email, person=newcomer.name, password=newcomer.password, organization=organization_name
    )
    with unit():
        if Person.objects.filter(email=newcomer.email).exists():
            letters.write(newcomer.email, "account_exists", link=f"{settings.FEDPORTAL_PUBLIC_URL}/sign-in")
        else:
            link = f"{settings.FEDPORTAL_PUBLIC_URL}/sign-up/code"
            letters.write(newcomer.email, "sign_up_code", link=link, code=code, person=letters.as_words(newcomer.name))
    return waiting


def finish(waiting: Any, code: str, ip: str) -> Person:
    """The new person, whose address is now proven, and their organization if they named one.

    Raises `proof_expired`, `code_wrong`, `too_many_tries`, and `name_taken` for an organization that somebody founded
    meanwhile; then nobody is signed up.
    """
    said = proofs.check(waiting, PURPOSE, code, ip)
    newcomer = Person(email=said["address"], name=said["person"], password=said["password"])
    with unit():
        try:
            person = people.admit(newcomer)
        except FedportalError as error:  # the address came by another way meanwhile, by an invitation say
            raise FedportalError("proof_expired") from error
        if said["organization"]:
            organizations.found(said["organization"], person)
        people.note_sign_up(person)
    return person


def _check_free(name: str) -> None:
    if Organization.objects.filter(name__iexact=name).exists():
        raise FedportalError("name_taken", what="organization", name=name)
