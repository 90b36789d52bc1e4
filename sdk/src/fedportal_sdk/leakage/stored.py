"""Attacks on the files that the portal stores of an organization's devices, judged with the organization's own rows.

A file is an update over many rows, so nobody can say which of them a guess is of. Judged is what is nearest: the row
that was trained on which anything extracted comes closest to, beside the row that was not for which the same holds. If
both are about as near, it is chance. Where the portal holds sums only, the step of the whole model is attacked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from fedportal_sdk.leakage import inversion, membership, trials
from fedportal_sdk.leakage.canaries import Canaries
from fedportal_sdk.leakage.chains import Chain, Floats
from fedportal_sdk.leakage.inversion import Prior
from fedportal_sdk.leakage.report import RUN, verdict_of
from fedwire import codecs
from fedwire.tensors import Float32, Manifest


class Reads(Protocol):
    """Whoever has the files."""

    def model(self, digest: str, manifest: Manifest) -> tuple[Float32, Mapping[str, Any]]:
        """The weights [P] of a model file, and all its tensors."""

    def update(self, digest: str, codec: codecs.Codec) -> Float32:
        """The numbers [P] of an update file."""


def of(held: Mapping[str, Any], files: Reads, chain: Chain, rows: Canaries, others: Canaries) -> dict[str, Any]:
    """The parts `stored` and `membership` of a report: `rows` were trained on, `others` were not."""
    prior, count = Prior.of(rows.rows), min(len(rows), len(others))
    nearest, scores, updates = {"rows": list[float](), "others": list[float]()}, dict[str, list[Floats]](), 0
    for before, update, whole in _steps(held, files, chain):
        updates += not whole
        candidates = _extracted(chain, update, prior)
        for name, some in (("rows", rows), ("others", others)):
            if len(candidates) and count:
                nearest[name].append(
                    max(float(inversion.psnr(candidates, row, prior.span).max()) for row in some.rows[:count])
                )
        both = Canaries(
            rows.source, np.concatenate([rows.rows, others.rows]), np.concatenate([rows.labels, others.labels])
        )
        for name, values in trials.scored(chain, before, update, both, np.arange(len(both))).items():
            scores.setdefault(name, []).append(values)
    told = []
    for name, found in scores.items():
        mean = np.mean(found, axis=0)
        if len(others):
            told.append(verdict_of(RUN, name, membership.judged(mean[: len(rows)], mean[len(rows) :])))
    best = {name: round(max(values), 2) if values else None for name, values in nearest.items()}
    stored = {"updates": updates, "rounds": len(held["rounds"])}
    return {"stored": {**stored, "nearest": best["rows"], "nearest_other": best["others"]}, "membership": told}


def _steps(held: Mapping[str, Any], files: Reads, chain: Chain) -> Iterator[tuple[Floats, Floats, bool]]:
    """The weights that a step began with [P], the step [P], and whether it is the whole model's."""
    manifest = chain.architecture.manifest()
    codec = codecs.of(held["codec"], manifest)
    for one in held["rounds"]:
        before = files.model(one["base"], manifest)[0].astype(np.float64)
        for update in one["updates"]:
            yield before, files.update(update["blob"], codec).astype(np.float64), False
        if not one["updates"]:
            yield before, files.model(one["result"], manifest)[0] - before, True


def _extracted(chain: Chain, update: Floats, prior: Prior) -> Floats:
    """Everything that the analytic attack makes of an update [k, d]."""
    found = np.concatenate([inversion.ratios(chain, update), inversion.least_squares(chain, update[None])])
    return prior.within(found)
