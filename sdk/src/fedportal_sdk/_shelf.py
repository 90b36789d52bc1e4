"""What a device keeps of a run, round by round: a folder for each run and a file for each round, for its owner only.

The file of a round is written down, synced, before the round's answer leaves, and stays beside the one before it. Which
of them counts is for the portal to say: `counted_round` in the next task names the last training round in which this
device's answer counted. So an answer that was lost, came too late, or belonged to an attempt that failed leaves no
trace, and neither does a crash at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fedwire.errors import FedportalError

M = TypeVar("M")
KEPT_RUNS = 20
SUFFIX = ".safetensors"


class Shelf:
    """The files of one device's runs in `folder`, which is made when something is first kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, run: str, round_number: int) -> bytes | None:
        """What was kept in this round; None when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            return self._file(run, round_number).read_bytes()
        return None

    def keep(self, run: str, round_number: int, counted: int, content: Sequence[bytes | memoryview]) -> None:
        """Write down, synced, what counts if the answer to this round does; forget what was before `counted`."""
        path = self._file(run, round_number)
        write(path, content)
        for old in path.parent.glob(f"*{SUFFIX}"):
            if int(old.stem) < counted:
                old.unlink(missing_ok=True)
        self._tidy(path.parent)

    def forget(self, run: str) -> None:
        """The run is over: remove what was kept of it."""
        shutil.rmtree(self._file(run, 0).parent, ignore_errors=True)

    def _file(self, run: str, round_number: int) -> Path:
        # The portal's word is no path.
        return self.folder / hashed(run) / f"{int(round_number)}{SUFFIX}"

    def _tidy(self, keep: Path) -> None:
        """Remove all but the runs that this device worked for lately: it may not hear how they end."""
        with contextlib.suppress(FileNotFoundError):
            folders = sorted((p for p in self.folder.iterdir() if p != keep), key=lambda p: -p.stat().st_mtime)
            for folder in folders[KEPT_RUNS - 1 :]:
                shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, content: Sequence[bytes | memoryview]) -> None:
    """Write the pieces to `path`, whole or not at all, readable by their owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_suffix(".part")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for piece in content:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def sync_folder(folder: Path) -> None:
    """Have the folder's names on the disk, where the system can do that for a folder."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def only_one(found: Sequence[M], model: str | None, missing: str, told: Callable[[M], str]) -> M:
    """The only one of what was found for `model`. Raises `missing`, and ambiguous_name with each as `told`."""
    if not found:
        raise FedportalError(missing, model=model or "any model")
    if len(found) > 1:
        raise FedportalError("ambiguous_name", name=model or "", choices=", ".join(map(told, found)))
    return found[0]


def hashed(name: str) -> str:
    """A file's name for whatever the portal calls something."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]
