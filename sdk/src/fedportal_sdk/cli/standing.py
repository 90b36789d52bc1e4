"""How a run stands, in words for a terminal."""

from __future__ import annotations

from typing import Any

from rich.text import Text

Snapshot = dict[str, Any]


def line(snapshot: Snapshot) -> str:
    """A snapshot in one line, which changes when the round, the state, or what is waited for does."""
    run, curves = snapshot["run"], snapshot["curves"]
    accuracy = next((point["accuracy"] for point in reversed(curves) if point["accuracy"] is not None), None)
    known = f", accuracy {accuracy:.4f}" if accuracy is not None else ""
    own = next((point["personal"]["accuracy"] for point in reversed(curves) if point.get("personal")), None)
    known += f", own models {own:.4f}" if own is not None else ""
    waiting = (snapshot["round"] or {}).get("waiting") or {}
    known += f". {waiting['sentence']}" if "word" in waiting else ""  # not for stragglers, which change by the second
    return f"round {run['current_round']} / {run['total_rounds']}: {run['word']}{known}"


def described(snapshot: Snapshot) -> Text:
    """A snapshot in a few lines."""
    run, round_, plan = snapshot["run"], snapshot["round"], snapshot["run"].get("plan", {})
    kind = f", asynchronous with a buffer of {plan['buffer']}" if plan.get("schedule") == "asynchronous" else ""
    lines = [
        f"{run['model']['name']} in {run['federation']['name']}: {run['strategy']}, {run['word']} ({run['id']})",
        f"round {run['current_round']} / {run['total_rounds']}{kind}  {_bar(run['progress'])}",
    ]
    if run["reason"]:
        lines.append(run["reason"])
    if round_ and round_.get("waiting"):
        lines.append(round_["waiting"]["sentence"])
    lines += [_checked(row) for row in snapshot.get("preflight", []) if row["findings"]]
    lines += [_flagged(row) for row in snapshot.get("flagged", [])]
    for row in snapshot["contributions"]:
        devices = "1 device" if row["devices"] == 1 else f"{row['devices']} devices"
        updates = f"updates {row['updates']}/{row['expected']}"
        lines.append(f"  {row['organization']['name']}: {devices}, {updates}, {row['samples']:,} rows over all rounds")
    lines += [_trend(snapshot["curves"], name) for name in ("accuracy", "auc", "loss")]
    lines += [_others(snapshot["curves"]), _own(snapshot["curves"])]
    if run["result_version"]:
        lines.append(f"Version {run['result_version']} is published. Next: fedportal pull {run['model']['name']}")
    return Text("\n".join(filter(None, lines)))


def _checked(row: dict[str, Any]) -> str:
    """A line on a device that has something to see to."""
    found = "; ".join(f"{one['sentence']}. {one['next_step']}".strip() for one in row["findings"])
    return f"  preflight: {row['device']['identifier']} of {row['organization']['name']} {row['verdict']}: {found}"


def _flagged(row: dict[str, Any]) -> str:
    """A line on a device with updates that were unlike the others."""
    return (
        f"  flagged: {row['device']['identifier']} of {row['organization']['name']}, {row['where']}: {row['reason']}."
    )


def _others(curves: list[dict[str, Any]]) -> str:
    """The newest values of what devices measure by name."""
    newest: dict[str, float] = next((found for point in reversed(curves) if (found := point.get("others"))), {})
    return "  " + ", ".join(f"{name} {value:.4f}" for name, value in sorted(newest.items())) if newest else ""


def _bar(progress: float, width: int = 30) -> str:
    full = round(progress * width)
    return "█" * full + "░" * (width - full)


def _trend(curves: list[dict[str, Any]], name: str) -> str:
    """The newest value, and how it changed; not where fewer, more or other rows measured the model before."""
    points = [point for point in curves if point[name] is not None]
    if not points:
        return ""
    value = f"  {name} {points[-1][name]:.4f}"
    if len(points) == 1:
        return value
    before, after = ((point.get("samples"), {*point.get("organizations", {})}) for point in points[-2:])
    if before != after:
        return f"{value} (measured on other rows than the round before)"
    return f"{value} ({points[-1][name] - points[-2][name]:+.4f} in the last round)"


def _own(curves: list[dict[str, Any]]) -> str:
    """How devices' own models do beside the common one, at the newest round that measured both; "" without any."""
    point = next((point for point in reversed(curves) if point.get("personal")), None)
    if point is None:
        return ""
    name = "accuracy" if point["personal"]["accuracy"] is not None else "loss"
    line = f"  own models: {name} {point['personal'][name]:.4f}"
    worst = "most" if name == "loss" else "least"
    apart = {which: found[name] for which, found in point.get("devices", {}).items() if name in found}
    if len(apart) == 2:
        told = [f"{found[worst]:.4f} ({found['worst']})" for found in (apart["personal"], apart["common"])]
        line += f"; worst device {told[0]}, with the common model {told[1]}"
    return line
