"""Guessing is slowed down: how often somebody may try, by address of the network and by account.

Counts live in the database, so that all processes share them; times are kept exactly (a sliding window), subjects only
as hashes.
"""

from __future__ import annotations

import hashlib
import math
from datetime import timedelta
from typing import Any

from django.conf import settings

from federations.models import Tries
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

MINUTE = 60
PER_IP, PER_IP_SECONDS = 20, MINUTE
FAILURES, FAILURE_SECONDS = 10, 15 * MINUTE
RESETS, RESET_SECONDS = 5, 60 * MINUTE


def before_sign_in(ip: str, account: str) -> None:
    """Count a sign-in from `ip`. Raises `too_many_tries` for it or for an account with too many failures."""
    count("sign-in", ip, PER_IP, PER_IP_SECONDS)
    check("failure", account, FAILURES, FAILURE_SECONDS)


def failed_sign_in(account: str) -> None:
    """Count a wrong password against the account, whether or not it exists."""
    count("failure", account, FAILURES, FAILURE_SECONDS)


def before_reset(ip: str, account: str) -> None:
    """Count a request for a reset letter. Raises `too_many_tries`."""
    count("sign-in", ip, PER_IP, PER_IP_SECONDS)
    count("reset", account, RESETS, RESET_SECONDS)


def before_token(ip: str) -> None:
    """Count a look at an invitation link from `ip`. Raises `too_many_tries`."""
    count("token", ip, PER_IP, PER_IP_SECONDS)


def before_sign_up(ip: str) -> None:
    """Count a sign-up from `ip`. Raises `too_many_tries`."""
    count("sign-up", ip, PER_IP, PER_IP_SECONDS)


def count(kind: str, whom: str, limit: int, seconds: int) -> None:
    """Count one try, at most `limit` in any `seconds`. Raises `too_many_tries`; what is refused does not count."""
    now = clock.now()
    with unit():
        row, _ = Tries.objects.select_for_update(no_key=True).get_or_create(
            subject=_subject(kind, whom), defaults={"keep_until": now}
        )
        recent = _recent(row.times, seconds)
        if len(recent) < limit:
            row.times = [*recent, now.timestamp()]
            row.keep_until = now + timedelta(seconds=seconds)
            row.save(update_fields=["times", "keep_until"])
            return
    raise _too_many(recent, seconds)


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


def _recent(times: list[float], seconds: int) -> list[float]:
    since = clock.now().timestamp() - seconds
    return [time for time in times if time > since]


def _too_many(recent: list[float], seconds: int) -> FedportalError:
    wait = recent[0] + seconds - clock.now().timestamp()
    return FedportalError("too_many_tries", seconds=max(1, math.ceil(wait)))


def _subject(kind: str, whom: str) -> str:
    return hashlib.sha256(f"{kind}\n{whom}".encode()).hexdigest()
