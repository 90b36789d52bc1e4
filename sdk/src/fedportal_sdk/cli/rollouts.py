"""fedportal deploy, rollback and rollout …"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn

from fedportal_sdk import delivering
from fedportal_sdk.cli import output
from fedportal_sdk.cli.spoken import DURATION, PERCENTAGE, SCHEDULE, lasting, percent
from fedportal_sdk.delivering import Deliverer
from fedwire.states import InstallationState, RolloutState, word

Rollout = dict[str, Any]
WHICH = "MODEL|rol_…"
WHOLE = 100.0


def waiting(function: output.F) -> output.F:
    """Give a command --wait and --timeout."""
    function = click.option("--timeout", type=DURATION, default=None, help="With --wait: give up after 90s, 30m, 1h …")(
        function
    )
    return click.option("--wait", is_flag=True, help="Wait until every device of it has answered.")(function)


def yes(function: output.F) -> output.F:
    """Give a command --yes."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(function)


@click.command()
@click.argument("model")
@click.option("--version", "number", default=None, help="The latest by default.")
@click.option("--rollout", "share", type=PERCENTAGE, default=None, help="To so many of your devices; 100% by default.")
@click.option("--group", default=None, help="Only to devices with this label.")
@click.option("--schedule", type=SCHEDULE, default=None, metavar="5%:1h,25%:1d,100%", help="Widen it by itself.")
@click.option("--increment", "increment_step", type=PERCENTAGE, default=None, help="What `rollout advance` adds: 10%.")
@click.option("--error-rate", type=PERCENTAGE, default=None, help="Go back when more predictions fail.")
@click.option("--latency-ms", type=click.FloatRange(0), default=None, help="Go back when 5 in 100 take longer.")
@click.option("--accuracy", type=PERCENTAGE, default=None, help="Go back when fewer predictions are right.")
@click.option("--least", type=click.IntRange(1), default=None, help="Predictions needed to judge: 50.")
@click.option("--window", "window_seconds", type=DURATION, default=None, help="Judge the last 10m.")
@click.option("--auto-rollback/--no-auto-rollback", default=None, help="Your organization's policy by default.")
@waiting
@yes
@output.command
@output.speaking
def deploy(
    model: str,
    number: str | None,
    share: float | None,
    group: str | None,
    schedule: list[tuple[float, int]] | None,
    wait: bool,
    timeout: int | None,
    yes: bool,
    as_json: bool,
    **limits: Any,
) -> None:
    """Send a version of MODEL to devices of your organization.

    The same command with a higher percentage widens the rollout that is on its way. To all devices at once only after
    asking. With --wait the exit code is 1 when a device failed or the version went back.

    \b
    Examples:
      fedportal deploy radiology-v1 --version 2.0.0 --rollout 10% --group production
      fedportal deploy radiology-v1 --version 2.0.0 --rollout 50% --group production --wait
      fedportal deploy radiology-v1 --schedule 5%:1h,25%:1d,100% --error-rate 2%
    """
    if share is not None and schedule is not None:
        raise click.UsageError("--rollout and --schedule are two ways to say the percentage: give one of them.")
    first = schedule[0][0] if schedule else share or WHOLE
    _ask(yes, first == WHOLE, f"Give {number or 'the latest version'} to all {_whose(group)}?")
    said = {name: value for name, value in limits.items() if value is not None}
    said |= {name: said[name] / 100 for name in ("error_rate", "accuracy") if name in said}
    deliverer = output.portal_as(Deliverer)
    rollout = deliverer.deploy(model, number, percentage=share, group=group, schedule=schedule or (), **said)
    _done(deliverer, rollout, _sentence(model, rollout), as_json, wait, timeout)


