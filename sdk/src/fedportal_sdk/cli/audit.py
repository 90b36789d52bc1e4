"""fedportal audit …"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn

from fedportal_sdk import auditing, data
from fedportal_sdk.auditing import IMAGES, Auditor, OwnRows
from fedportal_sdk.cli import output
from fedwire.errors import FedportalError

CASES = {
    "open": "without protection",
    "run": "as this run protects it",
    "masked": "a masked vector, before the sum",
    "sum": "a secure sum of {devices} devices",
    "noise": "noise of {noise} × clip on the device",
}
ATTACKS = {"ratios": "ratios", "search": "search", "informed": "knows rows", "classwise": "knows classes"}
TELLING = {"loss": "loss", "gain": "loss, before and after", "update": "own step in the update"}


@click.group(cls=output.Group)
def audit() -> None:
    """Audit what a run gives away of rows.

    \b
    Examples:
      fedportal audit leakage run_…
      fedportal audit leakage run_… --rows patients.csv --target diagnosis
    """


@audit.command()
@click.argument("run")
@click.option("--rows", type=click.Path(path_type=Path), default=None, help="A CSV file that a device trains on.")
@click.option("--target", default="target", show_default=True, help="With --rows: the column to predict.")
@click.option("--others", type=click.Path(path_type=Path), default=None, help="Further rows that no device has.")
@click.option("--images", default=IMAGES, show_default=True, type=click.IntRange(2, 500), help="Rows that are sought.")
@click.option("--keep", is_flag=True, help="Report nothing to the portal.")
@output.command
@output.speaking
def leakage(
    run: str, rows: Path | None, target: str, others: Path | None, images: int, keep: bool, as_json: bool
) -> None:
    """Attack what the portal holds of RUN, on this machine, and report how much came back.

    RUN is a run's id, or a model: its newest run. Without --rows public rows are used: digits for a model that takes
    64 numbers and tells ten classes apart, made-up rows for others. With --rows the rows stay on this machine; only
    figures are reported, and only your organization sees them.

    \b
    Examples:
      fedportal audit leakage radiology-v1
      fedportal audit leakage run_… --rows patients.csv --target diagnosis --keep
    """
    if others is not None and rows is None:
        raise FedportalError("field_invalid", field="others", reason="it needs --rows beside it.")
    own = None
    if rows is not None:
        further = data.load(others, target) if others is not None else None
        own = OwnRows(data.load(rows, target), further)
    auditor = output.portal_as(Auditor)
    found_run = auditor.run_of(run)
    with _bar(as_json) as progress:
        task = progress.add_task("Attacking", total=None)
        found = auditing.audit(
            auditor, found_run, own, images, lambda done, total: progress.update(task, completed=done, total=total)
        )
    if not keep:
        auditor.report_leakage(found_run, found)
    if as_json:
        output.print_json(found)
        return
    _print(found)
    where = f"{auditor.url}/runs/{found_run}/leakage"
    output.say("Nothing was reported." if keep else f"Reported to {where}", found, False)


def _bar(as_json: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of {task.total} cases"))
    return Progress(*columns, console=output.err, transient=True, disable=as_json or not output.err.is_terminal)


def _print(found: dict[str, Any]) -> None:
    rows = found["rows"]
    kind = {"digits": "public digits", "made": "made-up rows", "own": "rows of your own"}[rows["source"]]
    output.out.print(
        f"{rows['count']} {kind}, each alone on a device that begins with the model of round {found['round']}:"
    )
    output.table(
        [_inverted(one) for one in found["inversion"]],
        ("what the portal holds", "best attack", "PSNR", "blind guess", "above it", "nearest of all", "recognised"),
        "",
    )
    if found["membership"]:
        output.out.print("\nRows that were trained on, told from others (an AUC of 0.5 is chance):")
    output.table(
        [
            (
                *(_case(one, found), TELLING[one["attack"]], f"{one['auc']:.2f}"),
                *("{:.2f} to {:.2f}".format(*one["auc_interval"]), f"{100 * one['found']:.0f} %"),
            )
            for one in found["membership"]
        ],
        ("what the portal holds", "told by", "AUC", "95 %", "found at 1 % false alarms"),
        "\nThere are too few rows to tell members from others.",
    )
    if found["stored"]:
        output.out.print("\n" + _stored(found["stored"]))


def _inverted(one: dict[str, Any]) -> tuple[str, ...]:
    best = max(one["attacks"], key=lambda name: one["attacks"][name])
    reached = one["attacks"][best]
    return (
        _named(one["case"], one["guard"]),
        ATTACKS[best],
        f"{reached:.1f} dB",
        f"{one['floor']:.1f} dB",
        f"{reached - one['floor']:+.1f} dB",
        f"{one['closest']:.1f} dB",
        f"{100 * one['share']:.0f} %",
    )


def _named(case: str, guard: dict[str, Any]) -> str:
    return CASES[case].format(**guard)


def _case(one: dict[str, Any], found: dict[str, Any]) -> str:
    guards = {row["case"]: row["guard"] for row in found["inversion"]}
    return _named(one["case"], guards.get(one["case"], {"devices": "", "noise": ""}))


def _stored(stored: dict[str, Any]) -> str:
    """What came of the files of one's own devices, in a sentence."""
    what = (
        f"{stored['updates']} stored updates" if stored["updates"] else f"{stored['rounds']} steps of the whole model"
    )
    if stored["nearest"] is None:
        return f"From {what} nothing could be extracted."
    other = stored["nearest_other"]
    beside = "" if other is None else f"; {other:.1f} dB to one that was not"
    return f"From {what} the nearest comes within {stored['nearest']:.1f} dB of a row that was trained on{beside}."
