"""A leakage audit from beginning to end: what the portal holds is fetched, attacked here, and figures are reported.

Rows stay on this machine. Of rows that everybody may see, pictures of what came back are reported too.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedportal_sdk import transfers
from fedportal_sdk._paths import path_of as _path
from fedportal_sdk.data import Table, features_for, held_out, labels_for
from fedportal_sdk.leakage import canaries, report, stored
from fedportal_sdk.leakage.canaries import OWN, Canaries
from fedportal_sdk.leakage.chains import Chain, unavailable
from fedportal_sdk.leakage.guards import Guard
from fedportal_sdk.leakage.report import Plot
from fedportal_sdk.leakage.trials import Bench
from fedportal_sdk.local import standardised
from fedportal_sdk.portal import Json, Portal
from fedportal_sdk.trainers import Plan
from fedwire import codecs, routes
from fedwire.architectures import Architecture
from fedwire.tensors import Float32, Manifest, decode_model, flatten

Progress = Callable[[int, int], object]
# A larger model makes attacks that take hours, and gives away no less.
MOST_PARAMETERS = 1_000_000
# What is known of rows in general is a number for each pair of inputs.
MOST_INPUTS = 1024
# Numbers that the attacks hold at once for each start of the search.
MOST_NUMBERS = 4_000_000
IMAGES = 100


@dataclass(frozen=True)
class OwnRows:
    """Rows of one's own: those of `table` that a device trains on, and for comparison those that it holds out, and
    `further` ones that no device has."""

    table: Table
    further: Table | None = None
    seed: int = 0


class Auditor(Portal):
    """A portal for whoever audits."""

    def held(self, run: str) -> Json:
        """What the portal holds of one's own devices in the run, how it was protected, and the models of its rounds."""
        return dict(self._get(_path(routes.SESSION_HELD, run=self.run_of(run))))

    def fetch_held(self, run: str, digest: str, file: Path) -> Path:
        """Fetch one of these files."""
        path = _path(routes.SESSION_HELD_FILE, run=run, digest=digest)
        transfers.fetch(self._http, self._patience, path, file, lambda done, total: None)
        return file

    def report_leakage(self, run: str, found: Json) -> Json:
        """Report what an audit came to, for the run's page."""
        return dict(self._post(_path(routes.SESSION_LEAKAGE, run=self.run_of(run)), **found))

    def leakage(self, run: str) -> list[Json]:
        """The audits of the run that one may see, newest first."""
        return list(self._rows(_path(routes.SESSION_LEAKAGE, run=self.run_of(run)), "audits"))


class Files:
    """The files of a run that were fetched, each once, into a folder that goes when the audit is over."""

    def __init__(self, auditor: Auditor, run: str, folder: Path) -> None:
        self._auditor, self._run, self._folder = auditor, run, folder

    def model(self, digest: str, manifest: Manifest) -> tuple[Float32, Mapping[str, Any]]:
        """The weights [P] of a model file, and all its tensors."""
        _, arrays = decode_model(self._path(digest), manifest)
        return flatten(manifest, arrays), arrays

    def update(self, digest: str, codec: codecs.Codec) -> Float32:
        """The numbers [P] of an update file."""
        return codec.decode(np.frombuffer(self._path(digest).read_bytes(), np.uint8))

    def _path(self, digest: str) -> Path:
        path = self._folder / digest
        return path if path.exists() else self._auditor.fetch_held(self._run, digest, path)


def audit(
    auditor: Auditor, run: str, own: OwnRows | None = None, images: int = IMAGES, progress: Progress | None = None
) -> Json:
    """Audit the run with public rows, or with one's own, and give the report; nothing is sent.

    Raises `audit_unavailable` for models and runs that these attacks do not fit, `forbidden`, and what is wrong with
    rows of one's own.
    """
    held = auditor.held(run)
    architecture = Architecture.parse(held["architecture"])
    chain = Chain(architecture)
    if chain.parameters > MOST_PARAMETERS:
        raise unavailable(
            f"the model has {chain.parameters:,} parameters, and at most {MOST_PARAMETERS:,} are attacked"
        )
    if architecture.inputs > MOST_INPUTS:
        raise unavailable(f"the model takes {architecture.inputs:,} inputs, and at most {MOST_INPUTS:,} are attacked")
    if not held["rounds"]:
        raise unavailable("no training round of it has been closed yet")
    random = np.random.default_rng(secrets.randbits(64))
    with tempfile.TemporaryDirectory() as folder:
        files = Files(auditor, held["run"], Path(folder))
        weights, arrays = files.model(held["rounds"][0]["base"], architecture.manifest())
        bench = Bench(chain, weights, Plan.of(_plan(held["parameters"]), held["rounds"][0]["number"]))
        guard = Guard.of(held["privacy"], held["codec"])
        sought, others = _rows(architecture, arrays, own, random)
        plot = Plot(bench, guard, sought, min(images, max(MOST_NUMBERS // chain.parameters, 2)))
        found = report.of(plot, held["rounds"][0]["number"], random, progress or (lambda done, total: None))
        if own is not None and others is not None:
            found |= stored.of(held, files, chain, sought, others)
    return found


def _plan(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the run says of local training."""
    known = ("epochs", "learning_rate", "batch_size", "momentum", "weight_decay", "mu")
    return {name: parameters[name] for name in known if name in parameters}


def _rows(
    architecture: Architecture, arrays: Mapping[str, Any], own: OwnRows | None, random: np.random.Generator
) -> tuple[Canaries, Canaries | None]:
    """The rows that are sought, and of one's own those that no device trained on."""
    if own is None:
        return canaries.known(architecture, random), None
    rows, labels = _taken(architecture, arrays, own.table)
    aside = held_out(own.table, own.seed)
    apart, apart_labels = rows[aside], labels[aside]
    if own.further is not None:
        more, more_labels = _taken(architecture, arrays, own.further)
        apart, apart_labels = np.concatenate([apart, more]), np.concatenate([apart_labels, more_labels])
    return Canaries(OWN, rows[~aside], labels[~aside]), Canaries(OWN, apart, apart_labels)


def _taken(architecture: Architecture, arrays: Mapping[str, Any], table: Table) -> tuple[Any, Any]:
    features = features_for(table, architecture)
    rows = standardised(features, arrays) if architecture.standardise else features
    return np.asarray(rows, np.float64), labels_for(table, architecture)
