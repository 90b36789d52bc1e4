"""How the updates of a run are written: chosen at its start, within a cap on what a device sends in a round.

What is chosen as a share (`codec_fraction`) becomes a whole number, so that both ends compute with the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedwire import codecs
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest
from training.aggregation.strategy import Strategy

# The fields of a run's configuration, each with the codecs that it is for.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "codec": codecs.NAMES,
    "codec_fraction": ("topk", "sketch"),
    "codec_rows": ("sketch",),
    "codec_columns": ("sketch",),
    "error_feedback": ("topk", "sketch"),
    "most_update_bytes": codecs.NAMES,
}
TITLES: Mapping[str, str] = {
    "none": "Plain: every number in 32 bits",
    "float16": "float16: every number in 16 bits",
    "int8": "int8: every number in 8 bits, rounded at random",
    "topk": "Top-k: only the largest numbers",
    "sketch": "Count sketch: the heaviest numbers out of a small table",
}
# Those that say something of every number, to within a small part of the largest ones near it.
WHOLE = ("none", "float16", "int8")
DEFAULT_FRACTION = 0.01
DEFAULT_ROWS = 5
# A sketch takes about a tenth of the plain update unless its columns are given.
SKETCH_SHARE = 10
MOST_BYTES = 1 << 40
# What is tried, from what loses least, to say which codec would fit under a cap.
OFFERS: tuple[Mapping[str, Any], ...] = (
    {"codec": "none"},
    {"codec": "float16"},
    {"codec": "int8"},
    {"codec": "topk", "codec_fraction": 0.1},
    {"codec": "topk", "codec_fraction": 0.01},
    {"codec": "topk", "codec_fraction": 0.001},
)


def plan(
    values: Mapping[str, Any], manifest: Manifest, seed: int, strategy: Strategy | None = None
) -> dict[str, Any] | None:
    """The plan of the codec that `values` choose, as it is stored; None for plain updates.

    Raises `field_invalid` for what cannot be chosen, `codec_too_large` when an update would take more than
    `most_update_bytes`, with a codec that would fit and that the strategy takes.
    """
    said = {name: value for name, value in values.items() if name in FIELDS and value is not None}
    name = said.get("codec", codecs.NONE)
    if name not in codecs.NAMES:
        raise _invalid("codec", f"it is one of {', '.join(codecs.NAMES)}")
    for field in said:
        if name not in FIELDS[field]:
            raise _invalid(field, f"the codec {name} has no such setting")
    chosen = _plan(name, said, manifest, seed)
    _check_cap(chosen, cap(said), manifest, strategy)
    return chosen


def check_strategy(values: Mapping[str, Any], strategy: Strategy) -> None:
    """Raises `field_invalid` for a codec that leaves most of an update out, or for later, with a strategy whose devices
    move what they keep by what the portal read: that would be no mean of gradients any more."""
    codec = values.get("codec") or codecs.NONE
    if codec in codecs.NAMES and not suits(strategy, codec):
        usable = ", ".join(WHOLE)
        why = f"what its devices keep moves by what the portal reads of an update, of which {codec} leaves most out"
        raise _invalid("codec", f"{strategy.title} takes one of {usable}, because {why}")


def suits(strategy: Strategy | None, codec: str) -> bool:
    """Whether the strategy takes updates that this codec wrote."""
    return codec in WHOLE or strategy is None or not strategy.needs_device_state


def sizes(stored: Mapping[str, Any] | None, manifest: Manifest) -> tuple[int, int]:
    """The bytes of an update as the codec writes it, and as it is plain; every update of a run takes as many."""
    return codecs.of(stored, manifest).nbytes, codecs.of(None, manifest).nbytes


def cap(values: Mapping[str, Any]) -> int | None:
    """`most_update_bytes`, None without one. Raises `field_invalid`."""
    value = values.get("most_update_bytes")
    if value is None:
        return None
    return _whole("most_update_bytes", value, 1, MOST_BYTES)


def told(half: Mapping[str, Any], stored: Mapping[str, Any] | None, *, keeps: bool = False) -> dict[str, Any]:
    """A strategy's device half with the plan in it: whole numbers, and that the device has to know the codec, and where
    it `keeps` a vector, to move it by the update as the portal reads it."""
    if stored is None:
        return dict(half)
    numbers = {name: value for name, value in stored.items() if name != "fraction"}
    abilities = (codecs.ability(stored["name"]), *((codecs.READ_BACK,) if keeps else ()))
    return {**half, "codec": numbers, "requires": [*half.get("requires", ()), *abilities]}


def ratio(plain: int | None, received: int | None) -> float | None:
    """How many times smaller what came was than the same updates in float32; None where nobody knows."""
    return round(plain / received, 3) if plain and received else None


def measured(row: Mapping[str, Any]) -> dict[str, Any]:
    """The ratio of a round's row."""
    return {"ratio": ratio(row["bytes_plain"], row["bytes_up"])}


