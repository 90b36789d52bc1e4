"""A version's file from the portal, whole and checked: by a link that is good for minutes, and on from where it broke.

Until it is whole the file lies beside its place as `.NAME.DIGEST.part`; a pull that was cut off, even one of another
day, goes on with what is there. Its name says what it will be, so it never becomes a part of something else.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fedportal_sdk._http import Http, Response
from fedportal_sdk._retry import Patience
from fedportal_sdk.transfers import PIECE, TRANSFER_TIMEOUT, Progress, measured, unwritable
from fedwire import routes
from fedwire.errors import FedportalError

# A form other than safetensors is made on demand: how long to ask for it, and how often.
CONVERSION_SECONDS = 600.0
ASK_AGAIN_SECONDS = 0.5

Link = dict[str, Any]


def pull(
    http: Http, patience: Patience, address: str, target: Path, progress: Progress, waiting: Callable[[], object]
) -> None:
    """Write to `target` what the links of `address` lead to. `waiting` is told again and again while it is being made.

    Raises `file_unwritable`, `download_damaged`, and what the portal says of it; then `target` is as it was.
    """
    if target.is_dir():
        raise FedportalError("file_unwritable", path=str(target), reason="Is a directory")
    link = _link(http, patience, address, waiting)
    pulled = _Pull(http, address, link, target, progress)
    try:
        pulled.whole(patience)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        pulled.tidy()


def _link(http: Http, patience: Patience, address: str, waiting: Callable[[], object]) -> Link:
    """A fresh link, once the portal has made the file."""
    give_up = time.monotonic() + CONVERSION_SECONDS
    while True:
        said: Link = patience(lambda: http.json("GET", address))
        if "url" in said:
            return said
        if time.monotonic() > give_up:
            raise FedportalError.from_body(said, 503)
        waiting()
        patience.wait(ASK_AGAIN_SECONDS)


class _Pull:
    """One file on its way."""

    def __init__(self, http: Http, address: str, link: Link, target: Path, progress: Progress) -> None:
        self._http, self._address, self._progress, self._target = http, address, progress, target
        self._link, self._sha256, self._size = link, link["sha256"], link["size"]
        self._part = target.with_name(f".{target.name}.{self._sha256[:16]}.part")
        self._useless = False

    def whole(self, patience: Patience) -> None:
        """Have the whole file in its place. A part from before may have rotted; then all of it comes once more."""
        for _ in range(2 if self._part.exists() else 1):
            patience(self._go_on, also=("link_expired",))
            if measured(self._part) == (self._size, self._sha256):
                os.replace(self._part, self._target)
                return
            self._part.unlink()
        raise FedportalError("download_damaged", expected=self._sha256)

    def tidy(self) -> None:
        """Leave no part that nobody can go on with."""
        with contextlib.suppress(OSError):
            if self._useless or not self._part.stat().st_size:
                self._part.unlink()

    def _go_on(self) -> None:
        try:
            self._fetch()
        except FedportalError as error:
            if error.code == "link_expired":
                self._renew()
            raise

    def _renew(self) -> None:
        self._link = self._http.json("GET", self._address)
        if self._link.get("sha256") != self._sha256:  # another version bears the name now, or the file is gone
            raise FedportalError("download_damaged", expected=self._sha256)

    def _fetch(self) -> None:
        have = self._part.stat().st_size if self._part.exists() else 0
        if have == self._size:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{self._sha256}"'} if 0 < have < self._size else {}
        place = _path(self._link["url"])
        response = self._http.send("GET", place, headers=headers, stream=True, timeout=TRANSFER_TIMEOUT)
        if response.status != 206:
            have = 0
        # Not for appending: who else pulls the same file writes the same bytes to the same places.
        with open(os.open(self._part, os.O_WRONLY | os.O_CREAT, 0o666), "wb") as out, self._http.reading(response):
            out.truncate(have)
            out.seek(have)
            self._copy(response, out, have)

    def _copy(self, response: Response, out: BinaryIO, done: int) -> None:
        while piece := response.read(PIECE):
            try:
                out.write(piece)
                out.flush()
            except OSError as error:  # here, so that a full disk is not taken for a broken connection
                self._useless = True
                raise unwritable(self._target, error) from error
            done += len(piece)
            self._progress(done, self._size)


def _path(url: str) -> str:
    """The portal's address in a link: a key goes only to the portal that its owner named, whatever the link says."""
    parts = urlsplit(url)
    return f"{parts.path[parts.path.index(routes.API) :]}?{parts.query}"
