"""UDIAT: breast ultrasound of one scanner with masks in two classes (dataset B)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ..formats._tables import read_xlsx
from ._cases import Cases, find_root, refuse_partial, shown
from ._pictures import pictures

# As others count the same 163 images, among them the benchmark BUSBench.
_COUNTED_ALSO = {"benign": 109, "malignant": 54}


class UDIAT(Cases):
    """UDIAT, known as dataset B or BUS too, 163 images of the UDIAT Diagnostic Centre in Sabadell.

    Source: Yap et al., "Automated breast ultrasound lesions detection using convolutional neural networks", IEEE
    Journal of Biomedical and Health Informatics 22:1218, 2018, doi 10.1109/JBHI.2017.2731873. Terms: given on request,
    after signing the licence agreement of its page at Manchester Metropolitan University.

    Layout as delivered (`BUS`): `original/000001.png`, `GT/000001.png`, and `DatasetB.xlsx` with Image, Type and
    Diagnosis. Published counts: 110 benign, 53 malignant.

    Known defects: some who read the sheet count 109 benign and 54 malignant images; both are taken for the whole set,
    and labels are the sheet's. No patient numbers and no normals.

    Args:
        root: the folder with `original/`, `GT/` and `DatasetB.xlsx`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept fewer images than published; rows of the sheet without an image are left out.

    Items:
        image (1, H, W) float32 in [0, 1], mask (1, H, W) bool, label (0 benign, 1 malignant), id such as "000001".

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: openpyxl is not installed.
        ValueError: the layout or the counts differ from the published ones, an image has no mask or no row or a mask
            no image, a mask has another size than its image, or a header or the sheet is unreadable.

    Example:
        >>> from sslmed.data import UDIAT
        >>> UDIAT.classes, sum(UDIAT.published.values())
        (('benign', 'malignant'), 163)
    """

    classes: tuple[str, ...] = ("benign", "malignant")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"benign": 110, "malignant": 53})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds the sheet of UDIAT."""
        return (folder / "DatasetB.xlsx").exists()

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.root: Path = find_root(root, "UDIAT", "original/, GT/ and DatasetB.xlsx", _fits)
        self.tables: list[Path] = [self.root / "DatasetB.xlsx"]
        table = _table(self.tables[0])
        images = {path.stem: path for path in pictures(self.root / "original", (".png",))}
        masks = {path.stem: path for path in pictures(self.root / "GT", (".png",))}
        for name, path in images.items():
            if name not in masks:
                raise ValueError(f"{path}: an image without its mask GT/{name}.png")
        for name, path in masks.items():
            if name not in images:
                raise ValueError(f"{path}: a mask without its image original/{name}.png")
        if unknown := [name for name in images if name not in table]:
            raise ValueError(f"{self.root / 'original'}: {shown(unknown)} not in DatasetB.xlsx")
        ids = [name for name in table if name in images]
        labels = [table[name] for name in ids]
        counts = {name: labels.count(k) for k, name in enumerate(self.classes)}
        if not allow_partial and counts != _COUNTED_ALSO:
            refuse_partial("UDIAT", self.published, counts, [name for name in table if name not in images])
        super().__init__(
            [images[name] for name in ids],
            [[masks[name]] for name in ids],
            ids=ids,
            labels=labels,
            groups=None,
            size=size,
            fit=fit,
        )


def _fits(folder: Path) -> bool:
    return (folder / "DatasetB.xlsx").is_file()


def _table(path: Path) -> dict[str, int]:
    """Return the class of each image, by its file's name without ending."""
    table: dict[str, int] = {}
    for row in read_xlsx(path, ("Image", "Type")):
        number, kind = row["Image"], row["Type"].lower()
        if not number.isdecimal() or kind not in UDIAT.classes:
            raise ValueError(
                f"{path}: a row has Image {number!r} and Type {row['Type']!r}; "
                "a number and Benign or Malignant were expected"
            )
        name = f"{int(number):06d}"
        if name in table:
            raise ValueError(f"{path}: image {name} occurs twice")
        table[name] = UDIAT.classes.index(kind)
    return table
