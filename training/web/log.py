"""The log of a run, a page at a time back to its beginning."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from training import progress
from training.models import Run

PAGE = 30
# What one may look at alone: its name in the address, the word for it, and which events belong to it.
# `static/js/log.js` leaves out by `KINDS` what does not belong.
FILTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("Run", ("run.",)),
    "rounds": ("Rounds", ("round.",)),
    "devices": ("Devices", ("assignment.",)),
    "refused": ("Refusals", ("assignment.refused",)),
}


def page_of_log(run: Run, before: str, only: str, *, upto: int) -> dict[str, Any]:
    """The newest events before number `before` ("": the newest of all) of the kind `only`, with where to go on.

    `upto` is the number of the page's snapshot: what came after it is told to the page by its socket.
    """
    events = run.events.filter(sequence__lte=upto).order_by("-sequence")
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else 0
    if number:
        events = events.filter(sequence__lt=number)
    if only in FILTERS:
        wanted = Q()
        for prefix in FILTERS[only][1]:
            wanted |= Q(kind__startswith=prefix)
        events = events.filter(wanted)
    rows = list(events[: PAGE + 1])
    shown = [progress.message(event) for event in rows[:PAGE]]
    kept = f"only={only}&" if only in FILTERS else ""
    return {
        "items": shown,
        "live": not number,
        "newest": f"?{kept}".rstrip("&?") or "?",
        "older": f"?{kept}before={shown[-1]['sequence']}#log" if len(rows) > PAGE else "",
        "prefixes": ",".join(FILTERS[only][1]) if only in FILTERS else "",
        "filters": [("", "Everything", not kept)]
        + [(f"only={name}", word, name == only) for name, (word, _) in FILTERS.items()],
    }
