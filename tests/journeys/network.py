"""A wire that can be cut: a TCP proxy between a device and the portal."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Wire:
    """`with Wire(portal.port) as wire: … wire.url …` carries connections to that port on this machine.

    `cut` breaks every connection, and `mend` lets new ones through again. `silence` breaks none: nothing arrives,
    nobody is told, and what was sent meanwhile comes after `mend`, as when packets are lost. `cut_after(n)` lets n more
    bytes towards the portal pass, then breaks the connection they came on; others and later ones live.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._down = False
        self._flows = threading.Event()
        self._flows.set()
        self._left: int | None = None
        self.cuts = 0
        self.bytes_up = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        self._flows.set()
        self._break(set(self._open))

    def cut(self) -> None:
        """Break every connection; new ones are broken at once, until `mend`."""
        with self._lock:
            self._down = True
            self.cuts += 1
            broken = set(self._open)
        self._break(broken)

    def silence(self) -> None:
        """Let nothing arrive at either end, and no new connection come about, until `mend`."""
        self._flows.clear()

    def mend(self) -> None:
        """Let new connections through, and what waits."""
        with self._lock:
            self._down = False
        self._flows.set()

    def cut_after(self, count: int) -> None:
        """Break one connection after so many more bytes towards the portal."""
        with self._lock:
            self._left = count

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        self._flows.wait()
        with contextlib.suppress(OSError), near:
            if self._down:
                return
            with socket.create_connection(("127.0.0.1", self._port)) as far:
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {near, far}
                back = threading.Thread(target=self._pump, args=(far, near, False), daemon=True)
                back.start()
                self._pump(near, far, True)
                back.join()
        with self._lock:
            self._open -= {near, far} if "far" in locals() else {near}

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                last = False
                if up:
                    piece, last = self._metered(piece)
                self._flows.wait()
                target.sendall(piece)
                if last:
                    break
        self._break({source, target})

    def _metered(self, piece: bytes) -> tuple[bytes, bool]:
        """What of `piece` still passes, and whether the wire breaks behind it."""
        with self._lock:
            self.bytes_up += len(piece)
            if self._left is None:
                return piece, False
            passed = piece[: self._left]
            self._left -= len(passed)
            if self._left > 0:
                return passed, False
            self._left = None
            self.cuts += 1
            return passed, True

    @staticmethod
    def _break(ends: set[socket.socket]) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
