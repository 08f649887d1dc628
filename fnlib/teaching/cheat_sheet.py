"""The cheat sheet: one task a row, in stock PyTorch, torch.func, fnlib and JAX."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass

from fnlib.teaching.records import CONTENT, ContentError

FILE = "cheat_sheet.toml"


@dataclass(frozen=True)
class Cell:
    """One task in one column.

    Attributes:
        code: what is printed.
        before: code that a test runs before it.
        proof: code that a test runs after it.
    """

    code: str
    before: str = ""
    proof: str = ""


@dataclass(frozen=True)
class Column:
    """One way to write it.

    Attributes:
        key: its name in the rows.
        title: its heading.
        given: code that a test runs before the first row.
    """

    key: str
    title: str
    given: str = ""


@dataclass(frozen=True)
class Row:
    """One task.

    Attributes:
        key: its name.
        task: what is done, in a few words.
        cells: column -> its code.
    """

    key: str
    task: str
    cells: dict[str, Cell]


@functools.lru_cache(maxsize=1)
def cheat_sheet() -> tuple[list[Column], list[Row]]:
    """Read the columns and the rows, in order.

    Returns:
        The columns and the rows; each row has a cell for each column.

    Raises:
        ContentError: a row lacks a column, or a field is unknown.

    >>> columns, rows = cheat_sheet()
    >>> [column.key for column in columns], rows[1].cells["fnlib"].code
    (['stock', 'func', 'fnlib', 'jax'], 'out = model(x)')
    """
    tables = tomllib.loads((CONTENT / FILE).read_text(encoding="utf-8"))
    try:
        columns = [Column(**column) for column in tables["column"]]
        keys = [column.key for column in columns]
        rows = [_row(row, keys) for row in tables["row"]]
    except (KeyError, TypeError) as problem:
        raise ContentError(f"{FILE}: {problem}.") from problem
    return columns, rows


def _row(fields: dict[str, object], columns: list[str]) -> Row:
    key, task = str(fields["key"]), str(fields["task"])
    if set(fields) != {"key", "task", *columns}:
        wanted = ", ".join(columns)
        raise ContentError(f'{FILE}, row "{key}": it needs a key, a task and {wanted}.')
    cells = {}
    for column in columns:
        cell = Cell(**fields[column])  # type: ignore[arg-type]
        cells[column] = Cell(cell.code.strip("\n"), cell.before, cell.proof)
    return Row(key, task, cells)
