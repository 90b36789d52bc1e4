"""Asking devices: each gets its task, which says all that it has to know, and a part in the round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from federations.models import Device
from federations.services import device_tasks, policies
from federations.services.device_tasks import NewTask
from fedportal.common import clock
from fedwire import codecs
from fedwire.histograms import LOGIT
from fedwire.masking.statements import PROTOCOL
from fedwire.states import RoundKind, TaskKind
from fedwire.version import VERSION
from training import wording
from training.aggregation import strategies
from training.models import Round, Run
from training.privacy.protection import Protection
from training.services import cohorts, compression, local, part_rows, protections, remembered


def ask(run: Run, opened: Round, devices: Sequence[Device], deadline: datetime | None = None) -> None:
    """Offer each device its task, with the floor of its organization's policy, and note its part.

    `deadline`: when its time is over, by default with the round's. With one, in a round that is over, devices whose
    parts came to nothing are asked again. Call it inside a unit.
    """
    trains, measures = opened.kind == RoundKind.TRAIN, opened.kind != RoundKind.STATISTICS
    written = run.config.get("codec")
    codec = codecs.of(written, local.travels(run))
    common = _common(run, opened)
    # Such a round may close, or be about to, while the device works: its task has the time of a round to itself.
    own = clock.now() + timedelta(seconds=run.round_seconds)
    until = deadline or (own if opened.asynchronous else opened.deadline)
    shape = common.pop("answer")  # to which each task adds its own
    limits = policies.of_all({device.organization_id for device in devices})
    floors = {organization: policy.least_records for organization, policy in limits.items()}
    strategy = strategies.find(run.strategy)
    half = local.told(strategy.device_half(run.config["parameters"]), run)
    half = compression.told(half, written if trains else None, keeps=strategy.needs_device_state)
    half = protections.told(half, Protection.of(run.config)) if trains else half
    reports: dict[str, Any] = {"reports": list(strategy.reports)} if trains and strategy.reports else {}
    masked = trains and Protection.of(run.config).hides
    if trains and strategy.needs_individual_updates and not masked:  # what it compares under masks are sums of groups
        reports["individual"] = True
    keeps = (measures and strategy.personal) or (trains and strategy.needs_device_state)
    kept = remembered.counted_rounds(run, devices) if keeps else None
    if trains and strategy.sends_state:
        common["state_digest"] = remembered.state_before(run, opened.number)
    shares = cohorts.work_shares(run, devices) if trains else {}
    if masked:  # the update stays on the device until it is masked, see `training.services.sums`
        common["masking"] = {"protocol": PROTOCOL}
        half = {**half, "requires": [*half.get("requires", ()), PROTOCOL]}
    tasks = device_tasks.offer(
        [
            NewTask(
                device=device,
                kind=TaskKind(opened.kind),
                subject=str(opened.pk),
                deadline=until,
                common=common,
                content={
                    **({"counted_round": kept.get(device.pk, 0)} if kept is not None else {}),
                    **_floor(opened, {**shape, **reports}, floors.get(device.organization_id, 0)),
                    "training": {
                        **half,
                        **({"share": shares[device.pk]} if device.pk in shares else {}),
                        "seed": cohorts.seed_for(run.config["seed"], opened.number, cohorts.party_of(device)),
                    },
                },
                base_blob=opened.base_blob if measures else "",
                update_header=codec.header if trains and not masked else b"",
                update_bytes=codec.nbytes if trains and not masked else 0,
            )
            for device in devices
        ]
    )
    if deadline is None:
        part_rows.offer(opened, tasks, opened.opened_at)
    else:
        part_rows.offer(opened, part_rows.offer_again(opened, tasks, now := clock.now()), now)


def cards(devices: Iterable[Device]) -> list[dict[str, Any]]:
    """The devices as they are shown before they have done anything."""
    return [wording.participant(cohorts.party_of(one), last_seen_at=one.last_seen_at) for one in devices]


def _floor(opened: Round, answer: Mapping[str, Any], least: int) -> dict[str, Any]:
    """What the answer must be. A check stands for no rows, so its device says itself whether it has enough."""
    if opened.kind == RoundKind.CHECK:
        return {"answer": dict(answer), "check": {"least_records": least, "sdk_version": VERSION}}
    return {"answer": {**answer, "least_records": least}}


def _common(run: Run, opened: Round) -> dict[str, Any]:
    """What every device of the round is told."""
    measures = opened.kind == RoundKind.EVALUATE or (opened.kind == RoundKind.TRAIN and run.config["evaluate"])
    return {
        "run": run.public_id,
        "model": run.model.public_id,
        "model_name": run.model.name,
        "round": opened.number,
        "attempt": opened.attempt,
        "manifest": run.base_version.manifest,
        "architecture": run.base_version.architecture,
        "answer": {"metrics": True, "scale": LOGIT} if measures else {"metrics": False},
    }
