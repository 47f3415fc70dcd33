"""BrEaST: breast ultrasound of 256 patients with masks in three classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ..formats._tables import read_xlsx
from ._cases import Cases, find_root, refuse_partial, shown
from ._pictures import pictures

_SHEET = "BrEaST-Lesions-USG-clinical-data"
_FOLDER = "BrEaST-Lesions_USG-images_and_masks"
_IMAGE, _TUMOUR, _OTHER, _CLASS = (
    "Image_filename",
    "Mask_tumor_filename",
    "Mask_other_filename",
    "Classification",
)


class BrEaST(Cases):
    """BrEaST (Breast-Lesions-USG), 256 images of as many patients, diagnoses from biopsy or follow-up.

    Source: Pawłowska et al., "Curated benchmark dataset for ultrasound based breast lesion analysis", Scientific Data
    11:148, 2024, doi 10.1038/s41597-024-02984-z; data at The Cancer Imaging Archive, doi 10.7937/9WKK-Q141. Licence:
    CC BY 4.0; cite both.

    Layout as downloaded: `BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx`, whose sheet has a row for each case with
    Image_filename, Mask_tumor_filename, Mask_other_filename (several joined by "&") and Classification among others;
    beside it the unpacked `BrEaST-Lesions_USG-images_and_masks` (or with the date at its end) with `case001.png`,
    `case001_tumor.png`, `case001_other1.png`. Published counts: 154 benign, 98 malignant, 4 normal.

    Known properties: "other" masks outline further abnormal areas, which the case's class need not describe; normals
    have no mask, theirs is empty here. Only four normals: too few for a class of their own.

    Args:
        root: the folder with the XLSX sheet and the images' folder, or its parent.
        include_other: merge the masks of other abnormal areas too.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept fewer images than published; rows of the sheet without an image are left out.

    Items:
        image (1, H, W) float32 in [0, 1], mask (1, H, W) bool, label (0 benign, 1 malignant, 2 normal), id such as
        "case001", group, the patient, which is the id.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: openpyxl is not installed.
        ValueError: the layout or the counts differ from the published ones, an image has no mask or a file no row, a
            mask has another size than its image, or a header or the sheet is unreadable.

    Example:
        >>> from sslmed.data import BrEaST
        >>> BrEaST.classes, sum(BrEaST.published.values())
        (('benign', 'malignant', 'normal'), 256)
    """

    classes: tuple[str, ...] = ("benign", "malignant", "normal")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"benign": 154, "malignant": 98, "normal": 4})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds the sheet of BrEaST."""
        return bool(_sheets(folder))

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        include_other: bool = False,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.root: Path = find_root(root, "BrEaST", f"{_SHEET}*.xlsx and {_FOLDER}/", lambda f: bool(_sheets(f)))
        sheet = _only(_sheets(self.root), f"{self.root} holds several sheets: ")
        self.tables: list[Path] = [sheet]
        # Letter case may differ between the sheet and a file.
        files = {path.name.casefold(): path for path in pictures(_images(self.root), (".png",))}
        images: list[Path] = []
        masks: list[list[Path]] = []
        labels: list[int] = []
        missing: list[str] = []
        known: set[str] = set()
        for row in read_xlsx(sheet, (_IMAGE, _TUMOUR, _OTHER, _CLASS)):
            name, label = row[_IMAGE], row[_CLASS].lower()
            tumours, others = _names(row[_TUMOUR]), _names(row[_OTHER])
            if not name or label not in self.classes or (not tumours and label != "normal"):
                raise ValueError(
                    f"{sheet}: {name or 'a row'} has {_CLASS} {row[_CLASS]!r} and {_TUMOUR} {row[_TUMOUR]!r}; "
                    "benign or malignant with a mask, or normal was expected"
                )
            if name.casefold() in known:
                raise ValueError(f"{sheet}: {name} occurs twice")
            known.update(part.casefold() for part in (name, *tumours, *others))
            image = files.get(name.casefold())
            if image is None:
                missing.append(name)
                continue
            if absent := [mask for mask in (*tumours, *others) if mask.casefold() not in files]:
                raise ValueError(f"{image}: an image without its mask {shown(absent)}")
            images.append(image)
            labels.append(self.classes.index(label))
            masks.append([files[m.casefold()] for m in (*tumours, *(others if include_other else ()))])
        if unknown := [path.name for name, path in files.items() if name not in known]:
            raise ValueError(f"{_images(self.root)}: {shown(unknown)} not in {sheet.name}")
        if not allow_partial:
            counts = {name: labels.count(k) for k, name in enumerate(self.classes)}
            refuse_partial("BrEaST", self.published, counts, missing)
        ids = [image.stem for image in images]
        super().__init__(images, masks, ids=ids, labels=labels, groups=ids, size=size, fit=fit)


def _sheets(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_SHEET}*.xlsx"))


def _images(root: Path) -> Path:
    """Find the folder of the images; unpacking may leave a folder in a folder."""
    inner = [path for path in sorted(root.glob(f"{_FOLDER}*")) if path.is_dir()]
    found = [
        path
        for path in [root, *inner, *(path / _FOLDER for path in inner)]
        if path.is_dir() and any(path.glob("case*.png"))
    ]
    if not found:
        raise ValueError(f"{root}: no folder {_FOLDER} with case001.png and so on; unpack it beside the sheet")
    return _only(found, f"{root} holds several folders of images: ")


def _only(found: list[Path], several: str) -> Path:
    if len(found) > 1:
        raise ValueError(several + shown(str(path) for path in found) + "; keep one")
    return found[0]


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split("&") if name.strip()]
