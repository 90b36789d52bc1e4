"""The bell of a round that is masking: whoever rings it is below the jobs that answer it."""

from __future__ import annotations

from collections.abc import Callable

# Round → have a worker look at it, so many seconds from now.
Bell = Callable[[int, float], None]
_bells: list[Bell] = []


def listen(bell: Bell) -> None:
    """Say who is to be rung for. There is one; the last counts."""
    _bells[:] = [bell]


def ring_for(round_pk: int, after: float = 0.0) -> None:
    """Have a worker look at the round, after the commit; the sweeper does so anyway."""
    for bell in _bells:
        bell(round_pk, after)
