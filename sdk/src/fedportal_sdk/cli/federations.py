"""fedportal federation …"""

from __future__ import annotations

from typing import Any

import click

from fedportal_sdk.cli import output
from fedportal_sdk.cli.agreements import agreement
from fedportal_sdk.cli.roots import roots


@click.group(cls=output.Group)
def federation() -> None:
    """Found federations, invite, join, and share models.

    \b
    Examples:
      fedportal federation create healthcare-consortium --description "Three hospitals"
      fedportal federation invite healthcare-consortium --org org_… --email mia@metro.example
      fedportal federation join healthcare-consortium
      fedportal federation share radiology-v1 --federation healthcare-consortium
    """


@federation.command()
@click.argument("name")
@click.option("--description", default="", help="What it is for.")
@output.command
@output.speaking
def create(name: str, description: str, as_json: bool) -> None:
    """Found a federation; your organization owns it.

    \b
    Example:
      fedportal federation create healthcare-consortium --description "Three hospitals"
    """
    made = output.portal().found_federation(name, description)
    then = f'fedportal federation invite "{made["name"]}" --org org_… --email somebody@hospital.example'
    output.say(f"Founded {made['name']} ({made['id']}).", made, as_json, then=then)


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
    columns = ("name", "id", "role", "state", "members")
    output.table(cells, columns, "None yet. Found one: fedportal federation create NAME")


@federation.command()
@click.argument("federation")
@click.option("--org", "org_ids", multiple=True, metavar="ORG", help="An organization's id, org_…; repeatable.")
@click.option("--email", "emails", multiple=True, metavar="ADDRESS", help="A person's address; repeatable.")
@output.command
@output.speaking
def invite(federation: str, org_ids: tuple[str, ...], emails: tuple[str, ...], as_json: bool) -> None:
    """Invite organizations by id and people by email.

    An organization joins by `fedportal federation join`, a person by the link in the letter.

    \b
    Example:
      fedportal federation invite healthcare-consortium --org org_… --org org_… --email mia@metro.example
    """
    if not org_ids and not emails:
        raise click.UsageError("Name at least one --org or --email.")
    invited = output.portal().invite(federation, list(org_ids), list(emails))
    if as_json:
        output.print_json(invited)
        return
    cells = ((row["name"], row["org_id"], row["status"], row["invitation_id"]) for row in invited)
    output.table(cells, ("invited", "organization", "state", "letter"), "Nobody was invited.")
    for row in invited:
        if row["link"]:
            output.say(f"No mail server is set up. Pass this link on to {row['email']}: {row['link']}", row, False)


@federation.command()
@click.argument("federation")
@output.command
@output.speaking
def invitations(federation: str, as_json: bool) -> None:
    """The letters that were sent, newest first."""
    rows = output.portal().invitations(federation)
    if as_json:
        output.print_json(rows)
        return
    cells = ((row["email"], row["id"], row["status"], output.day(row["expires_at"])) for row in rows)
    output.table(cells, ("to", "id", "state", "ends"), "No letter was sent yet.")


@federation.command()
@click.argument("invitation", metavar="inv_…")
@output.command
@output.speaking
def resend(invitation: str, as_json: bool) -> None:
    """Send an invitation's letter again, with a new link; the old link ends."""
    sent = output.portal().act_on_invitation(invitation, "resend")
    link = f" Without a mail server, pass on this link: {sent['link']}" if sent["link"] else ""
    output.say(f"A new letter to {sent['email']} is on its way.{link}", sent, as_json)


@federation.command()
@click.argument("invitation", metavar="inv_…")
@output.command
@output.speaking
def withdraw(invitation: str, as_json: bool) -> None:
    """Take an invitation by letter back."""
    done = output.portal().act_on_invitation(invitation, "revoke")
    output.say(f"The invitation to {done['email']} is withdrawn.", done, as_json)