@click.command()
@click.argument("model", metavar=WHICH)
@click.option("--to-version", default=None, help="Give this version to all devices; by default each what it had.")
@click.option("--reason", default=None, help="Why, for the audit log.")
@waiting
@yes
@output.command
@output.speaking
def rollback(
    model: str, to_version: str | None, reason: str | None, wait: bool, timeout: int | None, yes: bool, as_json: bool
) -> None:
    """Take a version back from devices: each gets what it had before, or all get an earlier version.

    \b
    Examples:
      fedportal rollback radiology-v1
      fedportal rollback radiology-v1 --to-version 1.0.0 --wait
    """
    deliverer = output.portal_as(Deliverer)
    if to_version is not None:
        if model.startswith("rol_") or reason is not None:
            raise click.UsageError("--to-version is for all devices of a MODEL, and takes no --reason.")
        deliverer.version(model, to_version)  # what is not there is not asked about
        _ask(yes, True, f"Give {to_version} to all {_whose(None)}?")
        rollout = deliverer.roll_back(model, to_version)
        _done(deliverer, rollout, _sentence(model, rollout), as_json, wait, timeout)
        return
    before = deliverer.rollout(model)
    count = _devices(delivering.members(before))
    _ask(yes, True, f"Take {before['version']} back from {count}? Each gets what it had before.")
    rollout = deliverer.roll_back(before["id"], reason=reason)
    _done(deliverer, rollout, f"{rollout['version']} goes back from {count}.", as_json, wait, timeout)


@click.group(cls=output.Group)
def rollout() -> None:
    """Follow and steer versions on their way to your devices.

    A rollout is named by its id, or by its MODEL: the newest one.

    \b
    Examples:
      fedportal rollout show radiology-v1
      fedportal rollout set radiology-v1 50%
      fedportal rollout pause radiology-v1
    """


@rollout.command()
@click.argument("which", metavar=WHICH)
@waiting
@output.command
@output.speaking
def show(which: str, wait: bool, timeout: int | None, as_json: bool) -> None:
    """How many devices have it, how it fares there, and why it went back if it did."""
    deliverer = output.portal_as(Deliverer)
    found = deliverer.rollout(which)
    good = True
    if wait:
        found, good = _followed(deliverer, found, timeout, as_json)
    output.print_json(found) if as_json else _print(found)
    sys.exit(0 if good else 1)


@rollout.command("list")
@click.argument("model", required=False)
@output.command
@output.speaking
def list_(model: str | None, as_json: bool) -> None:
    """The rollouts to your devices, newest first; of MODEL, or of all models."""
    rows = output.portal_as(Deliverer).rollouts(model)
    if as_json:
        output.print_json(rows)
        return
    cells = (
        (
            row["id"],
            row["model_name"],
            row["version"],
            _words(row),
            percent(row["rollout_percentage"]),
            row["group"] or "all",
            f"{delivering.there(row)} of {delivering.members(row)}",
            delivering.failed(row) or "",
            output.day(row["created_at"]),
        )
        for row in rows
    )
    columns = ("rollout", "model", "version", "state", "share", "group", "have it", "failed", "began")
    output.table(cells, columns, f"None yet. Begin one: fedportal deploy {model or 'MODEL'} --rollout 10%")


@rollout.command()
@click.argument("which", metavar=WHICH)
@waiting
@yes
@output.command
@output.speaking
def advance(which: str, wait: bool, timeout: int | None, yes: bool, as_json: bool) -> None:
    """Go to the next step of its schedule, or one increment further."""
    deliverer = output.portal_as(Deliverer)
    before = deliverer.rollout(which)
    _ask(yes, _next(before) >= WHOLE, f"Give {before['version']} to all {_whose(before['group'])}?")
    after = deliverer.act_on_rollout(before["id"], "advance")
    _done(deliverer, after, _sentence(after["model_name"], after), as_json, wait, timeout)


