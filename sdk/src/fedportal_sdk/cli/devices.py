"""fedportal device …"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any, Self

import click
from rich.text import Text

from fedportal_sdk._config import Home
from fedportal_sdk._participation import Participation
from fedportal_sdk.cli import output, trust
from fedportal_sdk.client import FederatedClient
from fedportal_sdk.data import load
from fedportal_sdk.local import TableWork
from fedportal_sdk.preflight import blank, examined
from fedwire.effort import LEAST_SHARE
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest

# The device's own key has ended; registering again gives another one.
KEY_ENDED = frozenset({"key_expired", "key_invalid", "key_revoked"})
GROUP = "A label that a new device begins with, such as production; repeatable."


@click.group(cls=output.Group)
def device() -> None:
    """Let this machine take part, and look after the organization's devices.

    \b
    Examples, on the machine that has the data and in its organization:
      fedportal device run radiology-v1 --data patients.csv --target diagnosis --identifier hospital-001
      fedportal device list
      fedportal device revoke hospital-001
    """


@device.command()
@click.option("--identifier", default=None, help="This device's name; by default the host's.")
@click.option("--group", "groups", multiple=True, help=GROUP)
@output.command
@output.speaking
def register(identifier: str | None, groups: tuple[str, ...], as_json: bool) -> None:
    """Register this machine as a device, or get it a fresh device key.

    Its key pair is made here and never leaves it. Needs an API key with the scope devices:enroll.

    \b
    Example:
      fedportal device register --identifier hospital-001 --group production
    """
    with FederatedClient(device_identifier=identifier) as client:
        record = client.register(groups=list(groups) or None)
    said = {"id": record.id, "device_identifier": record.device_identifier, "org_id": record.org_id}
    then = f"fedportal device run --data FILE --target COLUMN --identifier {record.device_identifier}"
    output.say(f"{record.device_identifier} is registered ({record.id}).", said, as_json, then=then)


@device.command()
@click.argument("model", required=False)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The CSV file with this device's rows.")
@click.option("--target", default="target", show_default=True, help="The column to predict.")
@click.option("--identifier", default=None, help="This device's name; by default the host's.")
@click.option("--group", "groups", multiple=True, help=GROUP)
@click.option("--label", "labels", multiple=True, help="A class of the target, in the model's order; repeatable.")
@click.option("--slice", "slices", multiple=True, help="A column by whose values to report too; repeatable.")
@click.option("--rounds", default=None, type=click.IntRange(1), help="Leave after so many rounds.")
@click.option("--forever", is_flag=True, help="Wait for the next run when one ends.")
@click.option(
    "--least-records", default=None, type=click.IntRange(0), help="Decline what stands for fewer rows than this."
)
@click.option(
    "--work-share",
    default=1.0,
    type=click.FloatRange(LEAST_SHARE, 1),
    help="Do only this share of the local steps, on a machine that is too slow for all: 0.5 for half.",
)
@output.command
@output.speaking
def run(
    model: str | None,
    data: Path,
    target: str,
    identifier: str | None,
    groups: tuple[str, ...],
    labels: tuple[str, ...],
    slices: tuple[str, ...],
    rounds: int | None,
    forever: bool,
    least_records: int | None,
    work_share: float,
    as_json: bool,
) -> None:
    """Register this machine and take part in training MODEL (without it: in whatever comes).

    It waits out restarts of the portal and cuts of the network. Ctrl-C ends it and leaves a task in work for the
    next start.

    \b
    Example:
      fedportal device run radiology-v1 --data patients.csv --target diagnosis --identifier hospital-001
    """
    table = load(data, target, slices)  # before the portal hears of this machine
    told = Telling(as_json)
    client = FederatedClient(device_identifier=identifier, on_event=told.event, least_records=least_records)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: client.stop())
    with told, client:
        enter(client, list(groups))
        told.say(f"waiting for a round of {model} …" if model else words({"event": "waiting"}))
        result = client.train(
            model,
            table,
            target,
            rounds=rounds,
            forever=forever,
            labels=list(labels) or None,
            slices=slices,
            work_share=work_share,
        )
    _say_what_came(result, as_json)


class Telling:
    """Says on standard error what a device does: on a terminal in one line that changes, else in a line for each thing
    that matters, and with --json not at all."""

    def __init__(self, as_json: bool) -> None:
        self._silent = as_json
        self._status = output.err.status("registering …") if output.err.is_terminal and not as_json else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def event(self, event: dict[str, Any]) -> None:
        """Something happened on the device."""
        if self._status is not None or event["event"] in ("registered", "answered", "declined", "finished"):
            self.say(words(event))

    def say(self, sentence: str) -> None:
        """A sentence."""
        if self._status is not None:
            self._status.update(Text(sentence))
        elif not self._silent:
            output.err.print(Text(sentence))


def _say_what_came(result: Participation, as_json: bool) -> None:
    """How taking part ended."""
    said = {
        "rounds": result.rounds,
        "runs": result.runs,
        "state": result.state,
        "result_version": result.result_version,
    }
    counted = "1 round" if result.rounds == 1 else f"{result.rounds} rounds"
    end = "left" if result.state == "left" else f"the run is {result.state}"
    published = f"; version {result.result_version} is published" if result.result_version else ""
    output.say(f"Took part in {counted}; {end}{published}.", said, as_json)


@device.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="The CSV file with this device's rows.")
@click.option("--target", default="target", show_default=True, help="The column to predict.")
@click.option("--label", "labels", multiple=True, help="A class of the target, in the model's order; repeatable.")
@click.option("--version", default="latest", show_default=True, help="The version to be trained from.")
@click.option("--least-records", default=None, type=click.IntRange(0), help="This device's own floor.")
@output.command
@output.speaking
def check(
    model: str,
    data: Path,
    target: str,
    labels: tuple[str, ...],
    version: str,
    least_records: int | None,
    as_json: bool,
) -> None:
    """Say whether this machine could train MODEL with these rows; exit code 1 when it could not.

    The same that a run asks of devices before its round 1. Nothing is sent and nothing is registered; it needs a key
    that sees the model.

    \b
    Example:
      fedportal device check radiology-v1 --data patients.csv --target diagnosis
    """
    table = load(data, target)
    found = output.portal().version(model, version)
    task: Any = {"architecture": found["architecture"], "manifest": found["manifest"], "training": {}}
    seen = examined(
        task,
        TableWork(table, list(labels) or None),
        lambda: blank(Manifest.from_json(found["manifest"])),
        least_records=Home(None).least_records(least_records),
    )
    for error in (*seen.failed, *seen.warned):
        if not as_json:
            output.err.print(Text(f"{error.message} {error.next_step}"))
    said = {"model": model, "version": found["version"], "rows": len(table), **seen.report()}
    verdict = "could not train" if seen.failed else "could train"
    output.say(f"This machine {verdict} {model} {found['version']} with these {len(table)} rows.", said, as_json)
    sys.exit(1 if seen.failed else 0)


def enter(client: FederatedClient, groups: list[str]) -> None:
    """Register this machine, or say that it is there again: a device that has its own key needs no enrolment key."""
    if client.device_id is not None:
        if groups:
            sentence = (
                "This device is registered already: --group changes nothing. Its groups are changed in the portal."
            )
            click.echo(sentence, err=True)
        try:
            client.heartbeat()
            return
        except FedportalError as error:
            if error.code not in KEY_ENDED:
                raise
    client.register(groups=groups or None)


@device.command()
@click.argument("model", required=False)
@click.option("--output", "target_file", default=None, type=click.Path(path_type=Path), help="Save it as safetensors.")
@click.option("--data", default=None, type=click.Path(path_type=Path), help="A CSV file to measure it on.")
@click.option("--target", default="target", show_default=True, help="The column to predict.")
@click.option("--label", "labels", multiple=True, help="A class of the target, in the model's order; repeatable.")
@click.option("--identifier", default=None, help="This device's name; by default the host's.")
@click.option("--forget", is_flag=True, help="Remove it from this machine.")
@output.command
@output.speaking
def personal(
    model: str | None,
    target_file: Path | None,
    data: Path | None,
    target: str,
    labels: tuple[str, ...],
    identifier: str | None,
    forget: bool,
    as_json: bool,
) -> None:
    """This machine's own model of MODEL, from a run that gave each device one: save it, measure it, forget it.

    It lies on this machine only; neither saving nor measuring asks the portal.

    \b
    Examples:
      fedportal device personal radiology-v1 --output mine.safetensors
      fedportal device personal radiology-v1 --data patients.csv --target diagnosis
      fedportal device personal radiology-v1 --forget
    """
    with FederatedClient(device_identifier=identifier) as client:
        found = client.personal_model(model)
        said: dict[str, Any] = {"model": found.model, "model_name": found.model_name, "run": found.run}
        said |= {"round": found.round, "tensors": len(found.arrays)}
        lines = [f"This device's own model of {found.model_name or found.model}, from round {found.round}."]
        if data is not None:
            ratios = client.evaluate_personal(found.model, data, target, labels=list(labels) or None)
            said["metrics"] = dict(ratios)
            lines.append(_measured(dict(ratios)))
        if target_file is not None:
            said["file"] = str(client.save_personal(found.model, target_file))
            lines.append(f"Saved to {target_file}.")
        if forget:
            client.forget_personal(found.model)
            lines.append("It is forgotten.")
    output.say(" ".join(lines), said, as_json)


def _measured(ratios: dict[str, Any]) -> str:
    named = [f"{name} {ratios[name]:.4f}" for name in ("accuracy", "auc", "loss") if ratios[name] is not None]
    return f"On {ratios['samples']} held-out rows: {', '.join(named)}."


@device.command("list")
@output.command
@output.speaking
def list_(as_json: bool) -> None:
    """The organization's devices, with when each was last seen."""
    rows = output.portal().devices()
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["device_identifier"],
            row["id"],
            row["status"] + (", present" if row["present"] else ""),
            ", ".join(row["groups"]),
            row["sdk_version"],
            output.ago(row["last_seen_at"]),
        )
        for row in rows
    )
    columns = ("identifier", "id", "state", "groups", "SDK", "last seen")
    output.table(cells, columns, "None yet. On a device: fedportal device run MODEL --data FILE")


