"""fedportal team webhook …"""

from __future__ import annotations

import time

import click

from fedportal_sdk.cli import output

# How long `test` waits to hear how it went.
WAIT_SECONDS = 15.0


@click.group(cls=output.Group)
def webhook() -> None:
    """Addresses of your own that the portal tells what happens.

    \b
    Examples:
      fedportal team webhook add https://hooks.example/fedportal --kind run.finished
      fedportal team webhook list
    """


@webhook.command()
@click.argument("url")
@click.option("--kind", "kinds", multiple=True, help="What it hears of; repeatable. Default: everything.")
@output.command
@output.speaking
def add(url: str, kinds: tuple[str, ...], as_json: bool) -> None:
    """Add a webhook; its secret is shown this once.

    \b
    Example:
      fedportal team webhook add https://hooks.example/fedportal --kind run.finished
    """
    made = output.portal().add_webhook(url, list(kinds))
    if as_json:
        output.print_json(made)
        return
    output.err.print(f"The webhook {made['id']} is added. Keep its secret; it is shown this once:")
    click.echo(made["secret"])


@webhook.command("list")
@output.command
@output.speaking
def list_(as_json: bool) -> None:
    """The webhooks of your organization."""
    rows = output.portal().webhooks()
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (row["url"], row["id"], ", ".join(row["kinds"]) or "everything", _state(row), output.day(row["created_at"]))
        for row in rows
    )
    output.table(
        cells, ("address", "id", "tells of", "state", "added"), "None. Add one: fedportal team webhook add URL"
    )


@webhook.command()
@click.argument("webhook_id", metavar="whk_…")
@click.confirmation_option(prompt="Remove this webhook? It is sent nothing any more.")
@output.command
@output.speaking
def remove(webhook_id: str, as_json: bool) -> None:
    """Remove a webhook."""
    output.portal().remove_webhook(webhook_id)
    output.say(f"The webhook {webhook_id} is removed.", {"removed": webhook_id}, as_json)


@webhook.command()
@click.argument("webhook_id", metavar="whk_…")
@output.command
@output.speaking
def test(webhook_id: str, as_json: bool) -> None:
    """Send a test delivery and wait a moment for how it went."""
    portal = output.portal()
    sent = portal.test_webhook(webhook_id)
    give_up = time.monotonic() + WAIT_SECONDS
    while not sent["attempts"] and time.monotonic() < give_up:
        time.sleep(0.3)
        sent = next((row for row in portal.deliveries(webhook_id) if row["id"] == sent["id"]), sent)
    if sent["delivered_at"]:
        said = f"It arrived: the receiver answered {sent['last_status']}."
    elif sent["attempts"]:
        said = f"It did not arrive. {sent['last_error']}"
    else:
        said = "It has not left yet; the page Webhooks shows how it goes."
    output.say(said, sent, as_json)


def _state(row: dict[str, object]) -> str:
    if not row["enabled"]:
        return "disabled"
    return f"failing ({row['failures']} in a row)" if row["failures"] else "enabled"
