"""fedportal team … and fedportal key …"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from fedportal_sdk.cli import output

ROLES = ("owner", "admin", "data_scientist", "device_operator", "privacy_officer", "auditor", "viewer")
SCOPES = (
    *("*", "devices:enroll", "federations:read", "federations:write", "models:read", "models:write"),
    *("runs:read", "runs:write", "team:read", "team:write"),
)


@click.group(cls=output.Group)
def team() -> None:
    """The people of your organization.

    \b
    Examples:
      fedportal team add otto@acme.example --role data_scientist
      fedportal team list
    """


@team.command()
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True)
@output.command
@output.speaking
def add(email: str, role: str, as_json: bool) -> None:
    """Invite a colleague by email.

    \b
    Example:
      fedportal team add otto@acme.example --role data_scientist
    """
    sent = output.portal().add_colleague(email, role)
    link = f" Without a mail server, pass on this link: {sent['link']}" if sent["link"] else ""
    output.say(f"A letter to {sent['email']} is on its way ({role}).{link}", sent, as_json)


@team.command("list")
@output.command
@output.speaking
def list_(as_json: bool) -> None:
    """Who is in your organization, and who is invited."""
    found = output.portal().team()
    if as_json:
        output.print_json(found)
        return
    rows = [(row["name"], row["email"], row["id"], row["role"], "member") for row in found["members"]]
    rows += [("", row["email"], row["id"], row["role"], "invited") for row in found["invitations"]]
    output.table(rows, ("name", "email", "id", "role", "state"), "Nobody yet. Invite someone: fedportal team add EMAIL")


@team.command()
@click.argument("person", metavar="EMAIL")
@click.argument("new_role", metavar="ROLE", type=click.Choice(ROLES))
@output.command
@output.speaking
def role(person: str, new_role: str, as_json: bool) -> None:
    """Give a colleague another role.

    \b
    Example:
      fedportal team role otto@acme.example auditor
    """
    output.say(f"{person} is now {new_role}.", output.portal().set_role(person, new_role), as_json)


@team.command()
@click.argument("person", metavar="EMAIL")
@click.confirmation_option(prompt="Let this person go? Their keys end at once.")
@output.command
@output.speaking
def remove(person: str, as_json: bool) -> None:
    """Let a colleague go; their keys end."""
    output.portal().remove_colleague(person)
    output.say(f"{person} is no longer in your organization.", {"removed": person}, as_json)


@click.group(cls=output.Group)
def key() -> None:
    """API keys: for people's programs, and for enrolling devices.

    \b
    Examples:
      fedportal key create devices --scope devices:enroll --devices 3 --days 7
      fedportal key list
    """


@key.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="What it may; repeatable. Default: *")
@click.option("--days", type=click.IntRange(1, 3650), default=None, help="It ends after so many days.")
@click.option("--devices", type=click.IntRange(1), default=None, help="It may register so many devices.")
@output.command
@output.speaking
def create(name: str, scopes: tuple[str, ...], days: int | None, devices: int | None, as_json: bool) -> None:
    """Make a key for yourself; it is shown this once.

    \b
    Example, a key for the machines that have the data:
      fedportal key create devices --scope devices:enroll --devices 3
    """
    ends = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    made = output.portal().make_key(name, list(scopes) or ["*"], ends, devices)
    if as_json:
        output.print_json(made)
        return
    output.err.print("Keep this key; it is shown this once:")
    click.echo(made["key"])


@key.command("list")
@output.command
@output.speaking
def keys(as_json: bool) -> None:
    """Your keys; with the right to manage keys, all of your organization's."""
    rows = output.portal().keys()
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["name"],
            row["id"],
            f"{row['prefix']}…",
            ", ".join(row["scopes"]),
            "revoked" if row["revoked_at"] else output.day(row["expires_at"]) or "never",
            output.ago(row["last_used_at"]),
        )
        for row in rows
    )
    output.table(cells, ("name", "id", "key", "may", "ends", "last used"), "None. Make one: fedportal key create NAME")


@key.command()
@click.argument("key_id", metavar="key_…")
@output.command
@output.speaking
def revoke(key_id: str, as_json: bool) -> None:
    """End a key at once."""
    ended = output.portal().revoke_key(key_id)
    output.say(f"The key {ended['name']} ({ended['prefix']}…) is revoked.", ended, as_json)
