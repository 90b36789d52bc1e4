"""How both process models listen: the socket, the limits, and uvicorn's configuration."""

from __future__ import annotations

import resource
import socket
import time

import uvicorn
from django.conf import settings

from fedportal.door.protocol import Protocol

# How long open requests may take to end; waiting devices are sent away at once.
GRACE_SECONDS = 5
BACKLOG = 4096
# Devices speak again after training; a connection that is still open then saves them making one.
KEEP_ALIVE_SECONDS = 75
# Browsers send no more than a few words.
SOCKET_MESSAGE_BYTES = 64 << 10


def configuration(*, workers: int = 1) -> uvicorn.Config:
    """uvicorn's configuration for the portal."""
    return uvicorn.Config(
        "fedportal.asgi:application",
        loop="uvloop",
        http=Protocol,
        ws="websockets-sansio",
        lifespan="on",
        access_log=False,
        log_config=None,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws_max_size=SOCKET_MESSAGE_BYTES,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        # The proxy's own address comes from uvicorn's FORWARDED_ALLOW_IPS; without one it must be on this machine.
        proxy_headers=settings.FEDPORTAL_BEHIND_PROXY,
        workers=workers,
    )


def listening_socket(host: str, port: int, patience: float = 10.0) -> socket.socket:
    """A bound TCP socket. Port 0 takes a free one. Waits a moment for a port that a killed portal still holds.

    Only a socket that says proto=IPPROTO_TCP gets TCP_NODELAY from the event loop; without it every small exchange
    takes 44 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    give_up = time.monotonic() + patience
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            listener.close()
            if port == 0 or time.monotonic() > give_up:
                raise
            time.sleep(0.05)
        else:
            listener.setblocking(False)
            return listener


def allow_many_files() -> None:
    """Raise this process's limit of open files to what the system allows: every waiting device is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def address(listener: socket.socket) -> str:
    """The URL under which the socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