def _act(name: str, help_text: str, done: str, confirm: str = "") -> None:
    """A command that does one thing to one device."""

    @output.command
    @output.speaking
    def act(device_id: str, as_json: bool) -> None:
        output.say(done.format(device=device_id), output.portal().act_on_device(device_id, name), as_json)

    function: Any = click.argument("device_id", metavar="DEVICE")(act)
    if confirm:
        function = click.confirmation_option(prompt=confirm)(function)
    device.command(name, help=help_text)(function)


_act("revoke", "End a device's keys at once and for good.", "{device} is revoked.", "Revoke for good?")
_act("retire", "Take a device out of service for good.", "{device} is retired.", "Retire for good?")
_act("reset", "Let a device register again with another key pair.", "{device} may register again.")
_act("renew", "End a device's keys, so that it gets a fresh one.", "The keys of {device} have ended.")
_act("quarantine", "Keep a device out of rounds for now.", "{device} is in quarantine.")
_act("restore", "End a device's quarantine.", "{device} takes part again.")


@device.command()
@click.option("--identifier", default=None, help="This device's name; by default the host's.")
@output.command
@output.speaking
def rotate(identifier: str | None, as_json: bool) -> None:
    """Change this machine's device key for a fresh one.

    \b
    Example:
      fedportal device rotate --identifier hospital-001
    """
    with FederatedClient(device_identifier=identifier) as client:
        record = client.rotate()
    said = {"id": record.id, "device_identifier": record.device_identifier}
    output.say(f"{record.device_identifier} has a fresh key; the old one ends with its first use.", said, as_json)


