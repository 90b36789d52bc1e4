"""What a portal and the receivers of its webhooks agree on: header names, the signature, and how old news may be."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from fedwire.errors import FedportalError

DELIVERY = "X-Fedportal-Delivery"
TIMESTAMP = "X-Fedportal-Timestamp"
SIGNATURE = "X-Fedportal-Signature"
# How far the clocks of portal and receiver may be apart; older news is somebody's repetition.
TOLERANCE_SECONDS = 300


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of the signature's header: `v1=` and the HMAC-SHA256 of "timestamp.body", hexadecimal."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> dict[str, Any]:
    """The news in `body`, if the portal that knows `secret` sent it within five minutes of `now`.

    `headers` are those of the request, in any spelling; `body` its bytes as they came. `news["id"]` stays the same when
    a delivery is repeated: keep it, and do nothing the second time. Raises `webhook_invalid`.
    """
    found = {name.lower(): value for name, value in headers.items()}
    timestamp, signature = found.get(TIMESTAMP.lower(), ""), found.get(SIGNATURE.lower(), "")
    if not timestamp or not signature:
        raise FedportalError("webhook_invalid", reason="it carries no signature.")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise FedportalError("webhook_invalid", reason="its timestamp is no number.")
    if not hmac.compare_digest(signature.encode(), sign(secret, timestamp, body).encode()):
        raise FedportalError("webhook_invalid", reason="its signature is not that of this secret.")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_SECONDS:
        raise FedportalError("webhook_invalid", reason="it was sent more than five minutes ago, or the clock is wrong.")
    try:
        news = json.loads(body)
    except ValueError as error:
        raise FedportalError("webhook_invalid", reason="its body is not JSON.") from error
    if not isinstance(news, dict):
        raise FedportalError("webhook_invalid", reason="its body is not a JSON object.")
    return news
