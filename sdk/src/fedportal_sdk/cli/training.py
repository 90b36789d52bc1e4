"""fedportal train …"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.live import Live
from rich.text import Text

from fedportal_sdk.cli import output
from fedwire import codecs
from fedwire.states import RunState

Snapshot = dict[str, Any]
AHEAD = ("schedule", "buffer", "most_staleness", "staleness_exponent")
PLAN = ("mode", "quota", "cap", "over_selection", "stragglers", "grace_seconds", *AHEAD)
SCHEDULES = click.Choice(["synchronous", "asynchronous"])


@click.group(cls=output.Group)
def train() -> None:
    """Start runs and follow them.

    \b
    Examples:
      fedportal train start radiology-v1 --strategy fedavg --rounds 50 --group production
      fedportal train watch radiology-v1
      fedportal train pause radiology-v1
    """


@train.command()
@click.argument("model")
@click.option("--federation", default=None, help="Where it is shared; needed when it is shared with several.")
@click.option("--strategy", default="fedavg", show_default=True)
@click.option("--rounds", default=10, show_default=True, type=click.IntRange(1))
@click.option("--group", default=None, help="Only devices with this label.")
@click.option("--min-devices", default=1, show_default=True, type=click.IntRange(1), help="Fewest updates of a round.")
@click.option("--round-seconds", default=None, type=click.IntRange(1), help="The deadline of a round.")
@click.option("--mode", default=None, type=click.Choice(["cross-silo", "cross-device"]), help="All, or a sample.")
@click.option("--sample", default=None, metavar="N|0.1", help="Devices a round asks: a number, or a fraction of them.")
@click.option("--quota", default=None, type=click.IntRange(0), help="At least so many of each organization.")
@click.option("--cap", default=None, type=click.IntRange(0), help="At most so many of each organization.")
@click.option("--over-selection", default=None, type=float, help="Ask so many times the minimum.")
@click.option(
    "--stragglers", default=None, type=click.Choice(["wait", "cut", "grace"]), help="Once enough have answered."
)
@click.option("--grace", "grace_seconds", default=None, type=click.IntRange(1), help="Seconds more for the others.")
@click.option("--schedule", default=None, type=SCHEDULES, help="Whether rounds wait for slow devices.")
@click.option("--buffer", default=None, type=click.IntRange(1), help="Asynchronous: answers that make a model.")
@click.option("--most-staleness", default=None, type=click.IntRange(0), help="Asynchronous: oldest start, in models.")
@click.option("--staleness-exponent", default=None, type=float, help="Asynchronous: the older, the less it counts.")
@click.option("--epochs", default=None, type=click.IntRange(1), help="Local passes in each round.")
@click.option("--learning-rate", default=None, type=float, help="Of the local descent.")
@click.option("--batch-size", default=None, type=click.IntRange(1), help="Rows in a local step.")
@click.option("--seed", default=None, type=int, help="Of everything drawn at random.")
@click.option("--standardise/--no-standardise", default=None, help="Pool the columns' statistics before round 1.")
@click.option(
    "--codec", default=None, type=click.Choice(codecs.NAMES), help="How devices write their updates: fewer bytes."
)
@click.option("--codec-fraction", default=None, type=float, help="The share of numbers that topk and sketch keep.")
@click.option("--codec-rows", default=None, type=click.IntRange(1), help="Rows of a sketch's table, odd.")
@click.option("--codec-columns", default=None, type=click.IntRange(1), help="Columns of a sketch's table.")
@click.option(
    "--error-feedback/--no-error-feedback", default=None, help="Whether what is left out travels with later updates."
)
@click.option("--most-update-bytes", default=None, type=click.IntRange(1), help="Refuse a codec that needs more.")
@click.option(
    "--local", default=None, metavar="PATTERN", help="With fedbn, fedper, fedrep: what stays on devices: 'layers.4.*'."
)
@click.option("--trusted", default=None, metavar="MEMBER", help="With fltrust: whose updates others are compared with.")
@click.option("--best", "metric", default=None, help="Choose the best round by this metric; the loss by default.")
@click.option(
    "--greater-is-better/--less-is-better", "greater", default=None, help="For --best, where its name is new."
)
@click.option(
    "--preflight",
    default=None,
    type=click.Choice(["off", "report", "leave-out", "stop"]),
    help="Let the devices check themselves before round 1; then leave out, or stop for, those that fail.",
)
@click.option(
    "--work-share", "shares", multiple=True, metavar="GROUP=0.5", help="Ask devices with this label for less work."
)
@click.option("--set", "more", multiple=True, metavar="NAME=NUMBER", help="A further parameter of the strategy.")
@click.option("--dry-run", is_flag=True, help="Only say whom the first round would ask, and what stands in the way.")
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
    sample: str | None,
    metric: str | None,
    shares: tuple[str, ...],
    greater: bool | None,
    more: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    **config: Any,
) -> None:
    """Start a run of MODEL. With --dry-run the exit code is 1 when it could not start.

    \b
    Examples:
      fedportal train start radiology-v1 --strategy fedavg --rounds 50 --group production
      fedportal train start radiology-v1 --min-devices 3 --round-seconds 600 --epochs 2 --learning-rate 0.2
      fedportal train start radiology-v1 --min-devices 3 --set momentum=0.9 --dry-run
      fedportal train start radiology-v1 --min-devices 15 --sample 20 --quota 2 --stragglers grace --grace 30
      fedportal train start radiology-v1 --strategy fedbuff --buffer 10 --schedule asynchronous
      fedportal train start radiology-v1 --codec topk --codec-fraction 0.01 --most-update-bytes 100000
      fedportal train start radiology-v1 --strategy fedper --local 'layers.4.*'
      fedportal train start radiology-v1 --strategy ditto --set lambda=0.5
      fedportal train start radiology-v1 --strategy fltrust --trusted metro
    """
    plan = {**{name: config.pop(name) for name in PLAN}, "sample": _sample(sample)}
    if metric is not None:
        config["best"] = {"metric": metric, **({} if greater is None else {"greater": greater})}
    if shares:
        config["work_shares"] = _numbers(shares, "--work-share", "GROUP=SHARE")
    started = output.portal().start(
        model,
        federation=federation,
        strategy=strategy,
        rounds=rounds,
        group=group,
        min_devices=min_devices,
        round_seconds=round_seconds,
        config={**{name: value for name, value in config.items() if value is not None}, **_numbers(more)},
        plan={name: value for name, value in plan.items() if value is not None},
        dry_run=dry_run,
    )
    if dry_run:
        output.print_json(started) if as_json else _foresee(started)
        sys.exit(0 if started["ok"] else 1)
    output.say(f"Started {started['id']}.", started, as_json, then=f"fedportal train watch {model}")


def _sample(text: str | None) -> float | None:
    """ "20" as so many devices, "0.1" as a fraction of them. Raises a usage error for anything else."""
    if text is None:
        return None
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        raise click.UsageError(f"--sample takes a number of devices or a fraction like 0.1, not {text!r}.") from None


def _numbers(pairs: tuple[str, ...], option: str = "--set", shape: str = "NAME=NUMBER") -> dict[str, float]:
    """NAME=NUMBER as numbers. Raises a usage error for anything else."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            found[name] = int(text) if text.removeprefix("-").isdigit() else float(text)
        except ValueError:
            raise click.UsageError(f"{option} takes {shape}, not {pair!r}.") from None
    return found


