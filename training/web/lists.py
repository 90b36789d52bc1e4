"""Runs as lists show them."""

from __future__ import annotations

from collections.abc import Iterable

from fedwire.states import RunState, word
from training import selectors
from training.models import Run

WORDS = {str(state): word("run", state) for state in RunState}


def with_progress(rows: Iterable[Run]) -> list[Run]:
    """The runs with the `word` of their state and `percent` of the rounds that are done."""
    shown = list(rows)
    for row in shown:
        row.word = WORDS[row.state]
        row.percent = round(100 * selectors.progress_of(row))
    return shown
