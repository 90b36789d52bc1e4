"""A small real OpenID Connect provider: discovery, authorize, token, userinfo, keys. It signs with a key of its own.

It asks nobody for a password: whoever comes is `person`. `lies` change what its answers say.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

CLIENT, SECRET = "fedportal", "the client's secret"


class Provider:
    """A context manager; `url` is its issuer."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {"sub": "u-1", "email": "olga@acme.example", "email_verified": True}
        self.lies: dict[str, Any] = {}
        self.key = self.published = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.grants: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()

    def __enter__(self) -> Provider:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.answer(self, parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                provider.answer(self, parse_qs(self.rfile.read(length).decode()))

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, said: dict[str, list[str]]) -> None:
        """Route one request."""
        first = {name: values[0] for name, values in said.items()}
        path = urlsplit(request.path).path
        if path == "/authorize":
            request.send_response(302)
            request.send_header("Location", self.authorize(first))
            request.end_headers()
            return
        pages = {
            "/.well-known/openid-configuration": self.discovery,
            "/token": lambda: self.token(first),
            "/userinfo": lambda: self.userinfo(request.headers.get("Authorization", "")),
            "/jwks": self.jwks,
        }
        status, body = pages[path]() if path in pages else (404, {})
        content = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser goes back to."""
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        back = {"state": asked["state"]}
        if "error" in self.lies:
            return f"{asked['redirect_uri']}?{urlencode(back | {'error': self.lies['error']})}"
        code = secrets.token_urlsafe()
        self.grants[code] = {"challenge": asked["code_challenge"], "redirect_uri": asked["redirect_uri"]}
        return f"{asked['redirect_uri']}?{urlencode(back | {'code': code})}"

    def token(self, asked: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """One grant for one code, to the one who began."""
        grant = self.grants.pop(asked.get("code", ""), None)
        challenge = _text(hashlib.sha256(asked.get("code_verifier", "").encode()).digest())
        known = (asked.get("client_id"), asked.get("client_secret")) == (CLIENT, SECRET)
        if grant is None or not known or grant["challenge"] != challenge:
            return 400, {"error": "invalid_grant"}
        token = secrets.token_urlsafe()
        self.tokens.add(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 60, "id_token": self.id_token()}

    def id_token(self) -> str:
        """Who it is, signed."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 60, **self.person, **self.lies}
        header = {"alg": "RS256", "kid": "1", "typ": "JWT"}
        signed = f"{_text(json.dumps(header).encode())}.{_text(json.dumps(claims).encode())}"
        return f"{signed}.{_text(self.key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"

    def userinfo(self, header: str) -> tuple[int, dict[str, Any]]:
        """Who it is, for the holder of a token."""
        return (200, self.person) if header.removeprefix("Bearer ") in self.tokens else (401, {})

    def discovery(self) -> tuple[int, dict[str, Any]]:
        """Where everything is."""
        return 200, {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def jwks(self) -> tuple[int, dict[str, Any]]:
        """Its public key."""
        numbers = self.published.public_key().public_numbers()
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "e": _number(numbers.e), "n": _number(numbers.n)}
        return 200, {"keys": [key]}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))
