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
{python} "$@" {without} || exit
for site in "$3"/lib/python3*/site-packages; do echo '{packages}' > "$site/dependencies.pth"; done
[ -e "$3"/bin/pip ] && exit
printf '#!/bin/sh\\nexec "${{0%%pip}}python" -m pip "$@"\\n' > "$3"/bin/pip
chmod +x "$3"/bin/pip
"""


@contextmanager
def pasted(line: str, folder: Path, *, own_pip: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """The line at work in a shell in `folder`; what it prints stands in `folder`/log. Afterwards it is stopped.

    To make a venv takes seconds, nearly all for pip, so that is the tests' own unless the venv is to have one.
    """
    tools = folder / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    python3 = tools / "python3"
    without = "" if own_pip else "--without-pip"
    packages = sysconfig.get_path("purelib")
    python3.write_text(PYTHON3.format(python=sys.executable, packages=packages, without=without))
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
