"""fedportal device policy: whom and what a device trusts, by its owner's word."""

from __future__ import annotations

import click

from fedportal_sdk._policy import DevicePolicy, places
from fedportal_sdk.cli import output
from fedportal_sdk.client import FederatedClient

WORDS = {
    "least_devices": "devices of a sum, at least",
    "least_organizations": "their organizations, at least",
    "least_difference": "devices between two sums of a model, at least",
    "most_clip": "norm of an update, at most",
    "most_weight": "weight of a device, at most",
    "bits": "bits of the ring",
    "least_noise": "noise in the smallest sum, in clips, at least",
    "rounds_a_day": "rounds of a model a day, at most",
    "federations": "federations",
    "only_masked": "sends nothing that is not masked",
    "require_certificates": "asks all for certificates",
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


def _rows(found: DevicePolicy) -> list[tuple[str, str]]:
    return [(WORDS[name], _word(value)) for name, value in found.facts().items()]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "any"
    return str(value)
