"""Devices: registered with their own key pair, quarantined, revoked, retired, grouped, alive.

A device's Ed25519 public key is its identity. Registering again with the same key gives a fresh device key; another key
for a taken identifier is refused until an admin resets it. So a leaked enrolment key cannot take over a device.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import IntegrityError, transaction

from federations import permissions
from federations.models import ApiKey, Device, DeviceGroup, DeviceKey, Organization, Person
from federations.permissions import Actor
from federations.services import audit, keys, names, notifications, policies
from fedportal.common import clock, live
from fedportal.common.transactions import after_commit, unit
from fedwire.errors import FedportalError
from fedwire.messages import Registered, registration_message
from fedwire.states import MOVES, DeviceState

MAX_CAPABILITIES = 4096  # bytes of JSON
MAX_GROUPS = 20
# Of an enrolment key that is made for a line to paste.
MAX_ENROLMENT_DAYS = 365
MAX_ENROLMENT_DEVICES = 10_000
# What a device says about itself: field → longest text.
DESCRIPTION = {"platform": 60, "os_version": 100, "sdk_version": 40}
# State → what somebody did to a device that has it now.
DONE = {
    DeviceState.QUARANTINED: "quarantined",
    DeviceState.REVOKED: "revoked",
    DeviceState.RETIRED: "retired",
}
_HEX = {length: re.compile(rf"[0-9a-f]{{{length}}}") for length in (32, 64, 128)}


class FreshKey(NamedTuple):
    """A device's new key, which nobody sees again, and when it ends by itself."""

    text: str
    expires_at: datetime | None


# --- the device's own acts -------------------------------------------------------------------------------------------


def register(api_key: ApiKey, registration: Mapping[str, Any]) -> Registered:
    """Register a device with a key that may enrol, or give a device that is registered a fresh key.

    Raises `field_invalid`, `invalid_name`, `signature_invalid`, `scope_missing`, `forbidden`, `device_taken`,
    `device_inactive`, `enrolment_full`, `nonce_used`; then nothing has changed.
    """
    actor = Actor(api_key.person, api_key.organization, api_key)
    permissions.require(actor, "organization.enroll_devices", api_key.organization)
    identifier = names.checked_identifier(_text(registration, "device_identifier", 100))
    public_key, nonce = _hex(registration, "public_key", 64), _hex(registration, "nonce", 32)
    _check_signature(api_key, identifier, public_key, nonce, _hex(registration, "signature", 128))
    described = _described(registration)
    groups = [group_name(name) for name in registration.get("groups") or []]
    with unit():
        device, is_new = _find_or_create(api_key, identifier, public_key, groups)
        _check_identity(device, public_key)
        if device.keys.filter(nonce=nonce).exists():
            raise FedportalError("nonce_used")
        device.public_key = public_key
        for field, value in described.items():
            setattr(device, field, value)
        device.save()
        fresh = _fresh_key(device, nonce)
        audit.record(api_key.organization, actor, "device.registered", device.public_id, public_key=public_key)
        if is_new:
            _tell(device, "device.registered", f"{identifier} registered as a device of {device.organization}.")
    return {
        "id": device.public_id,
        "device_identifier": identifier,
        "org_id": api_key.organization.public_id,
        "device_key": fresh.text,
        "key_expires_at": fresh.expires_at.isoformat() if fresh.expires_at else None,
        "server_time": clock.now().isoformat(),
    }


def rotate(device: Device) -> FreshKey:
    """A fresh key, asked for by the device itself; the present one ends with the first use of the fresh one."""
    with unit():
        fresh = _fresh_key(device)
        audit.record(device.organization, device, "device.key_rotated", device.public_id)
    return fresh


def heartbeat(device: Device, said: Mapping[str, Any]) -> None:
    """The device is there and says how it is (fields it leaves out stay). Not in the audit. Raises `field_invalid`."""
    fields = _described(said)
    Device.objects.filter(pk=device.pk).update(last_seen_at=clock.now(), **fields)


# --- what people do with devices -------------------------------------------------------------------------------------


def quarantine(actor: Actor, device: Device) -> Device:
    """Give the device no more work until it is restored. Raises `forbidden`, `not_found`, `wrong_state`."""
    return _manage(actor, device, DeviceState.QUARANTINED)


def restore(actor: Actor, device: Device) -> Device:
    """Let a quarantined device work again. Raises `forbidden`, `not_found`, `wrong_state`."""
    return _manage(actor, device, DeviceState.ACTIVE)


def revoke(actor: Actor, device: Device) -> Device:
    """Lock the device out at once and for good. Raises `forbidden`, `not_found`, `wrong_state`."""
    return _manage(actor, device, DeviceState.REVOKED)


def retire(actor: Actor, device: Device) -> Device:
    """The device has done its service. Raises `forbidden`, `not_found`, `wrong_state`."""
    return _manage(actor, device, DeviceState.RETIRED)


