"""Guessing and flooding are slowed down: how often somebody may try, by network, account, sender and recipient.

Counts live in the database, so that all processes share them; times are kept exactly (a sliding window), subjects only
as hashes.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings

from federations.models import Tries
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

MINUTE, HOUR, DAY = 60, 60 * 60, 24 * 60 * 60
# Sign-ins, sign-ups and looks at invitation links: by network.
PER_NETWORK, PER_NETWORK_SECONDS = 20, MINUTE
# Wrong passwords: few for an account from one network, so that a stranger elsewhere cannot lock its person out, and
# more, but not without end, for the account from everywhere.
FAILURES, FAILURE_SECONDS = 10, 15 * MINUTE
ALL_FAILURES, ALL_FAILURE_SECONDS = 100, HOUR
RESETS, RESET_SECONDS = 5, HOUR
# Letters with a code that proves an address, to one address.
PROOFS, PROOF_SECONDS = 5, HOUR
# Deliveries to an organization's webhooks that its people send by hand.
HOOKS, HOOK_SECONDS = 30, MINUTE
# Letters that people cause to be sent to others, in a day.
LETTERS_BY_PERSON, LETTERS_BY_ORGANIZATION, LETTERS_TO_ONE = 200, 400, 10


def before_sign_in(ip: str, account: str) -> None:
    """Count a sign-in from `ip`, or the typing of a password or code for an account that is known already.

    Raises `too_many_tries` for its network or an account with too many failures.
    """
    count("sign-in", network_of(ip), PER_NETWORK, PER_NETWORK_SECONDS)
    check("failure", f"{account} {network_of(ip)}", FAILURES, FAILURE_SECONDS)
    check("failure", account, ALL_FAILURES, ALL_FAILURE_SECONDS)


def failed_sign_in(ip: str, account: str) -> None:
    """Count a wrong password or code against the account, whether or not it exists."""
    count("failure", f"{account} {network_of(ip)}", FAILURES, FAILURE_SECONDS)
    count("failure", account, ALL_FAILURES, ALL_FAILURE_SECONDS)


def before_reset(ip: str, account: str) -> None:
    """Count a request for a reset letter. Raises `too_many_tries`."""
    count("sign-in", network_of(ip), PER_NETWORK, PER_NETWORK_SECONDS)
    count("reset", account, RESETS, RESET_SECONDS)


def before_proof(ip: str, address: str) -> None:
    """Count a letter with a code that somebody at `ip` wants sent to `address`. Raises `too_many_tries`."""
    before_sign_up(ip)
    before_code_letter(address)


def before_sign_up(ip: str) -> None:
    """Count a form of somebody who wants to sign up. Raises `too_many_tries`."""
    count("sign-up", network_of(ip), PER_NETWORK, PER_NETWORK_SECONDS)


def before_code_letter(address: str) -> None:
    """Count a letter with a code for `address`, whether or not it has an account. Raises `too_many_tries`."""
    count("proof", address, PROOFS, PROOF_SECONDS)


def before_code(ip: str) -> None:
    """Count the typing of a code from a letter. Raises `too_many_tries`."""
    count("sign-in", network_of(ip), PER_NETWORK, PER_NETWORK_SECONDS)


def before_token(ip: str) -> None:
    """Count a look at an invitation link from `ip`. Raises `too_many_tries`."""
    count("token", network_of(ip), PER_NETWORK, PER_NETWORK_SECONDS)


def before_provider(ip: str) -> None:
    """Count a step of a single sign-on, of which each has two. Raises `too_many_tries`."""
    count("provider", network_of(ip), 2 * PER_NETWORK, PER_NETWORK_SECONDS)


def before_hook(organization: str) -> None:
    """Count a delivery that people of `organization` (public id) send by hand. Raises `too_many_tries`."""
    count("hook", organization, HOOKS, HOOK_SECONDS)


def before_founding(ip: str) -> None:
    """Count an organization that somebody founds. Raises `too_many_tries`."""
    count("sign-up", network_of(ip), PER_NETWORK, PER_NETWORK_SECONDS)


def before_letters(person: str, organization: str, recipients: Sequence[str]) -> None:
    """Count letters that `person` of `organization` (public ids) sends: to addresses, or to organizations (public ids).

    Call it in the unit in which they are written. Raises `too_many_letters`; then none is counted.
    """
    try:
        count("letter by", person, LETTERS_BY_PERSON, DAY, len(recipients))
        count("letter by", organization, LETTERS_BY_ORGANIZATION, DAY, len(recipients))
        for recipient in sorted(recipients):  # rows are locked in one order
            count("letter to", recipient, LETTERS_TO_ONE, DAY)
    except FedportalError as error:
        hours = math.ceil(error.context["seconds"] / HOUR)
        raise FedportalError("too_many_letters", hours=hours, seconds=error.context["seconds"]) from error


def count(kind: str, whom: str, limit: int, seconds: int, tries: int = 1) -> None:
    """Count `tries`, of which `limit` (at least `tries`) are free in any `seconds`. Raises `too_many_tries`.

    What is refused does not count.
    """
    now = clock.now()
    with unit():
        row, _ = Tries.objects.select_for_update(no_key=True).get_or_create(
            subject=_subject(kind, whom), defaults={"keep_until": now}
        )
        recent = _recent(row.times, seconds)
        if len(recent) + tries <= limit:
            row.times = recent + [now.timestamp()] * tries
            row.keep_until = now + timedelta(seconds=seconds)
            row.save(update_fields=["times", "keep_until"])
            return
    raise _too_many(recent[len(recent) + tries - limit - 1 :], seconds)


def check(kind: str, whom: str, limit: int, seconds: int) -> None:
    """Raises `too_many_tries` if `limit` tries were counted in the last `seconds`."""
    row = Tries.objects.filter(subject=_subject(kind, whom)).first()
    recent = _recent(row.times, seconds) if row else []
    if len(recent) >= limit:
        raise _too_many(recent, seconds)


def sweep() -> int:
    """Forget what no window reaches any more; how many rows."""
    return Tries.objects.filter(keep_until__lt=clock.now()).delete()[0]


def address_of(request: Any) -> str:
    """The network address a Django or DRF request came from; behind our own proxy, the one the proxy saw."""
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", ""))
    if settings.FEDPORTAL_BEHIND_PROXY and forwarded:
        return forwarded.rpartition(",")[2].strip()
    return str(request.META.get("REMOTE_ADDR", ""))


def network_of(ip: str) -> str:
    """What one household or hospital holds: an IPv4 address, or the /64 around an IPv6 address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return ip
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def _recent(times: list[float], seconds: int) -> list[float]:
    since = clock.now().timestamp() - seconds
    return [time for time in times if time > since]


def _too_many(recent: list[float], seconds: int) -> FedportalError:
    """Tries are free again when the first of `recent` leaves the window."""
    wait = recent[0] + seconds - clock.now().timestamp()
    return FedportalError("too_many_tries", seconds=max(1, math.ceil(wait)))


def _subject(kind: str, whom: str) -> str:
    return hashlib.sha256(f"{kind}\n{whom}".encode()).hexdigest()
