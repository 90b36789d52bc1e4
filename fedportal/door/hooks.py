"""What upper floors tell the door. The door lies below them, so it asks only through what they register here.

Every registered function is plain and synchronous; the door calls it in its own threads, never on the event loop. A
function refuses by raising `FedportalError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fedwire.codecs import Codec
from fedwire.errors import FedportalError


class Caller(NamedTuple):
    """A device that has shown a valid key."""

    device_pk: int
    device_id: str
    organization_pk: int
    key_pk: int


class NextTask(NamedTuple):
    """The task a waiting device gets: its row and the JSON that travels."""

    task_pk: int
    body: bytes


class Desk(Protocol):
    """Who answers for devices and their tasks (the floor above). All calls come from the door's threads."""

    def identify(self, token: str) -> Caller:
        """The device whose key this is. Raises key_invalid, key_revoked, key_expired, device_inactive."""

    def gone(self, callers: Sequence[Caller]) -> Sequence[Caller]:
        """Those of the callers whose key or device no longer counts. One query for all."""

    def next_tasks(self, device_pks: Sequence[int]) -> Mapping[int, NextTask]:
        """The oldest open task of each of these devices that has one. One query for all."""

    def with_work(self) -> Sequence[int]:
        """Every device that has an open task: what a lost bell would have said."""

    def note_taken(self, task_pks: Sequence[int]) -> None:
        """These tasks left for their devices."""

    def note_seen(self, device_pks: Sequence[int], at: datetime) -> None:
        """These devices were there at this moment."""

    def note_idle(self, device_pks: Sequence[int]) -> None:
        """These devices came to wait and there was nothing to do."""

    def answer(self, caller: Caller, task_id: str, body: bytes) -> tuple[dict[str, Any], bool]:
        """The receipt for the answer in `body` (JSON text), and whether it is the first."""

    def decline(self, caller: Caller, task_id: str, body: bytes) -> dict[str, Any]:
        """The device will not do this task; `body` (JSON text) may give a reason."""

    def rotate(self, caller: Caller) -> dict[str, Any]:
        """A fresh key for the device."""


@dataclass(frozen=True)
class DoorRequest:
    """A request for an upload or a download, as a resolver sees it.

    `params` are the pattern's named parts, `query` the address's; header names are lower case; `token` is the bearer
    key, "" when none came.
    """

    method: str
    token: str
    cookies: Mapping[str, str]
    params: Mapping[str, str]
    headers: Mapping[str, str]
    query: Mapping[str, str]
    identify: Callable[[], Caller]  # the device behind `token`; remembered for half a second


class Stored(NamedTuple):
    """An upload that is complete, synced and stored as a blob. `norm`: L2 norm of its (decoded) numbers, if asked."""

    sha256: str
    size: int
    norm: float | None


@dataclass(frozen=True)
class UploadTicket:
    """Leave to upload: what the bytes must look like and what happens when they are all there.

    `staging_name` is one file's name for its part on disk. `header`: the exact first bytes; when the body begins
    otherwise, `explain(head, total)` is called with up to its whole safetensors header and raises what is wrong.
    `float32_finite`: behind the header lie only little-endian float32 numbers, none NaN or infinite. `codec`: there
    lies what this codec writes, checked as strictly. `stored_sha256`: the digest of what was completely uploaded
    before, "" if nothing was. `adopt`: whether the complete file becomes a blob; otherwise it stays in staging, synced,
    for `on_stored` and whoever comes after it to use and remove. `on_refused` hears, after the sender was answered,
    that what it sent is not what the ticket asks for.
    """

    staging_name: str
    expected_bytes: int
    on_stored: Callable[[Stored], None]
    sha256: str | None = None
    header: bytes = b""
    explain: Callable[[bytes, int], object] | None = None
    float32_finite: bool = False
    codec: Codec | None = None
    stored_sha256: str = ""
    adopt: bool = True
    on_refused: Callable[[FedportalError], object] | None = None


@dataclass(frozen=True)
class DownloadTicket:
    """Leave to download the file at `path`. `etag` is its digest; `filename` is what a browser saves it as."""

    path: Path
    size: int
    etag: str
    filename: str = ""
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)


UploadResolver = Callable[[DoorRequest], UploadTicket]
DownloadResolver = Callable[[DoorRequest], DownloadTicket]

_desk: Desk | None = None
# pattern → its compiled form and resolver
_uploads: dict[str, tuple[re.Pattern[str], UploadResolver]] = {}
_downloads: dict[str, tuple[re.Pattern[str], DownloadResolver]] = {}


def register_desk(desk: Desk) -> None:
    """Let `desk` answer for devices. There is one; the last registration counts."""
    global _desk
    _desk = desk


def desk() -> Desk:
    """The registered desk."""
    if _desk is None:
        raise LookupError("no desk is registered; is Django set up?")
    return _desk


def register_upload(pattern: str, resolver: UploadResolver) -> None:
    """PUT (and HEAD) on addresses like `/api/v1/uploads/{upload}` are uploads that `resolver` gives leave to."""
    _uploads[pattern] = (compiled(pattern), resolver)


def register_download(pattern: str, resolver: DownloadResolver) -> None:
    """GET (and HEAD) on addresses like `/api/v1/device/tasks/{task}/model` are files that `resolver` names."""
    _downloads[pattern] = (compiled(pattern), resolver)


def find_upload(path: str) -> tuple[UploadResolver, dict[str, str]] | None:
    """The resolver for this address and its named parts."""
    for expression, resolver in _uploads.values():
        if match := expression.fullmatch(path):
            return resolver, match.groupdict()
    return None


def find_download(path: str) -> tuple[DownloadResolver, dict[str, str]] | None:
    """The resolver for this address and its named parts."""
    for expression, resolver in _downloads.values():
        if match := expression.fullmatch(path):
            return resolver, match.groupdict()
    return None


def patterns() -> list[tuple[str, str]]:
    """Every registered upload and download as (method, pattern), for the table of routes."""
    return [("PUT", pattern) for pattern in _uploads] + [("GET", pattern) for pattern in _downloads]


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern with `{name}` for one part of a path, as a regular expression."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]{1,200})", re.escape(pattern)))
