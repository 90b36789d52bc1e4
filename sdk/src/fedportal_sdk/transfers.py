"""Files to the portal and back: uploads that continue where they broke, downloads that are whole or not there."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fedportal_sdk._http import Http, Response
from fedportal_sdk._retry import Patience
from fedwire.errors import FedportalError

# (bytes done, bytes in all)
Progress = Callable[[int, int], object]

PIECE = 1 << 20
TRANSFER_TIMEOUT = 300.0
# A form other than safetensors is made on demand: how long to ask for it, and how often.
CONVERSION_SECONDS = 300.0
ASK_AGAIN_SECONDS = 0.5


def measured(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file. Raises `data_missing`."""
    try:
        with open(path, "rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        return path.stat().st_size, sha
    except OSError as error:
        raise FedportalError("data_missing", path=str(path), reason=error.strerror or str(error)) from error


def send(http: Http, patience: Patience, address: str, path: Path, size: int, sha: str, progress: Progress) -> None:
    """Put the file at `address`; after a break it goes on from what the portal has stored."""
    with open(path, "rb") as file:

        def attempt() -> Any:
            head = http.send("HEAD", address)
            stored = int(head.headers.get("Upload-Offset", 0))
            file.seek(stored)
            headers = {
                "Upload-Offset": str(stored),
                "Upload-Digest": sha,
                "Content-Length": str(size - stored),
                "Content-Type": "application/octet-stream",
            }
            body = _pieces(file, stored, size, progress)
            return http.send("PUT", address, body=body, headers=headers, timeout=TRANSFER_TIMEOUT)

        patience(attempt)


def fetch(http: Http, patience: Patience, address: str, target: Path, progress: Progress) -> None:
    """Write what is at `address` to `target`, whole or not at all. Raises `file_unwritable`."""
    if target.is_dir():
        raise FedportalError("file_unwritable", path=str(target), reason="Is a directory")
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")

    def attempt() -> None:
        response = _ready(http, address)
        with _opened(draft, target) as out, http.reading(response):
            _copy(response, out, target, progress)

    try:
        patience(attempt)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _ready(http: Http, address: str) -> Response:
    """The response with the file, once the portal has made it."""
    give_up = time.monotonic() + CONVERSION_SECONDS
    while True:
        response = http.send("GET", address, stream=True, timeout=TRANSFER_TIMEOUT)
        if response.status != 202:
            return response
        with http.reading(response):
            said = response.read()
        if time.monotonic() > give_up:
            raise FedportalError("unavailable", answered=said.decode(errors="replace"))
        time.sleep(ASK_AGAIN_SECONDS)


def _copy(response: Response, out: BinaryIO, target: Path, progress: Progress) -> None:
    total, done = int(response.headers.get("Content-Length", 0)), 0
    while piece := response.read(PIECE):
        try:
            out.write(piece)
        except OSError as error:  # here, so that a full disk is not taken for a broken connection
            raise _unwritable(target, error) from error
        done += len(piece)
        progress(done, total)


def _opened(draft: Path, target: Path) -> BinaryIO:
    try:
        return open(draft, "wb")
    except OSError as error:
        raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> FedportalError:
    return FedportalError("file_unwritable", path=str(target), reason=error.strerror or str(error))


def _pieces(file: Any, done: int, size: int, progress: Progress) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
        done += len(piece)
        progress(done, size)