def revoke_by_staff(by: Person, device: Device) -> Device:
    """Portal staff lock a device out; the entry stands in its organization's log. Raises `forbidden`, `wrong_state`."""
    permissions.require_staff(by)
    with unit():
        _move(device, DeviceState.REVOKED)
        audit.record(device.organization, by, "device.revoked", device.public_id, by="portal staff")
        _tell_end(device, "The portal's staff")
    return device


def reset(actor: Actor, device: Device) -> Device:
    """Let the device's identifier be registered with another key pair, once; its keys end at once.

    Raises `forbidden`, `not_found`, and `device_inactive` for a revoked or retired one.
    """
    permissions.require(actor, "organization.manage_devices", device.organization)
    with unit():
        device.refresh_from_db()
        if device.state in (DeviceState.REVOKED, DeviceState.RETIRED):
            raise FedportalError("device_inactive", state=device.state)
        device.public_key = ""
        device.save(update_fields=["public_key"])
        _end_keys(device)
        audit.record(device.organization, actor, "device.reset", device.public_id)
    return device


def set_groups(actor: Actor, device: Device, group_names: Iterable[str]) -> Device:
    """Put the device into exactly these groups; new names make new groups. Raises `forbidden`, `invalid_name`."""
    permissions.require(actor, "organization.manage_devices", device.organization)
    wanted = sorted({group_name(name) for name in group_names})
    if len(wanted) > MAX_GROUPS:
        raise FedportalError("field_invalid", field="groups", reason=f"at most {MAX_GROUPS} groups.")
    with unit():
        device.groups.set(_groups(device.organization, wanted))
        audit.record(device.organization, actor, "device.groups_set", device.public_id, groups=wanted)
        after_commit(lambda: live.ring_devices([device.pk]))
    return device


def renew(actor: Actor, device: Device) -> Device:
    """End the device's keys at once, so that it has to get a fresh one: it registers again with its own key pair.

    A device that still has a usable enrolment key does so by itself. Raises `forbidden`, `not_found`, and
    `device_inactive` for a revoked or retired one.
    """
    permissions.require(actor, "organization.manage_devices", device.organization)
    with unit():
        device.refresh_from_db()
        if device.state in (DeviceState.REVOKED, DeviceState.RETIRED):
            raise FedportalError("device_inactive", state=device.state)
        now = clock.now()
        # Ended, not revoked: from "expired" the SDK concludes that it may register again.
        usable = DeviceKey.objects.filter(device=device, revoked_at=None).exclude(expires_at__lt=now)
        usable.update(expires_at=now)
        audit.record(device.organization, actor, "device.keys_ended", device.public_id)
        after_commit(lambda: live.ring_devices([device.pk]))
    return device


def check_wish(identifier: str, group: str) -> None:
    """Raises what registering would raise for an identifier and a group, either of which may be empty."""
    if identifier:
        names.checked_identifier(identifier)
    if group:
        group_name(group, "group")


def invite(actor: Actor, *, name: str, days: int, device_limit: int) -> tuple[ApiKey, str]:
    """An enrolment key for devices that are about to register, and its text, which is never shown again.

    Raises `forbidden`, `scope_missing`, `field_invalid`.
    """
    permissions.require(actor, "organization.enroll_devices", keys.organization_of(actor))
    if not 1 <= days <= MAX_ENROLMENT_DAYS:
        raise FedportalError("field_invalid", field="days", reason=f"it must be from 1 to {MAX_ENROLMENT_DAYS}.")
    if not 1 <= device_limit <= MAX_ENROLMENT_DEVICES:
        reason = f"it must be from 1 to {MAX_ENROLMENT_DEVICES}."
        raise FedportalError("field_invalid", field="device_limit", reason=reason)
    expires_at = clock.now() + timedelta(days=days)
    return keys.create(actor, name=name, scopes=["devices:enroll"], expires_at=expires_at, device_limit=device_limit)


def set_certificate(actor: Actor, device: Device, certificate: str) -> Device:
    """Keep the organization's signature over the device's public key with the device; "" takes it away.

    Raises `forbidden`, `field_invalid`.
    """
    permissions.require(actor, "organization.manage_devices", device.organization)
    if len(certificate) > MAX_CAPABILITIES or "\x00" in certificate:
        raise FedportalError("field_invalid", field="certificate", reason=f"at most {MAX_CAPABILITIES} characters.")
    with unit():
        device.certificate = certificate
        device.save(update_fields=["certificate"])
        audit.record(device.organization, actor, "device.certified", device.public_id)
    return device


# --- inside ----------------------------------------------------------------------------------------------------------


def _find_or_create(api_key: ApiKey, identifier: str, public_key: str, groups: list[str]) -> tuple[Device, bool]:
    """The device's locked row, and whether it is new. Two registrations at the same moment meet in one row."""
    found = Device.objects.select_for_update(no_key=True).filter(
        organization=api_key.organization, identifier=identifier
    )
    if device := found.first():
        return device, False
    _check_limit(api_key)
    try:
        with transaction.atomic():
            device = Device.objects.create(
                organization=api_key.organization,
                identifier=identifier,
                public_key=public_key,
                enrolled_with=api_key,
            )
    except IntegrityError:
        return found.get(), False
    device.groups.set(_groups(api_key.organization, groups[:MAX_GROUPS]))
    return device, True


