"""Plant faults in public training programs at random places, and count how many the doctor finds, and where.

    python -m tests.programs.plant FOLDER               # all kinds in all ten programs
    python -m tests.programs.plant FOLDER mnist vae     # only programs whose name contains one of these
    python -m tests.programs.plant FOLDER --seed 3 --kinds zero_grad step

Eight kinds of fault; each is one edit of the syntax tree that keeps the rest of the file as it is. A fault counts as
found where the doctor says something at the planted line, or at a line where its effect shows (for a statement that was
removed: the other statements of its loop that clear, fill or use the gradients). What the doctor says about the
program without a fault doesn't count.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.programs.runner import HERE, LEFT_OUT, ROOT, VENV, execute, stand_in, warm_up

# The ten programs, the file that trains, and what its run needs less of.
PROGRAMS = {
    "examples/mnist": "main.py",
    "examples/vae": "main.py",
    "examples/mnist_rnn": "main.py",
    "examples/dcgan": "main.py",
    "examples/gcn": "main.py",
    "examples/super_resolution": "main.py",
    "yunjey/feedforward_neural_network": "main.py",
    "PyTorch-GAN/gan": "gan.py",
    "yunjey/convolutional_neural_network": "main.py",
    "yunjey/recurrent_neural_network": "main.py",
}
LAYERS = {"Linear", "Conv2d", "ConvTranspose2d", "Embedding", "LSTM", "RNN", "BatchNorm2d"}
LAYERS |= {"BatchNorm1d", "Sequential", "GraphConv"}


@dataclass
class Plant:
    """A fault in a file: the new text, what was done, and the lines at which it may be reported."""

    text: str
    what: str
    lines: list[int]


class Source:
    """A file, its syntax tree, and edits that keep every other line as it is."""

    def __init__(self, text: str) -> None:
        self.text, self.rows = text, text.splitlines()
        self.tree = ast.parse(text)
        self.parent = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }
        self.insertions: list[tuple[int, str, bool]] = []  # after this line, text, marked

    def up(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around a node, innermost first."""
        while node in self.parent:
            node = self.parent[node]
            yield node

    def scope(self, node: ast.AST) -> ast.AST:
        """The function that a node belongs to, or the module."""
        around = [one for one in self.up(node) if isinstance(one, (ast.FunctionDef, ast.Module))]
        return around[0]

    def loops(self, node: ast.AST) -> list[ast.For | ast.While]:
        """The loops round a node in its own function, innermost first."""
        found: list[ast.For | ast.While] = []
        for one in self.up(node):
            if isinstance(one, ast.FunctionDef):
                break
            if isinstance(one, (ast.For, ast.While)):
                found.append(one)
        return found

    def calls(self, name: str) -> list[tuple[ast.Expr, ast.expr]]:
        """Statements `receiver.name(...)`, each with its receiver."""
        return [
            (node, node.value.func.value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
            and node.value.func.attr == name
        ]

    def optimizers(self) -> list[tuple[ast.Assign, str, str]]:
        """Statements that build an optimizer: the statement, its name, and the name of its model."""
        found = []
        for node in ast.walk(self.tree):
            if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
                continue
            held = re.findall(r"\b(\w+)\.parameters\(\)", ast.unparse(node.value))
            kind = ast.unparse(node.value.func).split(".")[-1]
            if held and kind[0].isupper() and isinstance(node.targets[0], ast.Name):
                found.append((node, node.targets[0].id, held[0]))
        return found

    def layers(self, model: str) -> list[str]:
        """Names of the layers with weights that the class of a model has."""
        named = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == model:
                named |= set(re.findall(r"\b([A-Z]\w*)\(", ast.unparse(node.value)))
        return [
            ast.unparse(statement.targets[0]).removeprefix("self.")
            for one in ast.walk(self.tree)
            if isinstance(one, ast.ClassDef) and one.name in named
            for statement in ast.walk(one)
            if _makes_a_layer(statement)
        ]

    def indent(self, line: int) -> str:
        """The white space that a line begins with."""
        row = self.rows[line - 1]
        return row[: len(row) - len(row.lstrip())]

    def remove(self, statement: ast.stmt) -> None:
        """Put `pass` in the place of a statement, which keeps all line numbers."""
        first, last = statement.lineno, statement.end_lineno or statement.lineno
        self.rows[first - 1] = f"{self.indent(first)}pass"
        self.rows[first:last] = [""] * (last - first)

    def insert(self, after: int, text: str, *, marked: bool) -> None:
        """Add a line; a marked one is where the fault may be reported."""
        self.insertions.append((after, text, marked))

    def done(self, what: str, effects: set[int]) -> Plant:
        """The text with all edits; `effects` are lines of the file as it was."""
        rows, lines = [], []
        ordered = sorted(self.insertions, key=lambda one: one[0])
        for number in range(len(self.rows) + 1):
            if number:
                rows.append(self.rows[number - 1])
                if number in effects:
                    lines.append(len(rows))
            for after, text, marked in ordered:
                if after == number:
                    rows.append(text)
                    if marked:
                        lines.append(len(rows))
        return Plant("\n".join(rows) + "\n", what, lines)


def _makes_a_layer(statement: ast.AST) -> bool:
    """Whether a statement is `self.name = nn.Layer(...)`."""
    return (
        isinstance(statement, ast.Assign)
        and ast.unparse(statement.targets[0]).startswith("self.")
        and isinstance(statement.value, ast.Call)
        and ast.unparse(statement.value.func).split(".")[-1] in LAYERS
    )


def _around(source: Source, statement: ast.stmt) -> set[int]:
    """A removed statement's line, and those of its loop that fill, clear or use gradients."""
    loops = source.loops(statement)
    inside = loops[0] if loops else source.scope(statement)
    return {statement.lineno} | {
        node.lineno
        for name in ("backward", "step", "zero_grad")
        for node, _ in source.calls(name)
        if inside in source.up(node)
    }


def zero_grad(source: Source, draw: random.Random) -> Plant | None:
    """Remove a `zero_grad()`."""
    calls = source.calls("zero_grad")
    if not calls:
        return None
    statement, receiver = draw.choice(calls)
    source.remove(statement)
    return source.done(f"{ast.unparse(receiver)}.zero_grad() removed", _around(source, statement))


def step(source: Source, draw: random.Random) -> Plant | None:
    """Remove the `step()` of an optimizer."""
    built = {name: node.lineno for node, name, _ in source.optimizers()}
    calls = [one for one in source.calls("step") if ast.unparse(one[1]) in built]
    if not calls:
        return None
    statement, receiver = draw.choice(calls)
    effects = _around(source, statement) | {built[ast.unparse(receiver)]}
    source.remove(statement)
    return source.done(f"{ast.unparse(receiver)}.step() removed", effects)


def evaluation(source: Source, draw: random.Random) -> Plant | None:
    """Remove an `eval()`; its effect shows until the end of its block."""
    calls = source.calls("eval")
    if not calls:
        return None
    statement, receiver = draw.choice(calls)
    block = next(source.up(statement))
    end = getattr(block, "end_lineno", len(source.rows))
    source.remove(statement)
    effects = set(range(statement.lineno, end + 1))
    return source.done(f"{ast.unparse(receiver)}.eval() removed", effects)


def _trained(source: Source, draw: random.Random) -> tuple[ast.Expr, str, str] | None:
    """A step in a loop, with the names of its optimizer and model."""
    models = {name: model for _, name, model in source.optimizers()}
    found = [
        (statement, name, models[name])
        for statement, receiver in source.calls("step")
        if (name := ast.unparse(receiver)) in models and source.loops(statement)
    ]
    return draw.choice(found) if found else None


def best(source: Source, draw: random.Random) -> Plant | None:
    """Keep the state dict of the first iteration by reference, and load it after the loop."""
    trained = _trained(source, draw)
    if trained is None:
        return None
    statement, _, model = trained
    loop = source.loops(statement)[-1]
    out, into = source.indent(loop.lineno), source.indent(loop.body[0].lineno)
    end = loop.end_lineno or loop.lineno
    source.insert(loop.lineno - 1, f"{out}best = None", marked=False)
    source.insert(end, f"{into}best = {model}.state_dict() if best is None else best", marked=True)
    source.insert(end, f"{out}{model}.load_state_dict(best)", marked=True)
    return source.done(f"best = {model}.state_dict(), loaded after the loop", set())


def running_loss(source: Source, draw: random.Random) -> Plant | None:
    """Add up losses with their graphs: without the `.item()` that was there, or in a new sum."""
    sums = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.AugAssign)
        and "loss" in ast.unparse(node)
        and re.search(r"loss\w*\.item\(\)$", source.rows[node.lineno - 1].rstrip())
        and any("backward" in ast.unparse(loop) for loop in source.loops(node))
    ]
    if sums:
        node = draw.choice(sums)
        source.rows[node.lineno - 1] = source.rows[node.lineno - 1].replace(".item()", "")
        return source.done(f"{ast.unparse(node)} without .item()", {node.lineno})
    calls = [
        (statement, receiver)
        for statement, receiver in source.calls("backward")
        if isinstance(receiver, ast.Name) and source.loops(statement)
    ]
    if not calls:
        return None
    statement, receiver = draw.choice(calls)
    loop = source.loops(statement)[-1]
    loss = ast.unparse(receiver)
    source.insert(loop.lineno - 1, f"{source.indent(loop.lineno)}running = 0.0", marked=False)
    source.insert(
        statement.end_lineno or statement.lineno,
        f"{source.indent(statement.lineno)}running = running + {loss}",
        marked=True,
    )
    return source.done(f"running = running + {loss}", set())


