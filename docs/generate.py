"""The pages of docs/ that are printed from the code: `python3 dev.py docs`.

settings.md from the comments of fedportal/settings.py, permissions.md from federations/roles.py, errors.md from
fedwire/errors.py, strategies.md from training/aggregation/strategies.
`pages()` is what should stand there; a test compares.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")

import django

django.setup()

from federations import roles  # noqa: E402
from federations.models import Role  # noqa: E402
from fedwire.errors import CATALOGUE  # noqa: E402
from training.aggregation.strategies import STRATEGIES  # noqa: E402
from training.aggregation.strategy import LOCAL_SGD, Parameter, Strategy  # noqa: E402
from training.privacy import conflicts  # noqa: E402
from training.privacy.protection import CENTRAL, DISTRIBUTED, GROUPED, LOCAL, RECORDS, SECURE, Protection  # noqa: E402

DOCS = Path(__file__).resolve().parent
SETTINGS = DOCS.parent / "fedportal" / "settings.py"
NOTE = "<!-- Written by `python3 dev.py docs`; change the code instead. -->\n"
_SETTING = re.compile(r'((?:^#.*\n)+)^[A-Z_]+ = .*?env\(\s*"([A-Z_]+)"(?:, (.+?)\)(?: == "1")?)?', re.MULTILINE)
_DEFAULTS = {
    "DATA_DIR": "`var` beside `manage.py`",
    "MAX_MODEL_BYTES": "`8589934592` (8 GiB)",
    "AGGREGATION_THREADS": "number of processors, at most 4",
}


def pages() -> Mapping[str, str]:
    """File name in docs/ → what should stand there."""
    return {
        "settings.md": settings_page(),
        "permissions.md": roles_page(),
        "errors.md": errors_page(),
        "strategies.md": strategies_page(),
    }


def settings_page() -> str:
    """Every variable of the environment with its default and the comment above it."""
    text = SETTINGS.read_text(encoding="utf-8")
    # A setting that spans lines is read as one.
    rows = [
        (f"`FEDPORTAL_{name}`", _default(name, default), _sentence(comment))
        for comment, name, default in _SETTING.findall(text.replace("[\n    *filter(None, ", ""))
    ]
    return (
        f"# Settings\n\n{NOTE}\nThe portal is configured by its environment alone. In embedded mode every variable may "
        "be left out; in production mode\nthe portal refuses to start with unsafe values and names each of them.\n\n"
        + _table(("variable", "default", "meaning"), rows)
    )


def roles_page() -> str:
    """The three tables of rights."""
    columns = ("", *(str(role.label) for role in Role))
    own = [(roles.WORDS[action], action, allowed) for action, allowed in roles.ORGANIZATION.items()]
    parts = [
        f"# Who may do what\n\n{NOTE}\nEvery door (pages, API, sockets, command line) asks these tables.\n",
        "## In one's own organization\n\n" + _table(columns, _rows(own)),
    ]
    for noun, relations in roles.OBJECTS.items():
        for relation in relations:
            title = f"## On a {noun}, when one's organization is its {relation}"
            parts.append(f"{title}\n\n{_table(columns, _rows(roles.rows(noun, relation)))}")
    scopes = [(f"`{scope}`", ", ".join(f"`{action}`" for action in sorted(of))) for scope, of in roles.SCOPES.items()]
    parts.append(
        "## What a key may do\n\nA key acts as its person in its one organization, and at most as its scopes allow. "
        f"What a person answers for\nonly `*` allows: {' and '.join(f'`{one}`' for one in sorted(roles.UNSCOPED))}.\n\n"
        + _table(("scope", "actions"), scopes)
    )
    return "\n".join(parts)


def errors_page() -> str:
    """The catalogue of errors."""
    rows = [(f"`{code}`", str(kind.status), kind.sentence, kind.next_step) for code, kind in CATALOGUE.items()]
    return (
        f"# Errors\n\n{NOTE}\nServer, SDK and command line speak from one catalogue. An answer carries "
        "`error` (the code), `message`, `next_step`,\n`status_code` and `context` (the values of the sentence).\n\n"
        + _table(("code", "status", "sentence", "next step"), rows)
    )


def strategies_page() -> str:
    """Every strategy: formula, paper, what it needs and its parameters; those of local training once for all."""
    return (
        f"# Strategies\n\n{NOTE}\nHow the updates of a round become the next model: Δᵢ is the update of device i, nᵢ "
        "its rows, n the number of updates, f\nhow many of them may be wrong. [Algorithms](algorithms.md) says how it "
        "is computed. Where rounds are asynchronous,\nupdates are first of all discounted by their staleness."
        "\n\n## Local training\n\nStrategies whose devices train by mini-batch gradient descent have these "
        f"parameters besides their own:\n\n{_parameters(LOCAL_SGD)}\n"
        + "\n".join(_strategy(strategy) for strategy in STRATEGIES.values())
        + "\n"
        + privacy_part()
    )


def privacy_part() -> str:
    """Which protection goes with which strategy, and why others do not."""
    kinds = [(f"sums: {sums}", Protection(sums=sums)) for sums in (SECURE, GROUPED)]
    kinds += [(f"noise: {name}", Protection(mechanism=name, noise=1.0)) for name in (CENTRAL, LOCAL)]
    kinds += [(f"noise: {DISTRIBUTED}", Protection(sums=SECURE, mechanism=DISTRIBUTED, noise=1.0))]
    kinds += [(f"noise: {RECORDS}", Protection(mechanism=RECORDS, noise=1.0, rate=0.1))]
    rows = [
        (f"`{name}`", *("yes" if conflicts.suits(strategy, protection) else "" for _, protection in kinds))
        for name, strategy in STRATEGIES.items()
    ]
    reasons = [
        (conflict.what, f"`{conflict.field}`", conflict.why.format(strategy="the strategy", least="N", mechanism="M"))
        for conflict in conflicts.CONFLICTS
    ]
    return (
        "## With privacy\n\nWhich strategies go with which protection of updates "
        "([what each protects from](privacy.md)):\n\n"
        + _table(("strategy", *(title for title, _ in kinds)), rows)
        + "\nWhat does not go together, the field at which it is refused, and why:\n\n"
        + _table(("what", "field", "why"), reasons)
    )


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")


def _strategy(strategy: Strategy) -> str:
    own = [parameter for parameter in strategy.parameters if parameter not in LOCAL_SGD]
    parts = [
        f"## {strategy.title}: `{strategy.name}`",
        "    " + strategy.formula,
        f"{strategy.paper}.",
        *([strategy.about] if strategy.about else []),
        *([_needs(strategy)] if _needs(strategy) else []),
        *([_parameters(own).rstrip()] if own else []),
    ]
    return "\n\n".join(parts) + "\n"


def _needs(strategy: Strategy) -> str:
    """What a strategy asks for, with its defaults, in sentences."""
    least = strategy.least_updates(strategy.checked({}))
    sentences = [
        f"It needs at least {least} updates in every round unless its parameters say otherwise." if least > 1 else "",
        "It must see every update by itself." if strategy.needs_individual_updates else "",
        f"Its devices report {' and '.join(f'`{name}`' for name in strategy.reports)}." if strategy.reports else "",
        "Its devices keep something from round to round, so of the codecs it takes `float16` and `int8`."
        if strategy.needs_device_state
        else "",
        "A run with it names a `trusted` organization." if strategy.trusts else "",
        "Each device has a model of its own and reports on it too." if strategy.personal else "",
        f"`local` says which tensors stay on the devices, a pattern such as `layers.4.*`; by default {staying.default}."
        if (staying := strategy.staying) is not None
        else "",
        "" if strategy.asynchronous else f"Its rounds cannot be asynchronous, because {strategy.in_step}.",
        "" if strategy.synchronous else "Its rounds are asynchronous.",
    ]
    return " ".join(filter(None, sentences))


def _parameters(parameters: Iterable[Parameter]) -> str:
    rows = [(f"`{one.name}`", f"`{one.default:g}`", one.allowed, one.about) for one in parameters]
    return _table(("parameter", "default", "allowed", "meaning"), rows)


def _rows(lines: Iterable[tuple[str, str, roles.Roles]]) -> Iterable[Sequence[str]]:
    for words, action, allowed in lines:
        name = f" (`{action}`)" if action else ""
        yield (f"{words}{name}", *("yes" if role in allowed else "" for role in Role))


def _default(name: str, source: str) -> str:
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    value = source.split(")")[0].strip("\"'")
    return f"`{value}`" if value else "empty"


def _sentence(comment: str) -> str:
    return " ".join(line.lstrip("# ").rstrip() for line in comment.splitlines())


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    main()
