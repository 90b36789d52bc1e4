"""fedportal train …"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.live import Live
from rich.text import Text

from fedportal_sdk.cli import output, protecting, standing
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
@protecting.options
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
      fedportal train start radiology-v1 --dp central --noise 1 --clip 0.5 --min-devices 20
      fedportal train start radiology-v1 --secure --min-devices 10
    """
    plan = {**{name: config.pop(name) for name in PLAN}, "sample": _sample(sample)}
    begin = functools.partial(
        output.portal().start,
        model,
        federation=federation,
        strategy=strategy,
        rounds=rounds,
        group=group,
        min_devices=min_devices,
        round_seconds=round_seconds,
        config=_config(config, metric, greater, shares, more),
        plan={name: value for name, value in plan.items() if value is not None},
    )
    if dry_run:
        seen = begin(dry_run=True)
        output.print_json(seen) if as_json else _foresee(seen)
        sys.exit(0 if seen["ok"] else 1)
    if not as_json:
        _warn(begin(dry_run=True))
    started = begin()
    output.say(f"Started {started['id']}.", started, as_json, then=f"fedportal train watch {model}")


def _config(
    said: dict[str, Any], metric: str | None, greater: bool | None, shares: tuple[str, ...], more: tuple[str, ...]
) -> dict[str, Any]:
    """What devices are told, and what the strategy and the best round go by: all that was said."""
    privacy = protecting.pop(said)
    config = {**{name: value for name, value in said.items() if value is not None}, **privacy}
    if metric is not None:
        config["best"] = {"metric": metric, **({} if greater is None else {"greater": greater})}
    if shares:
        config["work_shares"] = _numbers(shares, "--work-share", "GROUP=SHARE")
    return {**config, **_numbers(more)}


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
        output.out.print(_problem(problem))
    output.out.print(Text("Nothing was started."))


def _warn(preview: Snapshot) -> None:
    """What does not keep the run from starting and still may surprise, such as devices that are too few."""
    for problem in preview["problems"] if preview["ok"] else []:
        output.err.print(_problem(problem))


def _problem(problem: dict[str, Any]) -> Text:
    return Text(f"{problem['level']}: {problem['message']} {problem['next_step']}".rstrip())


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
    output.print_json(snapshot) if as_json else output.out.print(standing.described(snapshot))


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
            line = standing.line(last)
            if line != shown and not as_json:
                output.out.print(Text(line))
            shown = line
        output.print_json(last) if as_json else output.out.print(standing.described(last))
    else:
        with Live(console=output.out, auto_refresh=False) as live:
            for last in snapshots:
                live.update(standing.described(last), refresh=True)
    if last["run"]["state"] == RunState.FAILED:
        sys.exit(1)
