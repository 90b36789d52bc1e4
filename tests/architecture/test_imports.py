"""Down the stairs only; the contracts themselves are in pyproject.toml, and `dev.py check` runs them."""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter

from tests.architecture import source

# torch takes seconds to load, and dp-accounting, with SciPy, half a second and 80 MB, so they are loaded where they are
# used, in these modules and nowhere else. transformers is there for those who serve text models.
LAZY = {
    "registry.formats": {"torch"},
    "registry.converting.torchscript": {"torch"},
    "registry.converting.onnx": {"onnx", "onnxruntime"},
    "fedportal_sdk.trainers.torch": {"torch"},
    "training.privacy.accounting": {"dp_accounting"},
    "fedportal_sdk.serving.text": {"transformers"},
}
WIRE_NEEDS = {"numpy", "cryptography", "fedwire"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def test_no_import_circles():
    known = {module.name for module in source.code()}
    graph: dict[str, set[str]] = {}
    for module in source.code():
        targets = {_nearest(name, known) for name, _ in source.imports(module)}
        graph[module.name] = {target for target in targets if target and target != module.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        raise AssertionError(" → ".join(reversed(circle.args[1]))) from None


def test_no_imports_inside_functions_except_torch():
    found = [
        f"{module.where}:{line} imports {name}"
        for module in source.code()
        for function in source.functions(module)
        for name, line in source.imports(module, function)
        if name.partition(".")[0] not in LAZY.get(module.name, set())
    ]
    assert found == []


def test_fedwire_needs_numpy_cryptography_and_the_standard_library_only():
    found = [
        f"{module.where}:{line} imports {name}"
        for module in source.code()
        if module.name.partition(".")[0] == "fedwire"
        for name, line in source.imports(module)
        if (top := name.partition(".")[0]) not in WIRE_NEEDS and top not in sys.stdlib_module_names
    ]
    assert found == []


def test_nothing_is_ever_unpickled_or_evaluated():
    found = []
    for module in source.code():
        found += [
            f"{module.where}:{line} imports {name}"
            for name, line in source.imports(module)
            if name.partition(".")[0] in PICKLES
        ]
        found += [
            f"{module.where}:{node.lineno} calls {ast.unparse(node.func)}"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and _runs_foreign_code(node)
        ]
    assert found == []


def _runs_foreign_code(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load"):
        return True
    return name.endswith(".load") and any(keyword.arg == "allow_pickle" for keyword in call.keywords)


def _nearest(name: str, known: set[str]) -> str:
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name
