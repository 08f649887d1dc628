"""Statements of a piece of code: where each begins and ends, in which loops it stands, which names it holds."""

from __future__ import annotations

import ast
import functools
import linecache
import textwrap
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
Path = tuple[
    object, ...
]  # ("self", "model"): a name, then attributes (str) and constant subscripts (Subscript)


@dataclass(frozen=True, slots=True)
class Subscript:
    """A constant subscript in a path: ``nets["critic"]``."""

    key: object


@dataclass(eq=False, slots=True)
class Loop:
    """A loop: its header's line, and the lines of its body. ``counts``: ``for name in range(...)``."""

    line: int
    first: int
    last: int
    counts: bool = False


@dataclass(eq=False, slots=True)
class Statement:
    """The statements of one line, almost always a single one; the header alone of a compound statement."""

    line: int
    end_line: int
    source: str
    kind: str
    loops: tuple[Loop, ...]
    paths: tuple[Path, ...] = ()
    reads: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    shares_line: int = 1
    has_source: bool = True
    indent: int = 0


@dataclass(eq=False, slots=True)
class Region:
    """The statements of one code object, or of the part that a ``with`` holds: line number to statement."""

    lines: dict[int, Statement]
    names: frozenset[str]
    span: tuple[int, int] | None

    def at(self, frame: FrameType) -> Statement:
        """The statement at the line that a frame is about to run; one without source if there is none."""
        line = frame.f_lineno
        statement = self.lines.get(line)
        if statement is None:
            name = frame.f_code.co_filename
            statement = Statement(
                line, line, f"<no source: line {line} of {name}>", "statement", (), has_source=False
            )
            self.lines[line] = statement
        return statement

    def first_offsets(self, code: CodeType) -> dict[Statement, int]:
        """The first instruction of each statement: reaching it again is running the statement again."""
        first: dict[Statement, int] = {}
        for start, _, line in code.co_lines():
            if line is not None and (statement := self.lines.get(line)) is not None:
                first[statement] = min(start, first.get(statement, start))
        return first


def region(frame: FrameType, *, inside_with: bool) -> Region:
    """Read the statements of a frame's code, of the innermost ``with`` around its present line alone if asked."""
    code = frame.f_code
    tree, text = _parse(text_of(code.co_filename, frame.f_globals))
    if tree is None:
        return Region(
            {},
            frozenset({*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars}),
            None,
        )
    scope = _scope(tree, code)
    body: list[ast.stmt] = scope.body
    span = None
    if inside_with:
        holder = _with_at(body, frame.f_lineno)
        if holder is not None:
            span = (holder.lineno, holder.end_lineno or holder.lineno)
            body = [holder]
    reader = _Reader(text)
    reader.read(body, ())
    names = {node.id for part in body for node in ast.walk(part) if isinstance(node, ast.Name)}
    return Region(reader.lines, frozenset(names), span)


def text_of(file: str, variables: dict[str, Any] | None = None) -> str:
    """Return the text of a file or of a notebook's cell, "" where it isn't known.

    All texts given to ``exec`` share the name "<string>", where Python 3.13 keeps that of ``python -c``.
    """
    return "" if file == "<string>" else "".join(linecache.getlines(file, variables))


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> tuple[ast.Module | None, list[str]]:
    """Parse a file or a notebook cell; ``None`` where there is no text or it is no Python."""
    lines = text.splitlines()
    if not lines:
        return None, lines
    try:
        return ast.parse(text), lines
    except SyntaxError:
        return None, lines


def _scope(
    tree: ast.Module, code: CodeType
) -> ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef:
    """The function, class or module that a code object was compiled from."""
    if code.co_name == "<module>":
        return tree
    for node in ast.walk(tree):
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if code.co_firstlineno in (first, node.lineno):
                return node
    return tree


def _with_at(body: list[ast.stmt], line: int) -> ast.With | ast.AsyncWith | None:
    """The innermost ``with`` whose header covers a line."""
    found = None
    for node in body:
        for part in ast.walk(node):
            if isinstance(part, (ast.With, ast.AsyncWith)) and part.lineno <= line < max(
                part.body[0].lineno, part.lineno + 1
            ):
                found = part if found is None or part.lineno >= found.lineno else found
    return found


