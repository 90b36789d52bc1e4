"""fedportal train …"""

from __future__ import annotations

from typing import Any

import click
from rich.live import Live
from rich.text import Text

from fedportal_sdk.cli import output


@click.group()
def train() -> None:
    """Start runs and follow them."""


@train.command()
@click.argument("model")
@click.option("--federation", default=None, help="Where it is shared; needed when it is shared with several.")
@click.option("--strategy", default="fedavg", show_default=True)
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1))
@click.option("--group", default=None, help="Only devices with this label.")
@click.option("--min-devices", default=1, show_default=True, type=click.IntRange(1), help="Fewest updates of a round.")
@click.option("--round-seconds", default=None, type=click.IntRange(1), help="The deadline of a round.")
@click.option("--epochs", default=None, type=click.IntRange(1), help="Local passes in each round.")
@click.option("--learning-rate", default=None, type=float, help="Of the local descent.")
@click.option("--batch-size", default=None, type=click.IntRange(1), help="Rows in a local step.")
@click.option("--seed", default=None, type=int, help="Of everything drawn at random.")
@click.option("--standardise/--no-standardise", default=None, help="Pool the columns' statistics before round 1.")
@output.command
@output.speaking
def start(
    model: str,
    federation: str | None,
    strategy: str,
    rounds: int,
    group: str | None,
    min_devices: int,
    round_seconds: int | None,
    as_json: bool,
    **config: Any,
) -> None:
    """Start a run of MODEL.

    \b
    fedportal train start radiology-v1 --strategy fedavg --rounds 50 --group production
    """
    started = output.portal().start(
        model,
        federation=federation,
        strategy=strategy,
        rounds=rounds,
        group=group,
        min_devices=min_devices,
        round_seconds=round_seconds,
        config={name: value for name, value in config.items() if value is not None},
    )
    output.say(f"Started {started['id']}. Next: fedportal train status {model} --watch", started, as_json)


@train.command()
@click.argument("model")
@click.option("--watch", is_flag=True, help="Follow the run until it ends.")
@output.command
@output.speaking
def status(model: str, watch: bool, as_json: bool) -> None:
    """How the newest run of MODEL (or the run with this id) stands."""
    portal = output.portal()
    if not watch:
        snapshot = portal.status(model)
        output.print_json(snapshot) if as_json else output.out.print(described(snapshot))
        return
    if as_json:
        for snapshot in portal.watch(model):
            last = snapshot
        output.print_json(last)
        return
    with Live(console=output.out, auto_refresh=False) as live:
        for snapshot in portal.watch(model):
            live.update(described(snapshot), refresh=True)


@train.command()
@click.argument("model")
@output.command
@output.speaking
def pause(model: str, as_json: bool) -> None:
    """Let the present round finish and open no other."""
    output.say("Paused after the present round. Next: fedportal train resume", output.portal().pause(model), as_json)


@train.command()
@click.argument("model")
@output.command
@output.speaking
def resume(model: str, as_json: bool) -> None:
    """Go on after a pause."""
    output.say("Running again.", output.portal().resume(model), as_json)


@train.command()
@click.argument("model")
@output.command
@output.speaking
def stop(model: str, as_json: bool) -> None:
    """End the run for good; no version is published."""
    output.say("Stopped.", output.portal().stop(model), as_json)


def described(snapshot: dict[str, Any]) -> Text:
    """A snapshot in a few lines."""
    run, round_ = snapshot["run"], snapshot["round"]
    lines = [
        f"{run['model']['name']} in {run['federation']['name']}: {run['strategy']}, {run['word']}",
        f"round {run['current_round']} / {run['total_rounds']}  {_bar(run['progress'])}",
    ]
    if run["reason"]:
        lines.append(run["reason"])
    if round_ and round_.get("waiting"):
        lines.append(round_["waiting"]["sentence"])
    for row in snapshot["contributions"]:
        devices = "1 device" if row["devices"] == 1 else f"{row['devices']} devices"
        updates = f"updates {row['updates']}/{row['expected']}"
        lines.append(f"  {row['organization']['name']}: {devices}, {updates}, {row['samples']:,} samples")
    lines += [_trend(snapshot["curves"], name) for name in ("accuracy", "auc", "loss")]
    if run["result_version"]:
        lines.append(f"version {run['result_version']} is published. Next: fedportal pull {run['model']['name']}")
    return Text("\n".join(filter(None, lines)))


def _bar(progress: float, width: int = 30) -> str:
    full = round(progress * width)
    return "█" * full + "░" * (width - full)


def _trend(curves: list[dict[str, Any]], name: str) -> str:
    values = [point[name] for point in curves if point[name] is not None]
    if not values:
        return ""
    if len(values) == 1:
        return f"  {name} {values[-1]:.4f}"
    change = values[-1] - values[-2]
    return f"  {name} {values[-1]:.4f} ({change:+.4f} in the last round)"
