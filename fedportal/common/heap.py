"""How the C library's allocator shares a process's memory among its threads."""

from __future__ import annotations

import ctypes

# glibc's number of the option (malloc.h).
_ARENA_MAX = -8
# Python's threads allocate one at a time, but for short whiles in which they are outside of it.
ARENAS = 2


def share_arenas() -> bool:
    """Let all threads of this process allocate from two arenas instead of eight for each processor, whether or not that
    could be done: what one thread frees, the others then use. Elsewhere than on Linux with glibc nothing happens.

    With an arena for each thread a portal of thirty threads is 24 MB larger, and grows by 15 MB more while a hundred
    devices send 4 MB each (`dev.py bench secagg`).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_ARENA_MAX, ARENAS))
