"""What a device's owner demands of protected updates, and lets the portal hear: a TOML file beside the device, which no
portal can weaken.

    least_devices = 10          # a sum is of at least so many devices,
    least_organizations = 3     # of so many organizations,
    least_difference = 10       # and of the same model never of almost the same devices
    most_clip = 1000.0          # the largest norm of an update that may be asked for
    most_weight = 1048576       # the most that one device may count for
    bits = [32, 64]             # sizes of the ring
    least_noise = 0.0           # standard deviation of the noise in the smallest sum, over the clip; 0: none needed
    least_own_noise = 0.0       # of noise that it adds by itself: to an update, gradients, or a summary of inference
    rounds_a_day = 1000         # in 24 hours, of one model
    inference = true            # false: answer no plan of inference
    least_inference_count = 10  # nor one that shows cells of fewer rows
    inferences_a_day = 10       # in 24 hours, over one model
    federations = []            # ids; empty: any
    only_masked = false         # true: never send an update that is not masked
    require_certificates = false
    report_health = false       # true: `fedportal serve` tells the portal counts of predictions, failures, latencies

What the file does not say is as above. A file with a word that is not known, or a value that is none, is refused as a
whole: a wish with a slip of the pen is not the same as no wish.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fedwire.errors import FedportalError
from fedwire.masking.rings import BITS
from fedwire.masking.terms import Policy

FILE = "policy.toml"
VARIABLE = "FEDPORTAL_DEVICE_POLICY"
# Words that are not about sessions.
INFERENCE = ("inference", "least_inference_count", "inferences_a_day")
OWN = ("rounds_a_day", "only_masked", "require_certificates", "least_own_noise", "report_health", *INFERENCE)


@dataclass(frozen=True)
class DevicePolicy:
    """`masking`: what every session must be like. `least_own_noise`: over the clip, where this device adds it itself.
    `path`: where that was read; None: nowhere, it is the default."""

    masking: Policy = field(default_factory=Policy)
    rounds_a_day: int = 1000
    only_masked: bool = False
    require_certificates: bool = False
    least_own_noise: float = 0.0
    report_health: bool = False
    path: Path | None = None
    inference: bool = True
    least_inference_count: int = 10
    inferences_a_day: int = 10

    def facts(self) -> dict[str, Any]:
        """All of it, in the words of the file."""
        said = {one.name: getattr(self.masking, one.name) for one in fields(Policy)}
        said |= {name: getattr(self, name) for name in OWN}
        return said | {"federations": sorted(said["federations"]), "bits": list(said["bits"])}


def places(folder: Path, home: Path) -> list[Path]:
    """Where a device in `folder` looks for its policy; the first that is there counts."""
    named = os.environ.get(VARIABLE)
    return [Path(named).expanduser()] if named else [folder / FILE, home / FILE]


def policy_of(folder: Path, home: Path) -> DevicePolicy:
    """The policy of the device in `folder`. Raises `field_invalid` for a file that is not one, or was named and is not
    there."""
    found = places(folder, home)
    path = next((path for path in found if path.exists()), None)
    if path is None and not os.environ.get(VARIABLE):
        return DevicePolicy()
    return read(path or found[0])


def read(path: Path) -> DevicePolicy:
    """The policy in this file. Raises `field_invalid`."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _invalid(path, getattr(error, "strerror", None) or str(error)) from error
    unknown = sorted(said.keys() - CHECKS.keys())
    if unknown:
        raise _invalid(path, f"{', '.join(unknown)} is no word of a policy.")
    for name, value in said.items():
        wanted, fits = CHECKS[name]
        if not fits(value):
            raise _invalid(path, f"{name} is {wanted}.")
    own = {name: said.pop(name) for name in OWN if name in said}
    return DevicePolicy(masking=Policy(**_exact(said)), path=path, **own)


def _exact(said: Mapping[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Callable[[Any], Any]] = {"bits": tuple, "federations": frozenset, "most_clip": float}
    kinds["least_noise"] = float
    return {name: kinds.get(name, lambda value: value)(value) for name, value in said.items()}


def _invalid(path: Path, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=f"policy in {path}", reason=reason)


def _whole(least: int) -> tuple[str, Callable[[Any], bool]]:
    return f"a whole number from {least}", lambda value: type(value) is int and value >= least


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(fits(one) for one in value)


_YES_OR_NO: tuple[str, Callable[[Any], bool]] = ("true or false", lambda value: type(value) is bool)
CHECKS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "least_devices": _whole(2),
    "least_organizations": _whole(1),
    "least_difference": _whole(2),
    "most_clip": ("a number above 0", lambda value: _number(value) and value > 0),
    "most_weight": _whole(1),
    "bits": (
        "some of 32 and 64",
        lambda value: _list(value, lambda one: type(one) is int and one in BITS) and value != [],
    ),
    "least_noise": ("a number from 0", _number),
    "least_own_noise": ("a number from 0", _number),
    "rounds_a_day": _whole(0),
    "federations": ("a list of ids", lambda value: _list(value, lambda one: isinstance(one, str) and one != "")),
    "inference": _YES_OR_NO,
    "least_inference_count": _whole(1),
    "inferences_a_day": _whole(0),
    "only_masked": _YES_OR_NO,
    "require_certificates": _YES_OR_NO,
    "report_health": _YES_OR_NO,
}
