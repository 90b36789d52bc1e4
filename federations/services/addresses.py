"""Addresses of people: which are proven, and how one changes.

A person has one address. Its proof is a verified row of allauth's table, which allauth asks at every sign-in.
"""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import IntegrityError, transaction

from federations.models import Person
from federations.services import audit, letters, people, proofs, throttle
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

PURPOSE = "address"


def begin_change(person: Person, email: str, ip: str) -> proofs.Waiting:
    """Send a code to the new address; what waits for it belongs into the browser's session.

    The answer is the same when somebody else has this address. Raises `field_invalid`, `too_many_tries`.
    """
    address = people.checked_address(email)
    if address == person.email:
        raise FedportalError("field_invalid", field="email", reason="it is your address already.")
    throttle.before_proof(ip, address)
    waiting, code = proofs.begin(PURPOSE, address, person=person.public_id)
    with unit():
        if Person.objects.filter(email=address).exists():
            letters.write(address, "account_exists", link=f"{settings.FEDPORTAL_PUBLIC_URL}/sign-in")
        else:
            letters.write(address, "address_code", link=f"{settings.FEDPORTAL_PUBLIC_URL}/account/code", code=code)
    return waiting


def finish_change(person: Person, waiting: Any, code: str, ip: str) -> None:
    """The new address is the person's from now on; a letter to the old one says so.

    Raises `proof_expired`, `code_wrong`, `too_many_tries`.
    """
    said = proofs.check(waiting, PURPOSE, code, ip)
    if said["person"] != person.public_id:
        raise FedportalError("proof_expired")
    old, new = person.email, said["address"]
    with unit():
        try:
            with transaction.atomic():
                changed = Person.objects.filter(pk=person.pk, email=old).update(email=new)
        except IntegrityError:  # somebody else was faster, and proved it as well
            changed = 0
        if not changed:
            raise FedportalError("proof_expired")
        EmailAddress.objects.filter(user=person).delete()
        people.prove(person, new)
        audit.record(None, person, "person.address_changed", person.public_id, address=audit.commitment(new))
        letters.write(
            old,
            "address_changed",
            link=f"{settings.FEDPORTAL_PUBLIC_URL}/sign-in",
            person=person.name,
        )
    person.email = new