@device.command()
@click.argument("device_id", metavar="DEVICE")
@click.argument("names", nargs=-1, metavar="[GROUP]...")
@output.command
@output.speaking
def groups(device_id: str, names: tuple[str, ...], as_json: bool) -> None:
    """Put a device into exactly these groups."""
    found = output.portal().set_groups(device_id, list(names))
    output.say(f"{device_id} is in {', '.join(names) or 'no group'}.", found, as_json)


for command in (trust.policy, trust.identity, trust.certify):
    device.add_command(command)


def words(event: dict[str, Any]) -> str:
    """One line for what happens on the device."""
    kind, number = event["event"], event.get("round")
    lines = {
        "registered": f"registered as {event.get('device')}",
        "waiting": "waiting for a round …",
        "task": f"round {number}: got a task",
        "downloading": f"round {number}: fetching the model",
        "training": f"round {number}: training, epoch {event.get('epoch')} / {event.get('epochs')}",
        "uploading": f"round {number}: sending the update",
        "answered": f"round {number}: sent and acknowledged",
        "refused": event.get("reason", ""),
        "checked": f"looked whether it could train: {', '.join(event.get('failed') or ['yes'])}",
        "declined": f"round {number}: declined ({event.get('reason', '')})",
        "rotated": "got a fresh device key",
        "unreachable": "the portal cannot be reached; trying again …",
        "reachable": "the portal is back",
        "finished": f"the run is {event.get('state', 'over')}",
    }
    return lines.get(kind, kind)
