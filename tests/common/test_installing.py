"""`dev.py` installs for minutes: it shows that it goes on, whether somebody watches or a log is written."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SHOWN = "Downloading torch 12 %"


def installing(folder: Path, status: int, stderr: int) -> subprocess.Popen[bytes]:
    """`dev.pip` at work, with a pip that takes a while, says how far it is unless it is to be quiet, and ends so."""
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *--quiet*) ;; *) echo "{SHOWN}";; esac\n'
        f'while [ -e "{folder}/busy" ]; do sleep 0.02; done\necho "pip $5 says why" >&2\nexit {status}\n'
    )
    python.chmod(0o755)
    (folder / "busy").touch()
    program = f"import dev; dev.PYTHON, dev.SIGN_SECONDS = {str(python)!r}, 0.05; dev.pip('torch', 'x')"
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=stderr)


def until(reading: int, wanted: str) -> str:
    """What was read until this stood in it."""
    said = ""
    while wanted not in said:
        said += os.read(reading, 4096).decode()
    return said


def test_a_log_says_again_and_again_that_it_goes_on_and_pips_words_only_if_it_failed(tmp_path: Path) -> None:
    for status in (0, 3):
        reading, writing = os.pipe()
        with installing(tmp_path, status, writing) as process:
            os.close(writing)
            said = until(reading, "torch, for")
            said += until(reading, "torch, for")
            (tmp_path / "busy").unlink()
            with os.fdopen(reading) as rest:
                said += rest.read()
        assert said.startswith("  torch …\n  torch, for 0 s …\n")
        assert SHOWN not in said
        assert ("says why" in said, "Installing torch failed." in said) == (status != 0, status != 0)
        assert process.returncode == int(status != 0)


def test_on_a_terminal_pip_shows_how_far_it_is(tmp_path: Path) -> None:
    reading, writing = pty.openpty()
    with installing(tmp_path, 0, writing) as process:
        os.close(writing)
        assert "torch, for" not in until(reading, SHOWN)  # while it is still at it
        (tmp_path / "busy").unlink()
        assert process.wait() == 0
    os.close(reading)
