"""fedportal experiment …"""

from __future__ import annotations

from typing import Any

import click

from fedportal_sdk.cli import output
from fedportal_sdk.cli.spoken import DURATION, PERCENTAGE, lasting, percent
from fedportal_sdk.experimenting import Experimenter
from fedwire.states import ExperimentState, word

Json = dict[str, Any]
WHICH = "MODEL|exp_…"
METRICS = {"accuracy": "accuracy", "error-rate": "error_rate"}
ARMS = ("control", "treatment")


@click.group(cls=output.Group)
def experiment() -> None:
    """Compare two versions on your own devices, and give the better one to all.

    An experiment is named by its id, or by its MODEL: the newest one.

    \b
    Examples:
      fedportal experiment create radiology-v1 --treatment 2.0.0 --control 1.0.0 --start
      fedportal experiment show radiology-v1
      fedportal experiment promote radiology-v1
    """


@experiment.command()
@click.argument("model")
@click.option("--treatment", required=True, metavar="VERSION", help="The version that is tried.")
@click.option("--control", default=None, metavar="VERSION", help="Default: that of the last completed rollout.")
@click.option("--share", "percentage", type=PERCENTAGE, default=None, help="Of the devices that are treated: 50%.")
@click.option("--group", default=None, help="Only on devices with this label.")
@click.option("--federation", default=None, help="Its members may join with devices of their own.")
@click.option("--name", default=None, help='Such as "larger network"; by default the versions.')
@click.option("--metric", type=click.Choice(list(METRICS)), default="accuracy", show_default=True, help="What decides.")
@click.option("--planned", type=click.IntRange(1), default=None, help="Observations planned in each arm: 1000.")
@click.option("--error-rate", type=PERCENTAGE, default=None, help="Stop when more predictions of an arm fail.")
@click.option("--latency-ms", type=click.FloatRange(0), default=None, help="Stop when 5 in 100 of an arm take longer.")
@click.option("--accuracy", type=PERCENTAGE, default=None, help="Stop when fewer predictions of an arm are right.")
@click.option("--least", type=click.IntRange(1), default=None, help="Predictions needed to judge an arm's health: 50.")
@click.option("--window", "window_seconds", type=DURATION, default=None, help="Judge the last 10m.")
@click.option("--auto-stop/--no-auto-stop", default=None, help="Your organization's policy by default.")
@click.option("--start", "begin", is_flag=True, help="Begin at once.")
@output.command
@output.speaking
def create(
    model: str,
    treatment: str,
    control: str | None,
    percentage: float | None,
    metric: str,
    begin: bool,
    as_json: bool,
    **more: Any,
) -> None:
    """Plan to compare two versions of MODEL on your devices.

    What decides, and for how many observations it is planned, is settled here and stays.

    \b
    Examples:
      fedportal experiment create radiology-v1 --treatment 2.0.0
      fedportal experiment create radiology-v1 --treatment 2.0.0 --control 1.0.0 --group production --start
    """
    said = {name: value for name, value in more.items() if value is not None}
    said |= {name: said[name] / 100 for name in ("error_rate", "accuracy") if name in said}
    made = output.portal_as(Experimenter).create_experiment(
        model, treatment, control, percentage=percentage, start=begin, metric=METRICS[metric], **said
    )
    if begin:
        _say_begun(made, as_json)
        return
    sentence = f"Planned: {_versions(made)}, {percent(made['treatment_percentage'])} of {_whose(made)} treated."
    output.say(sentence, made, as_json, then=f"fedportal experiment start {made['id']}")


