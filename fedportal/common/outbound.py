"""Requests from the portal to addresses that its users chose, which must not reach what only the portal can reach.

An address is taken apart strictly, its name is resolved once, every answer is vetted, and the connection goes to a
vetted IP address and nowhere else: a name that means something else a moment later (DNS rebinding) leads nowhere. No
redirect is followed, no proxy of the environment is used, an exchange ends after `SECONDS` and `ANSWER_BYTES`, and the
body of an answer is never shown to anybody.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

SECONDS = 5.0
ANSWER_BYTES = 64 << 10
ADDRESS_LENGTH = 500
PORTS = {"https": (443, 8443), "http": (80, 8443)}
_DEFAULT_PORT = {"https": 443, "http": 80}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# (host, port) → the IP addresses of the host, as text. Raises OSError.
Resolver = Callable[[str, int], Sequence[str]]
# (IP address, port, seconds) → a connected socket. Raises OSError.
Dialer = Callable[[str, int, float], socket.socket]

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# What a browser and a C library read as an IPv4 address: 127.1, 0x7f.1, 2130706433, 0177.0.0.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DOTTED = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")

_NO_PUBLIC_IPV4 = [
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # looks public; inside Azure it is the machine's own host
    )
]
# Of IPv6 only 2000::/3 is given out; inside it these carry IPv4 addresses or are for documentation and tests.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_NO_PUBLIC_IPV6 = [
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]
_ISATAP = (0x00005EFE, 0x02005EFE)


class Refused(Exception):
    """The portal does not call this address; the text says why."""


class Failed(Exception):
    """The address was called, and no usable answer came; the text says why."""


@dataclass(frozen=True)
class Target:
    """An address, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    test: bool = False  # named by FEDPORTAL_WEBHOOK_TEST_HOSTS: a server of this machine

    @property
    def authority(self) -> str:
        """What the Host header says."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _DEFAULT_PORT[self.scheme] else f"{name}:{self.port}"


def parse(url: str) -> Target:
    """The address taken apart. Raises `Refused` for whatever need not be looked up to be refused."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Refused("it holds characters that have no place in an address.")
    if len(url) > ADDRESS_LENGTH:
        raise Refused(f"it is longer than {ADDRESS_LENGTH} characters.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise Refused("it is not an address.") from error
    if parts.scheme not in PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise Refused(
            "it must begin with https://." if settings.PRODUCTION else "it must begin with https:// or http://."
        )
    if "@" in parts.netloc or parts.fragment or not host or (parts.netloc.endswith(":")):
        raise Refused("it must be a plain address, without a user's name, a password or a fragment.")
    number = _DEFAULT_PORT[parts.scheme] if port is None else port
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    test = f"{host}:{number}" in settings.FEDPORTAL_WEBHOOK_TEST_HOSTS
    target = Target(parts.scheme, host, number, path, test)
    if not test:
        _check_place(target, bracketed="[" in parts.netloc)
    return target


def addresses(target: Target, resolve: Resolver) -> list[str]:
    """The IP addresses of the target, every one of them vetted. Raises `Refused`, `Failed`."""
    literal = _literal(target.host)
    try:
        found = [str(literal)] if literal else list(resolve(target.host, target.port))
    except (OSError, UnicodeError) as error:
        raise Failed(f"the name {target.host} cannot be resolved.") from error
    if not found:
        raise Failed(f"the name {target.host} has no address.")
    for text in found:
        address = _literal(text)
        if address is None or not (address.is_loopback if target.test else is_public(address)):
            raise Refused(f"{target.host} is not a public address of the internet.")
    return found


def is_public(address: Address) -> bool:
    """Whether the address is one that anybody on the internet may reach, and no other in disguise."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NO_PUBLIC_IPV4)
    if address.scope_id or address not in _PUBLIC_IPV6:
        return False  # loopback, link-local, private, multicast, IPv4-mapped, NAT64: all lie elsewhere
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(address in network for network in _NO_PUBLIC_IPV6)


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    resolve: Resolver | None = None,
    dial: Dialer | None = None,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Post `body` to `url`; the status of the answer. Raises `Refused`, `Failed`.

    `resolve`, `dial` and `tls` stand in for the system's name service, its sockets and its certificates in tests.
    """
    target, clock = parse(url), _Clock(SECONDS)
    found = addresses(target, resolve or (lambda host, port: _resolved(host, port, clock)))
    context = None
    if target.scheme == "https":
        context = tls or ssl.create_default_context()
    connection = _Connection(target, found, clock, dial or _dial, context)
    try:
        connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": target.authority, "Connection": "close", **headers}.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return _status(connection)
    except ssl.SSLCertVerificationError as error:
        raise Failed(f"the certificate of {target.host} cannot be trusted: {error.verify_message}.") from error
    except TimeoutError as error:
        raise Failed(f"no answer came within {SECONDS:.0f} seconds.") from error
    except _TooLong as error:
        raise Failed(f"the answer was longer than {ANSWER_BYTES >> 10} KiB.") from error
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"the connection failed ({type(error).__name__}).") from error
    finally:
        connection.close()


