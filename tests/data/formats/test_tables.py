"""Tables beside images: what they hold, and what is wrong with them, told with the file's name."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sslmed.data.formats._tables import read_csv, read_xlsx


def write_xlsx(path: Path, *sheets: list[list[Any]]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for k, lines in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {k}")
        for line in lines:
            sheet.append(line)
    book.save(path)


def test_csv_cells_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a table.csv"
    path.write_text('\ufeffID,Case,Note\n1,ä,"a, b"\n\n2,b\n', encoding="utf-8")
    assert read_csv(path, ("ID", "Case")) == [
        {"ID": "1", "Case": "ä", "Note": "a, b"},
        {"ID": "2", "Case": "b", "Note": ""},
    ]


def test_a_table_of_semicolons_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    path.write_text("image;group\na;1\n")
    message = r"a column image was expected, got \['image;group'\]; separate the columns by commas"
    with pytest.raises(ValueError, match=message):
        read_csv(path, ("image",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ID,Case\n1,Pawe\xb3\n", r"table\.csv: not a readable CSV table of UTF-8 text.* in position 14"),
        (b'ID,Case\n1,"open\n', r"table\.csv: not a readable CSV table"),
        (b"ID,Other\n1,2\n", r"table\.csv: columns ID and Case were expected, got \['ID', 'Other'\]"),
        (b"", r"table\.csv: the file is empty"),
        (b"ID,Case\n\n", r"table\.csv: the table is empty"),
        (b"ID,Case,ID\n1,2,3\n", r"table\.csv: more than one column is called ID"),
        (b"ID,Case\n1,2,3\n", r"table\.csv: row 2 has more cells than the header"),
    ],
)
def test_faulty_csv(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_csv(path, ("ID", "Case"))


def test_xlsx_takes_the_sheet_with_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "sheet.xlsx"
    write_xlsx(
        path,
        [["Column", "Meaning"], ["Image", "its number"]],
        [],
        [["Image", "Type", "Size"], [1, " Benign ", 0.5], [None, None, None], [2.0, None]],
    )
    assert read_xlsx(path, ("Image", "Type")) == [
        {"Image": "1", "Type": "Benign", "Size": "0.5"},
        {"Image": "2", "Type": "", "Size": ""},
    ]
    with pytest.raises(ValueError, match=r"sheet\.xlsx: columns Image and Class were expected"):
        read_xlsx(path, ("Image", "Class"))


def test_faulty_xlsx(tmp_path: Path) -> None:
    path = tmp_path / "sheet.xlsx"
    write_xlsx(path, [["Image", "Type"], *([k, "Benign"] for k in range(2000))])
    whole = path.read_bytes()
    for content in (whole[:2000], b"Image,Type\n1,Benign\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"sheet\.xlsx: not a readable XLSX workbook"):
            read_xlsx(path, ("Image", "Type"))
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(ValueError, match=r"sheet\.xlsx: not a readable XLSX workbook"):
        read_xlsx(path, ("Image", "Type"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("something.txt", "else")
    with pytest.raises(ValueError, match=r"sheet\.xlsx: not a readable XLSX workbook"):
        read_xlsx(path, ("Image", "Type"))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"sheet\.xlsx: the file is empty"):
        read_xlsx(path, ("Image", "Type"))


def test_xlsx_without_openpyxl_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        ImportError,
        match=r"sheet\.xlsx: XLSX tables need openpyxl\. Install it with: python -m pip install .*openpyxl",
    ):
        read_xlsx(tmp_path / "sheet.xlsx", ("Image", "Type"))
