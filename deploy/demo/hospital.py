"""A hospital's device, in a process of its own: `python -m deploy.demo.hospital CSV`, the rest in the environment.

FEDPORTAL_URL, FEDPORTAL_API_KEY, FEDPORTAL_DEVICE and FEDPORTAL_HOME are what any device of the SDK is told.
"""

from __future__ import annotations

import signal
import sys

from deploy.demo.patients import TARGET
from fedportal_sdk import FederatedClient


def main(csv_file: str) -> None:
    """Register, and take part in whatever the federation trains, until told to stop."""
    client = FederatedClient()
    signal.signal(signal.SIGTERM, lambda *_: client.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the demonstration ends its devices itself
    client.register(groups=["production"])
    client.train(data=csv_file, target_col=TARGET, forever=True)


if __name__ == "__main__":
    main(sys.argv[1])
