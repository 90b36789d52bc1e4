"""fedportal push and pull."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fedportal_sdk.cli import output
from fedportal_sdk.portal import Portal
from fedwire.errors import FedportalError

ENDINGS = {"safetensors": "safetensors", "state_dict": "pt", "pytorch": "pt", "onnx": "onnx", "torchscript": "pt"}


@click.command()
@click.argument("model")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--version", "number", default=None, help="A semantic version; by default the next one.")
@click.option(
    "--architecture", default=None, help='A described architecture: JSON, or @file. {"kind": "logistic", "inputs": 30}'
)
@click.option("--description", default="", help="Of a new model.")
@click.option("--notes", default="", help="Of this version.")
@click.option("--seed", default=0, show_default=True, help="Of the first weights, when no FILE is given.")
@output.command
@output.speaking
def push(
    model: str,
    file: Path | None,
    number: str | None,
    architecture: str | None,
    description: str,
    notes: str,
    seed: int,
    as_json: bool,
) -> None:
    """Push weights as a version; the model is registered if it is new.

    FILE is a safetensors file. Without it the version gets the first weights of the described architecture.

    \b
    fedportal push radiology-v1 model.safetensors --version 1.0.0
    fedportal push radiology-v1 --architecture '{"kind": "logistic", "inputs": 30, "standardise": true}'
    """
    described = _architecture(architecture)
    if file is None and described is None:
        raise click.UsageError("Give a FILE, or an --architecture whose first weights are pushed.")
    portal = output.portal()
    found = _model(portal, model, description, described)
    if file is None:
        pushed = portal.push_initial(found["id"], seed, number)
    else:
        with output.bar(f"pushing {file.name}") as progress:
            pushed = portal.push(
                found["id"], file, version=number, architecture=described, notes=notes, progress=progress
            )
    output.say(f"Pushed {model} {pushed['version']} ({pushed['size']:,} bytes).", pushed, as_json)


@click.command()
@click.argument("model")
@click.option("--format", "form", type=click.Choice(sorted(ENDINGS)), default="safetensors", show_default=True)
@click.option("--version", "number", default="latest", show_default=True)
@click.option("--output", "target", type=click.Path(path_type=Path), default=None, help="The file to write.")
@output.command
@output.speaking
def pull(model: str, form: str, number: str, target: Path | None, as_json: bool) -> None:
    """Fetch a version of a model."""
    portal = output.portal()
    version = portal.version(model, number)
    place = target or Path(f"{model}-{version['version']}.{ENDINGS[form]}")
    with output.bar(f"pulling {place.name}") as progress:
        portal.pull(model, place, version=version["version"], format=form, progress=progress)
    said = {
        "file": str(place),
        "model": model,
        "version": version["version"],
        "format": form,
        "bytes": place.stat().st_size,
    }
    output.say(f"{model} {version['version']} is in {place}.", said, as_json)


def _model(portal: Portal, name: str, description: str, architecture: dict[str, Any] | None) -> dict[str, Any]:
    """The model, registered now if there is none."""
    try:
        return portal.model(name)
    except FedportalError as error:
        if error.code != "not_found" or name.startswith("mdl_"):
            raise
    return portal.create_model(name, description, architecture)


def _architecture(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except OSError as error:
        raise FedportalError("data_missing", path=text[1:], reason=error.strerror or str(error)) from error
    except ValueError as error:
        raise FedportalError("architecture_invalid", reason=f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise FedportalError("architecture_invalid", reason="it is not a JSON object")
    return value
