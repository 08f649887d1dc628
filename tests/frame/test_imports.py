"""Arrows point down: who may import whom in fnlib, without circles and without tricks."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fnlib

PACKAGE = Path(__file__).parents[2] / "fnlib"
# From the ground up. A room imports rooms of lower floors, and itself without a circle.
FLOORS = (
    ("version",),
    ("torch_private",),
    ("show",),
    ("errors",),
    ("values",),
    ("network", "updates"),
    ("gradient", "parameters", "optim"),
    ("ensemble", "factory"),
    ("compiled", "encapsulated", "history", "distributed"),
    ("ledger.entries", "ledger.errors"),
    ("ledger.looks",),
    ("ledger.recording",),
    ("ledger.findings",),
    ("ledger.views",),
    ("ledger.ledger",),
    ("ledger.magic",),
    ("ledger.testing",),
    ("ledger",),
    ("ledger.doctor",),
    ("teaching",),
    ("__init__", "__main__", "pytest_plugin"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
CORE = [room for rooms in FLOORS[:8] for room in rooms]
# Imported only when used, because they are optional or slow: the only imports inside functions.
LATER = {
    "encapsulated": {"tqdm"},
    "ledger.magic": {"IPython"},
    "ledger.views": {"IPython", "ipywidgets"},
    "ledger.views.view": {"fnlib"},  # the picture, which imports matplotlib
    "teaching": {
        "IPython",
        "cycler",
        "ipywidgets",
        "matplotlib",
        "numpy",
        "sklearn",
        "threadpoolctl",
    },
    "teaching.memory": {"torch"},  # its profiler is slow to import
}


def modules() -> dict[str, Path]:
    """Name every module below the package: `values.held`, `show` for its `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "exhibits" in path.parts:  # a user's loops, to look at
            continue
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    """Find the room of a module: the longest name that the floors know."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if name in FLOOR), module)


@functools.cache
def imports_of(module: str) -> list[tuple[str, bool]]:
    """List what a module imports, and whether it does so inside of a function."""
    return list(_imports(ast.parse(MODULES[module].read_text()), False))


def _imports(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((name.name, inside) for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            for name in child.names:
                whole = f"{base}.{name.name}"
                is_module = whole.removeprefix("fnlib.") in MODULES
                yield (whole if base.startswith("fnlib") and is_module else base), inside
        else:
            within = inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _imports(child, within)


def own_imports(module: str) -> list[str]:
    """List the modules of fnlib that a module imports."""
    names = [name for name, _ in imports_of(module) if name.partition(".")[0] == "fnlib"]
    return [name.removeprefix("fnlib").removeprefix(".") or "__init__" for name in names]


def later(module: str) -> set[str]:
    """List what a module may import inside of a function."""
    return LATER.get(room_of(module), set()) | LATER.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module: str) -> None:
    """A module imports lower floors, or its own room."""
    room = room_of(module)
    assert room in FLOOR, f"say on which floor of FLOORS '{room}' is"
    for name in own_imports(module):
        other = room_of(name)
        public = room == "teaching" and other == "__init__"  # lessons write `import fnlib`
        assert other == room or FLOOR[other] < FLOOR[room] or public, f"{module} imports {name}"


def test_there_is_no_circle() -> None:
    """Not even one that a TYPE_CHECKING block or a function hides."""
    graph = {m: set(own_imports(m)) - {m} for m in MODULES if m != "__init__"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_at_the_top(module: str) -> None:
    """Except for optional libraries, which are listed."""
    inside = {name.partition(".")[0] for name, within in imports_of(module) if within}
    assert inside <= later(module)
    names = {
        node.id
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Name)
    }
    typed = module == "__init__" or "matplotlib" in later(module)  # types of what comes later
    assert typed or "TYPE_CHECKING" not in names


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in CORE])
def test_the_core_needs_torch_and_safetensors(module: str) -> None:
    """Nothing else; the optional ones are imported when used."""
    names = {name.partition(".")[0] for name, _ in imports_of(module)}
    others = names - sys.stdlib_module_names - {"fnlib", "torch", "safetensors"}
    assert others <= later(module)


def test_the_package_reads_no_test() -> None:
    """Tests may import the package, not the other way round."""
    for module in MODULES:
        assert not any(name.split(".")[0] == "tests" for name, _ in imports_of(module))


def test_the_lists_of_public_names_agree() -> None:
    """What types see, where each name is found when it is used, and `__all__`."""
    tree = ast.parse(MODULES["__init__"].read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: line.module
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    modules = {name for name, home in seen.items() if home == "fnlib"}
    assert {n: home for n, home in seen.items() if n not in modules} == fnlib._HOME | fnlib._LATER
    assert sorted(fnlib.__all__) == sorted({*seen} - {"teaching"} | {*fnlib.errors.__all__})
    for name in seen:
        assert getattr(fnlib, name).__name__.rpartition(".")[2] == name


@pytest.mark.parametrize("name", ["x.y", "optim.SGD", "nope", "", "1", "_nope", "ledger.x.y"])
def test_a_name_that_is_not_there_is_an_attribute_error(name: str) -> None:
    assert not hasattr(fnlib, name)
