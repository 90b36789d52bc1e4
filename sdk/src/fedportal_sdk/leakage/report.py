"""What an audit comes to, as it is printed, sent and shown: figures, and pictures of public rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fedportal_sdk.leakage import trials
from fedportal_sdk.leakage.canaries import MOST, OWN, Canaries
from fedportal_sdk.leakage.guards import LOCAL, NONE, Guard
from fedportal_sdk.leakage.membership import Verdict
from fedportal_sdk.leakage.trials import Bench, Inverted
from fedwire.codecs import NONE as PLAIN_CODEC
from fedwire.version import VERSION

# The cases: without any protection, as the run has it, its vectors before they are summed, and what a run that has
# neither could have.
OPEN, RUN, MASKED, SUM, NOISE = "open", "run", "masked", "sum", "noise"
# What the noise of the last case is, over the clip: with less, whoever knows a row's class learns something.
NOISE_TRIED = 0.5
PICTURES = 8
DIGITS = 4
SECURE = "secure"


@dataclass(frozen=True)
class Plot:
    """What is audited: the model and how devices train, how the run protects updates, the rows, and how many of them
    are sought."""

    bench: Bench
    guard: Guard
    rows: Canaries
    images: int


def of(plot: Plot, number: int, random: np.random.Generator, progress: Callable[[int, int], object]) -> dict[str, Any]:
    """The report of the model of round `number`; `progress` is told how many of the cases are done."""
    places = random.permutation(len(plot.rows))[: plot.images]
    cases = _cases(plot, places)
    inversion, membership, guesses = list[dict[str, Any]](), list[dict[str, Any]](), dict[str, Any]()
    for done, (case, guard) in enumerate(cases):
        progress(done, len(cases))
        found = trials.invert(plot.bench, guard, plot.rows, places, random, mask=case == MASKED)
        inversion.append(_inverted(case, guard, found))
        if plot.rows.side:
            guesses[case] = _pixels(found.guesses[:PICTURES], plot.rows)
        if case != MASKED:
            judged = trials.tell_members(plot.bench, guard, plot.rows, random)
            membership += [verdict_of(case, name, verdict) for name, verdict in judged.items()]
    progress(len(cases), len(cases))
    shown = plot.rows.rows[places[:PICTURES]]
    pictures = {"side": plot.rows.side, "truth": _pixels(shown, plot.rows), "guesses": guesses}
    return {
        "rows": {"source": plot.rows.source, "count": len(places)},
        "round": number,
        "sdk": VERSION,
        "inversion": inversion,
        "membership": membership,
        "pictures": pictures if plot.rows.side and plot.rows.source != OWN else None,
        "stored": None,
    }


def _cases(plot: Plot, places: Any) -> list[tuple[str, Guard]]:
    """What is tried, without protection first: an attack that finds nothing there says nothing of the others."""
    guard, bare = plot.guard, Guard()
    cases = [(OPEN, bare)]
    if guard.hides or guard.mechanism != NONE or (guard.codec or {}).get("name", PLAIN_CODEC) != PLAIN_CODEC:
        cases.append((RUN, guard))
    # As tight as half of the updates: a wider clip has more noise.
    updates = plot.bench.updates(plot.rows.rows[places], plot.rows.labels[places])
    clip = max(float(np.median(np.linalg.norm(updates, axis=1))), 1e-6)
    hiding = guard if guard.hides else Guard(sums=SECURE, clip=clip)
    cases.append((MASKED, hiding))
    if not guard.hides:
        cases.append((SUM, hiding))
    if guard.mechanism == NONE:
        cases.append((NOISE, Guard(mechanism=LOCAL, clip=clip, noise=NOISE_TRIED)))
    return cases


def _inverted(case: str, guard: Guard, found: Inverted) -> dict[str, Any]:
    said = {
        "sums": guard.sums,
        "mechanism": guard.mechanism,
        "clip": _short(guard.clip),
        "noise": guard.noise,
        "devices": guard.cohort(found.rows),
        "codec": str((guard.codec or {}).get("name", PLAIN_CODEC)),
    }
    attacks = {name: _short(value) for name, value in found.attacks.items()}
    told = None if found.told is None else _short(found.told)
    figures = {"floor": _short(found.floor), "closest": _short(found.closest), "share": found.share, "told": told}
    return {"case": case, "guard": said, "rows": found.rows, "attacks": attacks, **figures}


def verdict_of(case: str, attack: str, verdict: Verdict) -> dict[str, Any]:
    """A verdict as reports hold it."""
    return {"case": case, "attack": attack, **_listed(asdict(verdict))}


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers in few digits, tuples as JSON's lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [plain(one) for one in value]
        return round(value, DIGITS) if isinstance(value, float) else value

    return {name: plain(value) for name, value in values.items()}


def _pixels(rows: Any, of: Canaries) -> list[list[int]]:
    """Each row as a picture: whole numbers from 0 to 16 for each pixel, over the range that all rows have there."""
    low, high = of.rows.min(), of.rows.max()
    scaled: list[list[int]] = np.rint((np.clip(rows, low, high) - low) / (high - low or 1) * MOST).astype(int).tolist()
    return scaled


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