def _foresee(preview: Snapshot) -> None:
    """What a dry run found."""
    rows = preview["organizations"]
    cells = ((row["organization"]["name"], f"{row['expected']} of {row['devices']}", row["reason"]) for row in rows)
    if rows:
        output.table(cells, ("organization", "devices asked", "why not all"), "")
    output.out.print(Text(preview["plan"]))
    output.out.print(Text(preview["sentence"]))
    for problem in preview["problems"]:
        output.out.print(Text(f"{problem['level']}: {problem['message']} {problem['next_step']}".rstrip()))
    output.out.print(Text("Nothing was started."))


@train.command("list")
@click.argument("model", required=False)
@output.command
@output.speaking
def list_(model: str | None, as_json: bool) -> None:
    """The runs you see, newest first; of MODEL, or of all models."""
    rows = output.portal().runs(model)
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["id"],
            row["model"]["name"],
            row["federation"]["name"],
            row["word"],
            f"{row['current_round']} / {row['total_rounds']}",
            row["result_version"],
            output.day(row["created_at"]),
        )
        for row in rows
    )
    columns = ("run", "model", "federation", "state", "rounds", "version", "started")
    output.table(cells, columns, "None yet. Start one: fedportal train start MODEL")


@train.command()
@click.argument("model", metavar="MODEL|run_…")
@click.option("--watch", "follow", is_flag=True, help="Follow the run until it ends.")
@output.command
@output.speaking
def status(model: str, follow: bool, as_json: bool) -> None:
    """How the run of MODEL that goes on (or else its last) stands.

    \b
    Example:
      fedportal train status radiology-v1
    """
    portal = output.portal()
    if follow:
        _watch(portal.watch(model), as_json)
        return
    snapshot = portal.status(model)
    output.print_json(snapshot) if as_json else output.out.print(described(snapshot))


