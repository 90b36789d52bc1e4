"""Files to the portal and back: uploads that continue where they broke, downloads that are whole or not there."""

from __future__ import annotations

import hashlib
import os
import secrets
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
        response = http.send("GET", address, stream=True, timeout=TRANSFER_TIMEOUT)
        with _opened(draft, target) as out, http.reading(response):
            _copy(response, out, target, progress)

    try:
        patience(attempt)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def _copy(response: Response, out: BinaryIO, target: Path, progress: Progress) -> None:
    total, done = int(response.headers.get("Content-Length", 0)), 0
    while piece := response.read(PIECE):
        try:
            out.write(piece)
        except OSError as error:  # here, so that a full disk is not taken for a broken connection
            raise unwritable(target, error) from error
        done += len(piece)
        progress(done, total)


def _opened(draft: Path, target: Path) -> BinaryIO:
    try:
        return open(draft, "wb")
    except OSError as error:
        raise unwritable(target, error) from error


def unwritable(target: Path, error: OSError) -> FedportalError:
    """What it means that `target` could not be written."""
    return FedportalError("file_unwritable", path=str(target), reason=error.strerror or str(error))


def _pieces(file: Any, done: int, size: int, progress: Progress) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
        done += len(piece)
        progress(done, size)
