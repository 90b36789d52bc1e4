"""Background jobs of this floor: letters."""

from __future__ import annotations

import threading

from federations.services import letters
from fedportal.common.jobs import job, ring

# One thread of a worker is at the letters: a mail server that hangs must not keep all of them from the rounds.
_at_it = threading.Lock()


@job
def send_letter(letter_pk: int) -> None:
    """Send this letter and whatever else is due, or leave it to whoever is at it or to the sweeper."""
    if not _at_it.acquire(blocking=False):
        return
    try:
        letters.send(letter_pk)
        while letters.send_due():
            pass
    finally:
        _at_it.release()


def ring_for(letter_pk: int) -> None:
    """Ask a worker to send the letter once the unit is committed."""
    ring(send_letter, letter_pk)
