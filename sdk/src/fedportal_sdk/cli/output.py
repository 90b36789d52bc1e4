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
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from fedportal_sdk.portal import Portal
from fedwire.errors import FedportalError

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound=Portal)

# Fields of the portal's → parameters of commands, where these are called otherwise.
CALLED_OTHERWISE = {"min_participants": "min_devices", "work_shares": "shares", "treatment_percentage": "share"}
# A file or another program has no width: nothing is cut off or wrapped for it.
NO_WIDTH = 10_000


def console(*, stderr: bool = False) -> Console:
    """Where text for people goes."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=NO_WIDTH)


out = console()
err = console(stderr=True)


class Group(click.Group):
    """Commands under one word; the word alone asks for help and gets it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where no command is named."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


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
        click.echo(json.dumps(error.body(), ensure_ascii=False), err=True)
        return
    err.print(f"[bold red]Error:[/] {_plain(error.message)}")
    next_step = _next_step(error, context)
    if next_step:
        err.print(f"[dim]Next:[/]  {_plain(next_step)}")


def _next_step(error: FedportalError, context: click.Context | None) -> str:
    """What to do now, in the words of the present command where the error names a field of the portal's."""
    if error.code == "strategy_parameter" and (option := _option(str(error.context.get("meant") or ""), context)):
        return f"Say it with {option}."
    option = _option(str(error.context.get("field", "")), context) if error.code == "field_invalid" else ""
    return f"Correct {option} and try again." if option else error.next_step


def _option(field: str, context: click.Context | None) -> str:
    """What the present command calls a field of the portal's, such as --min-devices; "" where it takes none."""
    name = field.rpartition(".")[2]
    name = CALLED_OTHERWISE.get(name, name)
    options = [one for one in context.command.params if isinstance(one, click.Option)] if context else []
    flag = f"--{name.replace('_', '-')}"
    return next((one.opts[0] for one in options if one.name == name or flag in one.opts), "")


def say(sentence: str, value: Any, as_json: bool, *, then: str = "") -> None:
    """One sentence and what to do next, or the value as JSON."""
    if as_json:
        print_json(value)
        return
    out.print(_plain(sentence))
    if then:
        out.print(f"[dim]Next:[/] {_plain(then)}")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Iterable[Sequence[Any]], columns: Sequence[str], empty: str) -> None:
    """A table, or the sentence `empty` when there is nothing in it. A narrow terminal folds cells, it loses none."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*[_plain("" if cell is None else str(cell)) for cell in row])
    if drawn.row_count:
        out.print(drawn)
    else:
        out.print(_plain(empty))


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """A thing's properties, one a line; empty ones are left out."""
    drawn = Table(box=None, pad_edge=False, show_header=False)
    drawn.add_column(style="dim")
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            drawn.add_row(_plain(name), _plain(str(value)))
    out.print(drawn)


def passage(text: str) -> None:
    """A longer text from elsewhere, as it is but for control characters."""
    out.print(f"\n{_plain(text)}\n", soft_wrap=True)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error for bytes; what it yields takes (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown = err.is_terminal and not _for_a_program()
    with Progress(*columns, console=err, transient=True, disable=not shown) as progress:
        task = progress.add_task(_plain(title), total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield advance


def once(text: str) -> Callable[[], None]:
    """Says this on standard error when it is first called, and never to a program."""
    left = [text]

    def say_it() -> None:
        if left and not _for_a_program():
            err.print(f"[dim]{_plain(left.pop())}[/]")

    return say_it


def portal() -> Portal:
    """The portal one logged in to."""
    return portal_as(Portal)


def portal_as(kind: type[P]) -> P:
    """The same, with what this kind of portal can do besides."""
    found = kind(report=_away)
    if not found.has_key:
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


def day(moment: str | None) -> str:
    """The moment's day and minute where the reader is, with the offset from UTC."""
    return datetime.fromisoformat(moment).astimezone().isoformat(" ", "minutes") if moment else ""


def _away(error: FedportalError | None) -> None:
    if error is not None and not _for_a_program():
        err.print(f"[dim]{_plain(error.message)} Trying again for half a minute …[/]")


def _for_a_program() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context is not None and context.params.get("as_json"))


def _plain(text: str) -> str:
    """Text from elsewhere is no markup, and control characters stay out of the terminal."""
    return escape("".join(c for c in text if c.isprintable() or c == "\n"))
