"""The allocator of a process with many threads."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from fedportal.common import heap

# Threads hold memory all at once, each from an arena of its own if there are enough; then the arenas are counted.
THREADS = """
import ctypes, sys, tempfile, threading
if "portal" in sys.argv:
    import fedportal
go, held = threading.Barrier(17), threading.Barrier(17)
def hold():
    go.wait()
    kept = [bytearray(5000) for _ in range(100)]
    held.wait()
for _ in range(16):
    threading.Thread(target=hold, daemon=True).start()
go.wait()
held.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as told:
    file = libc.fopen(told.name.encode(), b"w")
    libc.malloc_info(0, ctypes.c_void_p(file))
    libc.fclose(ctypes.c_void_p(file))
    print(open(told.name).read().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the portal knows only the allocator of glibc")
@pytest.mark.parametrize(("words", "few"), [(["portal"], True), ([], False)])
def test_threads_of_a_portal_share_arenas(words: list[str], few: bool) -> None:
    done = subprocess.run([sys.executable, "-c", THREADS, *words], capture_output=True, text=True, check=True)
    assert (int(done.stdout) <= heap.ARENAS) == few


def test_system_with_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: object())
    assert not heap.share_arenas()
