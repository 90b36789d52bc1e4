"""The report of a simulation: one HTML page that needs nothing else, and a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from fedportal_sdk.simulation import plots
from fedportal_sdk.simulation.outcome import Outcome, RoundSeen

STYLE = """
:root{color-scheme:light dark;--ink:#1b2430;--soft:#5a6675;--line:#d5dbe3;--paper:#fff;--s0:#2563a8;--s1:#c2571a;
--s2:#2c8a57;--s3:#8e44ad;--s4:#b8860b;--s5:#c0392b;--s6:#16a0a0;--s7:#6b7280;--s8:#d46ab0;--s9:#5c7f1f}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#9aa7b8;--line:#38424f;--paper:#12171e;--s0:#6aa9ee;
--s1:#f0955c;--s2:#5cc78e;--s3:#c68be0;--s4:#e0b84a;--s5:#f07f74;--s6:#58d0d0;--s7:#a3acba;--s8:#f0a0d4;--s9:#a9cf63}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1100px;padding:24px 16px;font:16px/1.5 system-ui,sans-serif;
color:var(--ink);background:var(--paper)}h1{font-size:1.6rem;margin:0 0 4px}h2{font-size:1.15rem;margin:32px 0 8px}
p{margin:4px 0}.soft{color:var(--soft)}dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:12px 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.pictures{display:grid;gap:24px;
grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}figure{margin:0}figcaption{font-weight:600}
svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:12px}text.x{text-anchor:middle}
text.y{text-anchor:end}.grid{stroke:var(--line)}.base{stroke:var(--soft)}polyline{fill:none;stroke:var(--s0);
stroke-width:2}.dot{fill:var(--s0)}
""" + "".join(f".s{place}{{fill:var(--s{place})}}" for place in range(plots.SERIES))
# What a count is called.
WORDS = {
    "answered: statistics": "statistics given",
    "answered: train": "updates acknowledged",
    "answered: evaluate": "last models measured",
    "declined": "declined",
    "late": "too late",
    "refused": "refused by the portal",
    "dropped: absent": "dropped out: did not come",
    "dropped: taken": "dropped out: with the task",
    "dropped: upload": "dropped out: half of the update sent",
    "dropped: answer": "dropped out: update sent, not answered",
}


def page(outcome: Outcome) -> str:
    """The whole report as one HTML document, without a script and without anything from elsewhere."""
    body = "".join(
        (
            f"<h1>{escape(headline(outcome))}</h1>",
            f'<p class="soft">{escape(f"Run {outcome.run}: {outcome.strategy} on {outcome.model}")}</p>',
            f"<p>{escape(outcome.reason)}</p>" if outcome.reason else "",
            _facts(facts(outcome)),
            "<h2>How it went</h2>",
            f'<div class="pictures">{"".join(_pictures(outcome))}</div>',
            "<h2>What was asked for</h2>",
            _facts(outcome.settings.items()),
            _suspects(outcome),
            _rounds(outcome.rounds),
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(headline(outcome))}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def headline(outcome: Outcome) -> str:
    """What was simulated and how it ended."""
    devices = "1 device" if outcome.devices == 1 else f"{outcome.devices:,} devices"
    rounds = "1 round" if len(outcome.rounds) == 1 else f"{len(outcome.rounds)} rounds"
    return f"{devices}, {rounds}: {outcome.state}"


def facts(outcome: Outcome) -> list[tuple[str, str]]:
    """The figures that matter, each with its name; those that are not known are left out."""
    attackers = outcome.attackers
    found = sum(one.flagged > 0 for one in attackers)
    said: list[tuple[str, str | None]] = [
        ("accuracy on the test set", _percent(outcome.accuracy)),
        ("loss on the test set", _plain(outcome.loss)),
        ("accuracy before", _percent(outcome.start_accuracy)),
        ("time", f"{outcome.seconds:.1f} s"),
        ("simulated time", f"{outcome.clock_seconds:.1f} s" if outcome.clock == "virtual" else None),
        ("rounds per minute", _plain(outcome.rounds_per_minute)),
        ("milliseconds per update", _plain(outcome.ms_per_device)),
        ("registering", f"{outcome.enrolling_seconds:.1f} s"),
        *((WORDS.get(name, name), f"{count:,}") for name, count in outcome.counts.items()),
        *((f"refused with {code}", f"{count:,}") for code, count in outcome.errors.items()),
        ("attackers flagged", f"{found} of {len(attackers)}" if attackers else None),
        ("honest devices flagged", str(len(outcome.false_flags)) if outcome.suspects else None),
    ]
    return [(name, value) for name, value in said if value is not None]


def _pictures(outcome: Outcome) -> Iterator[str]:
    rounds = outcome.rounds
    good = [(float(one.number), one.accuracy) for one in rounds if one.accuracy is not None]
    bad = [(float(one.number), one.loss) for one in rounds if one.loss is not None]
    timed = [(one.at, one.accuracy) for one in rounds if one.at is not None and one.accuracy is not None]
    whose = "simulated" if outcome.clock == "virtual" else "real"
    if outcome.start_accuracy is not None:
        good.insert(0, (0.0, outcome.start_accuracy))
        timed.insert(0, (0.0, outcome.start_accuracy))
    if good:
        yield plots.line("Accuracy by round", good, "rounds", "accuracy")
    if len(timed) > 1:
        yield plots.line("Accuracy by time", timed, f"{whose} seconds", "accuracy")
    if bad:
        yield plots.line("Loss by round", bad, "rounds", "loss")
    if rounds:
        yield plots.bars("Duration of rounds", [(float(one.number), one.seconds) for one in rounds], "round", "seconds")
    if len(set(outcome.durations)) > 1:
        yield plots.histogram("Speeds of devices", outcome.durations, "seconds of one training")
    if outcome.holdings:
        yield plots.stacked("Classes that devices hold", outcome.holdings, "device", "rows")


def _facts(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>"


def _suspects(outcome: Outcome) -> str:
    if not outcome.suspects:
        return ""
    rows = [
        (one.identifier, one.attack or "honest", str(one.flagged), one.reason or "never flagged")
        for one in outcome.suspects
    ]
    return "<h2>Attackers and flags</h2>" + _table(("device", "what it is", "rounds flagged", "why"), rows, (2,))


def _rounds(rounds: Sequence[RoundSeen]) -> str:
    if not rounds:
        return ""
    rows = [
        (
            str(one.number),
            str(one.attempt),
            f"{one.seconds:.2f}",
            _plain(one.at) or "",
            f"{one.bytes_up:,}",
            _percent(one.accuracy) or "",
            _plain(one.loss) or "",
        )
        for one in rounds
    ]
    columns = ("round", "attempt", "seconds", "model handed out at", "bytes received", "accuracy", "loss")
    return "<h2>Rounds</h2>" + _table(columns, rows, range(len(columns)))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int]) -> str:
    right = set(numbers)
    kind = [' class="n"' if place in right else "" for place in range(len(columns))]
    head = "".join(f"<th{kind[place]}>{escape(name)}</th>" for place, name in enumerate(columns))
    body = "".join(
        f"<tr>{''.join(f'<td{kind[place]}>{escape(cell)}</td>' for place, cell in enumerate(row))}</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2f} %"


def _plain(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
