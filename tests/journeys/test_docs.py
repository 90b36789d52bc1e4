"""What the documentation tells people to type exists."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path

import click
import pytest

from fedportal_sdk import FederatedClient
from fedportal_sdk.cli import main
from tests.running import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "sdk").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of every fenced block in this language."""
    return [
        (page.relative_to(ROOT).as_posix(), text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if kind == language
    ]


COMMANDS = [(page, line) for page, text in blocks("sh") for line in text.splitlines() if line.startswith("fedportal ")]
MANAGE = sorted({name for _, text in blocks("sh") for name in re.findall(r"manage\.py (\w+)", text)})


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_the_documentation_is_understood(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    group: click.Command = main
    context = click.Context(main)
    while isinstance(group, click.Group):
        name, command, words = group.resolve_command(context, words)
        assert command is not None, line
        context = click.Context(command, info_name=name, parent=context, resilient_parsing=False)
        group = command
    values, rest, _ = group.make_parser(context).parse_args(list(words))
    assert rest == [] or any(parameter.nargs == -1 for parameter in group.params), f"{page}: {line} leaves {rest}"
    missing = [p.name for p in group.params if p.required and values.get(p.name or "") is None]
    assert missing == [], f"{page}: {line}"


@pytest.mark.parametrize("name", MANAGE)
def test_a_management_command_of_the_documentation_exists(name: str) -> None:
    own = ROOT / "federations" / "management" / "commands" / f"{name}.py"
    assert own.exists() or name in ("migrate", "collectstatic", "createsuperuser")


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_python_of_the_documentation_calls_what_exists(page: str, text: str) -> None:
    for call in [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]:
        name = ast.unparse(call.func)
        if name == "FederatedClient":
            parameters = inspect.signature(FederatedClient).parameters
        elif name.startswith("client."):
            parameters = inspect.signature(getattr(FederatedClient, name.removeprefix("client."))).parameters
        else:
            continue
        assert {keyword.arg for keyword in call.keywords} <= set(parameters), f"{page}: {ast.unparse(call)}"


def test_files_of_the_documentation_are_where_it_says() -> None:
    assert Path(ROOT / "dev.py").exists()
    assert COMMANDS
    assert MANAGE
