"""A Valkey for each pytest worker. pytest-django gives each a database of its own; messages must not mix either.

`tests.services` has pytest load this plugin (PYTEST_PLUGINS) before the settings are read.
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack

from tests import services

if "PYTEST_XDIST_WORKER" in os.environ and os.environ.get("FEDPORTAL_REDIS_URL"):
    _own = ExitStack()
    atexit.register(_own.close)
    os.environ["FEDPORTAL_REDIS_URL"] = _own.enter_context(services.valkey())
