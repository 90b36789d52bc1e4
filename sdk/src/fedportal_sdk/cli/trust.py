"""fedportal device policy, identity and certify: whom and what a device trusts, by its owner's word."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fedportal_sdk import _trust
from fedportal_sdk._config import Home, write_private
from fedportal_sdk._policy import DevicePolicy, places
from fedportal_sdk.cli import output
from fedportal_sdk.client import FederatedClient
from fedwire.errors import FedportalError
from fedwire.masking.roots import certified, fingerprint

WORDS = {
    "least_devices": "devices of a sum, at least",
    "least_organizations": "their organizations, at least",
    "least_difference": "devices between two sums of a model, at least",
    "most_clip": "norm of an update, at most",
    "most_weight": "weight of a device, at most",
    "bits": "bits of the ring",
    "least_noise": "noise in the smallest sum, in clips, at least",
    "least_own_noise": "noise that it adds by itself, in clips, at least",
    "rounds_a_day": "rounds of a model a day, at most",
    "inference": "answers plans of inference",
    "least_inference_count": "rows in a cell of a plan, at least",
    "inferences_a_day": "plans of inference over a model a day, at most",
    "federations": "federations",
    "only_masked": "sends nothing that is not masked",
    "require_certificates": "asks all for certificates",
    "report_health": "tells how models that it serves fare",
}


@click.command()
@click.option("--identifier", default=None, help="This device's name; by default the host's.")
@output.command
@output.speaking
def policy(identifier: str | None, as_json: bool) -> None:
    """Show what this machine demands of secure aggregation, and check the file that says so.

    The file is policy.toml in the device's folder or in FEDPORTAL_HOME, or what FEDPORTAL_DEVICE_POLICY names. No
    portal can weaken it. Nothing is asked of the portal.

    \b
    Example:
      fedportal device policy --identifier hospital-001
    """
    with FederatedClient(device_identifier=identifier) as client:
        found = client.policy()
        looked = places(client.folder, client.home.folder)
    if as_json:
        output.print_json({**found.facts(), "file": str(found.path) if found.path else None})
        return
    output.facts([("file", found.path or "none, this is the default"), *_rows(found)])
    if found.path is None:
        output.say(f"To demand more, write {' or '.join(map(str, looked))}.", None, False)


@click.command()
@click.option("--identifier", default=None, help="This device's name; by default the host's.")
@click.option(
    "--certificate", type=click.Path(path_type=Path), default=None, help="Keep this certificate, and show it."
)
@click.option("--output", "target", type=click.Path(path_type=Path), default=None, help="Write the file for `certify`.")
@output.command
@output.speaking
def identity(identifier: str | None, certificate: Path | None, target: Path | None, as_json: bool) -> None:
    """Show who this machine is to others, for whoever certifies it.

    \b
    Examples:
      fedportal device identity --identifier hospital-001 --output hospital-001.json
      fedportal device identity --identifier hospital-001 --certificate hospital-001.cert.json
    """
    with FederatedClient(device_identifier=identifier) as client:
        device, organization, key = client._identity()
        said = {"organization": organization, "device": device, "identity": _trust.public(key)}
        path = client.folder / _trust.CERTIFICATE
    if not device:
        raise FedportalError("not_configured", what="registration of this device", variable="FEDPORTAL_DEVICE")
    if certificate is not None:
        found = _trust.read_certificate(certificate)
        if said != {name: getattr(found, name) for name in said}:
            raise FedportalError("field_invalid", field="certificate", reason="it is of another device or key.")
        write_private(path, json.dumps(asdict(found)).encode())
    if target is not None:
        _write(target, said)
    shown: dict[str, Any] = said | {"fingerprint": fingerprint(said["identity"])}
    if as_json:
        output.print_json(shown)
        return
    output.facts([*shown.items(), ("certificate", path if path.exists() else "none")])


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650), help="For how long.")
@click.option("--output", "target", type=click.Path(path_type=Path), default=None, help="Where to write it.")
@output.command
@output.speaking
def certify(file: Path, days: int, target: Path | None, as_json: bool) -> None:
    """Sign a certificate for a device with your organization's root key, on the machine that has it.

    FILE is what `fedportal device identity --output` wrote there. Take the certificate back to the device. Nothing is
    sent to the portal.

    \b
    Example:
      fedportal device certify hospital-001.json --output hospital-001.cert.json
    """
    try:
        said = json.loads(file.read_bytes())
        about = (str(said["organization"]), str(said["device"]), str(said["identity"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FedportalError("field_invalid", field="file", reason=f"{file} is no device's identity.") from error
    now = int(time.time())
    root = _trust.root_key(Home().folder)
    made = asdict(certified(root, about, now, now + days * 86_400))
    if target is not None:
        _write(target, made)
    sentence = f"Certified {about[1]}, {fingerprint(about[2])}: compare it with what the device shows."
    output.say(sentence, made, as_json, then="fedportal device identity --certificate FILE   (on the device)")


def _write(path: Path, value: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(value, indent=2))
    except OSError as error:
        raise FedportalError("file_unwritable", path=str(path), reason=error.strerror or str(error)) from error


def _rows(found: DevicePolicy) -> list[tuple[str, str]]:
    return [(WORDS[name], _word(value)) for name, value in found.facts().items()]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "any"
    return str(value)
