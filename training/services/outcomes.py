"""What comes of a round: the next model from its answers, outside any transaction."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from fedportal.common import blobs, faults
from fedwire import codecs
from fedwire.architectures import MEAN, STD
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RoundState
from training.aggregation import assembly, drift, metrics, own_models, strategies
from training.aggregation.assembly import Digests, Recipe
from training.aggregation.memory import StateFiles
from training.aggregation.noising import Noise
from training.aggregation.own_models import Reported
from training.aggregation.staleness import polynomial
from training.aggregation.transforms import Update as FoldedUpdate
from training.aggregation.variates import NOBODY
from training.models import Round, Run, Update
from training.privacy.protection import ADAPTIVE, CENTRAL, Protection
from training.services import local, remembered, shards, sums, trust, unusual
from training.services.local import manifest_of

ANSWER = (
    *("pk", "blob", "samples", "norm", "answer", "device__identifier"),
    *("organization__public_id", "organization__name", "staleness", "round__number", "round__base_blob"),
)


@dataclass(frozen=True)
class Outcome:
    """The model after a round, and what its devices measured of the model before it."""

    blob: str
    digest: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    # Of an asynchronous round: number of an earlier round → what all devices so far measured of the model it began with
    earlier: dict[int, dict[str, Any]] = field(default_factory=dict)
    standardisation: dict[str, Any] | None = None
    answers: int = 0
    state: str = ""
    drift: float | None = None  # how far the model moved
    clip: float | None = None  # of the next round, where it follows the updates' norms
    unusual: unusual.Found = field(default_factory=dict)


def of(closing: Round, alive: Callable[[], None]) -> Outcome:
    """The outcome of a claimed round. `alive` is called now and then and may raise to end the work.

    Raises `not_finite` when the new model is not, `updates_too_few` when the strategy needs more, `storage_full`, and
    OSError, EOFError or kernels.Truncated when a file is missing or damaged.
    """
    answers = list(Update.objects.filter(counted_in=closing).order_by("pk").values(*ANSWER))
    earlier = _measured_before(closing, answers) if closing.asynchronous else {}
    measured = earlier.pop(closing.number, {}) if closing.asynchronous else _measured(closing.run, answers)
    if closing.kind == RoundKind.TRAIN:
        updates = _updates(closing, answers)
        digests, clip = _trained(closing, updates, alive)
        return Outcome(
            digests.sha256,
            digests.digest,
            measured,
            earlier,
            answers=len(answers),
            state=digests.state,
            drift=_moved(closing, digests.sha256),
            clip=clip,
            unusual=_unusual(closing.run, answers, updates),
        )
    if closing.kind == RoundKind.STATISTICS and answers:
        digests, standardisation = _standardised(closing, answers)
        return Outcome(digests.sha256, digests.digest, standardisation=standardisation, answers=len(answers))
    return Outcome(closing.base_blob, "", measured, answers=len(answers))


def _measured(run: Run, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What these answers measured, put together."""
    measured = metrics.merged(
        (answer["organization__public_id"], answer["answer"]["evaluation"])
        for answer in answers
        if answer["answer"].get("evaluation")
    )
    return measured | _own_models(run, answers)


