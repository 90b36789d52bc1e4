"""fedportal federation …"""

from __future__ import annotations

import click

from fedportal_sdk.cli import output


@click.group()
def federation() -> None:
    """Found federations, invite, join, and share models."""


@federation.command()
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
@output.command
@output.speaking
def create(name: str, description: str, as_json: bool) -> None:
    """Found a federation; your organization owns it."""
    made = output.portal().found_federation(name, description)
    output.say(
        f"Founded {made['name']} ({made['id']}). Next: fedportal federation invite {made['name']} --org org_…",
        made,
        as_json,
    )


@federation.command("list")
@output.command
@output.speaking
def list_(as_json: bool) -> None:
    """The federations you are in or invited to."""
    rows = output.portal().federations()
    if as_json:
        output.print_json(rows)
        return
    cells = ((row["name"], row["id"], row["role"], row["status"], row["members"]) for row in rows)
    output.table(
        cells, ("name", "id", "role", "state", "members"), "None yet. Found one: fedportal federation create NAME"
    )


@federation.command()
@click.argument("name")
@click.option("--org", "org_ids", multiple=True, help="An organization's id, org_…; repeatable.")
@click.option("--email", "emails", multiple=True, help="A person's address; repeatable.")
@output.command
@output.speaking
def invite(name: str, org_ids: tuple[str, ...], emails: tuple[str, ...], as_json: bool) -> None:
    """Invite organizations by id and people by email."""
    if not org_ids and not emails:
        raise click.UsageError("Name at least one --org or --email.")
    invited = output.portal().invite(name, list(org_ids), list(emails))
    if as_json:
        output.print_json(invited)
        return
    cells = ((row["name"], row["org_id"] or row["email"], row["status"], row["link"]) for row in invited)
    output.table(cells, ("invited", "id or address", "state", "link"), "Nobody was invited.")


@federation.command()
@click.argument("name")
@output.command
@output.speaking
def join(name: str, as_json: bool) -> None:
    """Accept an invitation to your organization."""
    output.say(f"Your organization is now an active member of {name}.", output.portal().join(name), as_json)


@federation.command()
@click.argument("name")
@output.command
@output.speaking
def decline(name: str, as_json: bool) -> None:
    """Decline an invitation to your organization."""
    output.say(f"Declined the invitation to {name}.", output.portal().decline(name), as_json)


@federation.command()
@click.argument("name")
@click.confirmation_option(prompt="Leave? Your devices stop taking part, and coming back needs a new invitation.")
@output.command
@output.speaking
def leave(name: str, as_json: bool) -> None:
    """Leave a federation."""
    output.say(f"Your organization left {name}.", output.portal().leave(name), as_json)


@federation.command()
@click.argument("name")
@output.command
@output.speaking
def members(name: str, as_json: bool) -> None:
    """The roster: who is in, with how many devices, last seen when."""
    rows = output.portal().members(name)
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (row["name"], row["org_id"], row["role"], row["status"], row["devices"], output.ago(row["last_seen_at"]))
        for row in rows
    )
    output.table(cells, ("organization", "id", "role", "state", "devices", "last seen"), "Nobody is in it.")


@federation.command()
@click.argument("model")
@click.option("--federation", "name", required=True, help="The federation that may see it.")
@output.command
@output.speaking
def share(model: str, name: str, as_json: bool) -> None:
    """Show a model to a federation's active members."""
    output.say(f"{model} is shared with {name}.", output.portal().share(model, name), as_json)


@federation.command()
@click.argument("model")
@click.option("--federation", "name", required=True, help="The federation that shall not see it any more.")
@output.command
@output.speaking
def unshare(model: str, name: str, as_json: bool) -> None:
    """Take a model out of a federation."""
    output.portal().unshare(model, name)
    output.say(f"{model} is no longer shared with {name}.", {"model": model, "federation": name}, as_json)
