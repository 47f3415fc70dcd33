"""INbreast: full-field digital mammograms with outlined findings and BI-RADS assessments."""

from __future__ import annotations

import csv
import operator
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from ..formats._reading import reading
from ..formats._rois import draw_contours, read_contours
from ..formats.dicom import dicom_shape, read_dicom
from ._birads import birads_class
from ._cases import Cases, find_root, refuse_partial, shown, visible_files

_NAME = re.compile(r"(?P<id>\d+)_(?P<patient>[0-9a-fA-F]+)_MG_.+")
_COLUMNS = {"File Name", "Bi-Rads"}
# Beginnings of the regions' names, which vary in spelling; the kinds first here are drawn last.
_KINDS: dict[str, tuple[str, ...]] = {
    "mass": ("mass",),
    "calcification": ("calc",),
    "cluster": ("cluster",),
    "spiculated region": ("spic", "espic"),
    "distortion": ("dist",),
    "asymmetry": ("as",),
    "other": ("",),
}


class INbreast(Cases):
    """INbreast, 410 mammograms of 115 cases.

    Source: Moreira et al., "INbreast: toward a full-field digital mammographic database", Academic Radiology 19:236,
    2012, doi 10.1016/j.acra.2011.09.014. Licence: the terms on which you received the set; cite the article.

    Layout as distributed (`INbreast Release 1.0`): `AllDICOMs/20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm`, the second
    part of a name being the patient; `AllXML/20586908.xml`, the contours, which normal images lack; and `INbreast.csv`
    with semicolons between File Name, ACR, Bi-Rads and others. Of the `.xls` beside it save a CSV if there is none.

    Known properties: classes are BI-RADS assessments, not biopsies, which the table lacks: 1 is normal, 2 and 3 benign,
    4 to 6 malignant, and 0 would be left out; `birads` has the assessments themselves. The range of the stored bits
    becomes [0, 1], whatever the largest value in a file. Some findings are outlined by a single pixel; a smaller `size`
    keeps one pixel of each kind of finding, see `tiny`. Names of regions vary in spelling; contours of the pectoral
    muscle are not drawn. Split by group, the patient.

    Args:
        root: the folder with `AllDICOMs/`, `AllXML/` and `INbreast.csv`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are, about 4000 pixels
            high.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept fewer images than published, and images without their contours, whose masks are empty.

    Items:
        image (1, H, W) float32 in [0, 1]; mask (1, H, W) bool, True in any contour; label_map (1, H, W) int64, the kind
        of finding as `structures` numbers it, where several lie over one another the least number; label (0 benign, 1
        malignant, 2 normal); id such as "20586908"; group such as "6c613a14b80a8591".

    Attributes:
        birads: BI-RADS assessment of each image, such as "4a".
        skipped: the reason for each image left out, by its id.
        structures: name of each number of a label map.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: pydicom is not installed.
        ValueError: the layout or the count differs from the published one, the table and the files do not name the same
            images, contours are missing or have no image, or a header, contour or assessment is unreadable.

    Example:
        >>> from sslmed.data import INbreast
        >>> INbreast.classes, INbreast.structures[1], INbreast.published["images"]
        (('benign', 'malignant', 'normal'), 'mass', 410)
    """

    classes: tuple[str, ...] = ("benign", "malignant", "normal")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"images": 410})
    structures: ClassVar[Mapping[int, str]] = MappingProxyType(dict(enumerate(("background", *_KINDS))))

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds the images of INbreast."""
        return (folder / "AllDICOMs").exists()

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.root: Path = find_root(root, "INbreast", "AllDICOMs/, AllXML/ and INbreast.csv", _fits)
        images, patients = _images(self.root / "AllDICOMs")
        self.tables: list[Path] = [self.root / "INbreast.csv"]
        birads = _birads(self.root)
        unknown = sorted(set(images) - set(birads))
        if unknown:
            raise ValueError(f"{self.root / 'INbreast.csv'}: no row for the images {shown(unknown)}")
        if not (self.root / "AllXML").is_dir():
            raise ValueError(f"{self.root / 'AllXML'}: the folder is missing")
        contours = {path.stem: path for path in visible_files(self.root / "AllXML") if path.suffix.lower() == ".xml"}
        if not allow_partial:
            refuse_partial("INbreast", self.published, {"images": len(images)}, sorted(set(birads) - set(images)))
            if stray := sorted(set(contours) - set(images)):
                raise ValueError(f"{self.root / 'AllXML'}: contours without their image {shown(stray)}")
        classes = {name: birads_class(birads[name]) for name in images}
        self.skipped: dict[str, str] = {
            name: f"BI-RADS {birads[name]}" for name, found in classes.items() if found is None
        }
        ids = [name for name in images if classes[name] is not None]
        if not ids:
            raise ValueError(f"{self.root} holds no images")
        bare = [name for name in ids if name not in contours and classes[name] != "normal"]
        if bare and not allow_partial:
            raise ValueError(f"{self.root / 'AllXML'}: no contours for {shown(bare)}, which are not normal")
        self.birads: list[str] = [birads[name] for name in ids]
        super().__init__(
            [images[name] for name in ids],
            [[contours[name]] if name in contours else [] for name in ids],
            ids=ids,
            labels=[self.classes.index(classes[name] or "") for name in ids],
            groups=[patients[name] for name in ids],
            size=size,
            fit=fit,
        )

    def check(self) -> None:
        """Raise unless each image has one frame, by its header, and contours are readable."""
        for image, contours in zip(self._images, self._masks or (), strict=True):
            _one_frame(image)
            for path in contours:
                read_contours(path)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(len(self.ids))[operator.index(index)]
        image = read_dicom(self._images[i])[0]
        contours = [
            (_structure(name), points)
            for path in (self._masks or [])[i]
            for name, points in read_contours(path)
            if not name.lower().startswith("pectoral")
        ]
        contours.sort(key=lambda contour: -contour[0])
        label_map = self._sizing.mask(draw_contours(contours, (image.shape[1], image.shape[2])), self.ids[i])
        return {
            "image": self._sizing.image(image),
            "mask": label_map > 0,
            "label_map": label_map.long(),
            "label": (self.labels or [])[i],
            "id": self.ids[i],
            "group": (self.groups or [])[i],
        }


def _fits(folder: Path) -> bool:
    return (folder / "AllDICOMs").is_dir()


def _structure(name: str) -> int:
    """Number a region's kind by its name."""
    return next(k for k, starts in enumerate(_KINDS.values(), 1) if name.strip().lower().startswith(starts))