def layer(source: Source, draw: random.Random) -> Plant | None:
    """Hide a layer in a list, or freeze one by an attribute that no module has."""
    if draw.random() < 0.5 and (hidden := _hidden(source, draw)) is not None:
        return hidden
    built = source.optimizers()
    if not built:
        return None
    node, _, model = draw.choice(built)
    layers = source.layers(model)
    place = f"{model}.{draw.choice(layers)}" if layers else model
    source.insert(
        node.end_lineno or node.lineno,
        f"{source.indent(node.lineno)}{place}.requires_grad = False",
        marked=True,
    )
    return source.done(f"{place}.requires_grad = False", set())


def _hidden(source: Source, draw: random.Random) -> Plant | None:
    candidates = []
    for one in ast.walk(source.tree):
        if not isinstance(one, ast.ClassDef):
            continue
        for node in ast.walk(one):
            if _makes_a_layer(node) and isinstance(node, ast.Assign):
                name = ast.unparse(node.targets[0])
                span = range(one.lineno, (one.end_lineno or one.lineno) + 1)
                uses = [
                    line
                    for line in span
                    if re.search(rf"{re.escape(name)}\b", source.rows[line - 1])
                    and not node.lineno <= line <= (node.end_lineno or node.lineno)
                ]
                called = [line for line in uses if f"{name}(" in source.rows[line - 1]]
                if uses and uses == called and "nn.Sequential" not in source.rows[node.lineno - 1]:
                    candidates.append((node, name, uses))
    if not candidates:
        return None
    node, name, uses = draw.choice(candidates)
    last = (node.end_lineno or node.lineno) - 1
    source.rows[last] = source.rows[last][: node.end_col_offset] + "]"
    source.rows[node.lineno - 1] = source.rows[node.lineno - 1].replace("= ", "= [", 1)
    for line in uses:
        source.rows[line - 1] = source.rows[line - 1].replace(f"{name}(", f"{name}[0](")
    effects = {node.lineno, *uses, *(line for line, _, _ in _lines(source))}
    return source.done(f"{name} in a list", effects)


