"""Plans of inference: made, started, cancelled; and consent to them taken back.

A plan asks the devices of members that consented, that accepted the study agreement, whose policy lets so many devices
take part together, and whose budget is enough for its noise. All that is decided under the federation's lock, in the
unit that offers the tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from federations import permissions
from federations.models import Device, Federation, Organization
from federations.permissions import Actor
from federations.services import audit, device_tasks, enrolment, members, names, policies
from federations.services.device_tasks import NewTask
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.inference import CONFUSION, HELD_OUT, Asked, asked_of
from fedwire.states import DeviceState, InferenceState, TaskKind
from registry.models import Model, ModelVersion
from registry.services import versions
from training import lifecycle
from training.models import InferenceConsent, InferencePart, InferencePlan
from training.models.inference import ALIVE_PLANS
from training.privacy.protection import DEFAULT_DELTA
from training.services import answering, configs, consents, inference_costs, inference_news, runs

DEFAULT_DEVICES, DEFAULT_ORGANIZATIONS = 3, 3
# What is shown of one device, or of one organization, is its own and no summary of several.
LEAST_DEVICES, LEAST_ORGANIZATIONS = 2, 2
MOST = 100_000
DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS = 24 * 3600, 10, 30 * 24 * 3600
MOST_ASKED = 10_000


def plan(
    actor: Actor,
    federation: Federation,
    model: Model,
    *,
    version: ModelVersion | None = None,
    said: Mapping[str, Any],
    least_devices: int = DEFAULT_DEVICES,
    least_organizations: int = DEFAULT_ORGANIZATIONS,
    seconds: int = DEFAULT_SECONDS,
    name: str = "",
    begin: bool = True,
) -> InferencePlan:
    """Make a plan over `version` (the latest) of a model that is shared with the federation, and start it.

    `said` holds fields of `fedwire.inference.Asked`; classes are those of the model, and a confusion matrix is of
    held-out rows unless `rows` says otherwise. Without `begin` it waits for `start`. Raises `forbidden`, `not_shared`,
    `wrong_state`, `architecture_missing`, `tensor_dtype`, `field_invalid`, `invalid_name`, `inference_too_few`.
    """
    permissions.require(actor, "federation.train", federation)
    permissions.require(actor, "model.train", model)
    runs.federation_of(actor, model, federation)
    base = version or versions.latest(model)
    if base is None:
        raise runs.without_version(model)
    organization = actor.organization
    assert organization is not None  # `federation.train` is granted to organizations only
    found = InferencePlan(
        organization=organization,
        federation=federation,
        model=model,
        version=base,
        name=names.checked_title(name) if name else "",
        asked=_asked(base, said).as_json(),
        delta=DEFAULT_DELTA,
        least_devices=configs.whole("least_devices", least_devices, LEAST_DEVICES, MOST),
        least_organizations=configs.whole("least_organizations", least_organizations, LEAST_ORGANIZATIONS, MOST),
        seconds=configs.whole("seconds", seconds, LEAST_SECONDS, MOST_SECONDS),
        created_by=actor.person,
    )
    with unit():
        members.lock(federation)
        members.check_alive(federation)
        found.save(force_insert=True)
        details = {"model": model.public_id, "version": base.version, **found.asked}
        audit.record(organization, actor, "inference.planned", found.public_id, **details)
        if begin:
            _start(actor, found)
    return found


def directs(actor: Actor, found: InferencePlan) -> bool:
    """Whether the actor may start and cancel the plan: of its own organization, or of the federation's owner."""
    return permissions.can(actor, "federation.train", found.federation) and _concerns(actor, found)


def require_directing(actor: Actor, found: InferencePlan) -> None:
    """Raises `forbidden` for who may not start and cancel the plan."""
    permissions.require(actor, "federation.train", found.federation)
    if not _concerns(actor, found):
        names = " or ".join(dict.fromkeys((found.organization.name, found.federation.organization.name)))
        who = f"An owner or a data scientist of {names} may do this."
        raise FedportalError("forbidden", action="start or cancel this plan", who=who)


