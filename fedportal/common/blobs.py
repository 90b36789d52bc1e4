"""Content-addressed files. A blob is named by the SHA-256 of its bytes, never changes, and is complete or absent.

Three folders on one disk: `blobs` (complete, synced), `uploads` (parts on their way in, under a staging name) and
`scratch` (files being computed). A file becomes a blob by being synced and renamed, so that no reader and no crash ever
sees half of one. No part of a path comes from a user: blobs are named by their digest, parts by checked names.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from datetime import timedelta
from pathlib import Path

from django.conf import settings

from fedwire.errors import FedportalError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCRATCH_NAME = re.compile(r"[0-9a-f]{32}")
_STAGING_NAME = re.compile(r"[A-Za-z0-9_.-]{1,120}")
# New files are refused when less than this would stay free: the smaller of a tenth of the disk and 2 GiB, so that the
# database, the audit and the logs can still be written.
RESERVE_SHARE = 10
RESERVE_BYTES = 2 << 30


def path(sha: str) -> Path:
    """Where the blob with this digest lies, whether or not it exists. Raises ValueError if `sha` is not a digest."""
    if not _SHA256.fullmatch(sha):
        raise ValueError("not a SHA-256 digest")
    return settings.FEDPORTAL_DATA_DIR / "blobs" / sha[:2] / sha


def exists(sha: str) -> bool:
    """Whether the blob is stored."""
    return path(sha).is_file()


def size(sha: str) -> int:
    """Its length in bytes. Raises FileNotFoundError."""
    return path(sha).stat().st_size


def put(content: bytes) -> str:
    """Store small content; the digest under which it lies. Raises `storage_full`."""
    sha = hashlib.sha256(content).hexdigest()
    if not exists(sha):
        ensure_room(len(content))
        staged = scratch()
        staged.write_bytes(content)
        adopt(staged, sha)
    return sha


def adopt(staged: Path, sha: str) -> None:
    """Make the file `staged`, whose digest the caller has computed, the blob `sha`: synced, renamed, folder synced.

    Doing it again after a crash is harmless: when the blob is there already, the staged file is only removed.
    """
    target = path(sha)
    if target.is_file():
        staged.unlink(missing_ok=True)
        _sync_folder(target.parent)  # whoever put it there may not have come so far yet
        return
    with open(staged, "rb") as file:
        os.fsync(file.fileno())
    fresh_folder = not target.parent.is_dir()
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged, target)
    _sync_folder(target.parent)
    if fresh_folder:
        _sync_folder(target.parent.parent)


def staging(name: str) -> Path:
    """Where the upload called `name` collects its bytes. Raises ValueError for a name that could leave the folder."""
    if not _STAGING_NAME.fullmatch(name) or name.startswith("."):
        raise ValueError("not a staging name")
    return _folder("uploads") / name


def scratch(name: str = "") -> Path:
    """A fresh path, not yet a file, on the disk of the blobs; or the path of an earlier one with this name.

    Raises ValueError for a name that was never given.
    """
    if name and not _SCRATCH_NAME.fullmatch(name):
        raise ValueError("not the name of a scratch file")
    return _folder("scratch") / (name or secrets.token_hex(16))


def name_of(staged: Path) -> str:
    """What the file is called as a blob: SHA-256 of all its bytes, hexadecimal. Raises OSError."""
    with open(staged, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(sha: str) -> bool:
    """Whether the blob is there and its bytes still have its digest (reads the whole file)."""
    try:
        with open(path(sha), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha
    except FileNotFoundError:
        return False


def is_damaged(sha: str) -> bool:
    """Whether the blob is there and can be read, but is not what its name says (reads the whole file)."""
    try:
        return not verify(sha) and exists(sha)
    except OSError:
        return False


def remove(sha: str) -> None:
    """Remove the blob, if it is there. Only for one that no row names: whoever has its digest will miss it."""
    path(sha).unlink(missing_ok=True)


def sweep(older_than: timedelta) -> int:
    """Remove parts and scratch files that nobody has written to for `older_than`; how many went."""
    limit = time.time() - older_than.total_seconds()
    removed = 0
    for folder in (_folder("uploads"), _folder("scratch")):
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < limit:
                Path(entry.path).unlink(missing_ok=True)
                removed += 1
    return removed


def reserve(total_bytes: int) -> int:
    """What must stay free on a disk of this size."""
    return min(RESERVE_BYTES, total_bytes // RESERVE_SHARE)


def ensure_room(content_bytes: int) -> None:
    """Raises `storage_full` when storing `content_bytes` would eat into the reserve."""
    usage = shutil.disk_usage(_folder("uploads"))
    if usage.free - content_bytes < reserve(usage.total):
        raise FedportalError("storage_full")


def _folder(name: str) -> Path:
    folder: Path = settings.FEDPORTAL_DATA_DIR / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