def _check_limit(api_key: ApiKey) -> None:
    if api_key.device_limit is None:
        return
    ApiKey.objects.select_for_update(no_key=True).get(pk=api_key.pk)  # two registrations may not take one last place
    if Device.objects.filter(enrolled_with=api_key).count() >= api_key.device_limit:
        raise FedportalError("enrolment_full", limit=api_key.device_limit)


def _check_identity(device: Device, public_key: str) -> None:
    if device.state in (DeviceState.REVOKED, DeviceState.RETIRED):
        raise FedportalError("device_inactive", state=device.state)
    if device.public_key and device.public_key != public_key:
        raise FedportalError("device_taken", identifier=device.identifier)


def _check_signature(api_key: ApiKey, identifier: str, public_key: str, nonce: str, signature: str) -> None:
    message = registration_message(
        key_id=f"edg_{api_key.lookup}", device_identifier=identifier, public_key=public_key, nonce=nonce
    )
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError) as error:
        raise FedportalError("signature_invalid") from error


def _manage(actor: Actor, device: Device, state: DeviceState) -> Device:
    permissions.require(actor, "organization.manage_devices", device.organization)
    with unit():
        _move(device, state)
        action = "restored" if state == DeviceState.ACTIVE else state
        audit.record(device.organization, actor, f"device.{action}", device.public_id)
        _tell_end(device, str(actor.person))
    return device


def _fresh_key(device: Device, nonce: str | None = None) -> FreshKey:
    """A key that lives as long as the organization's policy says. Call it inside a unit."""
    days = policies.of(device.organization).device_key_days
    expires_at = clock.now() + timedelta(days=days) if days else None
    return FreshKey(keys.issue_device_key(device, nonce, expires_at), expires_at)


def _tell(device: Device, kind: str, sentence: str) -> None:
    data = {"device": device.public_id, "device_identifier": device.identifier, "status": str(device.state)}
    notifications.tell(device.organization, kind, sentence=sentence, address=f"/devices/{device.public_id}", data=data)


def _tell_end(device: Device, who: str) -> None:
    """The news that the device works no more, unless it works again."""
    if done := DONE.get(DeviceState(device.state)):
        _tell(device, "device.ended", f"{who} {done} {device.identifier}.")


def _move(device: Device, state: DeviceState) -> None:
    """One allowed move; a final one ends the keys. Waiting devices are rung, so that they notice at once."""
    before = [old for old, following in MOVES["device"].items() if state in following]
    if not Device.objects.filter(pk=device.pk, state__in=before).update(state=state):
        device.refresh_from_db()
        raise FedportalError(
            "wrong_state", what=device.identifier, state=str(device.state), hint="Look at the list of devices."
        )
    device.state = state
    if not MOVES["device"][state]:
        _end_keys(device)
    after_commit(lambda: live.ring_devices([device.pk]))


def _end_keys(device: Device) -> None:
    DeviceKey.objects.filter(device=device, revoked_at=None).update(revoked_at=clock.now())
    after_commit(lambda: live.ring_devices([device.pk]))


def _groups(organization: Organization, group_names: Iterable[str]) -> list[DeviceGroup]:
    return [DeviceGroup.objects.get_or_create(organization=organization, name=name)[0] for name in group_names]


def group_name(name: Any, field: str = "groups") -> str:
    """The one spelling of a label's name, given in `field`. Raises `field_invalid`, `invalid_name`."""
    if not isinstance(name, str) or len(name) > 60:
        raise FedportalError("field_invalid", field=field, reason="a group's name has at most 60 characters.")
    return names.checked_title(name)


def _described(said: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        field: _text(said, field, longest) for field, longest in DESCRIPTION.items() if said.get(field) is not None
    }
    capabilities = said.get("capabilities")
    if capabilities is not None:
        if not isinstance(capabilities, dict) or len(json.dumps(capabilities)) > MAX_CAPABILITIES:
            reason = f"it must be an object of at most {MAX_CAPABILITIES} bytes."
            raise FedportalError("field_invalid", field="capabilities", reason=reason)
        found["capabilities"] = capabilities
    return found


def _text(values: Mapping[str, Any], field: str, longest: int) -> str:
    value = values.get(field)
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        reason = f"it must be printable text of at most {longest} characters."
        raise FedportalError("field_invalid", field=field, reason=reason)
    return value


def _hex(values: Mapping[str, Any], field: str, length: int) -> str:
    value = values.get(field)
    if not isinstance(value, str) or not _HEX[length].fullmatch(value):
        reason = f"it must be {length} lower-case hexadecimal digits."
        raise FedportalError("field_invalid", field=field, reason=reason)
    return value
