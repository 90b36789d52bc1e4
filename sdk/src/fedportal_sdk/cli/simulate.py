"""fedportal simulate"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click
from rich.text import Text

from fedportal_sdk._config import Home
from fedportal_sdk.cli import output
from fedportal_sdk.cli.training import _numbers, _sample
from fedportal_sdk.simulation import Attackers, Dropout, Outcome, Settings, Simulation, Skew, Speeds, page, report
from fedportal_sdk.simulation.fleet import Place
from fedportal_sdk.simulation.owner import Owner, Wish
from fedportal_sdk.simulation.wishes import DATA
from fedwire.errors import FedportalError
from fedwire.states import RunState

PLAN = ("sample", "stragglers", "grace_seconds", "over_selection", "mode", "schedule", "buffer")
CONFIG = ("epochs", "learning_rate", "batch_size")
MOST_ROUNDS_SHOWN = 12


@click.command()
@click.argument("model", required=False)
@click.option("--federation", default=None, help="Where MODEL is shared; needed when it is shared with several.")
@click.option("--run", default=None, metavar="run_…", help="Join this run instead of starting one.")
@click.option("--devices", default=20, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--strategy", default="fedavg", show_default=True)
@click.option("--data", default="synthetic", show_default=True, type=click.Choice(DATA), help="What devices hold.")
@click.option("--rows", default=40, show_default=True, type=click.IntRange(1), help="Made rows of each device.")
@click.option("--skew", default="iid", show_default=True, metavar="iid|dirichlet:A|classes:K", help="Who holds what.")
@click.option(
    "--speeds",
    default=None,
    metavar="constant:S|uniform:A:B|lognormal:SIGMA[:MEDIAN]",
    help="Seconds that a training takes; by default no time, by the virtual clock a second.",
)
@click.option(
    "--dropout",
    default="0",
    show_default=True,
    metavar="RATE[:absent|taken|upload|answer|any]",
    help="How often a device drops out of a task, and where; with its task if nothing is said.",
)
@click.option(
    "--attackers",
    multiple=True,
    metavar="N:sign-flip[:FACTOR]|noise|label-flip|nonsense",
    help="Devices that send something else; repeatable.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of everything that is drawn.")
@click.option("--virtual-clock", is_flag=True, help="Let durations pass on a clock that jumps from answer to answer.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 256), help="To share the devices.")
@click.option(
    "--threads", default=8, show_default=True, type=click.IntRange(1, 256), help="Devices that speak at once."
)
@click.option("--ray", is_flag=True, help="Let actors of Ray be the processes; needs the package ray.")
@click.option("--min-devices", default=None, type=click.IntRange(1), help="Fewest updates of a round.")
@click.option("--round-seconds", default=None, type=click.IntRange(1), help="The deadline of a round.")
@click.option("--mode", default=None, help="Of the run's plan, as the portal knows them.")
@click.option("--sample", default=None, metavar="N|0.1", help="Devices a round asks: a number, or a fraction of them.")
@click.option("--over-selection", default=None, type=float, help="Ask so many times the minimum.")
@click.option("--stragglers", default=None, type=click.Choice(["wait", "cut", "grace"]), help="Once enough answered.")
@click.option("--schedule", default=None, type=click.Choice(["synchronous", "asynchronous"]), help="Wait, or not.")
@click.option("--buffer", default=None, type=click.IntRange(1), help="Answers that make a model, asynchronously.")
@click.option("--grace", "grace_seconds", default=None, type=click.IntRange(1), help="Seconds more for the others.")
@click.option("--epochs", default=None, type=click.IntRange(1), help="Local passes in each round.")
@click.option("--learning-rate", default=None, type=float, help="Of the local descent.")
@click.option("--batch-size", default=None, type=click.IntRange(1), help="Rows in a local step.")
@click.option("--set", "more", multiple=True, metavar="NAME=NUMBER", help="A further parameter of the strategy.")
@click.option("--report", "file", default=None, type=click.Path(path_type=Path), help="Write a report here, as HTML.")
@click.option("--keep-devices", is_flag=True, help="Leave the devices in service afterwards.")
@output.command
@output.speaking
def simulate(file: Path | None, keep_devices: bool, processes: int, ray: bool, as_json: bool, **said: Any) -> None:
    """Let simulated devices train MODEL, or a model that is made for it, at the real portal.

    Every device registers with the saved key, speaks the real protocol, and is retired at the end. Rows, speeds,
    drop-outs and attackers are drawn from --seed. Ctrl-C stops the run and retires the devices. The exit code is 1 when
    the run fails.

    \b
    Examples:
      fedportal simulate --devices 100 --rounds 10 --report simulation.html
      fedportal simulate --data digits --attackers 4:sign-flip --strategy median --set faulty=4 --rounds 20
      fedportal simulate --skew dirichlet:0.3 --dropout 0.1:upload --round-seconds 20 --min-devices 15
      fedportal simulate --devices 50 --speeds lognormal:1 --virtual-clock --buffer 10
      fedportal simulate radiology-v1 --devices 500 --sample 0.1 --processes 2
    """
    settings, wish = _settings(said), _wish(said)
    if file is not None:
        _write(file, "", "a")  # whether it can be written is said before the work; what is there stays until then
    owner = Owner()
    if not owner.has_key:
        raise FedportalError("not_configured", what="API key", variable="FEDPORTAL_API_KEY")
    home = Home()
    place = Place(owner.url, home.api_key(), home.ca_file())
    status = output.err.status("…") if output.err.is_terminal and not as_json else None

    def tell(words: str) -> None:
        if status is not None:
            status.update(words)
        elif not as_json:
            output.err.print(Text(words))

    simulation = Simulation(
        owner, place, settings, wish, processes=processes, ray=ray, keep=keep_devices, tell=tell, warn=_warn
    )
    try:
        if status is not None:
            status.start()
        outcome = simulation.play()
    finally:
        if status is not None:
            status.stop()
    if file is not None:
        _write(file, page(outcome))
    output.print_json({**outcome.as_json(), "report": str(file) if file else None}) if as_json else _show(outcome, file)
    if outcome.state == RunState.FAILED:
        sys.exit(1)


def _warn(words: str) -> None:
    output.err.print(Text(words))


def _settings(said: dict[str, Any]) -> Settings:
    virtual = said["virtual_clock"]
    return Settings(
        devices=said["devices"],
        data=said["data"],
        rows=said["rows"],
        skew=Skew.parse(said["skew"]),
        speeds=Speeds.parse(said["speeds"] or ("constant:1" if virtual else "constant:0")),
        dropout=Dropout.parse(said["dropout"]),
        attackers=tuple(Attackers.parse(text) for text in said["attackers"]),
        seed=said["seed"],
        threads=said["threads"],
        virtual=virtual,
    )


def _wish(said: dict[str, Any]) -> Wish:
    if said["run"] and said["model"]:
        raise click.UsageError("Name a MODEL to start a run of, or with --run a run to join, not both.")
    plan = {**{name: said[name] for name in PLAN}, "sample": _sample(said["sample"])}
    config = {name: said[name] for name in CONFIG if said[name] is not None}
    return Wish(
        model=said["model"],
        federation=said["federation"],
        run=said["run"],
        strategy=said["strategy"],
        rounds=said["rounds"],
        min_devices=said["min_devices"],
        round_seconds=said["round_seconds"],
        config={**config, **_numbers(said["more"])},
        plan={name: value for name, value in plan.items() if value is not None},
    )


def _write(file: Path, text: str, mode: Literal["w", "a"] = "w") -> None:
    try:
        with open(file, mode, encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise FedportalError("file_unwritable", path=str(file), reason=reason) from error


def _show(outcome: Outcome, file: Path | None) -> None:
    """A few lines for a terminal."""
    output.out.print(Text(f"{outcome.model} ({outcome.run}), {report.headline(outcome)}."))
    if outcome.reason:
        output.out.print(Text(outcome.reason))
    output.facts(report.facts(outcome))
    rows = [
        (one.number, f"{one.seconds:.2f}", _share(one.accuracy), "" if one.loss is None else f"{one.loss:.4f}")
        for one in outcome.rounds
    ]
    shown = rows if len(rows) <= MOST_ROUNDS_SHOWN else [*rows[: MOST_ROUNDS_SHOWN - 4], *rows[-4:]]
    output.table(shown, ("round", "seconds", "accuracy", "loss"), "No round was done.")
    if outcome.suspects:
        cells = ((one.identifier, one.attack or "honest", one.flagged, one.reason) for one in outcome.suspects)
        output.table(cells, ("device", "what it is", "rounds flagged", "why"), "")
    if file is not None:
        output.out.print(Text(f"The report is in {file}."))


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"
