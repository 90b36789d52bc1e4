"""What takes seconds to make and is the same for every test: made once for all processes of the tests."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path(sys.prefix)  # the virtual environment: what is kept goes when that goes
MOST_KEPT = 12


def digest(*files: Iterable[Path]) -> str:
    """What something made of these files of the project depends on."""
    whole = hashlib.sha256(sys.version.encode())
    for source in (source for some in files for source in some):
        whole.update(str(source.relative_to(ROOT)).encode() + source.read_bytes())
    return whole.hexdigest()


def kept(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """The file or folder that `make(path)` makes, under a name that says what it is made of; nobody changes it."""
    folder = KEPT / kind
    path = folder / name
    if path.exists():
        return path
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            # Several working trees may share the virtual environment: only what is long out of use goes.
            others = [other for other in folder.iterdir() if other.name != "lock"]
            for old in sorted(others, key=lambda other: other.stat().st_mtime)[:-MOST_KEPT]:
                _remove(old)
            unfinished = folder / f"{name}.part"
            _remove(unfinished)
            make(unfinished)
            unfinished.rename(path)
    return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