def start(actor: Actor, found: InferencePlan) -> InferencePlan:
    """Ask the devices. Raises `forbidden`, `not_shared`, `wrong_state` for a plan that began before,
    `inference_too_few`."""
    require_directing(actor, found)
    with unit():
        members.lock(found.federation)
        members.check_alive(found.federation)
        found.refresh_from_db()
        _start(actor, found)
    return found


def cancel(actor: Actor, found: InferencePlan) -> InferencePlan:
    """Nothing of it is shown: open tasks are closed, and what devices answered is erased. What they sent was seen, and
    stays charged. Raises `forbidden`, `wrong_state` for a plan that is over."""
    require_directing(actor, found)
    with unit():
        rows = InferencePlan.objects.filter(pk=found.pk)
        if not lifecycle.move(rows, InferenceState.CANCELLED, ended_at=clock.now()):
            found.refresh_from_db()
            raise _wrong(found, "Only a plan that waits or collects answers is cancelled.")
        answering.call_off(found)
        found.refresh_from_db()
        audit.record(found.organization, actor, "inference.cancelled", found.public_id)
    return found


def withdraw_consent(actor: Actor, federation: Federation) -> None:
    """Take the consent of the actor's organization back: no plan asks its devices any more, and of those that run
    nothing of it is counted.

    What was released before stays known. Without a consent this changes nothing. Raises `forbidden`.
    """
    organization = consents.allowed(actor, federation)
    with unit():
        members.lock(federation)
        standing = InferenceConsent.objects.filter(
            federation=federation, organization=organization, withdrawn_at__isnull=True
        )
        if not standing.update(withdrawn_at=clock.now()):
            return
        parts = answering.withdraw(federation, organization)
        audit.record(organization, actor, "inference.consent_withdrawn", federation.public_id, parts=parts)


def alive(federation: Federation) -> int:
    """How many plans of the federation are not over."""
    return InferencePlan.objects.filter(federation=federation, state__in=ALIVE_PLANS).count()


# --- inside ----------------------------------------------------------------------------------------------------------


def _concerns(actor: Actor, found: InferencePlan) -> bool:
    return actor.organization in (found.organization, found.federation.organization)


def _asked(base: ModelVersion, said: Mapping[str, Any]) -> Asked:
    if base.architecture is None:
        raise FedportalError("architecture_missing")
    configs.check_trainable(base)
    classes = Architecture.parse(base.architecture).classes
    rows = {"rows": HELD_OUT} if said.get("summary") == CONFUSION else {}
    return asked_of({**rows, **said, "classes": classes})


def _start(actor: Actor, found: InferencePlan) -> None:
    """Choose whom to ask, reserve what it costs them, and offer the tasks; under the federation's lock."""
    if found.state != InferenceState.PLANNED:
        raise _wrong(found, "It has begun already.")
    # A plan may have waited for long: what was so when it was made need not be so any more.
    runs.federation_of(actor, found.model, found.federation)
    permissions.require(actor, "model.train", found.model)
    devices, left_out = _candidates(found)
    owners = {device.organization_id: device.organization for device in devices}
    now = clock.now()
    found.started_at, found.deadline = now, now + timedelta(seconds=found.seconds)
    poor = inference_costs.reserve(found, owners)
    for pk in poor:
        left_out[owners[pk].name] = f"the privacy budget of {owners[pk].name} is not enough for this plan"
    devices = [device for device in devices if device.organization_id not in poor]
    asked_owners = [owners[pk] for pk in sorted(owners) if pk not in poor]
    _check_enough(found, devices, asked_owners, left_out)
    found.left_out = left_out
    values = {"started_at": now, "deadline": found.deadline, "left_out": left_out}
    if not lifecycle.move(InferencePlan.objects.filter(pk=found.pk), InferenceState.RUNNING, **values):
        raise FedportalError("conflict")
    found.state = InferenceState.RUNNING
    _offer(found, devices)
    inference_news.started(found, asked_owners)
    details = {"devices": len(devices), "organizations": [one.public_id for one in asked_owners]}
    audit.record(found.organization, actor, "inference.started", found.public_id, **details)


