"""fedportal team …"""

from __future__ import annotations

import click

from fedportal_sdk.cli import output

ROLES = ("owner", "admin", "data_scientist", "device_operator", "privacy_officer", "auditor", "viewer")


@click.group()
def team() -> None:
    """The people of your organization."""


@team.command()
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@output.command
@output.speaking
def add(email: str, role: str, as_json: bool) -> None:
    """Invite a colleague by email."""
    output.say(f"A letter to {email} is on its way ({role}).", output.portal().add_colleague(email, role), as_json)


@team.command("list")
@output.command
@output.speaking
def list_(as_json: bool) -> None:
    """Who is in your organization, and who is invited."""
    found = output.portal().team()
    if as_json:
        output.print_json(found)
        return
    rows = [(row["name"], row["email"], row["role"], "member") for row in found["members"]]
    rows += [("", row["email"], row["role"], "invited") for row in found["invitations"]]
    output.table(rows, ("name", "email", "role", "state"), "Nobody yet. Invite someone: fedportal team add EMAIL")
