"""Proving an address by a code from a letter, typed into the page that asked for it.

What waits for the proof lives in the browser's session and nowhere else. So there is nothing that somebody could
prepare for the holder of an address, and a code is worth nothing in another browser.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings

from federations.services import throttle
from fedportal.common import clock
from fedwire.errors import FedportalError

LASTS = timedelta(minutes=30)
TRIES, DIGITS = 5, 8
Waiting = dict[str, Any]


def begin(purpose: str, address: str, **said: Any) -> tuple[Waiting, str]:
    """What waits for the proof of `address` (plain JSON, without the code), and the code for the letter."""
    code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
    name = secrets.token_hex(16)
    ends = (clock.now() + LASTS).timestamp()
    waiting = {**said, "purpose": purpose, "address": address, "name": name, "ends": ends, "hash": _hash(name, code)}
    return waiting, f"{code[:4]}-{code[4:]}"


def check(waiting: Any, purpose: str, code: str, ip: str) -> Waiting:
    """What was said at `begin`, for the right code. Five tries are free, in however many browsers.

    Raises `proof_expired`, `code_wrong`, `too_many_tries`.
    """
    if not isinstance(waiting, dict) or waiting.get("purpose") != purpose:
        raise FedportalError("proof_expired")
    if clock.now().timestamp() >= waiting["ends"]:
        raise FedportalError("proof_expired")
    throttle.before_code(ip)
    try:
        throttle.count("code", waiting["name"], TRIES, throttle.DAY)
    except FedportalError as error:
        raise FedportalError("proof_expired") from error
    typed = "".join(filter(str.isalnum, code))
    if not hmac.compare_digest(_hash(waiting["name"], typed), waiting["hash"]):
        raise FedportalError("code_wrong")
    return waiting


def _hash(name: str, code: str) -> str:
    return hmac.digest(settings.FEDPORTAL_PEPPER.encode(), f"code\n{name}\n{code}".encode(), "sha256").hex()
