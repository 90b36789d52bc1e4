"""fedportal edge …"""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path
from typing import Any

import click

from fedportal_sdk.cli import output
from fedportal_sdk.cli.devices import GROUP, enter
from fedportal_sdk.client import FederatedClient
from fedportal_sdk.edge import Edge, Terms
from fedportal_sdk.edge.edge import DEFAULT_PORT, opened, status_of

IDENTIFIER = "The edge's name as a device of the organization; by default edge- and the host's name."
# What people without a live line get to read of what happens.
SPOKEN = frozenset(
    ("serving", "registered", "alone", "adding", "answered", "declined", "closed", "failed", "finished", "unreachable")
)


@click.group(cls=output.Group)
def edge() -> None:
    """Stand between the portal and the organization's devices: the portal gets their mean, and no single update.

    \b
    Examples:
      fedportal edge key
      fedportal edge run --host 0.0.0.0 --certificate edge.pem --least-devices 3
      fedportal edge status

    Devices take part as always, with the edge's address as their --url and the edge's key as their API key.
    """


@edge.command()
@click.argument("name", required=False, default="")
@click.option("--identifier", default=None, help=IDENTIFIER)
@click.option("--days", default=None, type=click.IntRange(1), help="Let the key end after so many days.")
@click.option("--devices", "most", default=None, type=click.IntRange(1), help="Let it enrol at most so many devices.")
@click.option("--replace", is_flag=True, help="End all keys made before; devices that are enrolled stay.")
@output.command
@output.speaking
def key(name: str, identifier: str | None, days: int | None, most: int | None, replace: bool, as_json: bool) -> None:
    """Make a key with which devices enrol at this edge; it is shown this once.

    \b
    Example:
      fedportal edge key ward-7 --devices 12 --days 30
    """
    with _client(identifier) as client, opened(client, make=True) as (_, enrolment):
        ended = enrolment.end_keys() if replace else 0
        text = enrolment.make_key(name, days=days, most=most)
        said = {"key": text, "name": name, "device_identifier": client.device_identifier, "ended": ended}
    if as_json:
        output.print_json(said)
        return
    click.echo(text)
    command = "fedportal device run MODEL --data FILE --target COLUMN"
    click.echo(
        f"Next: on a device, FEDPORTAL_URL=<the edge's address> FEDPORTAL_API_KEY=<this key> {command}", err=True
    )


@edge.command()
@click.argument("model", required=False)
@click.option("--identifier", default=None, help=IDENTIFIER)
@click.option("--group", "groups", multiple=True, help=GROUP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0: everywhere.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--certificate", default=None, type=click.Path(path_type=Path), help="A PEM file with certificate and private key."
)
@click.option(
    "--least-devices", default=1, show_default=True, type=click.IntRange(1), help="Send no mean of fewer devices."
)
@click.option("--quorum", default=None, type=click.IntRange(1), help="With so many answers the others have the grace.")
@click.option("--grace", default=10.0, show_default=True, type=click.FloatRange(0), help="In seconds.")
@click.option(
    "--least-records", default=None, type=click.IntRange(0), help="Take nothing that stands for fewer rows of a device."
)
@click.option("--rounds", default=None, type=click.IntRange(1), help="Leave after so many rounds.")
@output.command
@output.speaking
def run(
    model: str | None,
    identifier: str | None,
    groups: tuple[str, ...],
    host: str,
    port: int,
    certificate: Path | None,
    least_devices: int,
    quorum: int | None,
    grace: float,
    least_records: int | None,
    rounds: int | None,
    as_json: bool,
) -> None:
    """Serve the organization's devices and take part with their mean (in training MODEL only, if one is named).

    It waits out restarts of the portal and cuts of the network. Ctrl-C ends it and leaves a round in work for the next
    start; what devices have sent is on disk.

    \b
    Example:
      fedportal edge run --identifier edge-metro --host 0.0.0.0 --certificate edge.pem --least-devices 3
    """
    status = output.err.status("starting …") if output.err.is_terminal and not as_json else None

    def show(event: dict[str, Any]) -> None:
        if status is not None:
            status.update(words(event))
        if not as_json and event["event"] in SPOKEN:
            output.err.print(words(event))

    client = _client(identifier, show)
    terms = Terms(least_devices, quorum, grace, client.home.least_records(least_records))
    made = Edge(client, terms, host=host, port=port, certificate=certificate)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: made.stop())
    try:
        if status is not None:
            status.start()
        enter(client, list(groups))
        result = made.run(model, rounds=rounds)
    finally:
        if status is not None:
            status.stop()
        made.close()
    said = {"rounds": result.rounds, "runs": result.runs, "samples": result.samples}
    counted = "1 round" if result.rounds == 1 else f"{result.rounds} rounds"
    output.say(f"Took part in {counted} with the devices behind this edge.", said, as_json)


