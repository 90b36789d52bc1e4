"""Requests to addresses that users chose reach the public internet, or nothing."""

from __future__ import annotations

import ipaddress
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from fedportal.common import outbound
from fedportal.common.outbound import Failed, Refused
from tests.common.receiving import certificate, odd_server, receiver

PUBLIC = "93.184.216.34"

# IP addresses inside, in disguise, or for nobody; each is asked as a literal and as what a name resolves to.
INTERNAL = (
    *("127.0.0.1", "127.1.2.3", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255"),
    *("172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "169.254.169.254", "169.254.0.1"),
    *("100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1"),
    *("198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1"),
    *(
        "168.63.129.16",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:93.184.216.34",
    ),
    *("::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "100::1", "fc00::1", "fd12::1"),
    *("fe80::1", "fe80::a9fe:a9fe", "febf::1", "fec0::1", "ff02::1", "ff05::2", "2001::1", "2001:0:7f00:1::1"),
    *("2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:a00:1::1", "2002:c0a8:101::1"),
    *("3fff::1", "4000::1", "5f00::1", "2620:4f:8000::1", "2a00:1450::5efe:127.0.0.1", "2a00:1450::200:5efe:10.0.0.1"),
)
# Addresses that are refused before anything is looked up.
HOSTILE = (
    # other spellings of IPv4 addresses
    *("https://127.1/", "https://127.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.0.0.1/"),
    *("https://0177.0.0.1/", "https://017700000001/", "https://0x7f.1/", "https://127.0.0.01/", "https://127.0.0.0x1/"),
    *("https://00/", "https://0/", "https://0x/", "https://10.1/", "https://3232235777/", "https://0xa9fea9fe/"),
    *("https://2852039166/", "https://0251.0376.0251.0376/", "https://169.254.43518/", "https://192.168.257/"),
    *("https://0300.0250.0.1/", "https://127.0.0.1./", "https://256.256.256.256/", "https://1.2.3.4.5/"),
    *("https://93.184.55330/", "https://1572395042/", "https://example.0x7f/", "https://example.1/"),
    "https://[::ffff:7f00:1]/",
    "https://[::1%25lo]/",
    "https://[fe80::1%25eth0]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[127.0.0.1]/",
    "https://[example.com]/",
    "https://[v1.fe80::a]/",
    "https://::1/",
    # names of this machine and network
    *(
        "https://localhost/",
        "https://LOCALHOST/",
        "https://localhost./",
        "https://a.localhost/",
        "https://printer.local/",
    ),
    *("https://metadata.google.internal/", "https://x.localdomain/", "https://router.home.arpa/"),
    # other schemes
    *("ftp://example.com/", "file:///etc/passwd", "gopher://example.com:443/", "javascript:alert(1)", "data:,x"),
    *("ws://example.com/", "HTTPS:example.com", "https:/example.com", "//example.com/", "example.com", "", "https://"),
    *("http+unix://%2Frun%2Fdocker.sock/", "ldap://example.com:443/", "jar:https://example.com!/"),
    # ports
    *("https://example.com:22/", "https://example.com:25/", "https://example.com:80/", "https://example.com:0/"),
    *("https://example.com:6379/", "https://example.com:65536/", "https://example.com:-1/", "https://example.com:/"),
    *("http://example.com:443/", "http://example.com:8080/", "https://example.com:99999/", "https://example.com:443x/"),
    "https://example.com:443:8443/",
    # who it is for, in disguise
    *("https://user@example.com/", "https://user:password@example.com/", "https://example.com@127.0.0.1/"),
    *("https://example.com#@127.0.0.1/", "https://127.0.0.1#.example.com/", "https://example.com\\@127.0.0.1/"),
    *("https://example.com\\.internal/", "https://exa mple.com/", " https://example.com/", "https://example.com/ x"),
    *(
        "https://example.com/\r\nX-Evil: 1",
        "https://example.com/\n",
        "https://exam\tple.com/",
        "https://example.com/\x00",
    ),
    *("https://exämple.com/", "https://ⓔxample.com/", "https://127。0。0。1/", "https://１２７.0.0.1/"),
    *("https://example..com/", "https://.example.com/", "https://-a.example/", "https://exa%6dple.com/"),
    *(
        "https://%31%32%37.0.0.1/",
        "https://a_b!.example/",
        "https://" + "a" * 64 + ".example/",
        "https://example.com/" + "a" * 600,
    ),
)


class Dialled:
    """Stands in for the system's sockets; leads nowhere and keeps who was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, address: str, port: int, seconds: float) -> socket.socket:
        self.calls.append((address, port))
        raise ConnectionRefusedError


@pytest.fixture
def dial() -> Dialled:
    return Dialled()


def post(url: str, dial: Any, *answers: str, **more: Any) -> int:
    return outbound.post(url, b"{}", {}, resolve=lambda host, port: answers, dial=dial, **more)


def test_the_lists_are_long_enough() -> None:
    assert len(HOSTILE) + 2 * len(INTERNAL) >= 120


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_addresses_are_refused_unasked(url: str, dial: Dialled) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    with pytest.raises(Refused):
        outbound.post(url, b"{}", {}, resolve=resolve, dial=dial)
    assert dial.calls == []


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_never_called(address: str, dial: Dialled) -> None:
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(Refused):
        post(f"https://{literal}/", dial)
    for answers in ([address], [PUBLIC, address], [address, PUBLIC]):
        with pytest.raises(Refused, match="not a public address"):
            post("https://hook.example/", dial, *answers)
    assert dial.calls == []


@pytest.mark.parametrize("answer", ["not an address", "127.1", "0x7f000001", "fe80::1%eth0", ""])
def test_what_a_resolver_says_is_believed_only_if_it_is_an_address(answer: str, dial: Dialled) -> None:
    with pytest.raises(Refused):
        post("https://hook.example/", dial, answer)
    assert dial.calls == []


def test_a_name_is_resolved_once_and_what_was_vetted_is_called(dial: Dialled) -> None:
    """A rebinding name server answers with a public address first and with an internal one ever after."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    with pytest.raises(Failed):
        outbound.post("https://hook.example:8443/x", b"{}", {}, resolve=rebinding, dial=dial)
    assert asked == ["hook.example"]
    assert dial.calls == [(PUBLIC, 8443)]


def test_every_vetted_address_is_tried_in_turn(dial: Dialled) -> None:
    with pytest.raises(Failed, match="ConnectionRefusedError"):
        post("https://hook.example/", dial, PUBLIC, "2606:2800:220:1::1")
    assert dial.calls == [(PUBLIC, 443), ("2606:2800:220:1::1", 443)]


@pytest.mark.parametrize("url", ["https://hook.example/", "https://hook.example:8443/a?b=c", "http://hook.example/"])
def test_public_addresses_are_called(url: str, dial: Dialled) -> None:
    with pytest.raises(Failed):
        post(url, dial, PUBLIC)
    assert len(dial.calls) == 1


def test_production_speaks_https_only(settings: Any, dial: Dialled) -> None:
    settings.PRODUCTION = True
    with pytest.raises(Refused, match="https"):
        post("http://hook.example/", dial, PUBLIC)
    assert dial.calls == []


def test_vetting_agrees_with_the_standard_library_where_that_says_no() -> None:
    """`is_global` knows some ranges; ours must refuse at least those it refuses."""
    for high in range(256):
        for low in (0, 1, 16, 31, 51, 64, 88, 100, 127, 168, 254):
            address = ipaddress.ip_address(f"{high}.{low}.100.7")
            assert address.is_global or not outbound.is_public(address)
    for text in INTERNAL:
        assert not outbound.is_public(ipaddress.ip_address(text)), text


def test_a_name_that_does_not_resolve(dial: Dialled) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "unknown")

    with pytest.raises(Failed, match="cannot be resolved"):
        outbound.post("https://hook.example/", b"", {}, resolve=resolve, dial=dial)
    with pytest.raises(Failed, match="no address"):
        post("https://hook.example/", dial)


# --- real servers of this machine, which only named hosts may be ------------------------------------------------------


def test_a_named_test_host_is_called_and_no_other(settings: Any) -> None:
    with receiver() as server:
        with pytest.raises(Refused):
            outbound.post(server.url, b'{"a":1}', {})
        settings.FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset({server.place})
        assert outbound.post(server.url, b'{"a":1}', {"X-Test": "yes"}) == 204
    (got,) = server.got
    assert (got.path, got.body, got.headers["X-Test"]) == ("/hook?a=b", b'{"a":1}', "yes")
    assert got.headers["Host"] == server.place


def test_a_test_host_may_be_of_this_machine_only(settings: Any, dial: Dialled) -> None:
    settings.FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset({"hook.example:9000"})
    for answer in ("10.0.0.1", "169.254.169.254", PUBLIC):
        with pytest.raises(Refused):
            post("http://hook.example:9000/", dial, answer)
    assert dial.calls == []


def test_the_environments_proxy_is_not_used(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy, receiver() as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        settings.FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset({server.place})
        assert outbound.post(server.url, b"{}", {}) == 204
        assert (len(server.got), len(proxy.got)) == (1, 0)


def test_a_redirect_is_not_followed(settings: Any) -> None:
    with receiver() as inside, receiver() as server:
        server.status, server.headers = 302, {"Location": inside.url}
        settings.FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset({server.place, inside.place})
        assert outbound.post(server.url, b"{}", {}) == 302
        assert inside.got == []


def answered(settings: Any, answer: Any, seconds: float = 0.5) -> tuple[object, float]:
    """Status or reason, and the time it took."""
    with odd_server(answer) as port:
        settings.FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset({f"127.0.0.1:{port}"})
        begun = time.monotonic()
        try:
            found: object = outbound.post(f"http://127.0.0.1:{port}/", b"{}", {})
        except Failed as error:
            found = str(error)
        return found, time.monotonic() - begun


def test_a_silent_receiver_is_left_after_the_limit(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outbound.SECONDS == 5.0
    monkeypatch.setattr(outbound, "SECONDS", 0.5)
    found, took = answered(settings, lambda connection: time.sleep(2))
    assert "no answer came" in str(found)
    assert took < 1.5


def test_a_receiver_that_drips_gets_no_more_time(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "SECONDS", 0.5)

    def drip(connection: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" * 9:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)

    found, took = answered(settings, drip)
    assert "no answer came" in str(found)
    assert took < 1.5


def test_an_endless_answer_is_not_read(settings: Any) -> None:
    sent = []

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)
            sent.append(65536)

    found, took = answered(settings, flood)
    assert found == 200  # the status has come, the rest does not count
    assert took < 3
    assert sum(sent) < 16 << 20  # what the system's buffers hold


def test_endless_headers_are_not_read(settings: Any) -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"X-A: " + b"b" * 1000 + b"\r\n")

    found, _ = answered(settings, flood)
    assert "longer than 64 KiB" in str(found)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00\xff" * 50, b"HTTP/1.1 banana\r\n\r\n"])
def test_an_answer_that_is_no_http(answer: bytes, settings: Any) -> None:
    found, _ = answered(settings, lambda connection: connection.sendall(answer))
    assert "the connection failed" in str(found)


def test_tls_speaks_to_the_name_and_checks_it(settings: Any, tmp_path: Path) -> None:
    server_side, client_side = certificate(tmp_path, "hook.example")
    with receiver(server_side) as server:

        def dial(address: str, port: int, seconds: float) -> socket.socket:
            assert (address, port) == (PUBLIC, 443)
            return socket.create_connection(("127.0.0.1", server.port), seconds)

        assert post("https://hook.example/", dial, PUBLIC, tls=client_side) == 204
        assert server.got[0].headers["Host"] == "hook.example"
        with pytest.raises(Failed, match=r"other\.example cannot be trusted"):
            post("https://other.example/", dial, PUBLIC, tls=client_side)
        with pytest.raises(Failed, match=r"hook\.example cannot be trusted"):
            post("https://hook.example/", dial, PUBLIC)  # nobody has vouched for it
        assert len(server.got) == 1
