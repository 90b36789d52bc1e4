"""How a run protects its updates, as options of `fedportal train start`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

PREFIX = "privacy_"
# Besides "none"; the portal says which of them it can do.
MECHANISMS = click.Choice(["central", "local", "distributed", "records"])
_Command = Callable[..., Any]


def options(command: _Command) -> _Command:
    """The options, each under a name that `pop` knows."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def pop(said: dict[str, Any]) -> dict[str, Any]:
    """What the options said, out of `said`, as {"privacy": {…}}; nothing where none was given.

    Raises a usage error for --privacy without a name and a value.
    """
    found = {
        name.removeprefix(PREFIX): said.pop(name) for name in list(said) if name.startswith(PREFIX) and name != _MORE
    }
    given = {name: value for name, value in found.items() if value is not None}
    if "group" in given:
        given = {"sums": "grouped", **given}
    for pair in said.pop(_MORE, ()):
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--privacy takes NAME=VALUE, not {pair!r}.")
        given[name] = _value(text)
    return {"privacy": given} if given else {}


_MORE = f"{PREFIX}more"
_OPTIONS = (
    click.option(
        "--secure", f"{PREFIX}sums", flag_value="secure", default=None, help="The portal sees only sums of updates."
    ),
    click.option(
        "--groups",
        f"{PREFIX}group",
        default=None,
        type=int,
        metavar="SIZE",
        help="It sees the sums of groups of at most so many devices, which a robust strategy compares.",
    ),
    click.option("--dp", f"{PREFIX}mechanism", default=None, type=MECHANISMS, help="Who adds noise: a cost in ε."),
    click.option("--noise", f"{PREFIX}noise", default=None, type=float, help="Its standard deviation, over the clip."),
    click.option(
        "--clip", f"{PREFIX}clip", default=None, type=float, help="The largest L2 norm of an update, or of a gradient."
    ),
    click.option(
        "--sampling-rate",
        f"{PREFIX}rate",
        default=None,
        type=float,
        help="With --dp records: with what probability a row comes in a step.",
    ),
    click.option("--delta", f"{PREFIX}delta", default=None, type=float, help="The δ at which ε is told."),
    click.option(
        "--adaptive-clip",
        f"{PREFIX}clipping",
        flag_value="adaptive",
        default=None,
        help="With --dp central: let the clip follow the norms.",
    ),
    click.option(
        "--privacy", _MORE, multiple=True, metavar="NAME=VALUE", help="A further setting, such as least_devices=20."
    ),
)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
