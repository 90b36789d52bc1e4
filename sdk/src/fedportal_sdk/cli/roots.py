"""fedportal team root-key and fedportal federation roots: whose key an organization's devices are certified with."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import click

from fedportal_sdk import _trust
from fedportal_sdk._config import Home
from fedportal_sdk._paths import path_of
from fedportal_sdk.cli import output
from fedportal_sdk.portal import Portal
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.masking import roots as lists
from fedwire.masking.roots import ADD, REMOVE, ROTATE, Entry, Members


@click.command("root-key")
@output.command
@output.speaking
def root_key(as_json: bool) -> None:
    """Make your organization's root key on this machine, or show its fingerprint. The key itself is never sent.

    It certifies your devices. Keep a copy of root_key.pem where you keep such things; who has it can certify devices
    in your name.

    \b
    Example:
      fedportal team root-key
    """
    home = Home()
    key = _trust.public(_trust.root_key(home.folder, make=True))
    said = {"key": key, "fingerprint": lists.fingerprint(key), "file": str(home.folder / _trust.ROOT)}
    then = "fedportal federation roots FEDERATION --ask"
    output.say(f"Your organization's root is {said['fingerprint']}, in {said['file']}.", said, as_json, then=then)


@click.command()
@click.argument("federation")
@click.option("--ask", is_flag=True, help="Ask for your organization's place in the list, or for its new key there.")
@click.option("--sign", metavar="ORG", default=None, help="Sign what this organization asked for, as the owner.")
@click.option("--remove", metavar="ORG", default=None, help="Sign that this organization is out, as the owner.")
@click.option("--yes", is_flag=True, help="The fingerprint was compared.")
@output.command
@output.speaking
def roots(federation: str, ask: bool, sign: str | None, remove: str | None, yes: bool, as_json: bool) -> None:
    """Show the federation's members by their own keys, which devices compare certificates with.

    Every line is signed by its organization and by the owner. Compare fingerprints by phone: the portal is the one that
    might lie about them. The list's own fingerprint is the same for all members.

    \b
    Examples:
      fedportal federation roots healthcare-consortium
      fedportal federation roots healthcare-consortium --ask
      fedportal federation roots healthcare-consortium --sign org_…
    """
    portal, path = output.portal(), path_of(routes.FEDERATION_ROOTS, federation=federation)
    shown = portal._get(path)
    members = _checked(shown)
    if ask:
        shown = portal._post(path, **_asked(portal, shown, members))
    elif sign or remove:
        entry = _waiting(shown, sign) if sign else Entry(shown["federation"], 0, "", REMOVE, remove or "", "")
        if not yes:
            what = (
                f"{entry.op} {entry.organization}, {lists.fingerprint(entry.key)}" if entry.key else f"remove {remove}"
            )
            click.confirm(f"Did you compare it by phone: {what}?", abort=True, err=True)
        placed = asdict(lists.accepted(_trust.root_key(Home().folder), entry, members))
        placed.pop("federation")
        shown = portal._post(f"{path}/accept", **placed)
    _show(shown, _checked(shown), as_json)


def _checked(shown: dict[str, Any]) -> Members:
    """The list, checked here and not believed."""
    return lists.listed(shown["federation"], [Entry(**entry) for entry in shown["entries"]])


def _asked(portal: Portal, shown: dict[str, Any], members: Members) -> dict[str, str]:
    """What the organization signs to get its place, or to change its key: with the key that it has in the list."""
    mine, home = portal.whoami()["organization"]["id"], Home().folder
    op = ROTATE if mine in members.roots else ADD
    key = _trust.public(_trust.root_key(home, make=True))
    signer = _trust.root_key(home)
    if op == ROTATE:
        if members.roots[mine] == key:
            raise FedportalError("field_invalid", field="key", reason="it is in the list already.")
        signer = _trust.root_key(home, name=_trust.FORMER)
    entry = lists.consented(signer, shown["federation"], op, mine, key)
    return {"op": op, "key": key, "by_organization": entry.by_organization}


def _waiting(shown: dict[str, Any], organization: str) -> Entry:
    found = next((one for one in shown["waiting"] if one["organization"] == organization), None)
    if found is None:
        raise FedportalError("not_found", what=f"line of {organization} that waits")
    return replace(Entry(**found), seq=0, prev="", by_owner="")


def _show(shown: dict[str, Any], members: Members, as_json: bool) -> None:
    if as_json:
        output.print_json(shown)
        return
    lines = [(one["seq"], one["op"], one["organization"], _print_of(one["key"]), "signed") for one in shown["entries"]]
    lines += [("", one["op"], one["organization"], _print_of(one["key"]), "waits") for one in shown["waiting"]]
    output.table(lines, ("", "what", "organization", "fingerprint", "owner"), "Nobody is in the list yet.")
    if members.length:
        output.say(f"The list's own fingerprint is {lists.fingerprint(members.head)}.", None, False)


def _print_of(key: str) -> str:
    return lists.fingerprint(key) if key else ""