def _candidates(found: InferencePlan) -> tuple[list[Device], dict[str, str]]:
    """The devices that may be asked, and the name of every other member with why none of its is."""
    federation, asked = found.federation, asked_of(found.asked)
    rules = enrolment.rules(federation)
    given = {consent.organization_id: consent for consent in consents.given(federation)}
    budgeted = consents.with_budget(federation)
    used = consents.used(federation, budgeted)
    refused = dict(rules.refused)
    for pk, name in rules.names.items():
        if pk in refused:
            continue
        consent = given.get(pk)
        why = f"{name} has not consented"
        if consent:
            why = consents.refusal(consent, asked, used.get(pk, 0), pk in budgeted)
        if why:
            refused[pk] = why
    able = [pk for pk in rules.names if pk not in refused]
    rows = Device.objects.filter(
        organization__in=able, state=DeviceState.ACTIVE, organization__suspended_at__isnull=True
    )
    devices = list(rows.select_related("organization").order_by("organization__name", "identifier")[: MOST_ASKED + 1])
    if len(devices) > MOST_ASKED:
        raise FedportalError(
            "inference_too_few", reason=f"a plan asks at most {MOST_ASKED} devices, and there are more"
        )
    present = Counter(device.organization_id for device in devices)
    refused |= rules.barred(present)
    refused |= {pk: f"{rules.names[pk]} has no active device" for pk in able if not present[pk]}
    asked_devices = [device for device in devices if device.organization_id not in refused]
    return asked_devices, {rules.names[pk]: reason for pk, reason in sorted(refused.items()) if reason}


def _check_enough(
    found: InferencePlan, devices: Sequence[Device], owners: Sequence[Organization], left_out: Mapping[str, str]
) -> None:
    """Raises `inference_too_few` where the plan could never show anything."""
    if len(devices) >= found.least_devices and len(owners) >= found.least_organizations:
        return
    have = f"{len(devices)} devices of {len(owners)} organizations may be asked"
    need = f"and it needs {found.least_devices} of {found.least_organizations}"
    why = "; ".join(left_out.values())
    raise FedportalError("inference_too_few", reason=f"{have}, {need}{f' ({why})' if why else ''}")


def _offer(found: InferencePlan, devices: Sequence[Device]) -> None:
    base = found.version
    common = {
        "run": "",
        "model": found.model.public_id,
        "model_name": found.model.name,
        "round": 0,
        "attempt": 0,
        "manifest": base.manifest,
        "architecture": base.architecture,
        "training": {},
        "inference": {
            "plan": found.public_id,
            "federation": found.federation.public_id,
            "asked": found.asked,
            "least_devices": found.least_devices,
            "least_organizations": found.least_organizations,
        },
    }
    assert found.deadline is not None
    limits = policies.of_all({device.organization_id for device in devices})
    rows = []
    for device in devices:
        policy = limits.get(device.organization_id)
        content = {"answer": {"least_records": policy.least_records if policy else 0}}
        rows.append(
            NewTask(
                device,
                TaskKind.INFER,
                found.public_id,
                found.deadline,
                content=content,
                base_blob=base.blob,
                common=common,
            )
        )
    tasks = device_tasks.offer(rows)
    InferencePart.objects.bulk_create(
        InferencePart(organization_id=device.organization_id, plan=found, device=device, task=task)
        for device, task in zip(devices, tasks, strict=True)
    )


def _wrong(found: InferencePlan, hint: str) -> FedportalError:
    return FedportalError("wrong_state", what="The plan", state=str(found.state), hint=hint)