def _status(connection: _Connection) -> int:
    """The answer's status. The rest is read as far as the limits allow, so that the other side ends in peace."""
    response = connection.getresponse()
    # The status has come, and it alone counts.
    with contextlib.suppress(OSError, http.client.HTTPException, _TooLong):
        response.read(ANSWER_BYTES)
    return response.status


def _check_place(target: Target, *, bracketed: bool) -> None:
    if target.scheme == "http" and settings.PRODUCTION:
        raise Refused("it must begin with https://.")
    if target.port not in PORTS[target.scheme]:
        raise Refused("its port must be 443 or 8443, or 80 for http.")
    literal = _literal(target.host)
    if literal is not None:
        if not is_public(literal):
            raise Refused("it is not a public address of the internet.")
        return
    labels = target.host.removesuffix(".").split(".")
    if bracketed or _NUMBER.fullmatch(labels[-1]):
        raise Refused("its host is written in a way that means different things to different programs.")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("its host is not a name.")
    if labels[-1] in ("localhost", "local", "internal", "localdomain") or target.host.endswith(".home.arpa"):
        raise Refused("it is not a public address of the internet.")


def _literal(host: str) -> Address | None:
    """The IP address that `host` is in its one canonical spelling; None for names and other spellings."""
    if "%" in host or (":" not in host and not _DOTTED.fullmatch(host)):
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _resolved(host: str, port: int, clock: _Clock) -> Sequence[str]:
    """The system's answer, waited for no longer than the clock allows."""
    found: list[str] = []
    wrong: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            found.extend(dict.fromkeys(str(answer[4][0]) for answer in answers))
        except (OSError, UnicodeError) as error:
            wrong.append(error)

    asking = threading.Thread(target=ask, name="outbound-resolve", daemon=True)
    asking.start()
    asking.join(clock.left())
    if wrong:
        raise wrong[0]
    if asking.is_alive():
        raise TimeoutError
    return list(found)


def _dial(address: str, port: int, seconds: float) -> socket.socket:
    connected = socket.create_connection((address, port), timeout=seconds)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


class _TooLong(Exception):
    """More came than is read."""


class _Clock:
    """What is left of the time for the whole exchange."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left. Raises TimeoutError when none are."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Connection(http.client.HTTPConnection):
    """A connection to the first of the vetted addresses that takes it. TLS speaks to the name, not to the address."""

    def __init__(
        self, target: Target, found: Sequence[str], clock: _Clock, dial: Dialer, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(target.host, target.port)
        self._target, self._found, self._clock, self._dial, self._tls = target, found, clock, dial, tls

    def connect(self) -> None:
        """Called by http.client when the first bytes are to leave."""
        wrong: OSError = OSError("no address")
        for address in self._found:
            try:
                raw = self._dial(address, self._target.port, self._clock.left())
            except OSError as error:
                wrong = error
                continue
            self.sock = _Timed(self._secured(raw), self._clock)
            return
        raise wrong

    def _secured(self, raw: socket.socket) -> socket.socket:
        if self._tls is None:
            return raw
        raw.settimeout(self._clock.left())
        try:
            return self._tls.wrap_socket(raw, server_hostname=self._target.host.removesuffix("."))
        except BaseException:
            raw.close()
            raise


class _Timed:
    """A socket, as far as http.client uses one, whose every step ends when the clock has run out."""

    def __init__(self, connected: socket.socket, clock: _Clock) -> None:
        self._socket, self._clock = connected, clock

    def sendall(self, content: Any) -> None:
        """Send all of it."""
        self._socket.settimeout(self._clock.left())
        self._socket.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        """The answer."""
        return io.BufferedReader(_Answer(self._socket, self._clock))

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class _Answer(io.RawIOBase):
    """The bytes of an answer, up to the limits."""

    def __init__(self, connected: socket.socket, clock: _Clock) -> None:
        self._socket, self._clock, self._left = connected, clock, ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes. Raises TimeoutError, `_TooLong`."""
        if self._left <= 0:
            raise _TooLong
        self._socket.settimeout(self._clock.left())
        got = self._socket.recv_into(buffer, min(len(buffer), self._left))
        self._left -= got
        return got
