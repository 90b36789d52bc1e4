"""The root of the command line, and signing in."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click

from fedportal_sdk._config import Home
from fedportal_sdk.cli import output
from fedportal_sdk.portal import Portal
from fedwire.version import VERSION


class Part(NamedTuple):
    """A word after `fedportal`: the module that has its command, the command's name there, and its short help."""

    module: str
    name: str
    help: str


EDGE = "Stand between the portal and the organization's devices: the portal gets their mean, and no single update."
ROLLBACK = "Take a version back from devices: each gets what it had before, or all get an earlier version."
INFER = "Ask devices what a model says of their rows; only a summary over all of them comes back."
SIMULATE = "Let simulated devices train MODEL, or a model that is made for it, at the real portal."
PARTS = {
    "audit": Part("audit", "audit", "Audit what a run gives away of rows."),
    "deploy": Part("rollouts", "deploy", "Send a version of MODEL to devices of your organization."),
    "device": Part("devices", "device", "Let this machine take part, and look after the organization's devices."),
    "edge": Part("edge", "edge", EDGE),
    "experiment": Part(
        "experiments", "experiment", "Compare two versions on your own devices, and give the better one to all."
    ),
    "federation": Part("federations", "federation", "Found federations, invite, join, and share models."),
    "gate": Part("gate", "gate", "What versions of a model must pass before they go to devices."),
    "infer": Part("infer", "infer", INFER),
    "key": Part("team", "key", "API keys: for people's programs, and for enrolling devices."),
    "model": Part("models", "model_group", "The models you see, their versions and where these come from."),
    "pull": Part("models", "pull", "Fetch a version of a model."),
    "push": Part("models", "push", "Push weights as a version; the model is registered if it is new."),
    "rollback": Part("rollouts", "rollback", ROLLBACK),
    "rollout": Part("rollouts", "rollout", "Follow and steer versions on their way to your devices."),
    "serve": Part("serve", "serve", "Serve MODEL to programs of this machine, in the shapes of OpenAI's API."),
    "simulate": Part("simulate", "simulate", SIMULATE),
    "team": Part("team", "team", "People, policy and webhooks of your organization."),
    "train": Part("training", "train", "Start runs and follow them."),
}


class Root(output.Group):
    """The first word; what belongs to it is loaded when it is typed: to load all takes longer than most commands do."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List them without loading them."""
        spoken = {name: click.Command(name, help=part.help) for name, part in PARTS.items()}
        click.Group(commands={**spoken, **self.commands}).format_commands(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, by name."""
        return sorted({*PARTS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None where there is none of this name."""
        if cmd_name in PARTS and cmd_name not in self.commands:
            part = PARTS[cmd_name]
            self.add_command(getattr(import_module(f"fedportal_sdk.cli.{part.module}"), part.name), cmd_name)
        return super().get_command(ctx, cmd_name)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="fedportal")
def main() -> None:
    """Train one model together without sharing data.

    \b
    Once, with a key from the portal's page Keys:
      fedportal login --url https://portal.example --api-key edg_…

    \b
    Whoever leads:
      fedportal federation create healthcare-consortium
      fedportal federation invite healthcare-consortium --org org_… --email mia@metro.example
      fedportal push radiology-v1 model.safetensors
      fedportal federation share radiology-v1 --federation healthcare-consortium
      fedportal train start radiology-v1 --rounds 50
      fedportal train watch radiology-v1

    \b
    Whoever takes part:
      fedportal federation join healthcare-consortium
      fedportal device run radiology-v1 --data patients.csv --target diagnosis
      fedportal edge run --host 0.0.0.0 --least-devices 3
      fedportal serve radiology-v1

    \b
    Whoever gives versions to devices:
      fedportal deploy radiology-v1 --version 2.0.0 --rollout 10%
      fedportal rollout show radiology-v1
      fedportal rollback radiology-v1

    \b
    Whoever answers for privacy:
      fedportal team set-policy --privacy-budget 4.0
      fedportal audit leakage radiology-v1

    \b
    Whoever wants to know how it will go:
      fedportal simulate --devices 100 --rounds 10 --report simulation.html

    Every command takes --json and --help. FEDPORTAL_URL and FEDPORTAL_API_KEY go before what `login` saved in
    ~/.fedportal (or FEDPORTAL_HOME).
    """


@main.command()
@click.option("--url", required=True, help="The portal's address.")
@click.option(
    "--api-key", required=True, prompt="API key", hide_input=True, help="An API key, edg_…; asked for if left out."
)
@click.option("--ca-file", default=None, help="A file of further trusted certificates.")
@output.command
@output.speaking
def login(url: str, api_key: str, ca_file: str | None, as_json: bool) -> None:
    """Save the portal's address and an API key, after trying them.

    \b
    Example:
      fedportal login --url https://portal.example --api-key edg_…
    """
    home = Home()
    tried = Portal(url, api_key, ca_file=ca_file, patience=0)
    who = tried.whoami()
    home.save_settings(url=tried.url, api_key=api_key.strip(), **({"ca_file": ca_file} if ca_file else {}))
    person, organization = who.get("person") or {}, who.get("organization") or {}
    output.say(f"Signed in as {person.get('email', '?')} of {organization.get('name', '?')}.", who, as_json)


@main.command()
@output.command
@output.speaking
def whoami(as_json: bool) -> None:
    """Who the saved key acts for, and what it may do."""
    who = output.portal().whoami()
    if as_json:
        output.print_json(who)
        return
    person, organization, key_ = who["person"], who["organization"] or {}, who["key"] or {}
    output.facts(
        (
            ("portal", output.portal().url),
            ("person", person["email"]),
            ("organization", f"{organization.get('name', '?')} ({organization.get('id', '?')})"),
            ("role", organization.get("role")),
            ("key", f"{key_.get('name')} ({key_.get('prefix')}…)" if key_ else ""),
            ("may", ", ".join(key_.get("scopes", []))),
            ("ends", output.day(key_.get("expires_at"))),
        )
    )