class _Reader:
    """Collects the statements of a body, line by line."""

    def __init__(self, text: list[str]) -> None:
        self.text = text
        self.lines: dict[int, Statement] = {}

    def read(self, body: list[ast.stmt], loops: tuple[Loop, ...]) -> None:
        """Read a list of statements that stand in the given loops."""
        for node in body:
            blocks = _blocks(node)
            first, last = _start(node), node.end_lineno or node.lineno
            if not blocks and not isinstance(node, _SCOPES):
                self.add(first, last, "statement", loops, [node])
                continue
            inner = [block[0].lineno for block in blocks] or [_start(node.body[0])]  # type: ignore[attr-defined]
            end = max(first, min(min(inner), last + 1) - 1)
            if min(inner) <= node.lineno or any(line == node.lineno for line in inner):
                self.add(
                    first, last, "statement", loops, [node]
                )  # a compound statement on one line
                continue
            end = self._trim(first, end)
            within = loops
            if isinstance(node, _LOOPS):
                within = (
                    *loops,
                    Loop(
                        first,
                        node.body[0].lineno,
                        node.body[-1].end_lineno or end,
                        _counts(node),
                    ),
                )
            self.add(
                first,
                end,
                "header",
                within if isinstance(node, _LOOPS) else loops,
                _header_parts(node),
            )
            for number, block in enumerate(blocks):
                self.read(block, within if number == 0 else loops)
            for handler in getattr(node, "handlers", ()):
                if handler.lineno < handler.body[0].lineno:
                    self.add(
                        handler.lineno,
                        handler.lineno,
                        "header",
                        loops,
                        [handler.type] if handler.type else [],
                    )
            for case in getattr(node, "cases", ()):
                first, last = (
                    case.pattern.lineno,
                    max(case.pattern.end_lineno, getattr(case.guard, "end_lineno", 0)),
                )
                if last < case.body[0].lineno:
                    self.add(
                        first,
                        last,
                        "header",
                        loops,
                        [case.pattern, *([case.guard] if case.guard else [])],
                    )

    def _trim(self, first: int, end: int) -> int:
        """Leave comments, blank lines and ``else:`` between a header and its body out."""
        while end > first and (not (text := self.text[end - 1].strip()) or text.startswith("#")):
            end -= 1
        return end

    def add(
        self, first: int, last: int, kind: str, loops: tuple[Loop, ...], nodes: list[ast.AST]
    ) -> None:
        """Enter one statement, together with what already stands on its first line."""
        paths, reads, binds = _names(nodes)
        before = self.lines.get(first)
        if before is not None:
            before.end_line = max(last, before.end_line)
            before.source = self._cut(before.line, before.end_line)
            before.paths += tuple(path for path in paths if path not in before.paths)
            before.reads += tuple(name for name in reads if name not in before.reads)
            before.binds += tuple(name for name in binds if name not in before.binds)
            before.shares_line += 1
            statement = before
        else:
            shares = 1 + sum(
                len(block)
                for node in nodes
                if isinstance(node, ast.stmt)
                for block in _blocks(node)
            )
            source = self._cut(first, last)
            indent = len(self.text[first - 1]) - len(self.text[first - 1].lstrip())
            statement = Statement(
                first, last, source, kind, loops, paths, reads, binds, shares, indent=indent
            )
        for line in range(first, last + 1):
            self.lines[line] = statement

    def _cut(self, first: int, last: int) -> str:
        return textwrap.dedent("\n".join(self.text[first - 1 : last])).strip()


def _counts(node: ast.stmt) -> bool:
    """Whether a loop takes the numbers of a range, one after the other, under a name."""
    if not (
        isinstance(node, ast.For)
        and isinstance(node.target, ast.Name)
        and isinstance(node.iter, ast.Call)
    ):
        return False
    return isinstance(node.iter.func, ast.Name) and node.iter.func.id == "range"


def _start(node: ast.stmt) -> int:
    """First line of a statement, decorators included."""
    return min(
        [node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))]
    )


def _blocks(node: ast.AST) -> list[list[ast.stmt]]:
    """The bodies of a compound statement that run in the same frame."""
    if isinstance(node, _SCOPES):
        return []
    found = [
        getattr(node, name)
        for name in ("body", "orelse", "finalbody")
        if isinstance(getattr(node, name, None), list)
    ]
    found += [handler.body for handler in getattr(node, "handlers", ())]
    found += [case.body for case in getattr(node, "cases", ())]
    return [block for block in found if block]


def _header_parts(node: ast.stmt) -> list[ast.AST]:
    """What a header evaluates and binds: its iterable, test, context managers, targets, decorators."""
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return [*node.decorator_list, ast.Name(node.name, ast.Store())]
    parts: list[ast.AST] = []
    for name in ("target", "iter", "test", "subject"):
        if (part := getattr(node, name, None)) is not None:
            parts.append(part)
    return [*parts, *getattr(node, "items", ())]


def _names(nodes: list[ast.AST]) -> tuple[tuple[Path, ...], tuple[str, ...], tuple[str, ...]]:
    """The dotted names in some nodes: their paths, the texts of those read, and the names bound."""
    paths: dict[Path, None] = {}
    reads: dict[str, None] = {}
    binds: dict[str, None] = {}

    def visit(node: ast.AST) -> None:
        path = _path(node)
        if path is not None:
            paths[path] = None
            if isinstance(node.ctx, ast.Store) and isinstance(node, ast.Name):  # type: ignore[attr-defined]
                binds[node.id] = None
            else:
                reads[ast.unparse(node)] = None
            return
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                binds[(alias.asname or alias.name).split(".")[0]] = None
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            reads[node.target.id] = None
        for child in ast.iter_child_nodes(node):
            visit(child)

    for node in nodes:
        visit(node)
    return tuple(paths), tuple(reads), tuple(binds)


def _path(node: ast.AST) -> Path | None:
    """``self.nets["critic"]`` as a path; ``None`` for anything that is more than names and constants."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        inner = _path(node.value)
        return None if inner is None else (*inner, node.attr)
    if isinstance(node, ast.Subscript):
        try:
            key = ast.literal_eval(node.slice)
            hash(key)
        except (ValueError, TypeError):
            return None
        inner = _path(node.value)
        return None if inner is None else (*inner, Subscript(key))
    return None
