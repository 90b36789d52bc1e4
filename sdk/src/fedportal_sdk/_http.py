"""HTTP to one portal: few copies, little work per request, and every failure as a `FedportalError`.

Connections are kept open. Certificates are always checked. Redirects are not followed: a key goes to the address its
owner named and nowhere else.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
import urllib.request
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, SSLError

from fedwire.errors import FedportalError
from fedwire.version import PROTOCOL, VERSION

log = logging.getLogger("fedportal")

USER_AGENT = f"fedportal-sdk/{VERSION} protocol/{PROTOCOL}"
BLOCK = 1 << 20
TIMEOUT = 20.0
Response = urllib3.BaseHTTPResponse


class Http:
    """Requests to the portal at `url` with `token` as bearer key. Threads may share one."""

    def __init__(self, url: str, token: str = "", *, ca_file: str | None = None, timeout: float = TIMEOUT) -> None:
        self.url = url
        self._timeout = timeout
        self._open: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._manager, self._prefix = self._connect(url, ca_file)
        self._base_headers: dict[str, str] = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        self.token = token

    @property
    def token(self) -> str:
        """The bearer key of the requests to come."""
        return self._token

    @token.setter
    def token(self, token: str) -> None:
        self._token = token
        self._headers = self.headers_for(token)

    def headers_for(self, token: str) -> dict[str, str]:
        """The headers that every request with this key carries."""
        return {**self._base_headers, "Authorization": f"Bearer {token}"} if token else dict(self._base_headers)

    def json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The answer's JSON, None when it has none. `path` may carry a query. Raises `FedportalError`."""
        headers = self._headers if token is None else self.headers_for(token)
        content = None
        if body is not None:
            content = _content(body)
            headers = {**headers, "Content-Type": "application/json"}
        response = self._send(method, path, content, headers, timeout, preload=True)
        if response.status >= 300:
            raise error_of(response.status, response.data, self.url)
        return _parsed(response.data, self.url) if response.data else None

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        stream: bool = False,
    ) -> Response:
        """The raw response below status 300. With `stream` its body is not read yet: use it with `reading`.

        Raises `FedportalError` for every other status and for every failure of the connection.
        """
        response = self._send(method, path, body, {**self._headers, **(headers or {})}, timeout, preload=not stream)
        if response.status >= 300:
            with self.reading(response):
                raise error_of(response.status, response.data, self.url)
        return response

    def reading(self, response: Response) -> _Reading:
        """A context in which the body of `response` is read; failures inside become `FedportalError`."""
        return _Reading(response, self.url)

    def interrupt(self) -> None:
        """Cut every connection, so that a thread that waits for an answer gets on. Later requests connect anew."""
        for connection in list(self._open):
            try:
                sock = connection.sock
                if sock is not None:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Close the connections that nobody uses at the moment."""
        self._manager.close() if isinstance(self._manager, urllib3.HTTPConnectionPool) else self._manager.clear()

    def _send(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], timeout: float | None, *, preload: bool
    ) -> Response:
        try:
            response = self._manager.urlopen(
                method,
                self._prefix + path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=timeout or self._timeout,
                preload_content=preload,
                decode_content=False,
            )
        except SSLError as error:
            raise FedportalError("tls_failed", url=self.url, reason=_reason(error)) from error
        except (HTTPError, OSError) as error:
            raise unreachable(self.url, error) from error
        return response

    def _connect(self, url: str, ca_file: str | None) -> tuple[urllib3.HTTPConnectionPool | urllib3.PoolManager, str]:
        """Who sends the requests, and what stands before a path: nothing much, or the whole address for a proxy."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        options: dict[str, Any] = {"maxsize": 2, "blocksize": BLOCK}
        if parts.scheme == "https" and ca_file:
            options["ca_certs"] = ca_file
        pools = _watched_pools(self._open)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(host):
            manager = urllib3.ProxyManager(proxy, **options)
            manager.pool_classes_by_scheme = pools
            return manager, url
        if parts.scheme == "http" and not _is_here(host):
            log.warning("%s is not encrypted: whoever listens can read the keys. Use https.", url)
        return pools[parts.scheme](host, parts.port, **options), parts.path


class _Reading:
    """Reads a streamed body to its end or gives the connection up."""

    def __init__(self, response: Response, url: str) -> None:
        self._response = response
        self._url = url

    def __enter__(self) -> Response:
        return self._response

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._response.release_conn()
            return
        self._response.close()
        if isinstance(error, HTTPError | OSError):
            raise unreachable(self._url, error) from error


def error_of(status: int, content: bytes, url: str) -> FedportalError:
    """The error that a response with this status and body speaks of."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        return FedportalError.from_body(body, status)
    if status in (502, 503, 504):  # a proxy in front of a portal that is just starting
        return FedportalError("unavailable")
    return FedportalError("unexpected_answer", url=url, answered=status)


def unreachable(url: str, error: BaseException) -> FedportalError:
    """The error of a connection that failed or broke."""
    return FedportalError("unreachable", url=url, reason=_reason(error))


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "reason", None) or error)
    # urllib3 names its connection object first, which tells a reader nothing.
    return text.partition("): ")[2] or text or type(error).__name__


def _content(body: Any) -> bytes:
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise FedportalError("bad_request", reason="NaN and infinity are no numbers that can be sent.") from error


def _parsed(content: bytes, url: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise error_of(200, b"", url) from None


def _is_here(host: str) -> bool:
    """Whether `host` is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _watched_pools(connections: weakref.WeakSet[HTTPConnection]) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Connection pools by scheme, whose connections are listed while they are open."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            connections.add(self)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            connections.add(self)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
