"""The root of the command line, and signing in."""

from __future__ import annotations

import click

from fedportal_sdk._config import Home
from fedportal_sdk.cli import output
from fedportal_sdk.cli.devices import device
from fedportal_sdk.cli.federations import federation
from fedportal_sdk.cli.models import pull, push
from fedportal_sdk.cli.team import team
from fedportal_sdk.cli.training import train
from fedportal_sdk.portal import Portal
from fedwire.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="fedportal")
def main() -> None:
    """Train one model together without sharing data.

    \b
    fedportal login --url https://portal.example --api-key edg_…
    fedportal federation create "healthcare-consortium"
    fedportal push radiology-v1 model.safetensors
    fedportal train start radiology-v1 --rounds 50
    """


@main.command()
@click.option("--url", required=True, help="The portal's address.")
@click.option("--api-key", required=True, prompt=True, hide_input=True, help="An API key, edg_…")
@click.option("--ca-file", default=None, help="A file of further trusted certificates.")
@output.command
@output.speaking
def login(url: str, api_key: str, ca_file: str | None, as_json: bool) -> None:
    """Save the portal's address and an API key, after trying them."""
    home = Home()
    who = Portal(url, api_key, ca_file=ca_file).whoami()
    home.save_settings(url=Home().url(url), api_key=api_key, **({"ca_file": ca_file} if ca_file else {}))
    person, organization = who.get("person") or {}, who.get("organization") or {}
    output.say(f"Signed in as {person.get('email', '?')} of {organization.get('name', '?')}.", who, as_json)


@main.command()
@output.command
@output.speaking
def whoami(as_json: bool) -> None:
    """Who the saved key acts for."""
    who = output.portal().whoami()
    person, organization = who.get("person") or {}, who.get("organization") or {}
    output.say(
        f"{person.get('email', '?')} of {organization.get('name', '?')} ({organization.get('id', '?')})", who, as_json
    )


for part in (federation, push, pull, train, device, team):
    main.add_command(part)
