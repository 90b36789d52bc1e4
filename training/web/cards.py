"""The devices of a round as cards: few are all shown, of many a page, with counts for the rest.

`static/js/cards.js` draws the same from the same numbers; change both together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from training.tally import WORDS

MOST_CARDS = 24
MOST_FIND = 100
# (word or "", text or "", page from 1, cards on a page) → the cards of that page or the last, and how many there are
Pages = Callable[[str, str, int, int], tuple[list[dict[str, Any]], int]]


def panel(
    cards: Sequence[dict[str, Any]], tally: Mapping[str, Any], asked: Mapping[str, str], pages: Pages
) -> dict[str, Any]:
    """What the page shows of the devices. In `asked` may stand `show`, one of WORDS, `find`, a part of the name of a
    device or an organization, and `devices`, the page of cards from 1.

    `cards` are those of a small round, all of them; those of a large one, which `tally` counts, come from `pages`.
    """
    show, find = asked.get("show", ""), asked.get("find", "").strip()[:MOST_FIND]
    show, counts, total = show if show in WORDS else "", tally["words"], tally["total"]
    text, large = asked.get("devices", ""), total > len(cards)
    wanted = max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 9 else 1
    choose: Pages = pages if large else partial(_page, cards)
    found, count = choose(show, find, wanted, MOST_CARDS)
    last = max(1, -(-count // MOST_CARDS))
    return {
        "show": show,
        "find": find,
        "found": count,
        "query": urlencode({"find": find}) if find else "",
        "counts": list(counts.items()),
        "total": total,
        "large": large,
        "many": total > MOST_CARDS,
        "cards": found,
        "number": min(wanted, last),
        "last": last,
        "groups": tally["groups"] if total > MOST_CARDS else [],
        "sent": counts.get("sent", 0),
        "percent": round(100 * counts.get("sent", 0) / total) if total else 0,
    }


def _page(
    cards: Sequence[dict[str, Any]], show: str, find: str, number: int, size: int
) -> tuple[list[dict[str, Any]], int]:
    chosen = [card for card in cards if (not show or card["word"] == show) and _has(card, find.lower())]
    if len(chosen) > size:
        chosen.sort(key=lambda card: WORDS.index(card["word"]) if card["word"] in WORDS else 0)
    start = size * (min(number, max(-(-len(chosen) // size), 1)) - 1)
    return chosen[start : start + size], len(chosen)


def _has(card: Mapping[str, Any], find: str) -> bool:
    return find in card["device"]["identifier"].lower() or find in card["organization"]["name"].lower()