def _images(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Return file and patient of each image, by id."""
    images: dict[str, Path] = {}
    patients: dict[str, str] = {}
    for path in visible_files(folder):
        if path.suffix.lower() != ".dcm":
            continue
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise ValueError(f"{path}: a name such as 20586908_6c613a14b80a8591_MG_R_CC_ANON.dcm was expected")
        if match["id"] in images:
            raise ValueError(f"{path}: a second file of image {match['id']}, beside {images[match['id']].name}")
        images[match["id"]], patients[match["id"]] = path, match["patient"].lower()
    return images, patients


def _birads(root: Path) -> dict[str, str]:
    """Return the assessment of each image, by id."""
    path = root / "INbreast.csv"
    if not path.is_file():
        raise ValueError(f"{path}: the file is missing; if there is an INbreast.xls, save it as CSV with semicolons")
    with reading(path, "CSV table of UTF-8 text"), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter=";")
        head, rows = reader.fieldnames, list(reader)
    if not set(head or ()) >= _COLUMNS:
        raise ValueError(f"{path}: columns File Name and Bi-Rads with semicolons between were expected, got {head}")
    cells = [((row["File Name"] or "").strip(), (row["Bi-Rads"] or "").strip()) for row in rows]
    table = {name: assessment for name, assessment in cells if name}
    for name, assessment in table.items():
        try:
            birads_class(assessment)
        except ValueError as error:
            raise ValueError(f"{path}: image {name} has Bi-Rads {assessment!r}") from error
    return table


def _one_frame(path: Path) -> tuple[int, int]:
    frames, height, width = dicom_shape(path)
    if frames != 1:
        raise ValueError(f"{path}: one frame was expected, got {frames}")
    return height, width
