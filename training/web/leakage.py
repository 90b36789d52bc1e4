"""The page that shows what leakage audits of a run came to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.http import HttpResponse
from django.shortcuts import render

from federations import permissions
from federations.web.page import page
from training import selectors
from training.models import LeakageAudit
from training.services import audits

# An attack that gains no more over a blind guess tells nothing of a row; see docs/privacy.md.
TOLERANCE = 0.5
# Without protection a row comes back far better than by this, or the attacks do not fit the model.
ALIVE = 10.0
EARLIER = 20
SIZE, EDGE = 200, 24
LEVELS = 16
ATTACKS = {
    "ratios": "ratios of the first layer",
    "search": "search for the same gradient",
    "informed": "ratios, knowing what rows are like",
    "classwise": "ratios, knowing model and classes",
}
TELLING = {"loss": "loss under the result", "gain": "loss before and after", "update": "its own step in the update"}
SOURCES = {"digits": "public handwritten digits", "made": "made-up rows", "own": "rows of your organization"}


class Verdict(NamedTuple):
    """How bad it is: the word, and the class of its badge."""

    word: str
    tone: str


RECOVERED = Verdict("rows come back", "bad")
STAND_OUT = Verdict("some rows stand out", "warn")
NOTHING = Verdict("no more than a guess", "good")


@page()
def leakage(request: Any, run: str) -> HttpResponse:
    """The newest audit with public rows, the newest with the own organization's rows, and which were before."""
    found = selectors.find_run(request.actor, run)
    seen = list(audits.of_run(request.actor, found)[:EARLIER])
    newest = [next((one for one in seen if one.own is own), None) for own in (False, True)]
    organization = request.actor.organization
    may = organization is not None and permissions.can(request.actor, audits.ACTION, organization)
    context = {
        "run": found,
        "shown": [_shown(one) for one in newest if one is not None],
        "earlier": [_line(one) for one in seen if one not in newest],
        "may": may,
        "who": permissions.who_may(audits.ACTION, organization, request.actor) if organization and not may else "",
    }
    return render(request, "training/leakage.html", context)


def _shown(one: LeakageAudit) -> dict[str, Any]:
    report = one.report
    guards = {row["case"]: row["guard"] for row in report["inversion"]}
    return {
        "audit": one,
        "source": SOURCES[report["rows"]["source"]],
        "rows": report["rows"]["count"],
        "round": report["round"],
        "alive": _alive(report["inversion"]),
        "inversion": [_inverted(row) for row in report["inversion"]],
        "pictures": _pictures(report.get("pictures"), guards),
        "membership": [_told(row, guards) for row in report["membership"]],
        "curves": _curves(report["membership"], guards),
        "stored": report.get("stored"),
    }


def _alive(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether attacks find rows where nothing protects them; if not, what they do not find elsewhere says nothing."""
    bare = [row for row in rows if row["case"] == "open"]
    return any(max(row["attacks"].values()) > row["floor"] + ALIVE for row in bare)


def _line(one: LeakageAudit) -> dict[str, Any]:
    """An earlier audit: what its first case that is the run's came to."""
    row = _of_run(one.report["inversion"])
    return {"audit": one, "source": SOURCES[one.report["rows"]["source"]], "verdict": _verdict(row)}


def _of_run(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return next((row for row in rows if row["case"] == "run"), rows[0])


def _inverted(row: dict[str, Any]) -> dict[str, Any]:
    attack, reached = max(row["attacks"].items(), key=lambda pair: pair[1])
    told = row["told"]
    return {
        "name": _named(row["case"], row["guard"]),
        "attack": ATTACKS[attack],
        "reached": _decibels(reached),
        "floor": _decibels(row["floor"]),
        "above": f"{reached - row['floor']:+.1f} dB",
        "told": "–" if told is None else f"{told - row['floor']:+.1f} dB",
        "share": _percent(row["share"]),
        "verdict": _verdict(row),
    }


def _verdict(row: dict[str, Any]) -> Verdict:
    if max(row["attacks"].values()) > row["floor"] + TOLERANCE:
        return RECOVERED
    told = row["told"] is not None and row["told"] > row["floor"] + TOLERANCE
    return STAND_OUT if row["share"] > 0 or told else NOTHING


def _named(case: str, guard: dict[str, Any]) -> str:
    """What was attacked, in words."""
    if case == "run":
        return f"As this run protects it: {_protection(guard)}"
    words = {
        "open": "Without protection",
        "masked": "A masked vector, before the sum",
        "sum": f"A secure sum of {guard['devices']} devices",
        "noise": f"Noise of {guard['noise']:g} × clip, added by the device",
    }
    return words[case]


def _protection(guard: dict[str, Any]) -> str:
    parts = [f"a secure sum of {guard['devices']} devices"] if guard["sums"] != "plain" else []
    if guard["mechanism"] == "central":
        parts.append("noise that the portal adds, so what it holds has none")
    elif guard["mechanism"] != "none":
        parts.append(f"noise of {guard['noise']:g} × clip {guard['clip']:g}")
    if guard["codec"] != "none":
        parts.append(f"written as {guard['codec']}")
    return ", ".join(parts) or "not at all"


def _told(row: dict[str, Any], guards: dict[str, Any]) -> dict[str, Any]:
    low, high = row["auc_interval"]
    return {
        "name": _named(row["case"], guards[row["case"]]) if row["case"] in guards else "Stored updates",
        "attack": TELLING[row["attack"]],
        "auc": f"{row['auc']:.2f}",
        "interval": f"{low:.2f} to {high:.2f}",
        "found": _percent(row["found"]),
        "found_interval": " to ".join(map(_percent, row["found_interval"])),
        "rows": f"{row['members']} and {row['others']}",
        "better": low > 0.5,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB"


def _pictures(pictures: dict[str, Any] | None, guards: dict[str, Any]) -> list[dict[str, Any]]:
    """A strip for the originals and for each case: each picture as one path for each level of grey."""
    if not pictures:
        return []
    side = pictures["side"]
    strips = [("The rows", pictures["truth"])]
    strips += [(_named(case, guards[case]), rows) for case, rows in pictures["guesses"].items() if case in guards]
    return [{"name": name, "side": side, "rows": [_levels(row, side) for row in rows]} for name, rows in strips]


def _levels(pixels: Sequence[int], side: int) -> list[dict[str, str]]:
    by_level: dict[int, list[str]] = defaultdict(list)
    for place, level in enumerate(pixels):
        if level:
            by_level[level].append(f"M{place % side} {place // side}h1v1h-1z")
    return [{"path": "".join(paths), "opacity": f"{level / LEVELS:.4g}"} for level, paths in sorted(by_level.items())]


def _curves(rows: Iterable[dict[str, Any]], guards: dict[str, Any]) -> list[dict[str, Any]]:
    """The ROC curve of the best attack of each case, as points of a line."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["case"] not in best or row["auc"] > best[row["case"]]["auc"]:
            best[row["case"]] = row
    width = SIZE - EDGE
    return [
        {
            "name": _named(case, guards[case]) if case in guards else "Stored updates",
            "auc": f"{row['auc']:.2f}",
            "series": number,
            "line": " ".join(f"{EDGE + x * width:.1f},{width - y * width:.1f}" for x, y in row["curve"]),
        }
        for number, (case, row) in enumerate(best.items(), 1)
    ]
