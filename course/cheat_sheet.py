"""The cheat sheet: one task a row, in stock PyTorch, torch.func, fnlib and JAX."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from fnlib.teaching import records
from fnlib.teaching.records import Record

COURSE = Path(__file__).parent
FILE = "cheat_sheet.toml"


@dataclass(frozen=True)
class Cell:
    """One task in one column.

    Attributes:
        code: what is printed.
        proof: code that a test runs after it, in variables of its own.
    """

    code: str
    proof: str = ""


@dataclass(frozen=True)
class Column:
    """One way to write it.

    Attributes:
        key: its name in the rows.
        title: its heading.
        given: code that makes what the page says is given.
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
        records.ContentError: a row lacks a column, or a field is unknown; the message says where.

    Example:
        >>> columns, rows = cheat_sheet()
        >>> [column.key for column in columns], rows[1].cells["fnlib"].code
        (['stock', 'func', 'fnlib', 'jax'], 'out = model(x)')
    """
    tables = records.read(FILE, "column", "row", root=COURSE)
    columns = [record.make(Column) for record in tables["column"]]
    keys = [column.key for column in columns]
    return columns, [_row(record, keys) for record in tables["row"]]


def _row(record: Record, columns: list[str]) -> Row:
    missing = [column for column in columns if not isinstance(record.fields.get(column), dict)]
    if missing:
        raise record.wrong(f"write [row.{missing[0]}]; each row has a cell for each column.")
    cells = {
        column: Record(f"{record.place}, {column}", record.fields[column]).make(Cell)
        for column in columns
    }
    rest = {name: value for name, value in record.fields.items() if name not in columns}
    return Record(record.place, rest).make(Row, cells=cells)