@rollout.command("set")
@click.argument("which", metavar=WHICH)
@click.argument("share", type=PERCENTAGE, metavar="50%")
@waiting
@yes
@output.command
@output.speaking
def set_(which: str, share: float, wait: bool, timeout: int | None, yes: bool, as_json: bool) -> None:
    """Widen it to this percentage; it never shrinks.

    \b
    Example:
      fedportal rollout set radiology-v1 50%
    """
    deliverer = output.portal_as(Deliverer)
    before = deliverer.rollout(which)
    _ask(yes, share == WHOLE, f"Give {before['version']} to all {_whose(before['group'])}?")
    after = deliverer.set_percentage(before["id"], share)
    _done(deliverer, after, _sentence(after["model_name"], after), as_json, wait, timeout)


def _act(name: str, help_text: str, done: str, then: str) -> None:
    """A command that does one thing to a rollout."""

    @output.speaking
    def act(which: str, as_json: bool) -> None:
        after = output.portal_as(Deliverer).act_on_rollout(which, name)
        named = {"version": after["version"], "model": after["model_name"]}
        output.say(done.format(**named), after, as_json, then=then.format(**named))

    function: Callable[..., None] = output.command(act)
    rollout.command(name, help=help_text)(click.argument("which", metavar=WHICH)(function))


_act(
    "pause",
    "Give the version to nobody new; who has it keeps it.",
    "Paused: {version} goes to nobody new.",
    "fedportal rollout resume {model}   (or: fedportal rollback {model})",
)
_act("resume", "Go on where it was paused.", "{version} is on its way again.", "fedportal rollout show {model}")
_act(
    "complete",
    "Nothing more is to come: devices keep what they have, and the next version may go out.",
    "The rollout of {version} is complete; devices keep what they have.",
    "",
)


def _done(
    deliverer: Deliverer, rollout: Rollout, sentence: str, as_json: bool, wait: bool, timeout: int | None
) -> None:
    """Say what was begun, and with `wait` what came of it; exits with 1 when that was not good."""
    if not wait:
        then = f"fedportal rollout show {rollout['model_name']}"
        output.say(sentence, rollout, as_json, then=then if delivering.members(rollout) else "fedportal device run")
        return
    if not as_json:
        output.say(sentence, rollout, False)
    found, good = _followed(deliverer, rollout, timeout, as_json)
    then = "" if good else f"fedportal rollout show {found['model_name']}   (who, and why)"
    output.say(_outcome(found), found, as_json, then=then)
    sys.exit(0 if good else 1)


def _followed(deliverer: Deliverer, rollout: Rollout, timeout: int | None, as_json: bool) -> tuple[Rollout, bool]:
    """The rollout once its devices have answered, or the time is over, and whether all went well; a bar meanwhile."""
    give_up = time.monotonic() + timeout if timeout is not None else None
    counted, bad = TextColumn("{task.completed} of {task.total} devices"), TextColumn("{task.fields[failed]}")
    columns = (TextColumn("{task.description}"), BarColumn(), counted, bad)
    shown = output.err.is_terminal and not as_json
    found = rollout
    with Progress(*columns, console=output.err, transient=True, disable=not shown) as bar:
        task = bar.add_task(found["version"], total=delivering.members(found), failed="")
        for found in deliverer.follow(rollout["id"]):
            failed = delivering.failed(found)
            words = f"{failed} failed" if failed else ""
            bar.update(task, completed=delivering.there(found), total=delivering.members(found), failed=words)
            if give_up is not None and time.monotonic() >= give_up:
                break
    turned = rollout["status"] != RolloutState.ROLLED_BACK and found["status"] == RolloutState.ROLLED_BACK
    return found, not (turned or delivering.failed(found) or found["outstanding"])


def _outcome(rollout: Rollout) -> str:
    """What came of waiting, in a sentence."""
    one, back = delivering.members(rollout) == 1, rollout["status"] == RolloutState.ROLLED_BACK
    what = ("has" if one else "have") + (" what was there before" if back else " it")
    said = f"{delivering.there(rollout)} of {_devices(delivering.members(rollout))} {what}"
    if delivering.failed(rollout):
        said += f", {delivering.failed(rollout)} failed"
    if rollout["outstanding"]:
        said += f", {rollout['outstanding']} still to answer"
    return f"{said}.{_why(rollout)}"


