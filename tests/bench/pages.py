"""How long the pages of an owner take: `python -m tests.bench.pages` prints one JSON line per page.

SQLite with 1,000 devices, 50 runs and a run that has closed 200 rounds and asks all devices in the next; object pages
show the biggest object. `p95_ms` is the time from the request to the whole answer inside Django, without network and
browser, `cpu_ms` the median of what the processor did for it; they differ when the machine is busy otherwise. `queries`
are those of one request. The addresses are those of the table of permissions, which holds every page of the portal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from typing import Any

import django

FOLDER = tempfile.TemporaryDirectory(prefix="fedportal-bench-")
# Settings are read when Django starts; they must not be those of this checkout.
os.environ |= {"DJANGO_SETTINGS_MODULE": "fedportal.settings", "FEDPORTAL_DATA_DIR": FOLDER.name}
os.environ |= {"FEDPORTAL_DATABASE_URL": "sqlite", "FEDPORTAL_REDIS_URL": "", "FEDPORTAL_LOG_LEVEL": "ERROR"}
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402

from fedportal.common import sql  # noqa: E402
from tests.growing import grow, pages, sizes  # noqa: E402
from tests.permissions.stage import Stage, build  # noqa: E402

# Of everything else that grows: members, models, versions, keys, people, letters, webhooks, …
OTHERS = 100
REPEATS, WARM = 20, 2


class Count:
    """How many queries were made: `with connection.execute_wrapper(count): …`."""

    def __init__(self) -> None:
        self.queries = 0

    def __call__(self, execute: Any, *args: Any) -> Any:
        self.queries += 1
        return execute(*args)


def measure(client: Client, address: str, repeats: int) -> dict[str, Any]:
    """One line without its names. Raises AssertionError for a page that does not answer with 200."""
    milliseconds, worked = [], []
    for number in range(WARM + repeats):
        count = Count()
        with connection.execute_wrapper(count):
            start, began = time.perf_counter(), time.thread_time()
            response = client.get(address)
            took, work = time.perf_counter() - start, time.thread_time() - began
        assert response.status_code == 200, f"{address}: {response.status_code}"
        if number >= WARM:
            milliseconds.append(took * 1000)
            worked.append(work * 1000)
    p95 = sorted(milliseconds)[max(0, round(0.95 * repeats) - 1)]
    return {"p95_ms": round(p95, 1), "cpu_ms": round(statistics.median(worked), 1), "queries": count.queries}


def prepare(options: argparse.Namespace) -> Stage:
    """A portal with so many rows, committed."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("migrate", verbosity=0)
    # One transaction: what the letters and bells of a thousand acts would do is not measured here.
    with transaction.atomic():
        stage = build()
        more = {"registered_devices": options.devices, "great_run": options.rounds, "further_runs": options.runs}
        grow(stage, options.others, **more)
    sql.gather_statistics()  # as the sweeper does
    print(json.dumps({"name": "pages", "rows": sizes()}), file=sys.stderr)
    return stage


def main(arguments: list[str] | None = None) -> None:
    """Print one line per page."""
    parser = argparse.ArgumentParser(prog="pages", description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--others", type=int, default=OTHERS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args(arguments)
    stage = prepare(options)
    client = stage.clients["olga_session"]
    for route, address in pages(stage).items():
        line = {"name": "pages", "page": f"/{route}", **measure(client, address, options.repeats)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    with FOLDER:
        main()
