"""What the door sends back: JSON, errors of the catalogue, nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from django.conf import settings

from fedwire.errors import FedportalError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

log = logging.getLogger(__name__)

# Nothing here is a page, and nothing may be kept by a cache on the way.
SAFE: list[Header] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
if settings.SECURE_HSTS_SECONDS:
    SAFE.append((b"strict-transport-security", b"max-age=%d" % settings.SECURE_HSTS_SECONDS))
# Of a refused body this much is read and thrown away, so that the sender gets to read the refusal.
DRAIN_BYTES = 64 << 20
DRAIN_SECONDS = 2.0


async def send_bytes(send: Send, status: int, body: bytes, headers: Iterable[Header] = ()) -> None:
    """A whole response. 204 and 304 have no body and no length."""
    fields = [*SAFE, *headers]
    if status not in (204, 304):
        fields.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, value: Any, headers: Iterable[Header] = ()) -> None:
    """A JSON response."""
    body = json.dumps(value, separators=(",", ":")).encode()
    await send_bytes(send, status, body, [(b"content-type", b"application/json"), *headers])


def error_headers(error: FedportalError) -> list[Header]:
    """401 says how to sign in, 503 when to come back, and whoever uploads where to continue."""
    headers: list[Header] = []
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    if isinstance(error.context.get("allowed"), list):
        headers.append((b"allow", ", ".join(error.context["allowed"]).encode("ascii")))
    if isinstance(error.context.get("stored"), int):
        headers.append((b"upload-offset", b"%d" % error.context["stored"]))
    return headers


async def send_error(send: Send, error: FedportalError, headers: Iterable[Header] = ()) -> None:
    """The error's body with its status."""
    await send_json(send, error.status, error.body(), [*error_headers(error), *headers])


async def finish_error(send: Send, receive: Receive, error: FedportalError, *, unread: int) -> None:
    """Refuse a request of whose body `unread` bytes are still to come."""
    await finish(send, receive, error.status, error.body(), error_headers(error), unread=unread)


async def finish(
    send: Send, receive: Receive, status: int, value: Any, headers: Iterable[Header] = (), *, unread: int
) -> None:
    """Answer a request of whose body `unread` bytes are still to come, and end the connection if there are any.

    Closing a connection on a sender that is still sending destroys the answer on its way, so what comes is read and
    thrown away for a moment first.
    """
    if unread <= 0:
        await send_json(send, status, value, headers)
        return
    body = json.dumps(value, separators=(",", ":")).encode()
    length = (b"content-length", b"%d" % len(body))
    fields = [*SAFE, (b"content-type", b"application/json"), *headers, length, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    # Whoever waits for "100 Continue" has sent nothing and reads the answer; for the others the body is drained.
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await _drain(receive, min(unread, DRAIN_BYTES))
    await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive, count: int) -> None:
    while count > 0:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
        count -= len(message.get("body", b""))


def unexpected(error: BaseException, path: str) -> FedportalError:
    """The catalogue's word for an error nobody expected; its reference is in the log."""
    reference = secrets.token_hex(4)
    log.error("reference %s at %s", reference, path, exc_info=error)
    return FedportalError("internal", reference=reference)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def bearer(scope: Scope) -> str:
    """The key in `Authorization: Bearer …`, or "" when there is none."""
    value = header(scope, b"authorization") or b""
    scheme, _, token = value.partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""
