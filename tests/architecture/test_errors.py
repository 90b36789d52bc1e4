"""The catalogue of errors and the code that raises them agree."""

from __future__ import annotations

import ast
from string import Formatter

from fedwire.errors import CATALOGUE
from tests.architecture import source

CATALOGUE_FILES = ("fedwire.errors", "fedwire.device_errors")


def test_every_error_that_is_raised_is_in_the_catalogue():
    found = [
        f"{module.where}:{node.lineno} {node.args[0].value!r}"
        for module in source.code()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("FedportalError")
        if node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value not in CATALOGUE
    ]
    assert found == []


def test_every_error_that_is_raised_names_all_that_its_sentences_need():
    incomplete = [
        f"{module.where}:{node.lineno} {code} lacks {sorted(missing)}"
        for module in source.code()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("FedportalError")
        if node.args and isinstance(node.args[0], ast.Constant) and not any(word.arg is None for word in node.keywords)
        for code in [node.args[0].value]
        if (missing := _values_of(code) - {word.arg for word in node.keywords})
    ]
    assert incomplete == []


def _values_of(code: str) -> set[str]:
    kind = CATALOGUE[code]
    named = {name for _, name, _, _ in Formatter().parse(kind.sentence + kind.next_step) if name}
    return {"seconds" if name == "wait" else name for name in named - {"usable"}}  # one follows, one has a default


def test_every_error_of_the_catalogue_is_used():
    words = {
        node.value
        for module in source.code()
        if module.name not in CATALOGUE_FILES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(set(CATALOGUE) - words) == []
