"""A bare machine on which somebody pastes the line of the page "Register a device"."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.journeys.test_readme import environment

# pip takes the SDK from the portal; what the SDK needs comes from the tests' own environment, not from the network.
OFF_THE_NETWORK = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_IGNORE_INSTALLED": "1"}
PYTHON3 = """#!/bin/sh
{python} "$@" || exit
for site in "$3"/lib/python3*/site-packages; do echo '{packages}' > "$site/dependencies.pth"; done
"""


@contextmanager
def pasted(line: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The line at work in a shell in `folder`; what it prints stands in `folder`/log. Afterwards it is stopped."""
    tools = folder / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    python3 = tools / "python3"
    python3.write_text(PYTHON3.format(python=sys.executable, packages=sysconfig.get_path("purelib")))
    python3.chmod(0o755)
    there = environment(folder) | OFF_THE_NETWORK
    there["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    with open(folder / "log", "wb") as log:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=folder,
            env=there,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield shell
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
