"""Runs as lists show them."""

from __future__ import annotations

from collections.abc import Iterable

from fedwire.states import RunState, word
from training import selectors
from training.models import Run
from training.services import needs
from training.wording import RUN_WAITS

WORDS = {str(state): word("run", state) for state in RunState}


def with_progress(rows: Iterable[Run]) -> list[Run]:
    """The runs with the `word` and the `look` of their state and `percent` of the rounds that are done. Two queries."""
    shown = list(rows)
    waiting = needs.short_among([row.pk for row in shown if row.state == RunState.RUNNING])
    for row in shown:
        row.word = RUN_WAITS if row.pk in waiting else WORDS[row.state]
        row.look = RUN_WAITS if row.pk in waiting else row.state
        row.percent = round(100 * selectors.progress_of(row))
    return shown
