"""The devices of a round as cards: few are all shown, of many a page, with counts for the rest.

`static/js/cards.js` draws the same from the same numbers; change both together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

MOST_CARDS = 24
MOST_GROUPS = 50
# The words of cards, those first that somebody should look at.
WORDS = ("refused", "late", "dropped", "declined", "training", "waiting", "called off", "sent")
UNFINISHED = ("training", "waiting")
TROUBLE = ("refused", "late", "dropped", "declined")


def panel(cards: Sequence[dict[str, Any]], show: str, page: str) -> dict[str, Any]:
    """What the page shows of the cards: `show` is one of WORDS or "" for all, `page` the page of cards from 1."""
    counts = Counter(card["word"] for card in cards)
    chosen = [card for card in cards if card["word"] == show] if show in WORDS else list(cards)
    if len(chosen) > MOST_CARDS:
        chosen.sort(key=lambda card: WORDS.index(card["word"]) if card["word"] in WORDS else 0)
    last = max(1, -(-len(chosen) // MOST_CARDS))
    number = min(max(int(page), 1), last) if page.isascii() and page.isdigit() and len(page) < 9 else 1
    return {
        "show": show if show in WORDS else "",
        "counts": [(word, counts[word]) for word in WORDS if counts[word]],
        "total": len(cards),
        "cards": chosen[(number - 1) * MOST_CARDS : number * MOST_CARDS],
        "number": number,
        "last": last,
        "groups": groups(cards) if len(cards) > MOST_CARDS else [],
        "sent": counts["sent"],
        "percent": round(100 * counts["sent"] / len(cards)) if cards else 0,
    }


def groups(cards: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How the devices of each organization stand: those with trouble first, at most MOST_GROUPS."""
    found: dict[str, dict[str, Any]] = {}
    for card in cards:
        name = card["organization"]["name"]
        row = found.setdefault(name, {"name": name, "devices": 0, "sent": 0, "working": 0, "trouble": 0})
        row["devices"] += 1
        row["sent"] += card["word"] == "sent"
        row["working"] += card["word"] in UNFINISHED
        row["trouble"] += card["word"] in TROUBLE
    return sorted(found.values(), key=lambda row: (-row["trouble"], row["name"]))[:MOST_GROUPS]