def _lines(source: Source) -> Iterator[tuple[int, str, str]]:
    """The lines at which an optimizer is built, a gradient filled, or a weight stepped."""
    for node, name, model in source.optimizers():
        yield node.lineno, name, model
    for name in ("backward", "step"):
        for statement, _ in source.calls(name):
            yield statement.lineno, name, ""


def scheduler(source: Source, draw: random.Random) -> Plant | None:
    """Step a schedule that was meant for epochs after every batch."""
    trained = _trained(source, draw)
    built = {name: node for node, name, _ in source.optimizers()}
    if trained is None:
        return None
    statement, name, _ = trained
    if source.scope(built[name]) is not source.scope(statement) and not isinstance(
        source.scope(built[name]), ast.Module
    ):
        # A function that gets the optimizer as an argument makes its schedule before its loop.
        before = source.loops(statement)[-1].lineno - 1
        margin = source.indent(before + 1)
    else:
        before = built[name].end_lineno or built[name].lineno
        margin = source.indent(built[name].lineno)
    make = f"planted = torch.optim.lr_scheduler.StepLR({name}, step_size=1, gamma=0.1)"
    source.insert(before, margin + make, marked=True)
    source.insert(
        statement.end_lineno or statement.lineno,
        f"{source.indent(statement.lineno)}planted.step()",
        marked=True,
    )
    return source.done(f"a schedule of {name} stepped per batch", {statement.lineno})


def head(source: Source, draw: random.Random) -> Plant | None:
    """Replace a layer after the optimizer was built."""
    built = [one for one in source.optimizers() if source.layers(one[2])]
    if not built:
        return None
    node, _, model = draw.choice(built)
    place = f"{model}.{draw.choice(source.layers(model))}"
    source.insert(
        node.end_lineno or node.lineno,
        f"{source.indent(node.lineno)}import copy; {place} = copy.deepcopy({place})",
        marked=True,
    )
    effects = {node.lineno, *(line for line, _, _ in _lines(source))}
    return source.done(f"{place} replaced after the optimizer was built", effects)


