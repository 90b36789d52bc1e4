"""What of a run's model stays on the devices: chosen at its start, kept with the run, told to the devices."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fedwire import personal
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest
from registry.models import ModelVersion
from training.aggregation.staying import FIELD
from training.aggregation.strategy import Strategy
from training.models import Run
from training.privacy.protection import RECORDS, Protection

__all__ = [
    "FIELD",
    "check_norms",
    "check_rows",
    "chosen",
    "manifest_of",
    "names_of",
    "shown",
    "told",
    "travelling",
    "travels",
]


def chosen(strategy: Strategy, pattern: Any, version: ModelVersion) -> dict[str, Any] | None:
    """{"pattern", "tensors"} as it is stored; None for a strategy of which everything travels.

    Raises `field_invalid`.
    """
    if strategy.staying is None:
        return None
    architecture = Architecture.parse(version.architecture) if version.architecture else None
    names = strategy.staying.names(pattern, manifest_of(version), architecture)
    return {"pattern": (pattern or "").strip(), "tensors": list(names)}


def check_norms(strategy: Strategy, version: ModelVersion) -> None:
    """Raises `field_invalid` for a model with batch normalisation under a strategy that cannot average it."""
    if not strategy.moves_statistics and personal.norms(manifest_of(version)):
        reason = (
            f"{strategy.title} corrects what follows gradients, and the model's batch normalisation has running "
            "statistics, which do not. Choose FedBN, federated averaging or SCAFFOLD."
        )
        raise FedportalError("field_invalid", field="strategy", reason=reason)


def check_rows(version: ModelVersion, protection: Protection) -> None:
    """Raises `field_invalid` for noise about single rows in a model whose rows have no gradients of their own, or that
    devices cannot train by themselves."""
    if protection.mechanism != RECORDS:
        return
    reason = ""
    if not version.architecture:
        reason = "the model has no described architecture, and what an own function trains has noise of nobody's"
    elif personal.norms(manifest_of(version)):
        reason = "the model's batch normalisation mixes rows, so noise in gradients hides no single one"
    if reason:
        raise FedportalError("field_invalid", field="config.privacy.mechanism", reason=f"{reason}.")


def names_of(run: Run) -> tuple[str, ...]:
    """The tensors that stay on the devices of this run."""
    stored = run.config.get(FIELD)
    return tuple(stored["tensors"]) if stored else ()


def travels(run: Run) -> Manifest:
    """The manifest of the run's updates."""
    version = run.base_version
    return _travelling(version.pk, version.digest, names_of(run))


def travelling(version: ModelVersion, stored: Mapping[str, Any] | None) -> Manifest:
    """The manifest of the updates of a run that begins with this version, `stored` being what `chosen` gave."""
    return personal.travelling(Manifest.from_json(version.manifest), stored["tensors"] if stored else ())


def told(half: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """A strategy's device half with the names of what stays."""
    names = names_of(run)
    return {**half, FIELD: list(names)} if names else dict(half)


def shown(config: Mapping[str, Any]) -> dict[str, str]:
    """What stays, for people; empty where everything travels."""
    stored = config.get(FIELD)
    return {"Stays on the devices": ", ".join(stored["tensors"])} if stored else {}


def manifest_of(version: ModelVersion) -> Manifest:
    """The version's manifest; a version never changes, so it is parsed once."""
    return _manifest(version.pk, version.digest)


@lru_cache(maxsize=64)
def _manifest(version_pk: int, digest: str) -> Manifest:
    # The digest is part of the key, so that a test's fresh database does not meet an old entry.
    return Manifest.from_json(ModelVersion.objects.values_list("manifest", flat=True).get(pk=version_pk))


@lru_cache(maxsize=64)
def _travelling(version_pk: int, digest: str, names: tuple[str, ...]) -> Manifest:
    return personal.travelling(_manifest(version_pk, digest), names)
