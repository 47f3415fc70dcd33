"""Tables beside the images of public sets: CSV and XLSX as rows of text."""

from __future__ import annotations

import csv
import importlib
import warnings
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..._compat import install_hint
from ._reading import reading

Rows = list[dict[str, str]]


def read_csv(path: Path, columns: Sequence[str]) -> Rows:
    """Read a CSV table with (at least) these columns; absent cells are "".

    Raises:
        ValueError: the file is no UTF-8 text or no CSV, lacks a column or has it twice, has no rows, or a row longer
            than its header.
    """
    with reading(path, "CSV table of UTF-8 text"), path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.reader(file, strict=True))
    return _rows(path, columns, [lines])


def read_xlsx(path: Path, columns: Sequence[str]) -> Rows:
    """Read the first sheet of a workbook that has these columns in its first row; whole numbers lose their ".0".

    Raises:
        ImportError: openpyxl is not installed.
        ValueError: the file is no workbook or damaged, no sheet has the columns, or the sheet has one of them
            twice or no rows.
    """
    try:
        openpyxl: Any = importlib.import_module("openpyxl")
    except ImportError as error:
        raise ImportError(f"{path}: XLSX tables need openpyxl. {install_hint('medical')}") from error
    with reading(path, "XLSX workbook"), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore", UserWarning)  # about styles and validations that do not matter here
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        sheets = [[[_text(cell) for cell in row] for row in _values(sheet)] for sheet in book.worksheets]
    return _rows(path, columns, sheets)


def _values(sheet: Any) -> Iterable[Sequence[Any]]:
    sheet.reset_dimensions()  # some programs write wrong ones, which would cut the sheet
    return sheet.iter_rows(values_only=True)  # type: ignore[no-any-return]


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _rows(path: Path, columns: Sequence[str], sheets: Sequence[Sequence[Sequence[str]]]) -> Rows:
    """Turn the first of the sheets that has the columns into rows, without its blank lines."""
    for lines in sheets:
        head = list(lines[0]) if lines else []
        if set(columns) <= set(head):
            break
    else:
        several = ", ".join(columns[:-1])
        wanted = f"columns {several} and {columns[-1]} were" if several else f"a column {columns[-1]} was"
        # As spreadsheets write CSV in countries whose numbers have a comma.
        hint = "; separate the columns by commas" if len(head) == 1 and ";" in head[0] else ""
        raise ValueError(f"{path}: {wanted} expected, got {head}{hint}")
    if twice := [name for name in columns if head.count(name) > 1]:
        raise ValueError(f"{path}: more than one column is called {', '.join(twice)}")
    rows: Rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not any(line):
            continue
        if any(line[len(head) :]):
            raise ValueError(f"{path}: row {number} has more cells than the header: {list(line)}")
        rows.append(dict(zip_longest(head, line[: len(head)], fillvalue="")))
    if not rows:
        raise ValueError(f"{path}: the table is empty")
    return rows
