"""Which tensors of a model stay on the devices, and what is left to travel: written once for both ends.

A task names the tensors that stay (`training["local"]`). An update of such a run is a file of the other weights only:
its header, its length and its vector know nothing of those that stay, so they cannot leave even by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from fedwire.tensors import Manifest

# What training["requires"] says of them.
LOCAL, FEDREP, DITTO, FINETUNE = "local", "fedrep", "ditto", "finetune"
ABILITIES = frozenset({LOCAL, FEDREP, DITTO, FINETUNE})
RUNNING_MEAN = ".running_mean"


def matching(manifest: Manifest, pattern: str) -> tuple[str, ...]:
    """The names of the tensors that one of the globs in `pattern` (separated by commas) matches, in order."""
    globs = [part.strip() for part in pattern.split(",") if part.strip()]
    return tuple(spec.name for spec in manifest.tensors if any(fnmatchcase(spec.name, glob) for glob in globs))


def norms(manifest: Manifest) -> tuple[str, ...]:
    """The tensors of layers that have running statistics: weights, biases, means and variances of batch norms."""
    prefixes = {spec.name.removesuffix(RUNNING_MEAN) for spec in manifest.tensors if spec.name.endswith(RUNNING_MEAN)}
    return tuple(spec.name for spec in manifest.tensors if spec.name.rpartition(".")[0] in prefixes)


def travelling(manifest: Manifest, local: Iterable[str]) -> Manifest:
    """The manifest without the tensors that stay: that of the updates, as long as their vector."""
    stays = frozenset(local)
    return Manifest(tuple(spec for spec in manifest.tensors if spec.name not in stays)) if stays else manifest
