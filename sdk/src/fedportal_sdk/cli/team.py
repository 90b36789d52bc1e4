"""fedportal team … and fedportal key …"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from fedportal_sdk.cli import output
from fedportal_sdk.cli.roots import root_key
from fedportal_sdk.cli.webhooks import webhook
from fedwire.errors import FedportalError

ROLES = ("owner", "admin", "data_scientist", "device_operator", "privacy_officer", "auditor", "viewer")
SCOPES = (
    *("*", "devices:enroll", "federations:read", "federations:write", "models:read", "models:write"),
    *("runs:read", "runs:write", "team:read", "team:write"),
)

NONE = "none"
# Option → the API's name of the limit.
LIMITS = {
    "privacy_budget": "total_epsilon_budget",
    "delta": "total_delta_budget",
    "least_records": "least_records",
    "least_devices": "least_devices",
    "strategies": "allowed_strategies",
    "residency": "residency",
    "device_key_days": "device_key_days",
    "auto_rollback": "auto_rollback_enabled",
    "rollback_error_rate": "rollback_error_rate",
}


class OrNone(click.ParamType):
    """A number, or `none` to take the limit away."""

    def __init__(self, kind: type[int] | type[float], name: str) -> None:
        self.kind, self.name = kind, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or NONE."""
        if str(value).strip().lower() == NONE:
            return NONE
        try:
            return self.kind(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor none.", param, ctx)


BUDGET, DAYS = OrNone(float, "number|none"), OrNone(int, "days|none")


@click.group(cls=output.Group)
def team() -> None:
    """People, policy and webhooks of your organization.

    \b
    Examples:
      fedportal team add otto@acme.example --role data_scientist
      fedportal team list
      fedportal team set-policy --privacy-budget 4.0
      fedportal team budget
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


@team.command()
@output.command
@output.speaking
def policy(as_json: bool) -> None:
    """The limits that bind every run your devices are asked to join."""
    found = output.portal().policy()
    if as_json:
        output.print_json(found)
        return
    output.facts(_policy_facts(found))


@team.command("set-policy")
@click.option("--privacy-budget", type=BUDGET, default=None, help="ε that all runs together may spend, or none.")
@click.option("--delta", type=BUDGET, default=None, help="δ that goes with it, or none.")
@click.option("--least-records", type=click.IntRange(0), default=None, help="Fewest rows a device takes part with.")
@click.option("--least-devices", type=click.IntRange(0), default=None, help="Fewest devices that take part together.")
@click.option("--strategies", default=None, help="Names with commas between them, or all.")
@click.option("--residency", default=None, help='Where the data lie, such as "EU"; shown to the federation.')
@click.option("--device-key-days", type=DAYS, default=None, help="Days after which a new device key ends, or none.")
@click.option("--auto-rollback/--no-auto-rollback", default=None, help="Kept for rollouts, which do not exist yet.")
@click.option("--rollback-error-rate", type=float, default=None, help="Kept for rollouts, as a share such as 0.05.")
@output.command
@output.speaking
def set_policy(as_json: bool, **given: Any) -> None:
    """Set limits of your organization's policy; what you leave out stays.

    The privacy budget binds all runs with noise together: a round that would go beyond it does not ask your devices.

    \b
    Examples:
      fedportal team set-policy --privacy-budget 4.0 --delta 0.00001
      fedportal team set-policy --least-records 50 --strategies fedavg
      fedportal team set-policy --privacy-budget none --strategies all
    """
    limits = {LIMITS[name]: value for name, value in given.items() if value is not None}
    if not limits:
        raise FedportalError("not_configured", what="limit", variable="--privacy-budget, --least-records, …")
    limits = {name: None if value == NONE else value for name, value in limits.items()}
    if (said := limits.get("allowed_strategies")) is not None:
        names = [name.strip() for name in str(said).split(",") if name.strip()]
        limits["allowed_strategies"] = [] if names == ["all"] else names
    changed = output.portal().set_policy(**limits)
    if as_json:
        output.print_json(changed)
        return
    output.out.print("The policy is set.")
    output.facts(_policy_facts(changed))


@team.command()
@output.command
@output.speaking
def budget(as_json: bool) -> None:
    """What runs with noise have spent of your privacy budget, and how many more of their rounds it is enough for.

    \b
    Example:
      fedportal team budget
    """
    found = output.portal().budget()
    if as_json:
        output.print_json(found)
        return
    output.facts(_budget_facts(found))
    rows = [
        (
            row["run"]["name"],
            row["federation"]["name"],
            row["word"],
            f"{row['charged']}" + (f" + {row['reserved']} open" if row["reserved"] else ""),
            f"{row['noise']:g}",
            "beyond use" if row["epsilon"] is None else f"{row['epsilon']:.3f}",
            _rounds_left(row),
        )
        for row in found["runs"]
    ]
    columns = ("run", "federation", "state", "rounds paid", "noise", "ε alone", "rounds left")
    output.table(rows, columns, "No run with noise has asked your devices: nothing is spent.")
    if found["total"] > len(rows):
        output.out.print(f"These are the newest {len(rows)} of {found['total']} runs; the page shows all.")


def _budget_facts(budget: dict[str, Any]) -> list[tuple[str, Any]]:
    """The budget, line by line, as a person reads it."""
    cap = budget["epsilon"]
    return [
        ("budget", "no limit" if cap is None else f"ε {cap:g}"),
        ("spent", f"ε {budget['spent']:.3f}"),
        ("reserved", f"ε {budget['reserved']:.3f} more, by open rounds" if budget["reserved"] else ""),
        ("left", "" if budget["left"] is None else f"ε {budget['left']:.3f}"),
        ("δ", f"{budget['delta']:g}"),
        ("compared are data", budget["adjacency"]),
        ("gain from sampling", budget["sampling"]),
        ("counted by", budget["accountant"]),
    ]


def _rounds_left(row: dict[str, Any]) -> str:
    if row["needed"] is None:
        return "it is over"
    if row["rounds_left"] is None:
        return "no limit"
    return f"{row['rounds_left']}, of {row['needed']} to come"


def _policy_facts(policy: dict[str, Any]) -> list[tuple[str, Any]]:
    """The policy, line by line, as a person reads it."""
    epsilon, delta = policy["total_epsilon_budget"], policy["total_delta_budget"]
    return [
        ("privacy budget", f"ε {epsilon:g}" + (f", δ {delta:g}" if delta else "") if epsilon else "no limit"),
        ("fewest rows", policy["least_records"] or "any number"),
        ("fewest devices", policy["least_devices"] or "any number"),
        ("strategies", ", ".join(policy["allowed_strategies"]) or "all"),
        ("residency", policy["residency"] or "not said"),
        ("device keys end", f"after {policy['device_key_days']} days" if policy["device_key_days"] else "never"),
    ]


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


team.add_command(webhook)
team.add_command(root_key)
