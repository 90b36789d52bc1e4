"""Noise that protects comes from the operating system: no module that makes or adds any can be given a seed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKERS = (
    *("sdk/src/fedwire/noise.py", "sdk/src/fedwire/grids.py", "sdk/src/fedwire/masking/rings.py"),
    *("sdk/src/fedwire/inference.py", "sdk/src/fedwire/masking/streams.py"),
    *("training/aggregation/noising.py", "training/aggregation/quantiles.py"),
)
SEEDED = frozenset(("random", "default_rng", "seed", "Generator", "RandomState", "SeedSequence", "manual_seed"))


def names(tree: ast.AST) -> set[str]:
    """Every name, attribute, import and parameter in the code; not the words of comments and docstrings."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            found |= {part for alias in node.names for part in f"{module}.{alias.name}".split(".")}
    return found


@pytest.mark.parametrize("path", MAKERS)
def test_no_maker_of_noise_knows_a_seed(path: str) -> None:
    assert names(ast.parse((ROOT / path).read_text())) & SEEDED == set()


def test_a_seed_would_be_found() -> None:
    for code in ("import random", "import numpy as np\nnp.random.default_rng(3)", "def draw(seed): ..."):
        assert names(ast.parse(code)) & SEEDED


def test_whoever_draws_whole_noise_is_looked_at() -> None:
    """Nobody else calls the sampler, so the list above is complete."""
    callers = {
        str(path.relative_to(ROOT))
        for folder in ("sdk/src", "training", "federations", "fedportal", "registry")
        for path in (ROOT / folder).rglob("*.py")
        if {"discrete_gaussian", "wide_gaussian"} & names(ast.parse(path.read_text()))
    }
    assert callers <= set(MAKERS)
    assert callers >= {"sdk/src/fedwire/grids.py", "sdk/src/fedwire/masking/rings.py"}
