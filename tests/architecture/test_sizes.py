"""Small rooms: when a file or a function grows past these limits, look for the second noun in it."""

from __future__ import annotations

import ast
from statistics import median

from tests.architecture import source

FILE_LINES = 400
FUNCTION_LINES = 60
MEDIAN_LINES = 12
TESTS_TO_CODE = (0.6, 1.6)


def test_files_stay_small():
    found = {module.where: module.lines for module in source.code() if module.lines > FILE_LINES}
    assert found == {}


def test_functions_stay_small():
    lengths = {
        f"{module.where}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for module in source.code()
        for function in source.functions(module)
    }
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}
    assert median(lengths.values()) <= MEDIAN_LINES


def test_tests_are_about_as_large_as_the_code():
    ratio = sum(module.lines for module in source.tests()) / sum(module.lines for module in source.code())
    low, high = TESTS_TO_CODE
    assert low <= ratio <= high, f"tests are {ratio:.2f} times the code"


def test_every_module_says_what_it_is_for():
    quiet = ("__init__.py", "apps.py")
    found = [
        module.where
        for module in source.code()
        if module.path.name not in quiet and ast.get_docstring(module.tree) is None
    ]
    assert found == []
