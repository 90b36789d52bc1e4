"""fedportal federation agreement …"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import IO, Any

import click

from fedportal_sdk.cli import output
from fedwire.errors import FedportalError


@click.group(cls=output.Group)
def agreement() -> None:
    """Read, publish and accept a federation's study agreement.

    \b
    Examples:
      fedportal federation agreement show healthcare-consortium
      fedportal federation agreement publish healthcare-consortium --title "Study agreement" --file agreement.txt
      fedportal federation agreement accept healthcare-consortium
    """


@agreement.command()
@click.argument("federation")
@click.option("--version", "number", type=int, help="An older version; left out: the current one.")
@click.option("--all", "every", is_flag=True, help="List all versions instead.")
@output.command
@output.speaking
def show(federation: str, number: int | None, every: bool, as_json: bool) -> None:
    """The whole text, who accepted it, and when it ends."""
    versions = output.portal().agreements(federation)
    if every:
        if as_json:
            output.print_json(versions)
            return
        cells = ((v["version"], v["title"], v["id"], output.day(v["expires_at"]), _state(v)) for v in versions)
        output.table(cells, ("version", "title", "id", "ends", "state"), "No agreement was published yet.")
        return
    chosen = _version(federation, versions, number)
    if as_json:
        output.print_json(chosen)
    else:
        _print(chosen)


@agreement.command()
@click.argument("federation")
@click.option("--title", required=True, help="What it is called.")
@click.option(
    "--file", "text", type=click.File(encoding="utf-8"), required=True, help="The text; - reads it from here."
)
@click.option("--expires", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), help="When it ends, in UTC.")
@output.command
@output.speaking
def publish(federation: str, title: str, text: IO[str], expires: datetime | None, as_json: bool) -> None:
    """Publish a version. Members that have not accepted it take part in no further rounds.

    \b
    Example:
      fedportal federation agreement publish healthcare-consortium --title "Study agreement" --file agreement.txt \\
        --expires 2027-12-31
    """
    ends = expires.replace(tzinfo=UTC).isoformat() if expires else None
    made = output.portal().publish_agreement(federation, title, text.read(), ends)
    then = f"fedportal federation members {federation}   (who has accepted it)"
    output.say(f"Published version {made['version']} ({made['id']}).", made, as_json, then=then)


@agreement.command()
@click.argument("federation")
@click.option(
    "--agreement", "chosen", metavar="agr_…", help="The version that you have read; without it you read it now."
)
@output.command
@output.speaking
def accept(federation: str, chosen: str | None, as_json: bool) -> None:
    """Accept the current version for your organization; without --agreement you are shown it and asked."""
    if chosen is None:
        current = _version(federation, output.portal().agreements(federation), None)
        if as_json:
            raise click.UsageError("Name the version that you have read with --agreement.")
        _print(current)
        click.confirm("Accept it for your organization?", abort=True)
        chosen = str(current["id"])
    accepted = output.portal().accept_agreement(federation, chosen)
    output.say(f"Your organization has accepted version {accepted['version']}.", accepted, as_json)


def _version(federation: str, versions: list[dict[str, Any]], number: int | None) -> dict[str, Any]:
    """The version with this number, or the current one. Raises `no_agreement` where there is none, `not_found`."""
    if not versions:
        raise FedportalError("no_agreement", federation=federation)
    found = [v for v in versions if (v["current"] if number is None else v["version"] == number)]
    if not found:
        raise FedportalError("not_found", what="agreement")
    return found[0]


def _print(version: dict[str, Any]) -> None:
    output.facts(
        (
            ("title", version["title"]),
            ("version", f"{version['version']} ({version['id']})"),
            ("state", _state(version)),
            ("ends", output.day(version["expires_at"])),
            ("accepted by", ", ".join(row["name"] for row in version["accepted_by"] or ())),
        )
    )
    output.passage(version["text"])


def _state(version: dict[str, Any]) -> str:
    if not version["current"]:
        return "replaced"
    if version["expired"]:
        return "expired"
    return "accepted" if version["accepted_at"] else "waits for you"
