"""fedportal gate …"""

from __future__ import annotations

from typing import Any

import click

from fedportal_sdk.cli import output
from fedportal_sdk.cli.team import NONE, OrNone
from fedportal_sdk.gating import Gates
from fedwire.errors import FedportalError

NUMBER, BYTES = OrNone(float, "number|none"), OrNone(int, "bytes|none")
METRICS = ("accuracy", "auc", "loss")


@click.group(cls=output.Group)
def gate() -> None:
    """What versions of a model must pass before they go to devices.

    \b
    Examples:
      fedportal gate set radiology-v1 --quality 0.8 --gap 0.1
      fedportal gate check radiology-v1 --version 2.0.0
      fedportal gate show radiology-v1
      fedportal gate override radiology-v1 --version 2.0.0 --reason "The scanner changed; metro agreed."
    """


@gate.command()
@click.argument("model")
@click.option("--version", "number", default="latest", show_default=True)
@output.command
@output.speaking
def show(model: str, number: str, as_json: bool) -> None:
    """How a version stands with the limits of its model."""
    _show(model, output.portal_as(Gates).gate_report(model, number), as_json)


@gate.command("set")
@click.argument("model")
@click.option("--metric", type=click.Choice(METRICS), default=None, help="Which metric --quality and --gap speak of.")
@click.option("--quality", type=NUMBER, default=None, help="The least accuracy or AUC, or the most loss; or none.")
@click.option("--gap", type=NUMBER, default=None, help="How far the worst organization may be behind all; or none.")
@click.option("--drift", type=NUMBER, default=None, help="Relative L2 distance from what is rolled out; or none.")
@click.option("--cosine", type=NUMBER, default=None, help="One less the cosine with what is rolled out; or none.")
@click.option("--size", type=BYTES, default=None, help="Bytes of the file, or none.")
@click.option("--latency", type=NUMBER, default=None, help="Milliseconds for 32 rows on the portal's machine; or none.")
@output.command
@output.speaking
def set_(model: str, as_json: bool, **given: Any) -> None:
    """Set limits; what you leave out stays, and every version is judged anew.

    \b
    Examples:
      fedportal gate set radiology-v1 --metric auc --quality 0.8 --gap 0.05
      fedportal gate set radiology-v1 --drift none
    """
    limits = {name: value for name, value in given.items() if value is not None}
    if not limits:
        raise FedportalError("not_configured", what="limit", variable="--quality, --gap, …")
    changed = output.portal_as(Gates).set_gate(
        model, **{name: None if value == NONE else value for name, value in limits.items()}
    )
    if as_json:
        output.print_json(changed)
        return
    output.out.print("The limits are set.")
    words = ("quality", "gap", "drift", "cosine", "size", "latency")
    output.facts([("metric", changed["metric"]), *((name, changed[name]) for name in words)])


@gate.command()
@click.argument("model")
@click.option("--version", "number", default="latest", show_default=True)
@click.option("--remeasure", is_flag=True, help="Take the time anew; what was measured is kept otherwise.")
@output.command
@output.speaking
def check(model: str, number: str, remeasure: bool, as_json: bool) -> None:
    """Have a version judged and wait for it; the status is 1 while it may not go to devices.

    \b
    Example:
      fedportal gate check radiology-v1 --version 2.0.0
    """
    found = output.portal_as(Gates).check_gate(model, number, remeasure=remeasure)
    _show(model, found, as_json)
    if not found["open"]:
        click.get_current_context().exit(1)


@gate.command()
@click.argument("model")
@click.option("--version", "number", required=True, help="The one version that is let through.")
@click.option("--reason", required=True, help="Why; it stands in the audit log.")
@output.command
@output.speaking
def override(model: str, number: str, reason: str, as_json: bool) -> None:
    """Let one version that did not pass go to devices. For owners; it ends when the limits change.

    \b
    Example:
      fedportal gate override radiology-v1 --version 2.0.0 --reason "The scanner changed; metro agreed."
    """
    found = output.portal_as(Gates).override_gate(model, number, reason)
    output.say(f"{model} {found['version']} may go to devices.", found, as_json)


@gate.command()
@click.argument("model")
@click.option("--version", "number", required=True)
@output.command
@output.speaking
def withdraw(model: str, number: str, as_json: bool) -> None:
    """Take back that a version was let through; devices that hold it keep it.

    \b
    Example:
      fedportal gate withdraw radiology-v1 --version 2.0.0
    """
    found = output.portal_as(Gates).withdraw_override(model, number)
    output.say(f"{model} {found['version']} may not go to further devices.", found, as_json)


def _show(model: str, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(found)
        return
    may = "may go to devices" if found["open"] else f"may not go to devices: {found['reason']}"
    output.out.print(f"{model} {found['version']} {may}.", markup=False)
    rows = [
        (
            row["title"],
            "" if row["figure"] is None else f"{row['figure']:.6g}",
            f"{row['bound']} {row['limit']:.6g}",
            row["outcome"],
            row["reason"],
        )
        for row in found["checks"]
    ]
    output.table(rows, ("check", "figure", "limit", "outcome", "why"), "The model has no limits.")
    if (let := found["overrides"][:1]) and not let[0]["withdrawn_at"] and found["revision"] == let[0]["revision"]:
        by = (let[0]["by"] or {}).get("name", "somebody who left")
        output.out.print(f"Let through by {by}: {let[0]['reason']}", markup=False)
