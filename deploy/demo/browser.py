"""A browser without a window: cookies, and forms filled in by the names of their fields."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode, urljoin


class Browser:
    """One person's session at the portal."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._cookies = CookieJar()
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies)).open

    def submit(self, address: str, marker: str, **values: str) -> str:
        """Open the page, fill in the form that has the field or button `marker`, send it; the page that follows."""
        page = self._open(address, timeout=30).read().decode()
        forms = _Forms()
        forms.feed(page)
        form = next((form for form in forms.found if marker in form["fields"]), None)
        if form is None:
            raise RuntimeError(f"{address} has no form with {marker!r}")
        fields = {**{name: value for name, value in form["fields"].items() if value or name == marker}, **values}
        request = urllib.request.Request(urljoin(address, form["action"]), urlencode(fields).encode())
        request.add_header("Referer", address)
        with self._open(request, timeout=30) as answer:
            return str(answer.read().decode())

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON to the API as the person who is signed in."""
        token = next(cookie.value for cookie in self._cookies if "csrf" in cookie.name)
        request = urllib.request.Request(self._url + path, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        request.add_header("X-CSRFToken", token or "")
        request.add_header("Referer", self._url + "/")
        try:
            with self._open(request, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.read().decode()[:400]}") from error


class _Forms(HTMLParser):
    """The forms of a page with their fields."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "form":
            self.found.append({"action": named.get("action") or "", "fields": {}})
        elif tag in ("input", "button", "select", "textarea") and self.found and named.get("name"):
            if named.get("type") in ("checkbox", "radio") and "checked" not in named:
                return
            self.found[-1]["fields"][named["name"]] = named.get("value") or ""
