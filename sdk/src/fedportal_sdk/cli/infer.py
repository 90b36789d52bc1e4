"""fedportal infer …"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from fedportal_sdk.cli import output
from fedportal_sdk.inference import Planner
from fedwire import inference

WIDTH = 40
HIDDEN = "hidden"


@click.group(cls=output.Group)
def infer() -> None:
    """Ask devices what a model says of their rows; only a summary over all of them comes back.

    \b
    Examples:
      fedportal infer consent healthcare-consortium
      fedportal infer start radiology-v1 --federation healthcare-consortium --summary counts
      fedportal infer show inf_…
    """


@infer.command()
@click.argument("model", metavar="MODEL|inf_…")
@click.option("--federation", default=None, help="Whose devices are asked; for a plan that waits leave it out.")
@click.option(
    "--summary", type=click.Choice(inference.SUMMARIES), default="counts", show_default=True, help="What they count."
)
@click.option("--version", default=None, help="The model's version; left out: the latest.")
@click.option("--name", default=None, help="What the plan is called.")
@click.option("--bins", type=int, default=None, help="Of a histogram: how many (20).")
@click.option("--low", type=float, default=None, help="The lowest score (0); what is below counts there.")
@click.option("--high", type=float, default=None, help="The highest score (1).")
@click.option("--rows", type=click.Choice(inference.ROWS), default=None, help="All, or those held out from training.")
@click.option("--noise", type=float, default=None, help="Of each device, over what one row changes; costs budget.")
@click.option("--least-count", type=int, default=None, help="Cells of fewer rows are not shown (10).")
@click.option("--least-devices", type=int, default=None, help="Nothing is shown of fewer answers (3).")
@click.option("--least-organizations", type=int, default=None, help="Nothing is shown of fewer organizations (3).")
@click.option("--seconds", type=int, default=None, help="How long answers are awaited (a day).")
@click.option("--wait", is_flag=True, help="Only plan it; start it later: fedportal infer start inf_…")
@output.command
@output.speaking
def start(model: str, federation: str | None, summary: str, wait: bool, as_json: bool, **more: Any) -> None:
    """Ask the devices of consenting members, or start a plan that waits.

    \b
    Example:
      fedportal infer start radiology-v1 --federation healthcare-consortium --summary histogram --bins 10 --noise 2
    """
    portal = output.portal_as(Planner)
    if model.startswith("inf_"):
        made = portal.act_on_inference(model, "start")
    elif federation is None:
        raise click.UsageError("Name the federation whose devices are asked with --federation.")
    else:
        made = portal.plan_inference(federation, model, summary, start_immediately=not wait, **more)
    asked = sum(made["devices"].values())
    said = f"{made['id']} waits to be started." if wait else f"{made['id']} asks {asked} devices."
    output.say(said, made, as_json, then=f"fedportal infer {'start' if wait else 'show'} {made['id']}")


@infer.command("list")
@click.argument("federation")
@output.command
@output.speaking
def list_(federation: str, as_json: bool) -> None:
    """The plans of a federation, newest first."""
    rows = output.portal_as(Planner).inferences(federation)
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (row["id"], row["name"], f"{row['model']['name']} {row['version']}", row["asked"]["summary"], row["words"])
        for row in rows
    )
    columns = ("id", "name", "model", "summary", "state")
    output.table(cells, columns, f"None. Begin: fedportal infer start MODEL --federation {federation}")


@infer.command()
@click.argument("plan", metavar="inf_…")
@output.command
@output.speaking
def show(plan: str, as_json: bool) -> None:
    """A plan, and its summary once it is done."""
    found = output.portal_as(Planner).inference(plan)
    if as_json:
        output.print_json(found)
        return
    output.facts(_facts(found))
    if found["left_out"]:
        output.table(found["left_out"].items(), ("not asked", "why"), "")
    result = found["result"]
    if result and "cells" in result:
        output.table(_bars(found), (_column(found), "rows", ""), "")


@infer.command()
@click.argument("plan", metavar="inf_…")
@click.confirmation_option(prompt="Cancel it? What devices answered is erased, and stays charged.")
@output.command
@output.speaking
def cancel(plan: str, as_json: bool) -> None:
    """Show nothing of a plan, and erase what devices answered."""
    output.say(f"{plan} is cancelled.", output.portal_as(Planner).act_on_inference(plan, "cancel"), as_json)


@infer.command()
@click.argument("federation")
@click.option("--summary", "summaries", multiple=True, type=click.Choice(inference.SUMMARIES), help="Only these kinds.")
@click.option("--least-count", type=int, default=None, help="No plan that shows cells of fewer rows (10).")
@click.option("--least-noise", type=float, default=None, help="No plan with less noise (0: also without).")
@click.option(
    "--plans-a-month", type=int, default=None, help="Plans in 30 days (10); with a privacy budget, without noise."
)
@click.option("--withdraw", is_flag=True, help="Take it back, also of the plans that run.")
@click.option("--show", "only_show", is_flag=True, help="Only say whether it is given.")
@output.command
@output.speaking
def consent(
    federation: str, summaries: tuple[str, ...], withdraw: bool, only_show: bool, as_json: bool, **limits: Any
) -> None:
    """Let a federation's plans run on your organization's devices, within limits; or take that back.

    \b
    Example:
      fedportal infer consent healthcare-consortium --summary counts --summary mean --least-noise 1
    """
    portal = output.portal_as(Planner)
    if only_show:
        found = portal.inference_consent(federation)
    elif withdraw:
        found = portal.withdraw_inference_consent(federation)
    else:
        found = portal.consent_to_inference(federation, summaries=list(summaries) or None, **limits)
    if not found["given"]:
        output.say("Your organization's devices answer no plan there.", found, as_json)
        return
    kinds = ", ".join(found["summaries"])
    noise = f"noise of at least {found['least_noise']:g}" if found["least_noise"] else "with or without noise"
    sentence = f"Your devices may be asked for {kinds}: cells of at least {found['least_count']} rows, {noise}."
    output.say(sentence, found, as_json, then=f"fedportal infer consent {federation} --withdraw   (takes it back)")


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    asked, result = found["asked"], found["result"] or {}
    yield "name", found["name"]
    yield "state", found["words"] + (f": {found['reason']}" if found["reason"] else "")
    yield "model", f"{found['model']['name']} {found['version']}"
    yield "of", f"{found['federation']['name']}, by {found['organization']['name']}"
    yield "asks for", asked["summary"]
    yield "features", ", ".join(found["features"])
    yield "devices", ", ".join(f"{count} {state}" for state, count in found["devices"].items())
    if found["epsilon"] is not None:
        yield "ε of a row", f"{found['epsilon']:.3g} (δ = {found['delta']:g})"
    yield "until", output.day(found["deadline"])
    if result:
        yield "over", f"{result['rows']} rows of {result['devices']} devices of {result['organizations']} organizations"
        yield "mean", f"{result['mean']:.6g}" if "mean" in result else None
        yield "accuracy", f"{result['accuracy']:.4g}" if "accuracy" in result else None
        yield "noise", f"±{result['deviation']:.3g} (standard deviation)" if result["deviation"] else None


def _bars(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    cells = found["result"]["cells"]
    most = max((cell for cell in cells if cell is not None), default=0)
    for name, cell in zip(_names(found), cells, strict=True):
        if cell is None:
            yield name, HIDDEN, ""
        else:
            yield name, str(cell), "█" * round(WIDTH * cell / most) if most > 0 else ""


def _names(found: dict[str, Any]) -> list[str]:
    """What each cell is about."""
    asked, labels = found["asked"], found["labels"]
    if asked["summary"] == inference.COUNTS:
        return list(labels)
    if asked["summary"] == inference.CONFUSION:
        return [
            f"{true} taken for {said}" if true != said else f"{true}, rightly" for true in labels for said in labels
        ]
    step = (asked["high"] - asked["low"]) / asked["bins"]
    return [
        f"{asked['low'] + place * step:g} to {asked['low'] + (place + 1) * step:g}" for place in range(asked["bins"])
    ]


def _column(found: dict[str, Any]) -> str:
    return "score" if found["asked"]["summary"] == inference.HISTOGRAM else "class"
