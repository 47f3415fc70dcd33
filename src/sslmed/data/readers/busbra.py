"""BUS-BRA: breast ultrasound of four scanners with masks and pathology, several views a case."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ..formats._tables import read_csv
from ._cases import Cases, find_root, refuse_partial, shown
from ._pictures import pictures

_COLUMNS = ("ID", "Case", "Pathology")


class BUSBRA(Cases):
    """BUS-BRA, 1875 images of 1064 patients with biopsy-proven lesions.

    Source: Gómez-Flores, Gregorio-Calas, Pereira, "BUS-BRA: A breast ultrasound dataset for assessing computer-aided
    diagnosis systems", Medical Physics 51:3110, 2024, doi 10.1002/mp.16812; data on Zenodo. Licence: the enclosed
    LICENSE.txt, which permits use on condition that the article is cited.

    Layout as downloaded (`BUSBRA`): `Images/bus_0001-l.png`, `Masks/mask_0001-l.png`, and `bus_data.csv` with ID, Case,
    Histology, Pathology, BIRADS, Device, Width, Height, Side and BBOX. Published counts: 1268 benign and 607 malignant
    images.

    Known defects: the views of a patient (`-l`, `-r`, `-s`) are separate images, so split by group, which is the Case;
    there are no normals.

    Args:
        root: the folder with `Images/`, `Masks/` and `bus_data.csv`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept another number of images than published.

    Attributes:
        devices: the scanner of each case, as the table's column Device names it; None where there is no such column.

    Items:
        image (1, H, W) float32 in [0, 1], mask (1, H, W) bool, label (0 benign, 1 malignant), id such as "bus_0001-l",
        group such as "1".

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: the layout or the counts differ from the published ones, the table and the files do not name the
            same images, a mask has another size than its image, or a header or the table is unreadable.

    Example:
        >>> from sslmed.data import BUSBRA
        >>> BUSBRA.classes, sum(BUSBRA.published.values())
        (('benign', 'malignant'), 1875)
    """

    classes: tuple[str, ...] = ("benign", "malignant")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"benign": 1268, "malignant": 607})

    title: ClassVar[str] = "BUS-BRA"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds the table of BUS-BRA."""
        return (folder / "bus_data.csv").exists()

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.root: Path = find_root(root, "BUS-BRA", "Images/, Masks/ and bus_data.csv", _fits)
        self.tables: list[Path] = [self.root / "bus_data.csv"]
        table = _table(self.tables[0])
        ids = list(table)
        labels = [self.classes.index(table[name]["Pathology"]) for name in ids]
        if not allow_partial:
            counts = {name: labels.count(k) for k, name in enumerate(self.classes)}
            refuse_partial("BUS-BRA", self.published, counts, [])
        images = _files(self.root / "Images", "bus_", ids)
        masks = _files(self.root / "Masks", "mask_", ids)
        groups = [table[name]["Case"] for name in ids]
        known = all(row.get("Device") for row in table.values())
        self.devices: list[str] | None = (
            [table[name]["Device"].partition("@")[0].strip() for name in ids] if known else None
        )
        super().__init__(images, [[mask] for mask in masks], ids=ids, labels=labels, groups=groups, size=size, fit=fit)


def _fits(folder: Path) -> bool:
    return (folder / "bus_data.csv").is_file()


def _table(path: Path) -> dict[str, dict[str, str]]:
    rows = read_csv(path, _COLUMNS)
    for row in rows:
        if row["Pathology"] not in BUSBRA.classes or not row["Case"]:
            raise ValueError(
                f"{path}: {row['ID']} has Case {row['Case']!r} and Pathology {row['Pathology']!r}; "
                "a case and benign or malignant were expected"
            )
    table = {row["ID"]: row for row in rows}
    if len(table) != len(rows):
        raise ValueError(f"{path}: {len(rows) - len(table)} IDs occur twice")
    return table


def _files(folder: Path, prefix: str, ids: list[str]) -> list[Path]:
    """Return the file of each ID; raise where the folder lacks one or holds one that the table lacks."""
    wanted = {f"{prefix}{name.removeprefix('bus_')}.png" for name in ids}
    found = {path.name for path in pictures(folder, (".png",))}
    if missing := sorted(wanted - found):
        raise ValueError(f"{folder}: no file for {shown(missing)}, named in bus_data.csv")
    if unknown := sorted(found - wanted):
        raise ValueError(f"{folder}: {shown(unknown)} not in bus_data.csv")
    return [folder / f"{prefix}{name.removeprefix('bus_')}.png" for name in ids]
