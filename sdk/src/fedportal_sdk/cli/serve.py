"""fedportal serve."""

from __future__ import annotations

import signal
import threading
from typing import Any

import click

from fedportal_sdk._config import Home
from fedportal_sdk.cli import output, processors  # noqa: F401  (it does its work by being there before numpy)
from fedportal_sdk.cli.models import architecture_in
from fedportal_sdk.client import FederatedClient
from fedportal_sdk.serving import Limits, Serving, find
from fedportal_sdk.serving.serving import DEFAULT_PORT
from fedwire.errors import FedportalError

LIMITS = Limits()


@click.command()
@click.argument("model")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--version", "number", default="latest", show_default=True, help="Of a model that is pulled.")
@click.option("--identifier", default=None, help="Serve what this device got, where several live on this machine.")
@click.option("--architecture", default=None, help="Of a FILE that nothing describes: JSON, or @file.")
@click.option(
    "--max-prompt-tokens", default=LIMITS.prompt_tokens, show_default=True, type=click.IntRange(1), help="In a request."
)
@click.option(
    "--max-output-tokens", default=LIMITS.output_tokens, show_default=True, type=click.IntRange(1), help="In an answer."
)
@click.option("--max-rows", default=LIMITS.rows, show_default=True, type=click.IntRange(1), help="In a request.")
@click.option("--brightest", default=1.0, show_default=True, help="What 255 in a PNG stands for: 1, or 255.")
@click.option(
    "--report-health/--no-report-health",
    "health",
    default=None,
    help="Tell the portal counts of predictions, failures and latencies, nothing else. As the device's policy says.",
)
@click.option("--seconds", default=None, type=click.FloatRange(0), help="End by itself after so long.")
@output.command
@output.speaking
def serve(
    model: str,
    port: int,
    number: str,
    identifier: str | None,
    architecture: str | None,
    max_prompt_tokens: int,
    max_output_tokens: int,
    max_rows: int,
    brightest: float,
    health: bool | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Serve MODEL to programs of this machine, in the shapes of OpenAI's API.

    MODEL is the name of a model that is installed on this machine, or is pulled now; or a safetensors file; or a
    folder with one, or with a text model. A version that a rollout installs meanwhile is changed over to. Ctrl-C ends
    it.

    \b
    Examples:
      fedportal serve radiology-v1
      fedportal serve model.safetensors --architecture @architecture.json --port 0
      curl 127.0.0.1:8080/predict -H 'Content-Type: application/json' -d '{"rows": [[63, 1, 145, 233, 1, 0]]}'
    """
    limits = Limits(max_prompt_tokens, max_output_tokens, max_rows)
    home = Home()
    client = FederatedClient(device_identifier=identifier, patience=5.0)
    with client:
        device = client.folder if identifier else None
        source = find(model, home, device=device, version=number, architecture=architecture_in(architecture))
        reporter = client if _tells(client, health) else None
        serving = Serving(
            source,
            port=port,
            limits=limits,
            reporter=reporter,
            on_event=None if as_json else _say_what_happens,
            brightest=brightest,
        )
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGTERM, signal.SIGINT):
                signal.signal(one, lambda *_: serving.stop())
        with serving:
            _say_where(serving, as_json)
            serving.wait(seconds)
    if not as_json:
        output.err.print("Served no more.")


def _tells(client: FederatedClient, health: bool | None) -> bool:
    """Whether the portal hears how it goes. Raises not_configured where that is wanted of a device that is none."""
    wanted = client.policy().report_health if health is None else health
    if wanted and client.device_id is None:
        if health:
            raise FedportalError("not_configured", what="registered device", variable="FEDPORTAL_DEVICE")
        return False
    return wanted


def _say_where(serving: Serving, as_json: bool) -> None:
    found, url = serving.found, serving.url
    named = f"{found.name} {found.version}".strip()
    said = {"url": url, "openai": f"{url}/v1", "model": found.name, "version": found.version, "file": str(found.path)}
    then = f"OPENAI_BASE_URL={url}/v1, or POST {url}/predict; nothing leaves this machine. Ctrl-C ends it."
    output.say(f"{named} is served at {url}.", said, as_json, then=then)


def _say_what_happens(event: dict[str, Any]) -> None:
    version = event.get("version") or "another version"
    lines = {
        "changed": f"Changed over to {version}.",
        "unusable": f"{version} is there and cannot be served; the one before goes on. {event.get('reason')}",
        "removed": f"Served no more for now: {event.get('reason')}",
    }
    output.err.print(lines[event["event"]], markup=False)
