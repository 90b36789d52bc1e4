"""The web processes of a production portal: `python -m fedportal.serve --port 8000 --workers 4`.

Beside them run `celery -A fedportal worker` and `python -m fedportal.sweeper`. Migrations are a step of their own
(`manage.py migrate`). Any process may serve any device: bells go through Redis, parts of uploads lie on a shared disk.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

from fedportal import listening

START_SECONDS = 60.0


class Supervisor(Multiprocess):
    """uvicorn's supervisor of several processes; it says when all of them answer."""

    def init_processes(self) -> None:
        super().init_processes()
        if all(process.wait_until_ready(START_SECONDS, self.should_exit) for process in self.processes):
            _say_ready(self.sockets[0])


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m fedportal.serve", description="The portal's web processes")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--workers", type=int, default=2, help="number of processes")
    options = parser.parse_args(arguments)
    os.umask(0o077)  # what the portal writes is nobody else's to read
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
    listening.allow_many_files()
    listener = listening.listening_socket(options.host, options.port)
    config = listening.configuration(workers=options.workers)
    if options.workers > 1:
        Supervisor(config, [listener]).run()
    else:
        # uvicorn acts on these signals itself and raises them again when it is done.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        _say_ready(listener)
        uvicorn.Server(config).run(sockets=[listener])


def _say_ready(listener: socket.socket) -> None:
    sys.stdout.write(f"fedportal answers at {listening.address(listener)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