@federation.command()
@click.argument("federation")
@click.option(
    "--accept-agreement", metavar="agr_…", help="The study agreement that you have read and accept by joining."
)
@output.command
@output.speaking
def join(federation: str, accept_agreement: str | None, as_json: bool) -> None:
    """Accept an invitation to your organization.

    \b
    Example:
      fedportal federation agreement show healthcare-consortium
      fedportal federation join healthcare-consortium --accept-agreement agr_…
    """
    joined = output.portal().join(federation, accept_agreement)
    then = "fedportal key create devices --scope devices:enroll --devices 3   (a key for your devices)"
    output.say(f"Your organization is now an active member of {federation}.", joined, as_json, then=then)


@federation.command()
@click.argument("federation")
@output.command
@output.speaking
def decline(federation: str, as_json: bool) -> None:
    """Decline an invitation to your organization."""
    output.say(f"Declined the invitation to {federation}.", output.portal().decline(federation), as_json)


@federation.command()
@click.argument("federation")
@click.confirmation_option(prompt="Leave? Your devices stop taking part, and coming back needs a new invitation.")
@output.command
@output.speaking
def leave(federation: str, as_json: bool) -> None:
    """Leave a federation."""
    output.say(f"Your organization left {federation}.", output.portal().leave(federation), as_json)


@federation.command()
@click.argument("federation")
@output.command
@output.speaking
def members(federation: str, as_json: bool) -> None:
    """The roster: who is in, with how many devices, last seen when."""
    rows = output.portal().members(federation)
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["name"],
            row["org_id"] or row["invitation_id"],
            row["role"],
            row["status"],
            row["devices"],
            output.ago(row["last_seen_at"]),
        )
        for row in rows
    )
    output.table(cells, ("organization", "id", "role", "state", "devices", "last seen"), "Nobody is in it.")


def _act(name: str, help_text: str, done: str, confirm: str = "") -> None:
    """A command by which the owner does one thing to one member."""

    @output.command
    @output.speaking
    def act(federation: str, org: str, as_json: bool) -> None:
        output.say(done.format(org=org), output.portal().act_on_member(federation, org, name), as_json)

    function: Any = click.argument("federation")(click.argument("org", metavar="org_…")(act))
    if confirm:
        function = click.confirmation_option(prompt=confirm)(function)
    federation.command(name, help=help_text)(function)


_act("suspend", "Stop a member for a while.", "{org} is suspended.")
_act("reinstate", "Let a suspended member go on.", "{org} is an active member again.")
_act(
    "remove", "Send a member away, or take its invitation back.", "{org} is removed.", "Remove it from the federation?"
)


@federation.command()
@click.argument("federation")
@output.command
@output.speaking
def models(federation: str, as_json: bool) -> None:
    """The models that its active members see."""
    rows = output.portal().shared_models(federation)
    if as_json:
        output.print_json(rows)
        return
    cells = ((row["name"], row["id"], row["organization"]["name"], row["latest_version"]) for row in rows)
    empty = f"None yet. Share one: fedportal federation share MODEL --federation {federation}"
    output.table(cells, ("model", "id", "owner", "latest"), empty)


@federation.command()
@click.argument("model")
@click.option("--federation", "name", required=True, metavar="FEDERATION", help="The federation that may see it.")
@output.command
@output.speaking
def share(model: str, name: str, as_json: bool) -> None:
    """Show a model to a federation's active members.

    \b
    Example:
      fedportal federation share radiology-v1 --federation healthcare-consortium
    """
    shared = output.portal().share(model, name)
    output.say(f"{model} is shared with {name}.", shared, as_json, then=f"fedportal train start {model}")


@federation.command()
@click.argument("model")
@click.option("--federation", "name", required=True, metavar="FEDERATION", help="That shall not see it any more.")
@output.command
@output.speaking
def unshare(model: str, name: str, as_json: bool) -> None:
    """Take a model out of a federation."""
    output.portal().unshare(model, name)
    output.say(f"{model} is no longer shared with {name}.", {"model": model, "federation": name}, as_json)


federation.add_command(agreement)
federation.add_command(roots)