@experiment.command("list")
@click.argument("model", required=False)
@output.command
@output.speaking
def list_(model: str | None, as_json: bool) -> None:
    """The experiments on your devices, newest first; with MODEL, or with any."""
    rows = output.portal_as(Experimenter).experiments(model)
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["id"],
            row["name"],
            row["model_name"],
            row["control_version"],
            row["treatment_version"],
            row["words"],
            row["winning_version"],
            sum(row["devices"].values()),
            output.day(row["created_at"]),
        )
        for row in rows
    )
    columns = ("experiment", "name", "model", "control", "treatment", "state", "better", "devices", "planned")
    output.table(
        cells, columns, f"None yet. Plan one: fedportal experiment create {model or 'MODEL'} --treatment VERSION"
    )


@experiment.command()
@output.command
@output.speaking
def offered(as_json: bool) -> None:
    """The running experiments of your federations that you may join."""
    rows = output.portal_as(Experimenter).offered_experiments()
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["id"],
            row["name"],
            row["organization"]["name"],
            row["federation"]["name"],
            row["model_name"],
            row["control_version"],
            f"{row['treatment_version']} on {percent(row['treatment_percentage'])}",
        )
        for row in rows
    )
    columns = ("experiment", "name", "led by", "federation", "model", "control", "treatment")
    output.table(cells, columns, "None now. Whoever owns a model opens one: fedportal experiment create --federation")


