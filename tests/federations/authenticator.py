"""An authenticator as people have it on their phone (RFC 6238), written apart from the portal's."""

from __future__ import annotations

import base64
import hmac
import time

STEP = 30


def code(secret: str, steps: int = 0) -> str:
    """What it shows now, or in `steps` half minutes. Each code counts once: ask for the next one to show another."""
    counter = int(time.time()) // STEP + steps
    digest = hmac.digest(base64.b32decode(secret.replace(" ", "")), counter.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**6:06d}"
