"""The second factor: codes of an authenticator (TOTP), and recovery codes for the day it is lost.

allauth keeps the rows, computes codes and asks for the second factor at sign-in; secrets rest encrypted.
"""

from __future__ import annotations

import logging
import secrets
from base64 import b32encode, b64encode
from collections.abc import Iterable
from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, validate_totp_code
from django.conf import settings

from federations import permissions
from federations.models import Person
from federations.services import audit, letters, throttle
from fedportal.common import clock
from fedportal.common.sealing import Unreadable
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

log = logging.getLogger(__name__)

SECRET_BYTES = 20
# A code stays right for this long (its half minute, and one before and after), and counts once.
CODE_SECONDS = 120
_TOTP, _RECOVERY = Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES


def is_on(person: Person) -> bool:
    """Whether the person's sign-in asks for a code."""
    return Authenticator.objects.filter(user=person, type=_TOTP).exists()


def people_with_it(person_pks: Iterable[int]) -> set[int]:
    """The primary keys of those of the people whose sign-in asks for a code. One query."""
    found = Authenticator.objects.filter(user__in=list(person_pks), type=_TOTP)
    return set(found.values_list("user_id", flat=True))


def new_secret() -> str:
    """A secret that an authenticator and the portal will share, in base 32."""
    return b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def picture(person: Person, secret: str) -> str:
    """The QR code that an authenticator reads, as an address of an image (`data:`)."""
    adapter = get_adapter()
    svg = adapter.build_totp_svg(adapter.build_totp_url(person, secret))
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def turn_on(person: Person, secret: str, code: str, ip: str) -> list[str]:
    """Ask for codes of `secret` from now on; the recovery codes, which are never shown again. A letter says so.

    Raises `code_wrong`, `conflict` when it is on already, `too_many_tries`.
    """
    throttle.before_sign_in(ip, person.email)
    if not validate_totp_code(secret, code) or not _first_use(person, code):
        throttle.failed_sign_in(ip, person.email)
        raise FedportalError("code_wrong")
    with unit():
        _lock(person)
        if is_on(person):
            raise FedportalError("conflict")
        TOTP.activate(person, secret)
        codes = _fresh_codes(person)
        audit.record(None, person, "person.second_factor_on", person.public_id)
        _tell(person, "second_factor_on")
    return codes


def check(person: Person, code: str, ip: str) -> None:
    """Check a code of the authenticator, or one of the recovery codes, which is then used up.

    Raises `code_wrong`, `too_many_tries`.
    """
    throttle.before_sign_in(ip, person.email)
    if _fits(person, code) or _is_recovery_code(person, code):
        return
    throttle.failed_sign_in(ip, person.email)
    raise FedportalError("code_wrong")


def codes_left(person: Person) -> int:
    """How many recovery codes are not used."""
    found = Authenticator.objects.filter(user=person, type=_RECOVERY).first()
    return len(RecoveryCodes(found).get_unused_codes()) if found else 0


def renew_codes(person: Person) -> list[str]:
    """New recovery codes, which are never shown again; the old ones end. Raises `conflict` when it is off."""
    with unit():
        _lock(person)
        if not is_on(person):
            raise FedportalError("conflict")
        codes = _fresh_codes(person)
        audit.record(None, person, "person.recovery_codes_renewed", person.public_id)
        _tell(person, "recovery_codes_renewed")
    return codes


def turn_off(person: Person, by: Person | str | None = None) -> bool:
    """Ask for no code any more; a letter says so. The caller has asked again who it is. Whether it was on.

    `by` is who does it for a person who lost authenticator and recovery codes: see `turn_off_by_staff`.
    """
    with unit():
        _lock(person)
        if not is_on(person):
            return False
        Authenticator.objects.filter(user=person).delete()
        audit.record(None, by or person, "person.second_factor_off", person.public_id)
        _tell(person, "second_factor_off")
    return True


def turn_off_by_staff(by: Person, person: Person) -> None:
    """Portal staff let a person in again who lost authenticator and recovery codes. Raises `forbidden`."""
    permissions.require_staff(by)
    turn_off(person, by)


def _fits(person: Person, code: str) -> bool:
    found = Authenticator.objects.filter(user=person, type=_TOTP).first()
    if found is None:
        return False
    try:
        secret = get_adapter().decrypt(found.data["secret"])
    except Unreadable:
        log.exception("the second factor of %s cannot be read", person.public_id)
        return False
    if not validate_totp_code(secret, code) or not _first_use(person, code):
        return False
    Authenticator.objects.filter(pk=found.pk).update(last_used_at=clock.now())
    return True


def _first_use(person: Person, code: str) -> bool:
    """Whether this code was not used before; counted in the database, for all processes."""
    digits = "".join(filter(str.isdigit, code))
    try:
        throttle.count("code used", f"{person.public_id} {digits}", 1, CODE_SECONDS)
    except FedportalError:
        return False
    return True


def _is_recovery_code(person: Person, code: str) -> bool:
    with unit():
        found = Authenticator.objects.filter(user=person, type=_RECOVERY).first()
        try:
            if found is None or not RecoveryCodes(found).validate_code(code):
                return False
        except Unreadable:
            log.exception("the recovery codes of %s cannot be read", person.public_id)
            return False
        left = codes_left(person)
        audit.record(None, person, "person.recovery_code_used", person.public_id, left=left)
        _tell(person, "recovery_code_used", left=left)
    return True


def _fresh_codes(person: Person) -> list[str]:
    Authenticator.objects.filter(user=person, type=_RECOVERY).delete()
    codes: list[str] = RecoveryCodes.activate(person).generate_codes()
    return [f"{code[:5]}-{code[5:]}" for code in codes]


def _lock(person: Person) -> None:
    """One change of a person's second factor happens after the other."""
    Person.objects.select_for_update(no_key=True).get(pk=person.pk)


def _tell(person: Person, kind: str, **values: Any) -> None:
    link = f"{settings.FEDPORTAL_PUBLIC_URL}/account/second-factor"
    letters.write(person.email, kind, link=link, person=person.name, **values)
