"""What Django's own checks say about the settings of production."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.production import environment
from tests.running import ROOT


@pytest.mark.parametrize("proxy", ["0", "1"])
def test_check_deploy_has_no_warning(proxy: str, tmp_path: Path) -> None:
    chosen = environment("postgresql://fedportal@database.example/fedportal", "redis://broker.example")
    chosen |= {"PUBLIC_URL": "https://portal.example", "ALLOWED_HOSTS": "portal.example", "INSECURE_HTTP": "0"}
    chosen |= {"BEHIND_PROXY": proxy, "DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=os.environ | {f"FEDPORTAL_{name}": value for name, value in chosen.items()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
