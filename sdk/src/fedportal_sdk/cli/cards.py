"""What lies beside a pulled model: a text that says what it is, how it does, and what was protected when it was made;
and what programs need of that."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

MEASURES = ("accuracy", "auc", "loss", "samples")
PLAIN = str.maketrans({"|": "\\|", "<": "&lt;", "\n": " ", "\r": " "})


def text(model: str, version: Mapping[str, Any], file: str) -> str:
    """The text as Markdown, from what the portal says of the version; `file` is the name of the file it lies beside."""
    lineage: Mapping[str, Any] = version.get("lineage") or {}
    lines = [f"# {_plain(model)} {version['version']}", "", _sentence(lineage.get("sentence", ""))]
    lines += ["", *_facts(version, lineage, file), *_measures(version.get("metrics") or {})]
    lines += ["", "## What was protected", "", *_label(version.get("label"), lineage)]
    return "\n".join(lines) + "\n"


def description(model: str, version: Mapping[str, Any]) -> bytes:
    """What lies there for programs: which version of what model it is, and how it is computed."""
    about = {"model": model, "model_id": version.get("model_id", ""), "version": version["version"]}
    about |= {"sha256": version.get("sha256", ""), "architecture": version.get("architecture")}
    return json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n"


def _facts(version: Mapping[str, Any], lineage: Mapping[str, Any], file: str) -> Iterable[str]:
    yield f"* File: `{file}`"
    yield f"* SHA-256 over its tensors: `{version['digest']}`"
    if lineage.get("run"):
        yield f"* Run: `{lineage['run']}`, strategy {_plain(lineage.get('strategy', ''))}"
    if lineage.get("parents"):
        yield f"* Versions before it: {' ← '.join(map(_plain, lineage['parents']))}"
    if version.get("notes"):
        yield f"* Notes: {_plain(version['notes'])}"


def _measures(metrics: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {metrics[name]:.6g} |" for name in MEASURES if metrics.get(name) is not None]
    return ["", "## How it does on held-out rows", "", "| measure | value |", "|---|---|", *rows] if rows else []


def _label(label: Mapping[str, Any] | None, lineage: Mapping[str, Any]) -> list[str]:
    """The privacy label of the run that made the version, as the portal words it."""
    if not label:
        return ["The portal knows nothing of that: no run made this version."]
    lines = [f"* {_plain(sentence)}" for sentence in label["sentences"]]
    spent = lineage.get("privacy_spent") or []
    if spent:
        lines += ["", "| organization | rounds | ε | δ | compared are data | counted by |", "|---|---|---|---|---|---|"]
    for one in spent:
        epsilon = "beyond use" if one["epsilon"] is None else f"{one['epsilon']:.3f}"
        cells = one["organization"]["name"], one["rounds"], epsilon, f"{one['delta']:g}", one["adjacency"]
        lines.append(f"| {' | '.join(map(_plain, (*cells, one['accountant'])))} |")
    return [*lines, "", "This is about the run that made this version; versions before it have labels of their own."]


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{_plain(words[1:])}." if words else ""


def _plain(words: Any) -> str:
    """Text from elsewhere, as text."""
    return str(words).translate(PLAIN)
