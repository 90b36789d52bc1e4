"""The sweeper as a process of its own: `python -m fedportal.sweeper`. The embedded portal has it built in."""

from __future__ import annotations

import os
import signal
import threading

import django

from fedportal.common import sweeping


def main() -> None:
    """Sweep until told to stop."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
    django.setup()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sweeping.forever(stop)


if __name__ == "__main__":
    main()
