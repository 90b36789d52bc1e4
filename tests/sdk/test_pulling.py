"""Pulling a version: by a link, on from where it broke, checked by its digest, whole or not there at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk import _pulling
from fedportal_sdk._http import Http
from fedportal_sdk._retry import Patience
from fedportal_sdk.portal import Portal
from fedwire.errors import FedportalError

CONTENT = bytes(range(256)) * 4096
SHA = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Shop(ThreadingHTTPServer):
    """A portal that has one file, and may be told to behave badly."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.asked: list[str] = []  # the Range of every request for the file
        self.links = 0
        self.pending = 0  # so often the form is still being made
        self.expired = 0  # so often a link has run out
        self.cuts = 0  # so often the file breaks off in the middle
        self.serves = CONTENT


class _Door(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        self._file() if "/file" in self.path else self._link()

    def _link(self) -> None:
        shop = self.server
        if shop.pending:
            shop.pending -= 1
            self._say(202, FedportalError("format_pending", format="onnx").body())
            return
        shop.links += 1
        # Whatever host a link names, the SDK asks the portal that its owner named.
        url = f"http://elsewhere.example/api/v1/models/m/versions/1.0.0/file?link={shop.links}"
        self._say(200, {"url": url, "sha256": SHA, "size": len(CONTENT)})

    def _file(self) -> None:
        shop = self.server
        wanted = self.headers.get("Range", "")
        shop.asked.append(wanted)
        if shop.expired:
            shop.expired -= 1
            self._say(403, FedportalError("link_expired").body())
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        assert not wanted or self.headers["If-Range"] == f'"{SHA}"'
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(shop.serves) - start))
        self.end_headers()
        if shop.cuts:
            shop.cuts -= 1
            self.wfile.write(shop.serves[start:HALF])
            self.close_connection = True
            return
        self.wfile.write(shop.serves[start:])

    def _say(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pull(shop: Shop, target: Path, limit: float = 5.0, waiting: Any = lambda: None) -> list[tuple[int, int]]:
    """Pull; what was told of the progress."""
    told: list[tuple[int, int]] = []
    http = Http(f"http://127.0.0.1:{shop.server_port}", "edg_key")
    patience = Patience(threading.Event(), limit=limit)
    _pulling.pull(http, patience, "/api/v1/link", target, lambda done, size: told.append((done, size)), waiting)
    return told


def test_a_file_comes_whole_and_tells_how_far_it_is(shop: Shop, tmp_path: Path) -> None:
    told = pull(shop, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_waits_while_the_portal_makes_it(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pulling, "ASK_AGAIN_SECONDS", 0.001)
    shop.pending, waited = 3, []
    pull(shop, tmp_path / "model", waiting=lambda: waited.append(True))
    assert (len(waited), shop.links) == (3, 1)
    monkeypatch.setattr(_pulling, "CONVERSION_SECONDS", 0.0)
    shop.pending = 9
    with pytest.raises(FedportalError) as refused:
        pull(shop, tmp_path / "other")
    assert refused.value.code == "format_pending"


def test_a_pull_that_broke_goes_on_where_it_broke(shop: Shop, tmp_path: Path) -> None:
    shop.cuts = 1
    pull(shop, tmp_path / "model")
    assert shop.asked == ["", f"bytes={HALF}-"]
    assert (tmp_path / "model").read_bytes() == CONTENT


def test_a_pull_that_was_given_up_goes_on_another_day(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"the old one")
    shop.cuts = 1
    with pytest.raises(FedportalError) as refused:
        pull(shop, tmp_path / "model", limit=0.0)
    assert refused.value.code == "unreachable"
    assert (tmp_path / "model").read_bytes() == b"the old one"
    pull(shop, tmp_path / "model")
    assert shop.asked == ["", f"bytes={HALF}-"]
    assert (tmp_path / "model").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_link_that_ran_out_is_replaced(shop: Shop, tmp_path: Path) -> None:
    shop.cuts, shop.expired = 0, 1
    pull(shop, tmp_path / "model")
    assert (shop.links, (tmp_path / "model").read_bytes()) == (2, CONTENT)


def test_a_part_that_rotted_is_fetched_anew(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / f".model.{SHA[:16]}.part").write_bytes(b"x" * HALF)
    pull(shop, tmp_path / "model")
    assert shop.asked == [f"bytes={HALF}-", ""]
    assert (tmp_path / "model").read_bytes() == CONTENT


def test_what_is_not_what_was_announced_is_not_kept(shop: Shop, tmp_path: Path) -> None:
    shop.serves = CONTENT[:-1] + b"?"
    with pytest.raises(FedportalError) as refused:
        pull(shop, tmp_path / "model")
    assert refused.value.code == "download_damaged"
    assert list(tmp_path.iterdir()) == []


def test_what_is_longer_than_announced_is_left_at_its_end(shop: Shop, tmp_path: Path) -> None:
    shop.serves = CONTENT + bytes(3 << 20)
    told = pull(shop, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == CONTENT
    assert max(done for done, _ in told) == len(CONTENT)
    pull(shop, tmp_path / "again")  # nothing of the rest is taken for an answer
    assert (tmp_path / "again").read_bytes() == CONTENT


def test_two_pulls_at_once_do_not_touch_each_others_part(shop: Shop, tmp_path: Path) -> None:
    part = tmp_path / f".model.{SHA[:16]}.part"
    part.write_bytes(CONTENT[:HALF])
    with open(part, "r+b") as other:  # as a pull beside this one has it
        fcntl.flock(other, fcntl.LOCK_EX)
        pull(shop, tmp_path / "model")
        assert shop.asked == [""]
        assert (tmp_path / "model").read_bytes() == CONTENT
        assert other.read() == CONTENT[:HALF]
    assert sorted(path.name for path in tmp_path.iterdir()) == [part.name, "model"]
    threads = [threading.Thread(target=pull, args=(shop, tmp_path / "several")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "several").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == [part.name, "model", "several"]


def test_a_file_is_on_the_disk_before_it_has_its_name(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    pull(shop, tmp_path / "model")
    assert done == ["file", "name", "folder"]


def test_where_nothing_can_be_written_one_says_so(shop: Shop, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "no" / "where"):
        with pytest.raises(FedportalError) as refused:
            pull(shop, place)
        assert refused.value.code == "file_unwritable"


def test_a_portals_pull_asks_for_the_form(shop: Shop, tmp_path: Path) -> None:
    portal = Portal(f"http://127.0.0.1:{shop.server_port}", "edg_key", home=tmp_path / "home", patience=5)
    assert portal.pull("m", tmp_path / "model", format="onnx").read_bytes() == CONTENT
