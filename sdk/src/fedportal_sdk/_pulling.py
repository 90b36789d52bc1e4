"""A version's file from the portal, whole and checked: by a link that is good for minutes, and on from where it broke.

Until it is whole the file lies beside its place as `.NAME.DIGEST.part`; a pull that was cut off, even one of another
day, goes on with what is there. Its name says what it will be, so it never becomes a part of something else. Who pulls
holds a lock on it; another pull of the same file takes a name of its own, and nobody goes on with that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fedportal_sdk._http import Http, Response
from fedportal_sdk._retry import Patience
from fedportal_sdk._shelf import sync_folder
from fedportal_sdk.transfers import PIECE, TRANSFER_TIMEOUT, Progress, measured, unwritable
from fedwire import routes
from fedwire.errors import FedportalError

try:
    import fcntl
except ImportError:  # Windows has no such locks, and moves no file that is open
    fcntl = None  # type: ignore[assignment]

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
    try:
        _Pull(http, address, link, target, progress).whole(patience)
    except OSError as error:
        raise unwritable(target, error) from error


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
        with self._held() as file:
            for _ in range(2 if _length(file) else 1):
                patience(lambda: self._go_on(file), also=("link_expired",))
                if measured(self._part) == (self._size, self._sha256):
                    os.fsync(file.fileno())  # power may go at any moment, and a name must not come before its content
                    if fcntl is None:
                        file.close()
                    os.replace(self._part, self._target)
                    sync_folder(self._target.parent)
                    return
                file.truncate(0)
            raise FedportalError("download_damaged", expected=self._sha256)

    @contextmanager
    def _held(self) -> Iterator[BinaryIO]:
        """The part, for this pull alone. Afterwards there is none that nobody can go on with."""
        file, shared = _locked(self._part), True
        if file is None:
            self._part, shared = self._part.with_suffix(f".{secrets.token_hex(4)}.part"), False
            file = _locked(self._part)
        if file is None:  # a name that nobody knew
            raise BlockingIOError(f"{self._part} is locked")
        try:
            yield file
        finally:
            with contextlib.suppress(OSError, ValueError):
                # While it is locked: what bears the name after it was moved is another pull's.
                if _is_at(file, self._part) and (self._useless or not shared or not _length(file)):
                    self._part.unlink()
            with contextlib.suppress(OSError):
                file.close()

    def _go_on(self, file: BinaryIO) -> None:
        try:
            self._fetch(file)
        except FedportalError as error:
            if error.code == "link_expired":
                self._renew()
            raise

    def _renew(self) -> None:
        self._link = self._http.json("GET", self._address)
        if self._link.get("sha256") != self._sha256:  # another version bears the name now, or the file is gone
            raise FedportalError("download_damaged", expected=self._sha256)

    def _fetch(self, file: BinaryIO) -> None:
        have = _length(file)
        if have == self._size:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{self._sha256}"'} if 0 < have < self._size else {}
        place = _path(self._link["url"])
        response = self._http.send("GET", place, headers=headers, stream=True, timeout=TRANSFER_TIMEOUT)
        if response.status != 206:
            have = 0
        with self._http.reading(response):
            file.truncate(have)
            file.seek(have)
            self._copy(response, file, have)

    def _copy(self, response: Response, out: BinaryIO, done: int) -> None:
        while piece := response.read(PIECE):
            room = self._size - done
            is_longer = len(piece) > room
            if is_longer:  # what is too much would fill the disk, however long it is
                response.close()
                piece = piece[:room]
            try:
                out.write(piece)
                out.flush()
            except OSError as error:  # here, so that a full disk is not taken for a broken connection
                self._useless = True
                raise unwritable(self._target, error) from error
            done += len(piece)
            self._progress(done, self._size)
            if is_longer:
                return


def _locked(path: Path) -> BinaryIO | None:
    """The file at `path`, made where there is none, and locked; None where another pull has it."""
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115  (whoever holds it closes it)
        try:
            if fcntl is not None:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # a file system without locks
            return file
        if _is_at(file, path):
            return file
        file.close()  # it was whole, and moved, before it was locked here


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one that bears this name now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _path(url: str) -> str:
    """The portal's address in a link: a key goes only to the portal that its owner named, whatever the link says."""
    parts = urlsplit(url)
    return f"{parts.path[parts.path.index(routes.API) :]}?{parts.query}"
