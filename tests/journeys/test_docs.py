"""What the documentation tells people to type exists."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys

import click
import pytest

from fedportal_sdk import FederatedClient
from fedportal_sdk.cli import main
from tests.journeys.documentation import PAGES, blocks
from tests.running import ROOT

COMMANDS = [(b.page, line) for b in blocks("sh") for line in b.text.splitlines() if line.startswith("fedportal ")]
MANAGE = sorted({name for block in blocks("sh") for name in re.findall(r"manage\.py (\w+)", block.text)})


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


def test_a_python_without_django_is_told_which_one_to_use() -> None:
    bare = [sys.executable, "-S", "-E", "manage.py", "migrate"]  # without what is installed
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "This Python has no Django. Use that of the folder .venv: .venv/bin/python manage.py …\n"


@pytest.mark.parametrize(("page", "text"), [(block.page, block.text) for block in blocks("python")])
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


# Where each page's blocks are run as they stand, but for addresses and keys.
RUN_BY = {
    "CONTRIBUTING.md": ".ci/run",
    "README.md": "tests/journeys/test_readme.py",
    "docs/edge.md": "tests/journeys/test_edge.py",
    "docs/operating.md": "tests/journeys/test_operating.py",
    "docs/protocol.md": "tests/journeys/test_devices_in_other_languages.py",
    "docs/serving.md": "tests/serving/test_page.py",
    "docs/simulation.md": "tests/journeys/test_simulation.py",
    "docs/tutorials/device-engineer.md": "tests/journeys/test_tutorials.py",
    "docs/tutorials/member.md": "tests/journeys/test_tutorials.py",
    "docs/tutorials/operator.md": "tests/running.py",
    "docs/tutorials/owner.md": "tests/journeys/test_tutorials.py",
    "docs/tutorials/privacy-officer.md": "tests/journeys/test_tutorials.py",
    "docs/webhooks.md": "tests/browser/test_webhooks.py",
    "sdk/README.md": "tests/journeys/test_tutorials.py",
}


def test_every_page_with_something_to_type_is_run_by_a_test() -> None:
    assert {block.page for language in ("sh", "python") for block in blocks(language)} == set(RUN_BY)
    assert [test for test in RUN_BY.values() if not (ROOT / test).exists()] == []


def test_every_dev_command_of_the_documentation_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"dev\.py (\w+)", page.read_text(encoding="utf-8"))}
    program = (ROOT / "dev.py").read_text(encoding="utf-8")
    assert named
    assert {name for name in named if not re.search(rf'"{name}": {name}\b', program)} == set()
