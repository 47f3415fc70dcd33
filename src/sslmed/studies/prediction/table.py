"""predictions.csv: a row for each frame, appended file by file, from which a stopped prediction resumes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from ..runs import write_csv

COLUMNS = (
    "file",
    "slice",
    "lesion",
    "confidence",
    "area_pixels",
    "area_share",
    "disagreement",
    "uncertainty",
    "mask",
    "sha256",
)


class Table:
    """The rows of the files that are finished.

    All rows of a file are appended at once, after its masks were written, so that only the last ones can be cut.

    Args:
        path: of the CSV; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def groups(self) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """The rows of each file, in the order of the CSV, read one file at a time."""
        if self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as file:
                lines = (line for line in file if line.endswith("\n"))
                for name, rows in groupby(csv.DictReader(lines), key=lambda row: row["file"]):
                    yield name, list(rows)

    def keep(self, names: Iterable[str]) -> None:
        """Write the CSV anew with the rows of some files only, and its head."""
        kept = set(names)
        rows = [row for name, rows in self.groups() if name in kept for row in rows]
        write_csv(self.path, rows, columns=COLUMNS)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append the rows of a finished file."""
        text = io.StringIO()
        csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