@edge.command()
@click.option("--identifier", default=None, help=IDENTIFIER)
@output.command
@output.speaking
def status(identifier: str | None, as_json: bool) -> None:
    """How the edge stands: whether it runs, its round, and every device behind it.

    \b
    Example:
      fedportal edge status --identifier edge-metro
    """
    with _client(identifier) as client:
        found = status_of(client)
    if as_json:
        output.print_json(found)
        return
    current = found["round"] or {}
    counts = ", ".join(f"{count} {state}" for state, count in sorted(current.get("devices", {}).items()))
    output.facts(
        (
            ("edge", f"{found['device_identifier']} ({found['device_id'] or 'not registered yet'})"),
            ("portal", found["portal"]),
            ("state", "running" if found["running"] else "not running"),
            ("round", f"{current['round']} of {current['model']} ({current['kind']})" if current else ""),
            ("answers", counts),
            ("until", output.day(current.get("deadline"))),
        )
    )
    cells = (
        (row["device_identifier"], row["status"], row["sdk_version"], output.ago(row["last_seen_at"]))
        for row in found["devices"]
    )
    empty = f"No device yet. Make a key: fedportal edge key --identifier {found['device_identifier']}"
    output.table(cells, ("device", "state", "SDK", "last seen"), empty)


@edge.command()
@click.argument("device_identifier", metavar="DEVICE")
@click.option("--identifier", default=None, help=IDENTIFIER)
@click.confirmation_option(prompt="Lock it out for good?")
@output.command
@output.speaking
def revoke(device_identifier: str, identifier: str | None, as_json: bool) -> None:
    """Lock a device behind this edge out, at once and for good."""
    with _client(identifier) as client, opened(client) as (_, enrolment):
        enrolment.revoke(device_identifier)
    output.say(f"{device_identifier} is revoked.", {"device_identifier": device_identifier}, as_json)


@edge.command()
@click.argument("device_identifier", metavar="DEVICE")
@click.option("--identifier", default=None, help=IDENTIFIER)
@output.command
@output.speaking
def reset(device_identifier: str, identifier: str | None, as_json: bool) -> None:
    """Let a device behind this edge enrol again with another key pair."""
    with _client(identifier) as client, opened(client) as (_, enrolment):
        enrolment.reset(device_identifier)
    output.say(f"{device_identifier} may enrol again.", {"device_identifier": device_identifier}, as_json)


def words(event: dict[str, Any]) -> str:
    """One line for what happens at the edge."""
    kind, number = event["event"], event.get("round")
    lines = {
        "serving": f"devices are served at {event.get('url')}",
        "registered": f"registered at the portal as {event.get('device')}",
        "alone": f"waiting for devices: {event.get('there')} of {event.get('least')} are there …",
        "waiting": "waiting for a round …",
        "task": f"round {number}: got a task",
        "collecting": f"round {number}: {event.get('answered')} answered, {event.get('unfinished')} at work",
        "adding": f"round {number}: adding up {event.get('devices')} devices, {event.get('samples')} rows",
        "uploading": f"round {number}: sending the mean",
        "answered": f"round {number}: sent and acknowledged",
        "declined": f"round {number}: declined ({event.get('reason', '')})",
        "closed": f"round {number}: the portal went on without it",
        "failed": f"round {number}: came to nothing ({event.get('reason', '')})",
        "rotated": "got a fresh device key",
        "unreachable": "the portal cannot be reached; trying again …",
        "reachable": "the portal is back",
        "finished": f"the run is {event.get('state', 'over')}",
    }
    return lines.get(kind, kind)


def _client(identifier: str | None, on_event: Any = None) -> FederatedClient:
    """The device that the edge is at the portal."""
    return FederatedClient(device_identifier=identifier or f"edge-{socket.gethostname()}", on_event=on_event)
