"""Blobs: complete or absent, named by their bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import namedtuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fedportal.common import blobs
from fedwire.errors import FedportalError

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.FEDPORTAL_DATA_DIR = tmp_path
    return tmp_path


def test_what_is_put_lies_under_its_digest() -> None:
    sha = blobs.put(b"weights")
    assert sha == hashlib.sha256(b"weights").hexdigest()
    assert blobs.path(sha).read_bytes() == b"weights"
    assert blobs.exists(sha)
    assert blobs.size(sha) == 7
    assert blobs.verify(sha)


def test_putting_it_again_changes_nothing() -> None:
    sha = blobs.put(b"weights")
    before = blobs.path(sha).stat()
    assert blobs.put(b"weights") == sha
    assert blobs.path(sha).stat().st_ino == before.st_ino


def test_a_staged_file_becomes_a_blob_once() -> None:
    sha = hashlib.sha256(b"abc").hexdigest()
    for _ in range(2):
        staged = blobs.staging("tsk_1")
        staged.write_bytes(b"abc")
        blobs.adopt(staged, sha)
        assert not staged.exists()
    assert blobs.path(sha).read_bytes() == b"abc"


def test_adopting_the_same_content_from_many_threads_leaves_one_blob() -> None:
    sha = hashlib.sha256(b"same").hexdigest()
    staged = [blobs.staging(f"tsk_{number}") for number in range(16)]
    for path in staged:
        path.write_bytes(b"same")
    threads = [threading.Thread(target=blobs.adopt, args=(path, sha)) for path in staged]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.verify(sha)
    assert not any(path.exists() for path in staged)


def test_a_flipped_bit_is_found() -> None:
    sha = blobs.put(b"weights")
    blobs.path(sha).write_bytes(b"weightt")
    assert not blobs.verify(sha)
    assert not blobs.verify("0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "0" * 63, "", "0" * 64 + "\n"])
def test_a_blob_has_no_other_name_than_a_digest(name: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        blobs.path(name)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\0b", "x" * 121, "..", "a\n"])
def test_a_staging_name_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="staging"):
        blobs.staging(name)


def test_the_sweep_removes_what_nobody_wrote_to_for_long(data_dir: Path) -> None:
    old, fresh, scratch = blobs.staging("old"), blobs.staging("fresh"), blobs.scratch()
    kept = blobs.put(b"kept")
    for path in (old, fresh, scratch):
        path.write_bytes(b"part")
    for path in (old, scratch, blobs.path(kept)):
        os.utime(path, (1, 1))
    assert blobs.sweep(timedelta(hours=24)) == 2
    assert (old.exists(), fresh.exists(), scratch.exists(), blobs.exists(kept)) == (False, True, False, True)


def test_a_nearly_full_disk_takes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tight = Usage(100 << 30, 97 << 30, 3 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: tight)
    blobs.ensure_room(1 << 30)
    with pytest.raises(FedportalError) as refused:
        blobs.ensure_room((1 << 30) + 1)
    assert refused.value.code == "storage_full"
    small = Usage(1 << 30, 0, 200 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    blobs.ensure_room(90 << 20)