def shown(stored: Mapping[str, Any] | None) -> str:
    """The plan in a few words."""
    if stored is None:
        return "plain float32"
    words = [stored["name"]]
    if "fraction" in stored:
        words.append(f"{100 * stored['fraction']:.3g} % of the numbers")
    if "rows" in stored:
        words.append(f"a table of {stored['rows']} × {stored['columns']:,}")
    if stored.get("feedback"):
        words.append("with error feedback")
    return ", ".join(words)


def _plan(name: str, said: Mapping[str, Any], manifest: Manifest, seed: int) -> dict[str, Any] | None:
    if name == codecs.NONE:
        return None
    if name not in FIELDS["codec_fraction"]:
        return {"name": name}
    fraction = _fraction(said.get("codec_fraction", DEFAULT_FRACTION))
    feedback = said.get("error_feedback", True)
    if not isinstance(feedback, bool):
        raise _invalid("error_feedback", "it must be true or false")
    kept = max(1, math.floor(fraction * manifest.parameters))
    chosen = {"name": name, "fraction": fraction, "kept": kept, "feedback": feedback}
    return chosen if name == "topk" else {**chosen, **_table(said, manifest), "seed": seed}


def _table(said: Mapping[str, Any], manifest: Manifest) -> dict[str, int]:
    rows = _whole("codec_rows", said.get("codec_rows", DEFAULT_ROWS), 1, codecs.MOST_ROWS)
    if rows % 2 == 0:
        raise _invalid("codec_rows", "it must be odd, so that the median is one of the estimates")
    columns = said.get("codec_columns", max(1, manifest.parameters // (SKETCH_SHARE * rows)))
    return {"rows": rows, "columns": _whole("codec_columns", columns, 1, codecs.MOST_COLUMNS)}


def _check_cap(
    chosen: Mapping[str, Any] | None, most: int | None, manifest: Manifest, strategy: Strategy | None
) -> None:
    codec = codecs.of(chosen, manifest)
    if most is None or codec.nbytes <= most:
        return
    raise FedportalError(
        "codec_too_large",
        field="config.most_update_bytes",
        codec=codec.name,
        needed=f"{codec.nbytes:,}",
        most=f"{most:,}",
        fits=_fitting(most, manifest, strategy),
    )


def _fitting(most: int, manifest: Manifest, strategy: Strategy | None) -> str:
    """Which codec would fit under the cap, of those that the strategy takes that which loses least."""
    offers = [offer for offer in OFFERS if suits(strategy, offer["codec"])]
    sizes = [codecs.of(_plan(offer["codec"], offer, manifest, 0), manifest).nbytes for offer in offers]
    for offer, nbytes in zip(offers, sizes, strict=True):
        if nbytes <= most:
            return f"Choose {_offered(offer)}, which takes {nbytes:,} bytes, or allow more."
    least = min(sizes)
    return f"Allow more: even {_offered(offers[sizes.index(least)])} takes {least:,} bytes."


def _offered(offer: Mapping[str, Any]) -> str:
    share = f" with codec_fraction {offer['codec_fraction']:g}" if "codec_fraction" in offer else ""
    return f"the codec {offer['codec']}{share}"


def _fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise _invalid("codec_fraction", "it must be a number above 0 and at most 1")
    return float(value)


def _whole(field: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _invalid(field, f"it must be a whole number from {low:,} to {high:,}")
    return value


def _invalid(field: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=f"config.{field}", reason=f"{reason}.")
