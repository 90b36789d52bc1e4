"""What of a model stays on the devices: named by a pattern over the tensors' names, or found in the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.personal import matching, norms, travelling
from fedwire.tensors import Manifest

FIELD = "local"
MOST_LETTERS = 1000


@dataclass(frozen=True)
class Staying:
    """What a strategy leaves on the devices unless a run's pattern says otherwise. `default` says it in words."""

    about: str
    default: str
    found: Callable[[Manifest, Architecture | None], tuple[str, ...]]
    missing: str  # why nothing was found, and what to do

    def names(self, pattern: Any, manifest: Manifest, architecture: Architecture | None) -> tuple[str, ...]:
        """The tensors that stay, by `pattern` ("" or None: the default). Raises `field_invalid`."""
        text = "" if pattern is None else pattern
        if not isinstance(text, str) or len(text) > MOST_LETTERS or not text.isprintable():
            raise _invalid("it must be a pattern of tensor names such as layers.4.*, several separated by commas")
        names = matching(manifest, text) if text.strip() else self.found(manifest, architecture)
        if architecture is not None:  # its buffers are the portal's to set
            weights = {spec.name for spec in manifest.weights}
            names = tuple(name for name in names if name in weights)
        if not names:
            raise _invalid(f"no tensor of the model is called like {text.strip()!r}" if text.strip() else self.missing)
        if not travelling(manifest, names).weights:
            reason = "all weights of the model would stay on the devices, and nothing would be averaged"
            raise _invalid(f"{reason}; name fewer, or take a model of several layers, or ditto or finetune")
        return names

    def schema(self) -> dict[str, str]:
        """The pattern as JSON Schema."""
        return {"name": FIELD, "description": self.about, "type": "string", "default": "", "means": self.default}


def last_layer(manifest: Manifest, architecture: Architecture | None) -> tuple[str, ...]:
    """The tensors of the last layer of a described architecture; of another nobody knows which that is."""
    if architecture is None:
        return ()
    return matching(manifest, f"{architecture.last}.*")


HEAD = Staying(
    "Which tensors are the head and stay on each device: a pattern of their names.",
    "the last layer",
    last_layer,
    "the model has no described architecture, so name its last layer by a pattern such as fc.*",
)
NORMS = Staying(
    "Which tensors stay on each device: a pattern of their names.",
    "the weights, biases and running statistics of every batch normalisation",
    lambda manifest, architecture: norms(manifest),
    "the model has no batch normalisation (no tensor is called ….running_mean); describe an architecture with "
    "batch_norm, or name the tensors that stay by a pattern",
)


def _invalid(reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=f"config.{FIELD}", reason=f"{reason}.")