KINDS: dict[str, Callable[[Source, random.Random], Plant | None]] = {
    "zero_grad": zero_grad,
    "step": step,
    "eval": evaluation,
    "best": best,
    "running_loss": running_loss,
    "layer": layer,
    "scheduler": scheduler,
    "head": head,
}


@dataclass
class Result:
    """What became of one planted fault."""

    program: str
    kind: str
    what: str
    lines: list[int]
    found: str
    said: list[str]


def said(errors: str) -> set[str]:
    """The first lines of all findings in a report."""
    return set(re.findall(r"^(?:CERTAIN|QUESTION) .*", errors, re.MULTILINE))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 1 where less than 80 % are found at the planted line."""
    parser = argparse.ArgumentParser(prog="python -m tests.programs.plant", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the repositories are")
    parser.add_argument("names", nargs="*", help="only programs whose name contains one of these")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--python", type=Path, default=VENV / "bin/python")
    parser.add_argument("--kit", type=Path, default=ROOT, help="the tree whose fnlib is asked")
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    parser.add_argument("--show", action="store_true", help="print the faults, run nothing")
    options = parser.parse_args(arguments)
    if not options.show:
        stand_in(options.python)
        warm_up(options.python, options.kit)
    programs = tomllib.loads((HERE / "programs.toml").read_text())["program"]
    results: list[Result] = []
    for program in programs:
        if program["name"] not in PROGRAMS or (
            options.names and not any(name in program["name"] for name in options.names)
        ):
            continue
        source = options.folder / program["repository"].split("/")[1]
        if not source.is_dir():
            print(f"{program['name']}: {program['repository']} is not in {options.folder}")
            continue
        results += list(_all(program, source, options))
        if options.json:
            options.json.write_text(json.dumps([asdict(one) for one in results], indent=1))
    if options.show or not results:
        return 0
    for kind in options.kinds:
        of_kind = [one for one in results if one.kind == kind]
        at = sum(one.found == "at the line" for one in of_kind)
        elsewhere = sum(one.found == "elsewhere" for one in of_kind)
        print(f"{kind}: {at} of {len(of_kind)} at the line, {elsewhere} elsewhere")
    found = sum(one.found == "at the line" for one in results)
    print(f"all: {found} of {len(results)} at the line ({found / len(results):.0%})")
    return int(found < 0.8 * len(results))


def _all(program: dict[str, Any], source: Path, options: argparse.Namespace) -> Iterator[Result]:
    """Plant each kind in one program and ask the doctor."""
    file = Path(program.get("folder", ".")) / PROGRAMS[program["name"]]
    whole = "".join(path.read_text() for path in (source / file).parent.rglob("*.py"))
    healthy: set[str] | None = None
    for kind in options.kinds:
        if kind == "eval" and not re.search("[Dd]ropout|BatchNorm", whole):
            continue
        draw = random.Random(f"{options.seed} {program['name']} {kind}")
        plant = KINDS[kind](Source((source / file).read_text()), draw)
        if plant is None:
            continue
        ast.parse(plant.text)
        if options.show:
            print(program["name"], kind, plant.what, plant.lines)
            continue
        if healthy is None:
            healthy = said(_doctor(program, source, None, options))
        errors = _doctor(program, source, (file, plant.text), options)
        new = sorted(said(errors) - healthy)
        at = any(
            re.search(rf"\b{re.escape(file.name)}:{line}\b", one)
            for one in new
            for line in plant.lines
        )
        found = "at the line" if at else "elsewhere" if new else "missed"
        if "Traceback" in errors and not new:
            found = "broke"
            new = errors.strip().splitlines()[-1:]
        result = Result(program["name"], kind, plant.what, plant.lines, found, new)
        print(
            f"| {result.program} | {kind} | {plant.what} | {found} | {'; '.join(new)} |", flush=True
        )
        yield result


def _doctor(
    program: dict[str, Any],
    source: Path,
    change: tuple[Path, str] | None,
    options: argparse.Namespace,
) -> str:
    """Run the doctor on a program, with one of its files changed; returns the report."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "program"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        if change is not None:
            (copy / change[0]).write_text(change[1])
        return execute(program, copy, options.python, ["-m", "fnlib", "doctor"]).errors


if __name__ == "__main__":
    sys.exit(main())
