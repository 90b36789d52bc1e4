"""fedportal push, pull and model …"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from fedportal_sdk.cli import cards, output
from fedportal_sdk.data import columns_of_csv
from fedportal_sdk.portal import Portal
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.formats import ENDINGS, NAMES
from fedwire.tensors import all_finite, decode_model

VERSION = re.compile(r"\d+\.\d+\.\d+", re.ASCII)


@click.command()
@click.argument("model")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--version", "number", default=None, help="A semantic version; by default the next one.")
@click.option(
    "--architecture", default=None, help='A described architecture: JSON, or @file. {"kind": "logistic", "inputs": 30}'
)
@click.option(
    "--columns-from",
    "table",
    default=None,
    type=click.Path(path_type=Path),
    help="A CSV file whose header names the architecture's columns; only that line is read.",
)
@click.option("--target", default="target", show_default=True, help="With --columns-from: the column to predict.")
@click.option("--label", "labels", multiple=True, help="A class of the target, from class 0; repeatable.")
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
    table: Path | None,
    target: str,
    labels: tuple[str, ...],
    description: str,
    notes: str,
    seed: int,
    as_json: bool,
) -> None:
    """Push weights as a version; the model is registered if it is new.

    FILE is a safetensors file. Without it the version gets the first weights of the described architecture. With
    --columns-from and --label the architecture names its columns and classes; devices then take theirs by name.

    \b
    Examples:
      fedportal push radiology-v1 model.safetensors --version 1.0.0
      fedportal push radiology-v1 --architecture '{"kind": "logistic", "inputs": 30, "classes": 2, "standardise": true}'
      fedportal push radiology-v1 model.safetensors --architecture @architecture.json
      fedportal push radiology-v1 --architecture '{"kind": "logistic"}' --columns-from patients.csv --target diagnosis
    """
    described = _named(architecture_in(architecture), table, target, labels)
    if file is None and described is None:
        raise click.UsageError("Give a FILE, or an --architecture whose first weights are pushed.")
    # Before anything is registered: what the portal would refuse leaves no model without a version.
    _check(file, described, number)
    portal = output.portal()
    found = _model(portal, model, description, described)
    if file is None:
        _check_same(found, described)
        pushed = portal.push_initial(found["id"], seed, number)
    else:
        with output.bar(f"pushing {file.name}") as progress:
            pushed = portal.push(
                found["id"], file, version=number, architecture=described, notes=notes, progress=progress
            )
    then = "" if found["federations"] else f"fedportal federation share {model} --federation FEDERATION"
    sentence = f"Pushed {model} {pushed['version']} ({pushed['parameters']:,} parameters, {pushed['size']:,} bytes)."
    output.say(sentence, pushed, as_json, then=then)


@click.command()
@click.argument("model")
@click.option("--format", "form", type=click.Choice(sorted(NAMES)), default="safetensors", show_default=True)
@click.option("--version", "number", default="latest", show_default=True)
@click.option("--output", "-o", "target", type=click.Path(path_type=Path), default=None, help="The file to write.")
@output.command
@output.speaking
def pull(model: str, form: str, number: str, target: Path | None, as_json: bool) -> None:
    """Fetch a version of a model.

    Beside it comes a text that says what it is and what was protected when it was made, and with safetensors a JSON
    file by which `fedportal serve` knows how to compute it. onnx and torchscript hold that themselves, standardisation
    included; the portal makes them for described architectures.

    \b
    Examples:
      fedportal pull radiology-v1
      fedportal pull radiology-v1 --format onnx
      fedportal pull radiology-v1 --version 1.0.0 --format state_dict --output radiology.pt
    """
    portal = output.portal()
    version = portal.version(model, number)
    place = target or Path(f"{model}-{version['version']}.{ENDINGS[NAMES[form]]}")
    with output.bar(f"pulling {place.name}") as progress:
        waiting = output.once(f"The portal is making the {form} form; this takes seconds …")
        portal.pull(model, place, version=version["version"], format=form, progress=progress, waiting=waiting)
    about = place.with_suffix(".md")
    about.write_text(cards.text(model, version, place.name), encoding="utf-8")
    if form == "safetensors":
        place.with_suffix(".json").write_bytes(cards.description(model, version))
    said = {
        "file": str(place),
        "model": model,
        "version": version["version"],
        "format": form,
        "bytes": place.stat().st_size,
        "about": str(about),
    }
    output.say(f"{model} {version['version']} is in {place}; {about.name} says what it is.", said, as_json)


@click.group("model", cls=output.Group)
def model_group() -> None:
    """The models you see, their versions and where these come from.

    \b
    Examples:
      fedportal model list
      fedportal model show radiology-v1
      fedportal model show radiology-v1 --version 2.0.0
    """


@model_group.command("list")
@output.command
@output.speaking
def list_(as_json: bool) -> None:
    """The models you see, your own first."""
    rows = output.portal().models()
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["name"],
            row["id"],
            row["organization"]["name"],
            row["latest_version"],
            ", ".join(shared["name"] for shared in row["federations"]),
        )
        for row in rows
    )
    output.table(
        cells, ("model", "id", "owner", "latest", "shared with"), "None yet. Push one: fedportal push MODEL FILE"
    )


@model_group.command()
@click.argument("model")
@output.command
@output.speaking
def versions(model: str, as_json: bool) -> None:
    """Its versions, newest first."""
    rows = output.portal().versions(model)
    if as_json:
        output.print_json(rows)
        return
    cells = ((row["version"], row["sentence"], f"{row['size']:,}", output.day(row["created_at"])) for row in rows)
    output.table(cells, ("version", "origin", "bytes", "made"), f"None yet. Push one: fedportal push {model} FILE")


@model_group.command()
@click.argument("model")
@click.option("--version", "number", default="latest", show_default=True)
@output.command
@output.speaking
def show(model: str, number: str, as_json: bool) -> None:
    """A version: how large, how good, and where it comes from."""
    found = output.portal().version(model, number)
    if as_json:
        output.print_json(found)
        return
    lineage, described = found["lineage"], found["architecture"] or {}
    sizes = {name: value for name, value in described.items() if name not in ("columns", "labels")}
    parts = lineage.get("organizations", [])
    given = [f"{row['name']} ({row['updates']} updates, {row['samples']:,} rows over all rounds)" for row in parts]
    measured = {**found["metrics"], **(found["metrics"].get("others") or {})}
    metrics = [f"{name} {value:.4f}" for name, value in measured.items() if isinstance(value, float)]
    output.facts(
        (
            ("version", f"{found['version']}, {found['sentence']}"),
            ("parameters", f"{found['parameters']:,} ({found['size']:,} bytes)"),
            ("architecture", json.dumps(sizes) if sizes else ""),
            ("columns", ", ".join(described.get("columns", ()))),
            ("classes", ", ".join(described.get("labels", ()))),
            ("run", lineage.get("run")),
            ("from", "; ".join(given)),
            ("metrics", ", ".join(metrics)),
            ("notes", found["notes"]),
            ("digest", found["digest"]),
            ("made", output.day(found["created_at"])),
        )
    )


def _model(portal: Portal, name: str, description: str, architecture: dict[str, Any] | None) -> dict[str, Any]:
    """The model, registered now if there is none."""
    try:
        return portal.model(name)
    except FedportalError as error:
        if error.code != "not_found" or name.startswith("mdl_"):
            raise
    return portal.create_model(name, description, architecture)


def _named(
    described: dict[str, Any] | None, table: Path | None, target: str, labels: tuple[str, ...]
) -> dict[str, Any] | None:
    """The description with the names of its columns and classes; these also say how many there are."""
    if table is None and not labels:
        return described
    if described is None:
        raise click.UsageError("--columns-from and --label name the columns and classes of an --architecture.")
    if table is not None:
        columns = columns_of_csv(table, target)
        described = {"inputs": len(columns), **described, "columns": columns}
    if labels:
        described = {"classes": len(labels), **described, "labels": list(labels)}
    return described


def _check_same(model: dict[str, Any], described: dict[str, Any] | None) -> None:
    """First weights are drawn for the model's own architecture: another one must not be passed over in silence."""
    if described is not None and model["architecture"] != Architecture.parse(described).spec():
        reason = f"{model['name']} is registered already with another one; push a FILE to give a version its own"
        raise FedportalError("architecture_invalid", reason=reason)


def _check(file: Path | None, architecture: dict[str, Any] | None, number: str | None) -> None:
    """Raises `architecture_invalid`, `version_invalid`, `data_missing`, `not_safetensors` or `not_finite`."""
    if architecture is not None:
        Architecture.parse(architecture)
    if number is not None and not VERSION.fullmatch(number):
        raise FedportalError("version_invalid", version=number[:60])
    if file is None:
        return
    try:
        arrays = decode_model(file)[1]
    except OSError as error:
        raise FedportalError("data_missing", path=str(file), reason=error.strerror or str(error)) from error
    if not all(all_finite(array) for array in arrays.values()):
        raise FedportalError("not_finite")


def architecture_in(text: str | None) -> dict[str, Any] | None:
    """What --architecture says: JSON, or @file. Raises `data_missing`, `architecture_invalid`."""
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