@train.command()
@click.argument("model", metavar="MODEL|run_…")
@output.command
@output.speaking
def watch(model: str, as_json: bool) -> None:
    """Follow a run until it ends; with --json its last state is printed then.

    The exit code is 1 when the run fails. Ctrl-C ends the watching; the run goes on.
    """
    _watch(output.portal().watch(model), as_json)


@train.command()
@click.argument("model", metavar="MODEL|run_…")
@output.command
@output.speaking
def pause(model: str, as_json: bool) -> None:
    """Let the present round finish and open no other."""
    then = f"fedportal train resume {model}"
    output.say("Paused after the present round.", output.portal().pause(model), as_json, then=then)


@train.command()
@click.argument("model", metavar="MODEL|run_…")
@output.command
@output.speaking
def resume(model: str, as_json: bool) -> None:
    """Go on after a pause."""
    output.say("Running again.", output.portal().resume(model), as_json, then=f"fedportal train watch {model}")


@train.command()
@click.argument("model", metavar="MODEL|run_…")
@click.argument("schedule", type=SCHEDULES)
@click.option("--buffer", default=None, type=click.IntRange(1), help="Answers that make a model.")
@click.option("--most-staleness", default=None, type=click.IntRange(0), help="Oldest start of an answer, in models.")
@click.option("--staleness-exponent", default=None, type=float, help="The higher, the less stale answers count.")
@output.command
@output.speaking
def schedule(model: str, schedule: str, as_json: bool, **ahead: float | None) -> None:
    """Go on with synchronous rounds, or with asynchronous ones, which do not wait for slow devices.

    
    Example:
      fedportal train schedule radiology-v1 asynchronous --buffer 5
    """
    changed = output.portal().schedule(model, schedule, **ahead)
    output.say(f"Rounds are {schedule} now.", changed, as_json, then=f"fedportal train watch {model}")


@train.command()
@click.argument("model", metavar="MODEL|run_…")
@output.command
@output.speaking
def stop(model: str, as_json: bool) -> None:
    """End the run for good; no version is published."""
    output.say("Stopped; no version is published.", output.portal().stop(model), as_json)


@train.command()
@click.argument("model", metavar="MODEL|run_…")
@output.command
@output.speaking
def keep(model: str, as_json: bool) -> None:
    """Make the last good model of a run that failed or was stopped a version."""
    kept = output.portal().keep(model)
    name = kept["model"]["name"]
    output.say(f"Kept as version {kept['result_version']}.", kept, as_json, then=f"fedportal pull {name}")


@train.command("publish-best")
@click.argument("model", metavar="MODEL|run_…")
@output.command
@output.speaking
def publish_best(model: str, as_json: bool) -> None:
    """Make the model of the run's best round a version, beside that of the last round."""
    found = output.portal().publish_best(model)
    then = f"fedportal pull {model} --version {found['version']}" if not model.startswith("run_") else ""
    output.say(f"The model of round {found['round']} is version {found['version']}.", found, as_json, then=then)


