"""Being asked again who one is, before what would take an account over."""

from __future__ import annotations

from typing import Any

from federations.models import Person
from federations.services import second_factor, throttle
from fedportal.common import clock
from fedwire.errors import FedportalError

LASTS = 10 * 60
_KEY = "confirmed_at"


def note_confirmed(session: Any) -> None:
    """Remember in the browser's session that its person has just shown who they are."""
    session[_KEY] = clock.now().timestamp()


def is_confirmed(session: Any) -> bool:
    """Whether the person of this session has shown who they are in the last ten minutes."""
    age = clock.now().timestamp() - float(session.get(_KEY, 0))
    return 0 <= age < LASTS


def confirm(person: Person, password: str, code: str, ip: str) -> None:
    """Check the password, and the second factor where it is on. The caller then calls `note_confirmed`.

    Raises `sign_in_failed`, `code_wrong`, `too_many_tries`.
    """
    throttle.before_sign_in(ip, person.email)
    if not person.check_password(password):
        throttle.failed_sign_in(ip, person.email)
        raise FedportalError("sign_in_failed")
    if second_factor.is_on(person):
        second_factor.check(person, code, ip)
