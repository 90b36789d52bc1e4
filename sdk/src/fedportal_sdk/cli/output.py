"""What every command says and how: tables for people, one JSON document for programs, errors with a next step."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from fedportal_sdk.portal import Portal
from fedwire.errors import FedportalError

F = TypeVar("F", bound=Callable[..., Any])

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def command(function: F) -> F:
    """Give a command the option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")(function)


def speaking(function: F) -> F:
    """Let a command end with one sentence and a next step, never with a traceback."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except FedportalError as error:
            complain(error)
            sys.exit(1)
        except KeyboardInterrupt:
            err.print("Interrupted.")
            sys.exit(130)

    return wrapped  # type: ignore[return-value]


def complain(error: FedportalError) -> None:
    """Say what is wrong and what to do, on standard error; for programs with --json as the error's JSON."""
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        click.echo(json.dumps(error.body()), err=True)
        return
    err.print(f"[bold red]Error:[/] {_plain(error.message)}")
    if error.next_step:
        err.print(f"[dim]Next:[/]  {_plain(error.next_step)}")


def say(sentence: str, value: Any, as_json: bool) -> None:
    """One sentence, or the value as JSON."""
    if as_json:
        print_json(value)
    else:
        out.print(_plain(sentence))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Iterable[Sequence[Any]], columns: Sequence[str], empty: str) -> None:
    """A table, or the sentence `empty` when there is nothing in it."""
    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*[_plain("" if cell is None else str(cell)) for cell in row])
    if drawn.row_count:
        out.print(drawn)
    else:
        out.print(empty)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error for bytes; what it yields takes (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(title, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield advance


def portal() -> Portal:
    """The portal one logged in to."""
    found = Portal()
    if not found._http.token:
        raise FedportalError("not_configured", what="API key", variable="FEDPORTAL_API_KEY")
    return found


def ago(moment: str | None) -> str:
    """How long ago that was, in a word a person reads."""
    if not moment:
        return "never"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _plain(text: str) -> str:
    """Text from elsewhere is no markup, and control characters stay out of the terminal."""
    return "".join(c for c in text if c.isprintable() or c == "\n").replace("[", "\\[")
