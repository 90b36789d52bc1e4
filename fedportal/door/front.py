"""The door itself: raw ASGI in front of Django for what devices do all day, and a guard for everything else.

Django's handler writes a whole body to disk before anybody asked who sent it, and holds a thread per open request. So
waiting, uploads, downloads and answers are served here, and other addresses get only short bodies of a stated length.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from http.cookies import CookieError, SimpleCookie
from types import FrameType
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings

from fedportal.common import live
from fedportal.door import bells, callers, download, hooks, replies, threads, upload, waiting
from fedportal.door.hooks import Caller, DoorRequest
from fedportal.door.replies import Receive, Scope, Send
from fedwire import routes
from fedwire.errors import FedportalError

log = logging.getLogger(__name__)

# The longest body Django gets to see.
PAGE_BYTES = 1 << 20
# The longest JSON that a device sends to the door.
JSON_BYTES = 256 << 10

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ANSWER = hooks.compiled(routes.TASK_ANSWER)
_DECLINE = hooks.compiled(routes.TASK_DECLINE)
_NEXT = routes.TASK_NEXT
# What a device's own doors answer, for the table of routes; uploads and downloads are in `hooks.patterns()`.
ROUTES = (
    ("GET", routes.TASK_NEXT),
    ("POST", routes.TASK_ANSWER),
    ("POST", routes.TASK_DECLINE),
    ("POST", routes.DEVICE_ROTATE),
)


class Door:
    """The ASGI application: the door's own addresses, and `app` behind it for all others."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if "\0" in scope["path"] or b"%00" in scope["query_string"]:
                raise FedportalError("bad_request", reason="The address holds a character that is no text.")
            # Few coroutines inside one another: each of the thousands that wait holds all of them.
            serving = _serving(scope, receive, send) or self._guarded(scope, receive, send)
            await serving
        except TimeoutError:
            await replies.finish_error(send, receive, FedportalError("body_late"), unread=_content_length(scope))
        except FedportalError as error:
            await replies.finish_error(send, receive, error, unread=_content_length(scope))
        except Exception as error:
            # An answer that has begun cannot be taken back; then the server closes the connection.
            await replies.send_error(send, replies.unexpected(error, scope["path"]))

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _too_much(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await replies.finish_error(send, receive, refusal, unread=_content_length(scope) or 1)


def _serving(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None] | None:
    """What answers this address if it is the door's, not yet begun. Raises `method_not_allowed`."""
    path, method = scope["path"], scope["method"]
    if path == _NEXT:
        _allow(method, "GET")
        return waiting.next_task(scope, receive, send)
    if match := _ANSWER.fullmatch(path):
        _allow(method, "POST")
        return _answer(scope, receive, send, match["task"])
    if match := _DECLINE.fullmatch(path):
        _allow(method, "POST")
        return _decline(scope, receive, send, match["task"])
    if path == routes.DEVICE_ROTATE:
        _allow(method, "POST")
        return _rotate(scope, receive, send)
    return _serving_file(scope, receive, send)


def _serving_file(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None] | None:
    """The same for the addresses of uploads and downloads that upper floors registered."""
    path, method = scope["path"], scope["method"]
    if found := hooks.find_upload(path):
        resolver, params = found
        _allow(method, "PUT", "HEAD")
        request = _request(scope, params)
        if method == "HEAD":
            return upload.head(request, resolver, send)
        return upload.put(request, resolver, receive, send)
    if found_file := hooks.find_download(path):
        _allow(method, "GET", "HEAD")
        return download.get(_request(scope, found_file[1]), found_file[0], receive, send)
    return None


def _allow(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise FedportalError("method_not_allowed", method=method, allowed=list(allowed))


async def _answer(scope: Scope, receive: Receive, send: Send, task_id: str) -> None:
    body = await _json_body(scope, receive)
    token = replies.bearer(scope)

    def record() -> tuple[dict[str, Any], bool, Caller]:
        caller = callers.identify(token)
        return *hooks.desk().answer(caller, task_id, body), caller

    receipt, first, caller = await threads.record(record)
    waiting.hub.saw(caller.device_pk)
    await replies.send_json(send, 201 if first else 200, receipt)


async def _decline(scope: Scope, receive: Receive, send: Send, task_id: str) -> None:
    body = await _json_body(scope, receive)
    token = replies.bearer(scope)
    closed = await threads.record(lambda: hooks.desk().decline(callers.identify(token), task_id, body))
    await replies.send_json(send, 200, closed)


async def _rotate(scope: Scope, receive: Receive, send: Send) -> None:
    await _json_body(scope, receive)
    token = replies.bearer(scope)
    fresh = await threads.record(lambda: hooks.desk().rotate(callers.identify(token)))
    callers.forget(token)
    await replies.send_json(send, 200, fresh)


async def _json_body(scope: Scope, receive: Receive) -> bytes:
    """The whole short body. Raises `length_missing` for a chunked one, `body_too_large`; a cut raises body_short."""
    length = _content_length(scope)
    if replies.header(scope, b"transfer-encoding") is not None:
        raise FedportalError("length_missing")
    if length > JSON_BYTES:
        raise FedportalError("body_too_large", limit=JSON_BYTES)
    body = b""
    async with asyncio.timeout(upload.GRACE_SECONDS):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise FedportalError("body_short", unread=length - len(body))
            body += message.get("body", b"")
            if not message.get("more_body", False):
                return body


def _content_length(scope: Scope) -> int:
    """The announced length; 0 when none is."""
    value = replies.header(scope, b"content-length") or b"0"
    return int(value) if value.isdigit() and len(value) < 19 else 0


def _too_much(scope: Scope) -> FedportalError | None:
    """Why Django does not get to see this request's body."""
    if replies.header(scope, b"transfer-encoding") is not None:
        return FedportalError("length_missing")
    if _content_length(scope) > PAGE_BYTES:
        return FedportalError("body_too_large", limit=PAGE_BYTES)
    return None


def _request(scope: Scope, params: dict[str, str]) -> DoorRequest:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    cookies: dict[str, str] = {}
    if "cookie" in headers:
        with contextlib.suppress(CookieError):
            cookies = {name: morsel.value for name, morsel in SimpleCookie(headers["cookie"]).items()}
    token = replies.bearer(scope)

    def identify() -> Caller:
        caller = callers.identify(token)
        waiting.hub.saw(caller.device_pk)
        return caller

    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=50))
    return DoorRequest(scope["method"], token, cookies, params, headers, query, identify)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Start the hub and, with several processes, the bells; end every wait when the server is told to stop."""
    listener: asyncio.Task[None] | None = None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            waiting.hub.start()
            live.on_bell(waiting.hub.ring)
            live.attach_loop(asyncio.get_running_loop())  # news for browsers leave from this loop
            _close_on_signal(asyncio.get_running_loop())
            if settings.FEDPORTAL_REDIS_URL:
                listener = asyncio.ensure_future(bells.listen(settings.FEDPORTAL_REDIS_URL))
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            waiting.hub.close()
            live.attach_loop(None)
            if listener is not None:
                listener.cancel()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _close_on_signal(loop: asyncio.AbstractEventLoop) -> None:
    """Let waiting devices go as soon as the process is told to stop.

    The server waits for open requests before it ends the lifespan, and these are open for 25 seconds by design. So its
    own signal handlers, which are in place by now, are called through ours.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def handler(got: int, frame: FrameType | None, before: Any = before) -> None:
            loop.call_soon_threadsafe(waiting.hub.close)
            if callable(before):
                before(got, frame)

        signal.signal(number, handler)
