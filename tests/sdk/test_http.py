"""HTTP to the portal: every failure is an error of the catalogue, nothing is followed, connections are kept."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedportal_sdk._http import Http
from fedwire.errors import FedportalError
from fedwire.version import VERSION
from tests.sdk.server import Cut, Reply, Seen, found, refusal, serving


def refused(http: Http, path: str = "/x") -> FedportalError:
    with pytest.raises(FedportalError) as caught:
        http.json("GET", path, timeout=5)
    return caught.value


def test_json_goes_and_comes_with_key_and_version() -> None:
    with serving(lambda n, seen: found({"got": seen.body.decode()})) as server:
        assert Http(server.url, "edg_key").json("POST", "/x?y=1", {"a": [1]}) == {"got": '{"a":[1]}'}
    seen = server.seen[0]
    assert (seen.method, seen.path) == ("POST", "/x?y=1")
    assert seen.headers["authorization"] == "Bearer edg_key"
    assert seen.headers["user-agent"].startswith(f"fedportal-sdk/{VERSION}")
    assert seen.headers["content-type"] == "application/json"


def test_no_content_is_none() -> None:
    with serving(lambda n, seen: Reply(204)) as server:
        assert Http(server.url).json("GET", "/x") is None


def test_connections_are_kept() -> None:
    with serving(lambda n, seen: found(n)) as server:
        http = Http(server.url)
        assert [http.json("GET", "/x") for _ in range(5)] == [1, 2, 3, 4, 5]
        http.close()
    assert server.connections == 1


def test_a_portal_below_a_path_is_found() -> None:
    with serving(lambda n, seen: found(seen.path)) as server:
        assert Http(server.url + "/fed").json("GET", "/api/v1/x") == "/fed/api/v1/x"


def test_the_portals_refusal_keeps_code_sentence_and_context() -> None:
    with serving(lambda n, seen: refusal("task_closed", state="expired")) as server:
        error = refused(Http(server.url))
    assert (error.code, error.status, error.context) == ("task_closed", 409, {"state": "expired"})
    assert "expired" in error.message


def test_a_code_of_a_newer_portal_keeps_its_sentence() -> None:
    body = b'{"error": "moon_phase", "message": "Not {tonight}.", "next_step": "Wait.", "status_code": 409}'
    with serving(lambda n, seen: Reply(409, body)) as server:
        error = refused(Http(server.url))
    assert (error.code, error.status, error.message, error.next_step) == ("moon_phase", 409, "Not {tonight}.", "Wait.")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (502, b"<html>bad gateway</html>", "unavailable"),
        (503, b"", "unavailable"),
        (404, b"<html>not here</html>", "unexpected_answer"),
        (200, b"<html>welcome</html>", "unexpected_answer"),
        (500, b"oops", "unexpected_answer"),
        (403, b'["a list"]', "unexpected_answer"),
    ],
)
def test_answers_that_are_not_a_portals_are_said_to_be_so(status: int, body: bytes, code: str) -> None:
    with serving(lambda n, seen: Reply(status, body)) as server:
        assert refused(Http(server.url)).code == code


def test_redirects_are_not_followed() -> None:
    with serving(lambda n, seen: Reply(302, headers={"Location": "/elsewhere"})) as server:
        assert refused(Http(server.url, "edg_key")).code == "unexpected_answer"
    assert len(server.seen) == 1


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    error = refused(Http(url))
    assert error.code == "unreachable"
    assert url in error.message
    assert "refused" in error.message


def test_a_cut_connection_is_unreachable() -> None:
    def cut(n: int, seen: Seen) -> Reply:
        raise Cut

    with serving(cut) as server:
        assert refused(Http(server.url)).code == "unreachable"


def test_a_body_that_ends_early_is_unreachable() -> None:
    with serving(lambda n, seen: Reply(200, b"x" * 1000, cut_after=10)) as server:
        http = Http(server.url)
        assert refused(http).code == "unreachable"
        response = http.send("GET", "/x", stream=True)
        with pytest.raises(FedportalError) as caught, http.reading(response):
            b"".join(response.stream(100))
        assert caught.value.code == "unreachable"


def test_silence_ends_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        http = Http(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=0.2)
        with pytest.raises(FedportalError) as caught:
            http.json("GET", "/x")
        assert caught.value.code == "unreachable"


def test_an_interrupt_ends_a_wait_from_another_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        http = Http(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=30)
        threading.Timer(0.1, http.interrupt).start()
        started = time.monotonic()
        assert refused(http).code == "unreachable"
        assert time.monotonic() - started < 3


# -- certificates and proxies


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that only itself vouches for, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portal")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "portal.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(certificate: Path) -> None:
    with serving(lambda n, seen: found(1), certificate) as server:
        error = refused(Http(server.url, "edg_key"))
    assert error.code == "tls_failed"
    assert "ca_file" in error.next_step
    assert server.seen == []


def test_a_named_ca_file_is_trusted(certificate: Path) -> None:
    with serving(lambda n, seen: found(1), certificate) as server:
        assert Http(server.url, ca_file=str(certificate)).json("GET", "/x") == 1


def test_a_proxy_of_the_environment_is_used_and_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda n, seen: found(seen.path)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        http = Http("http://portal.example/fed", "edg_key")
        assert http.json("GET", "/x") == "http://portal.example/fed/x"
        http.close()
        with serving(lambda n, seen: found("direct")) as server:
            assert Http(server.url).json("GET", "/x") == "direct"


def test_an_address_without_encryption_is_warned_of_unless_it_is_here(caplog: pytest.LogCaptureFixture) -> None:
    Http("http://portal.example")
    assert "not encrypted" in caplog.text
    caplog.clear()
    for url in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:80", "https://portal.example"):
        Http(url)
    assert not caplog.text
