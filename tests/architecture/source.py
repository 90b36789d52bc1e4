"""The project's own source, parsed once for all tests of its shape."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("fedportal", "federations", "registry", "training", "sdk/src", "deploy", "docs")
FLOORS = ("fedportal", "federations", "registry", "training", "fedwire", "fedportal_sdk", "deploy", "docs")


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name, its lines and its tree."""

    path: Path
    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def package(self) -> str:
        """What a relative import starts from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@cache
def code() -> tuple[Module, ...]:
    """Everything but tests and migrations."""
    files = [ROOT / "dev.py", ROOT / "manage.py"]
    for room in ROOMS:
        files += [path for path in sorted((ROOT / room).rglob("*.py")) if "migrations" not in path.parts]
    return tuple(_read(path) for path in files)


@cache
def tests() -> tuple[Module, ...]:
    """All tests and what helps them."""
    return tuple(_read(path) for path in sorted((ROOT / "tests").rglob("*.py")))


@cache
def tracked() -> tuple[Path, ...]:
    """All files under version control; all files of the known folders where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())
    return tuple(module.path for module in (*code(), *tests()))


def imports(module: Module, tree: ast.AST | None = None) -> Iterator[tuple[str, int]]:
    """The dotted names that `module` imports when it is run, with their line; `from a import b` gives `a.b`."""
    for node in _executed(tree or module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of `module`."""
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed(node)


def _read(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(ROOT / "sdk/src" if "sdk" in path.relative_to(ROOT).parts[:1] else ROOT).with_suffix("")
    names = [part for part in parts.parts if part != "__init__"]
    return Module(path, ".".join(names), text)
