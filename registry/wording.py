"""What people read about models: an architecture as a sentence, a version as a line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedwire.architectures import Architecture

MOST_NAMES = 8
KINDS = {
    "linear": "Linear regression",
    "logistic": "Logistic regression",
    "mlp": "A small neural network",
    "cnn": "A small image network",
}


def counted(number: int, noun: str) -> str:
    """ "1 device", "2,000 devices"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def architecture(spec: Mapping[str, Any] | None) -> str:
    """A described architecture in words; "" for none."""
    if not spec:
        return ""
    found = Architecture.parse(spec)
    parts = [_inputs(found)]
    if found.channels:
        parts.append(f"convolutions of {_listed(found.channels)} channels")
    if found.hidden:
        parts.append(f"hidden {'layers' if len(found.hidden) > 1 else 'layer'} of {_listed(found.hidden)} units")
    if found.batch_norm:
        parts.append("batch normalisation")
    parts.append("one number as its answer" if found.kind == "linear" else f"{found.classes:,} classes")
    sentence = f"{KINDS[found.kind]} with {_listed(parts)}: {counted(found.parameters, 'trained number')}."
    if found.standardise:
        sentence += " Its columns are standardised by the statistics of all organizations, pooled before round 1."
    return sentence


def left_on_devices(lineage: Mapping[str, Any]) -> str:
    """What of a trained version stayed on the devices, which whoever uses it has to know; "" when all travelled."""
    stored = lineage.get("config", {}).get("local")
    if not stored:
        return ""
    names, more = stored["tensors"][:MOST_NAMES], len(stored["tensors"]) - MOST_NAMES
    listed = _listed([*names, f"{more:,} more"] if more > 0 else names)
    return (
        f"{listed} stayed on the devices: here they are as before the run. Put a device's own in, or train them, "
        "before you rely on the answers."
    )


def givers(lineage: Mapping[str, Any]) -> tuple[str, ...]:
    """Who gave to a trained version, a line for each organization."""
    return tuple(
        f"{row['name']}: {counted(row['devices'], 'device')}, {counted(row['updates'], 'update')}"
        for row in lineage.get("organizations", [])
    )


def _inputs(found: Architecture) -> str:
    if found.kind != "cnn":
        return counted(found.inputs, "input column")
    channels, height, width = found.input_shape
    return f"images of {height} × {width} in {counted(channels, 'channel')}"


def _listed(parts: Sequence[object]) -> str:
    words = [str(part) for part in parts]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