@experiment.command()
@click.argument("which", metavar="exp_…")
@click.option("--group", default=None, help="Only with your devices with this label.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.command
@output.speaking
def join(which: str, group: str | None, yes: bool, as_json: bool) -> None:
    """Take part in an experiment of a federation with your own devices; you may stop at any time.

    \b
    Example:
      fedportal experiment join exp_… --group pilot
    """
    portal = output.portal_as(Experimenter)
    offer = next((row for row in portal.offered_experiments() if row["id"] == which), None)
    if offer is not None and not yes:
        whose = f"your devices in {group}" if group else "your devices"
        versions = f"{offer['treatment_version']} or {offer['control_version']} of {offer['model_name']}"
        said = f"{offer['organization']['name']} and all that take part see sums of what they report"
        click.confirm(f"Give {versions} to {whose}? {said}.", abort=True, err=True)
    _say_begun(portal.join_experiment(which, group), as_json)


@experiment.command()
@click.argument("which", metavar=WHICH)
@output.command
@output.speaking
def show(which: str, as_json: bool) -> None:
    """Its two arms, and what may be concluded now. Look as often as you like."""
    portal = output.portal_as(Experimenter)
    found = portal.experiment(which)
    results = portal.results(found["id"])
    if as_json:
        output.print_json({**found, "results": results})
        return
    output.out.print(results["sentence"], markup=False)
    output.out.print()
    rows = [_measured(found, results["conclusion"], arm, "decides") for arm in ARMS]
    rows += [_measured(found, other, arm, "") for other in results["others"] for arm in ARMS]
    output.table(rows, ("version", "arm", "devices", "metric", "seen", "value", "between", ""), "")
    output.out.print()
    output.facts(
        (
            ("experiment", found["id"]),
            ("name", found["name"]),
            ("model", found["model_name"]),
            ("state", found["words"]),
            ("why", found["reason"]),
            ("joined", found["lead_id"]),
            ("together with", _others(results)),
            ("treated", f"{percent(found['treatment_percentage'])} of {_whose(found)}"),
            ("planned", f"{found['planned']:,} observations in each arm"),
            ("better", found["winning_version"]),
            ("found", output.day(found["found_at"])),
            ("stops itself", _limits(found)),
            ("stopped", output.day(found["stopped_at"])),
            ("all back", output.day(found["restored_at"])),
            ("promoted into", found["rollout_id"]),
            ("began", output.day(found["started_at"])),
        )
    )


@experiment.command()
@click.argument("which", metavar=WHICH)
@output.command
@output.speaking
def start(which: str, as_json: bool) -> None:
    """Give every device its arm, and the arm's version."""
    _say_begun(output.portal_as(Experimenter).start_experiment(which), as_json)


@experiment.command()
@click.argument("which", metavar=WHICH)
@click.option("--reason", default=None, help="Why, for the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.command
@output.speaking
def stop(which: str, reason: str | None, yes: bool, as_json: bool) -> None:
    """End it: every device returns to what it had before."""
    portal = output.portal_as(Experimenter)
    before = portal.experiment(which)
    if before["status"] == ExperimentState.RUNNING and not yes:
        count = sum(before["devices"].values())
        click.confirm(f"Stop {before['name']}? Its {count} devices return to what they had.", abort=True, err=True)
    after = portal.stop_experiment(before["id"], reason)
    output.say(f"{after['name']} is stopped; its devices return to what they had.", after, as_json)


@experiment.command()
@click.argument("which", metavar=WHICH)
@click.option("--arm", type=click.Choice(ARMS), default=None, help="Default: the one that was found better.")
@click.option("--rollout", "percentage", type=PERCENTAGE, default=None, help="To so many of the devices: 100%.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.command
@output.speaking
def promote(which: str, arm: str | None, percentage: float | None, yes: bool, as_json: bool) -> None:
    """Give the better version to all devices that the experiment was for; it ends with that.

    \b
    Examples:
      fedportal experiment promote radiology-v1
      fedportal experiment promote radiology-v1 --arm control --rollout 50%
    """
    portal = output.portal_as(Experimenter)
    before = portal.experiment(which)
    if before["status"] == ExperimentState.RUNNING and not yes:
        version = before[f"{arm}_version"] if arm else before["winning_version"] or "the better version"
        click.confirm(f"Give {version} to {percent(percentage or 100.0)} of {_whose(before)}?", abort=True, err=True)
    rollout = portal.promote(before["id"], arm, percentage=percentage)
    sentence = f"{before['model_name']} {rollout['version']} goes to {percent(rollout['rollout_percentage'])} of "
    then = f"fedportal rollout show {rollout['id']}"
    output.say(f"{sentence}{_whose(before)}.", rollout, as_json, then=then)


def _say_begun(found: Json, as_json: bool) -> None:
    control, treated = (found["devices"][arm] for arm in ARMS)
    counts = f"{treated} get {found['treatment_version']}, {control} get {found['control_version']}"
    state = word("experiment", found["status"])
    output.say(
        f"{found['name']} is {state}: {counts}.", found, as_json, then=f"fedportal experiment show {found['id']}"
    )


def _measured(found: Json, conclusion: Json, arm: str, decides: str) -> tuple[Any, ...]:
    told = conclusion[arm]
    known = told["estimate"] is not None
    value = f"{100 * told['estimate']:.1f} %" if known else "–"
    between = f"{100 * told['low']:.1f} to {100 * told['high']:.1f} %" if known else "too few"
    metric = "accuracy" if conclusion["metric"] == "accuracy" else "rate of errors"
    devices = found["devices"][arm]
    return (found[f"{arm}_version"], arm, devices, metric, f"{told['count']:,}", value, between, decides)


def _others(results: Json) -> str:
    count = results["organizations"] - 1
    return f"{count} other {'organization' if count == 1 else 'organizations'}" if count > 0 else ""


def _versions(found: Json) -> str:
    return f"{found['treatment_version']} against {found['control_version']} of {found['model_name']}"


def _whose(found: Json) -> str:
    return f"your devices in {found['group']}" if found["group"] else "your devices"


def _limits(found: Json) -> str:
    """When an arm's health stops it."""
    if not found["auto_stop"]:
        return "never"
    limits = [
        f"errors above {percent(round(found['error_rate'] * 100, 2))}" if found["error_rate"] is not None else "",
        f"5 in 100 above {found['latency_ms']:g} ms" if found["latency_ms"] is not None else "",
        f"accuracy below {percent(round(found['accuracy'] * 100, 2))}" if found["accuracy"] is not None else "",
    ]
    told = " or ".join(filter(None, limits))
    return f"{told}, of the last {lasting(int(found['window_seconds']))}" if told else "no limit is set"