def _why(rollout: Rollout) -> str:
    return f" It was rolled back: {rollout['reason']}." if rollout["status"] == RolloutState.ROLLED_BACK else ""


def _sentence(model: str, rollout: Rollout) -> str:
    share, count = percent(rollout["rollout_percentage"]), _devices(delivering.members(rollout))
    return f"{model} {rollout['version']} goes to {share} of {_whose(rollout['group'])}: {count}."


def _print(rollout: Rollout) -> None:
    seen, limits = rollout["health"], _limits(rollout)
    steps = ", ".join(f"{percent(s['percentage'])} for {lasting(int(s['wait_seconds']))}" for s in rollout["schedule"])
    predictions = f"{seen['predictions']:,} in the last {lasting(rollout['window_seconds'])}, {seen['errors']:,} failed"
    output.facts(
        (
            ("rollout", rollout["id"]),
            ("version", f"{rollout['model_name']} {rollout['version']}"),
            ("before", rollout["previous_version"]),
            ("state", _words(rollout)),
            ("why", rollout["reason"]),
            ("share", f"{percent(rollout['rollout_percentage'])} of {_whose(rollout['group'])}"),
            ("schedule", steps),
            ("devices", _counts(rollout)),
            ("predictions", predictions if seen["predictions"] else "none reported lately"),
            ("95 of 100 within", f"{seen['latency_ms']:g} ms" if seen["latency_ms"] else ""),
            ("right", percent(round(seen["accuracy"] * 100, 2)) if seen["accuracy"] is not None else ""),
            ("goes back", limits),
            ("crossed", output.day(rollout["crossed_at"])),
            ("rolled back", output.day(rollout["rolled_back_at"])),
            ("all back", output.day(rollout["restored_at"])),
            ("began", output.day(rollout["created_at"])),
        )
    )
    if rollout["failures"]:
        output.out.print()
        cells = ((one["identifier"], one["id"], one["reason"]) for one in rollout["failures"])
        output.table(cells, ("failed on", "device", "why"), "")


def _counts(rollout: Rollout) -> str:
    """ "3 installed, 1 waiting", the state that matters most first; what is none is left out."""
    order = [InstallationState.INSTALLED, InstallationState.REMOVED, InstallationState.FAILED]
    order += [InstallationState.INSTALLING, InstallationState.PENDING]
    counts = rollout["devices"]
    return ", ".join(f"{counts[state]} {word('installation', state)}" for state in order if counts.get(state)) or "none"


def _limits(rollout: Rollout) -> str:
    """When the version goes back by itself."""
    said = []
    if rollout["error_rate"] is not None:
        said.append(f"more than {percent(rollout['error_rate'] * 100)} of predictions fail")
    if rollout["latency_ms"] is not None:
        said.append(f"5 of 100 take longer than {rollout['latency_ms']:g} ms")
    if rollout["accuracy"] is not None:
        said.append(f"fewer than {percent(rollout['accuracy'] * 100)} are right")
    if not said or not rollout["auto_rollback"]:
        return "only by hand"
    return f"when {' or '.join(said)} (of at least {rollout['least']})"


def _next(rollout: Rollout) -> float:
    """The percentage to which `advance` leads."""
    share = float(rollout["rollout_percentage"])
    if rollout["status"] == RolloutState.PENDING:
        return share
    if rollout["schedule"]:
        return next((float(s["percentage"]) for s in rollout["schedule"] if s["percentage"] > share), share)
    return min(float(rollout["target_percentage"]), share + float(rollout["increment_step"]))


def _words(rollout: Rollout) -> str:
    return f"{rollout['words']}, a rollback" if rollout["is_rollback"] else str(rollout["words"])


def _whose(group: str | None) -> str:
    return f"your devices in {group}" if group else "your devices"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count:,} devices"


def _ask(yes: bool, needed: bool, question: str) -> None:
    if needed and not yes:
        click.confirm(question, abort=True, err=True)
