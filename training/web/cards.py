"""The devices of a round as cards: few are all shown, of many a page, with counts for the rest.

`static/js/cards.js` draws the same from the same numbers; change both together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.tally import WORDS

MOST_CARDS = 24
# (word or "", first, last + 1) → those cards, trouble first
Pages = Callable[[str, int, int], list[dict[str, Any]]]


def panel(
    cards: Sequence[dict[str, Any]], tally: Mapping[str, Any], show: str, page: str, pages: Pages
) -> dict[str, Any]:
    """What the page shows of the devices: `show` is one of WORDS or "" for all, `page` the page of cards from 1.

    `cards` are those of a small round, all of them; those of a large one, which `tally` counts, come from `pages`.
    """
    show, counts, total = show if show in WORDS else "", tally["words"], tally["total"]
    chosen = counts.get(show, 0) if show else total
    last = max(1, -(-chosen // MOST_CARDS))
    number = min(max(int(page), 1), last) if page.isascii() and page.isdigit() and len(page) < 9 else 1
    start = (number - 1) * MOST_CARDS
    large = total > len(cards)
    return {
        "show": show,
        "counts": list(counts.items()),
        "total": total,
        "large": large,
        "cards": pages(show, start, start + MOST_CARDS) if large else _page(cards, show, start),
        "number": number,
        "last": last,
        "groups": tally["groups"] if total > MOST_CARDS else [],
        "sent": counts.get("sent", 0),
        "percent": round(100 * counts.get("sent", 0) / total) if total else 0,
    }


def _page(cards: Sequence[dict[str, Any]], show: str, start: int) -> list[dict[str, Any]]:
    chosen = [card for card in cards if not show or card["word"] == show]
    if len(chosen) > MOST_CARDS:
        chosen.sort(key=lambda card: WORDS.index(card["word"]) if card["word"] in WORDS else 0)
    return chosen[start : start + MOST_CARDS]