def _watch(snapshots: Iterator[Snapshot], as_json: bool) -> None:
    """Show each snapshot: as a picture that changes on a terminal, else a line for each change of round or state."""
    last: Snapshot = {}
    if as_json or not output.out.is_terminal:
        shown = None
        for last in snapshots:
            line = _line(last)
            if line != shown and not as_json:
                output.out.print(Text(line))
            shown = line
        output.print_json(last) if as_json else output.out.print(described(last))
    else:
        with Live(console=output.out, auto_refresh=False) as live:
            for last in snapshots:
                live.update(described(last), refresh=True)
    if last["run"]["state"] == RunState.FAILED:
        sys.exit(1)


def _line(snapshot: Snapshot) -> str:
    run, curves = snapshot["run"], snapshot["curves"]
    accuracy = next((point["accuracy"] for point in reversed(curves) if point["accuracy"] is not None), None)
    known = f", accuracy {accuracy:.4f}" if accuracy is not None else ""
    own = next((point["personal"]["accuracy"] for point in reversed(curves) if point.get("personal")), None)
    known += f", own models {own:.4f}" if own is not None else ""
    return f"round {run['current_round']} / {run['total_rounds']}: {run['word']}{known}"


def described(snapshot: Snapshot) -> Text:
    """A snapshot in a few lines."""
    run, round_, plan = snapshot["run"], snapshot["round"], snapshot["run"].get("plan", {})
    kind = f", asynchronous with a buffer of {plan['buffer']}" if plan.get("schedule") == "asynchronous" else ""
    lines = [
        f"{run['model']['name']} in {run['federation']['name']}: {run['strategy']}, {run['word']} ({run['id']})",
        f"round {run['current_round']} / {run['total_rounds']}{kind}  {_bar(run['progress'])}",
    ]
    if run["reason"]:
        lines.append(run["reason"])
    if round_ and round_.get("waiting"):
        lines.append(round_["waiting"]["sentence"])
    lines += [_checked(row) for row in snapshot.get("preflight", []) if row["findings"]]
    for row in snapshot["contributions"]:
        devices = "1 device" if row["devices"] == 1 else f"{row['devices']} devices"
        updates = f"updates {row['updates']}/{row['expected']}"
        lines.append(f"  {row['organization']['name']}: {devices}, {updates}, {row['samples']:,} rows over all rounds")
    lines += [_trend(snapshot["curves"], name) for name in ("accuracy", "auc", "loss")]
    lines += [_others(snapshot["curves"]), _own(snapshot["curves"])]
    if run["result_version"]:
        lines.append(f"Version {run['result_version']} is published. Next: fedportal pull {run['model']['name']}")
    return Text("\n".join(filter(None, lines)))


def _checked(row: dict[str, Any]) -> str:
    """A line on a device that has something to see to."""
    found = "; ".join(f"{one['sentence']}. {one['next_step']}".strip() for one in row["findings"])
    return f"  preflight: {row['device']['identifier']} of {row['organization']['name']} {row['verdict']}: {found}"


def _others(curves: list[dict[str, Any]]) -> str:
    """The newest values of what devices measure by name."""
    newest: dict[str, float] = next((found for point in reversed(curves) if (found := point.get("others"))), {})
    return "  " + ", ".join(f"{name} {value:.4f}" for name, value in sorted(newest.items())) if newest else ""


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


def _own(curves: list[dict[str, Any]]) -> str:
    """How devices' own models do beside the common one, at the newest round that measured both; "" without any."""
    point = next((point for point in reversed(curves) if point.get("personal")), None)
    if point is None:
        return ""
    name = "accuracy" if point["personal"]["accuracy"] is not None else "loss"
    line = f"  own models: {name} {point['personal'][name]:.4f}"
    worst = "most" if name == "loss" else "least"
    apart = {which: found[name] for which, found in point.get("devices", {}).items() if name in found}
    if len(apart) == 2:
        told = [f"{found[worst]:.4f} ({found['worst']})" for found in (apart["personal"], apart["common"])]
        line += f"; worst device {told[0]}, with the common model {told[1]}"
    return line