def _measured_before(closing: Round, answers: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Round → what is known of the model it began with, for the rounds in which these answers began.

    A device measures the model it gets, whenever its answer is counted, so a model's metrics grow with late answers.
    """
    began = {answer["round__number"] for answer in answers if answer["answer"].get("evaluation")}
    counted = Update.objects.filter(
        round__run=closing.run_id,
        round__kind=closing.kind,
        counted_in__state__in=(RoundState.AGGREGATING, RoundState.DONE),  # of an attempt that failed they come again
    )
    columns = ("organization__public_id", "device__identifier", "answer")
    known = {number: counted.filter(round__number=number).order_by("pk").values(*columns) for number in began}
    return {number: _measured(closing.run, list(rows)) for number, rows in known.items()}


def _own_models(run: Run, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What devices measured of models of their own, where the strategy gives them any."""
    if not strategies.find(run.strategy).personal:
        return {}
    return own_models.compared(
        Reported(answer["organization__public_id"], answer["device__identifier"], said["evaluation"], said["personal"])
        for answer in answers
        if (said := answer["answer"]).get("personal") and said.get("evaluation")
    )


def _updates(closing: Round, answers: list[dict[str, Any]]) -> list[FoldedUpdate]:
    strategy, exponent = strategies.find(closing.run.strategy), closing.staleness_exponent
    if sums.hides(closing):
        totals = sums.write_means(closing)
        return [FoldedUpdate(blobs.path(total.mean_blob), total.mean_blob, total.weights or 1) for total in totals]
    alike = Protection.of(closing.run.config).spends  # a weight would multiply what noise is to hide
    return [
        FoldedUpdate(
            blobs.path(answer["blob"]),
            answer["blob"],
            1 if alike else answer["samples"],
            answer["norm"],
            {name: answer["answer"][name] for name in strategy.reports},
            base=blobs.path(answer["round__base_blob"]) if strategy.rebases and answer["staleness"] else None,
            discount=polynomial(answer["staleness"], exponent),
            trusted=trust.is_trusted(closing.run, answer["organization__public_id"]),
        )
        for answer in answers
    ]


def _unusual(run: Run, answers: list[dict[str, Any]], updates: list[FoldedUpdate]) -> unusual.Found:
    protection = Protection.of(run.config)
    # People see the scores, which the portal's noise does not cover; under that of devices they would be noise.
    if protection.hides or protection.spends:
        return {}
    travels = local.travels(run)
    codec, pks = codecs.of(run.config.get("codec"), travels), [answer["pk"] for answer in answers]
    return unusual.compared(pks, updates, travels, codec, settings.FEDPORTAL_AGGREGATION_THREADS)


def recipe(closing: Round) -> Recipe:
    """What the model after a claimed training round is made from, wherever its state is written."""
    answers = list(Update.objects.filter(counted_in=closing).order_by("pk").values(*ANSWER))
    return _recipe(closing, _updates(closing, answers), blobs.scratch())


def _recipe(closing: Round, updates: list[FoldedUpdate], state: Path) -> Recipe:
    run = closing.run
    strategy = strategies.find(run.strategy)
    travels = local.travels(run)
    keeps = strategy.state_bytes(run.config["parameters"], travels.parameters) > 0
    before = remembered.state_before(run, closing.number) if keeps else ""
    cohort = remembered.cohort(closing) if strategy.needs_device_state else NOBODY
    return Recipe(
        strategy,
        run.config["parameters"],
        manifest_of(run.base_version),
        blobs.path(closing.base_blob),
        updates,
        StateFiles(blobs.path(before) if before else None, state, cohort),
        codecs.of(run.config.get("codec"), travels),
        local.names_of(run),
        _noise(closing),
    )


def _noise(closing: Round) -> Noise | None:
    """What the portal adds to the sum of a training round, by how the run protects updates."""
    protection = Protection.of(closing.run.config)
    if protection.mechanism != CENTRAL:
        return None
    if protection.clipping != ADAPTIVE:
        return Noise(protection.clip, protection.noise)
    clip = remembered.clip_before(closing.run, closing.number) or protection.clip
    return Noise(clip, protection.noise, protection.quantile)


def _trained(closing: Round, updates: list[FoldedUpdate], alive: Callable[[], None]) -> tuple[Digests, float | None]:
    """The next model, and the clip of the next round where it follows the updates' norms."""
    clips: list[float | None] = []

    def on_block() -> None:
        alive()
        faults.point("mid_aggregation")

    def write(out: Path, state: Path) -> Digests:
        found = _recipe(closing, updates, state)
        if found.noise is None and shards.suits(found):  # a part that is made twice would be released with two noises
            return shards.combined(closing, found, out, alive)
        clips.append(found.noise.next_clip(found.norms) if found.noise is not None else None)
        return assembly.write(found, out, settings.FEDPORTAL_AGGREGATION_THREADS, on_block)

    strategy, travels = strategies.find(closing.run.strategy), local.travels(closing.run)
    state_bytes = strategy.state_bytes(closing.run.config["parameters"], travels.parameters)
    digests = _stored(manifest_of(closing.run.base_version).model_bytes + state_bytes, write)
    return digests, clips[-1] if clips else None


def _moved(closing: Round, result: str) -> float | None:
    manifest, threads = manifest_of(closing.run.base_version), settings.FEDPORTAL_AGGREGATION_THREADS
    before, after = blobs.path(closing.base_blob), blobs.path(result)
    return drift.relative_change(manifest, before, after, threads, local.names_of(closing.run))


def _standardised(closing: Round, answers: list[dict[str, Any]]) -> tuple[Digests, dict[str, Any]]:
    reports = {
        (answer["organization__name"], answer["device__identifier"]): answer["answer"]["statistics"]
        for answer in answers
    }
    mean, deviation, samples = metrics.standardisation(reports)
    manifest, base = manifest_of(closing.run.base_version), blobs.path(closing.base_blob)
    buffers = {MEAN: mean, STD: deviation}
    digests = _stored(manifest.model_bytes, lambda out, _: assembly.with_buffers(base, manifest, buffers, out))
    return digests, {"mean": mean.tolist(), "std": deviation.tolist(), "samples": samples}


def _stored(size: int, write: Callable[[Path, Path], Digests]) -> Digests:
    """Have a model file of about `size` bytes written, perhaps with its state, and make them blobs.

    Raises `storage_full`.
    """
    blobs.ensure_room(size)
    out, state = blobs.scratch(), blobs.scratch()
    try:
        digests = write(out, state)
        if digests.state:
            blobs.adopt(state, digests.state)
        blobs.adopt(out, digests.sha256)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FedportalError("storage_full") from error
        raise
    finally:
        out.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
    return digests
