"""Background jobs of this floor: letters."""

from __future__ import annotations

from federations.services import letters
from fedportal.common.jobs import job, ring


@job
def send_letter(letter_pk: int) -> None:
    """Send one letter; the sweeper sends it if this job is lost."""
    letters.send(letter_pk)


def ring_for(letter_pk: int) -> None:
    """Ask a worker to send the letter once the unit is committed."""
    ring(send_letter, letter_pk)
