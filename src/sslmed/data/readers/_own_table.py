"""The table beside one's own images: classes and groups by the images' paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .._names import lookalikes, refuse_unread
from ..formats._tables import read_csv
from ._cases import shown, visible_files

NAME, COLUMNS = "cases.csv", ("class", "group")


def read_columns(folder: Path, endings: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the columns class and group of the folder's table, where it has them, in the order of the images.

    What would be read as if it were not there, or as another class or patient, is an error.

    Args:
        folder: where `cases.csv` may lie.
        endings: of each image, by its path without it.

    Raises:
        ValueError: the table is unreadable, is called otherwise, has neither column or one of another name, a cell
            begins or ends with a space, two classes or two groups look alike, an image is absent or there twice, or a
            row is of none.
    """
    path = folder / NAME
    if not path.is_file():
        if others := [file.name for file in visible_files(folder) if file.stem.lower() == Path(NAME).stem]:
            raise ValueError(f"{folder}: {shown(others)} would not be read; save the table as {NAME}")
        return {}
    head = read_csv(path, ("image",))[0]
    refuse_unread(path, head, ("image", *COLUMNS))
    names = [name for name in COLUMNS if name in head]
    if not names:
        raise ValueError(f"{path}: a column class or group was expected beside image, got {list(head)}")
    table = _by_image(path, ("image", *names), endings)
    for name in names:
        missing = [image for image in endings if not table.get(image, {}).get(name)]
        if missing:
            raise ValueError(f"{path}: no {name} for {shown(missing)}")
    columns = {name: [table[image][name] for image in endings] for name in names}
    for name, values in columns.items():
        if alike := lookalikes(values):
            raise ValueError(
                f"{path}: the {name} {alike[0]!r} looks like {alike[1]!r}: spell them alike if they are one, else more "
                "differently"
            )
    return columns


def _by_image(path: Path, columns: tuple[str, ...], endings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the rows by the images' paths without endings."""
    files = {name + ending: name for name, ending in endings.items()}
    table: dict[str, dict[str, str]] = {}
    for row in read_csv(path, columns):
        # "patient 7 " would be another patient than "patient 7".
        if spaced := [row[name] for name in columns if row[name] != row[name].strip()]:
            raise ValueError(f"{path}: {spaced[0]!r} begins or ends with a space")
        image = files.get(row["image"], row["image"])
        if image not in endings:
            raise ValueError(f"{path}: {row['image']!r} is no picture below images/")
        if image in table:
            raise ValueError(f"{path}: {row['image']!r} occurs twice")
        table[image] = row
    return table
