"""CBIS-DDSM: scanned film mammograms with a mask for each abnormality and its pathology."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import ClassVar

import torch

from ... import _checks
from ..formats._sizes import resize_labels
from ..formats._tables import read_csv
from ..formats.dicom import dicom_shape, read_dicom
from ._cases import Cases, find_root, refuse_partial, shown

_KINDS = {"mass": "mass", "calcification": "calc"}
_PARTS = {"training": "train", "test": "test"}
_COLUMNS = ("patient_id", "assessment", "pathology", "image file path", "ROI mask file path")
_PATHOLOGY = {"BENIGN": 0, "BENIGN_WITHOUT_CALLBACK": 0, "MALIGNANT": 1}


class CBISDDSM(Cases):
    """Curated Breast Imaging Subset of DDSM (CBIS-DDSM), 3103 mammograms of 1566 patients, 3568 abnormalities.

    Source: Lee et al., "A curated mammography data set for use in computer-aided detection and diagnosis research",
    Scientific Data 4:170177, 2017, doi 10.1038/sdata.2017.177; data doi 10.7937/K9/TCIA.2016.7O02S9CY. Licence: CC BY
    3.0.

    Layout as downloaded: a folder `CBIS-DDSM` with a folder for each mammogram, `Mass-Training_P_00001_LEFT_CC`, and
    for each abnormality, `Mass-Training_P_00001_LEFT_CC_1`, in which lie a mask of the whole image and a cropped image,
    in either style of the data retriever's folder names; and four tables, to be saved beside or in `CBIS-DDSM`, such as
    `mass_case_description_train_set.csv` and `calc_case_description_test_set.csv`. Published counts: 2458 training and
    645 test images.

    Known defects: file names in the tables are not those of the download, and a row's mask and cropped image may be
    exchanged, so files are found by the folder and told apart by their size; some masks have another size than their
    image, by 15 % even, and are resized to it by the nearest pixel, see `resized`; folders, and patients in DICOM
    headers, are others for each view, so split by group, the table's patient, over masses and calcifications together.
    There are no normals. An image is malignant if one of its abnormalities is; their masks are merged.

    Args:
        root: the folder with the tables, or its parent.
        part: "training", "test" or "both", the published parts.
        kind: "mass", "calcification" or "both". An image with both kinds may lie in both tables, as two images.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: leave out images that were not downloaded, and accept that tables are missing.

    Items:
        image (1, H, W) float32 in [0, 1], mask (1, H, W) bool, label (0 benign, 1 malignant, by pathology), id such as
        "Mass-Training_P_00001_LEFT_CC", group such as "P_00001".

    Attributes:
        birads: the greatest BI-RADS assessment of each image's abnormalities, "0" to "5"; `birads_class` maps it.
        resized: ids of the images whose mask has another size.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ImportError: pydicom is not installed.
        ValueError: the layout or the counts differ from the published ones, a table or file is missing, a folder holds
            no mask, or a header is unreadable.

    Example:
        >>> from sslmed.data import CBISDDSM
        >>> CBISDDSM.classes, sum(CBISDDSM.published.values())
        (('benign', 'malignant'), 3103)
    """

    classes: tuple[str, ...] = ("benign", "malignant")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"training": 2458, "test": 645})

    title: ClassVar[str] = "CBIS-DDSM"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds a table of CBIS-DDSM."""
        return any(folder.glob("*_case_description_*_set.csv"))

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        part: str = "both",
        kind: str = "both",
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.part: str = _checks.choice("part", part, (*_PARTS, "both"))
        self.kind: str = _checks.choice("kind", kind, (*_KINDS, "both"))
        parts = [name for name in _PARTS if part in (name, "both")]
        self.root: Path = find_root(root, "CBIS-DDSM", "tables such as mass_case_description_train_set.csv", _fits)
        folder = _images_folder(self.root)
        self.tables: list[Path] = [
            path for known in _KINDS for name in parts if (path := _table(self.root, known, name)).is_file()
        ]
        cases = {name: _cases(self.root, name, kind, allow_partial) for name in parts}
        if kind == "both" and not allow_partial:
            found = {name: len(cases[name]) for name in parts}
            refuse_partial("CBIS-DDSM", {name: self.published[name] for name in parts}, found, [])
        listed = {name: case for name in parts for name, case in cases[name].items()}
        missing = [name for name, case in listed.items() if not all((folder / x).is_dir() for x in (name, *case.masks))]
        if missing and not allow_partial:
            raise ValueError(
                f"{folder} lacks {len(missing)} of {len(listed)} images or their masks: {shown(missing)}. Complete the "
                "download, or pass allow_partial=True"
            )
        listed = {name: case for name, case in listed.items() if name not in set(missing)}
        if not listed:
            raise ValueError(f"{folder} holds no images")
        images = [_image(folder / name) for name in listed]
        self._shapes = [shape for _, shape in images]
        masks = [
            [_mask(folder / x, shape) for x in case.masks]
            for case, shape in zip(listed.values(), self._shapes, strict=True)
        ]
        self.birads: list[str] = [max(case.birads) for case in listed.values()]
        self.resized: list[str] = [
            name
            for name, found, shape in zip(listed, masks, self._shapes, strict=True)
            if any(other != shape for _, other in found)
        ]
        super().__init__(
            [path for path, _ in images],
            [[path for path, _ in found] for found in masks],
            ids=list(listed),
            labels=[max(case.labels) for case in listed.values()],
            groups=[case.patient for case in listed.values()],
            size=size,
            fit=fit,
        )

    def check(self) -> None:
        """Do nothing more: sizes were read to tell masks from cropped images."""

    def pixels(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode case i: image (1, H, W) float32 in [0, 1], and its merged masks (1, H, W) bool."""
        image = read_dicom(self._images[i])[0]
        merged = torch.zeros_like(image, dtype=torch.bool)
        for path in (self._masks or [])[i]:
            mask, _ = resize_labels(read_dicom(path)[0] > 0, (image.shape[1], image.shape[2]))
            merged |= mask
        return image, merged


@dataclass
class _Case:
    """What the tables say of an image: a class, an assessment and a folder of masks for each abnormality."""

    patient: str
    labels: list[int] = field(default_factory=list)
    birads: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)


def _fits(folder: Path) -> bool:
    return any(_table(folder, kind, part).is_file() for kind in _KINDS for part in _PARTS)


def _table(folder: Path, kind: str, part: str) -> Path:
    return folder / f"{_KINDS[kind]}_case_description_{_PARTS[part]}_set.csv"


def _images_folder(root: Path) -> Path:
    """Find the folder of the images: the tables' own, or one in it, perhaps in a `manifest-...` of the retriever."""
    for folder in (root, root / "CBIS-DDSM", *sorted(root.glob("manifest-*/CBIS-DDSM"))):
        if folder.is_dir() and any(folder.glob("*-*_P_*")):
            return folder
    raise ValueError(f"{root}: no folder CBIS-DDSM with folders such as Mass-Training_P_00001_LEFT_CC")


def _cases(root: Path, part: str, kind: str, allow_partial: bool) -> dict[str, _Case]:
    """Gather the rows of a part's tables by image."""
    cases: dict[str, _Case] = {}
    for name in _KINDS:
        path = _table(root, name, part)
        if kind not in (name, "both") or (allow_partial and not path.is_file()):
            continue
        if not path.is_file():
            raise ValueError(f"{path}: the table is missing")
        for row in read_csv(path, _COLUMNS):
            image, masks = (PurePosixPath(row[column].strip()).parts[:1] for column in _COLUMNS[3:])
            if row["pathology"] not in _PATHOLOGY or not (image and masks and row["patient_id"]):
                raise ValueError(f"{path}: a row lacks patient, image, mask or pathology: {list(row.values())}")
            case = cases.setdefault(image[0], _Case(row["patient_id"]))
            case.labels.append(_PATHOLOGY[row["pathology"]])
            case.birads.append(row["assessment"].strip())
            case.masks += [masks[0]] if masks[0] not in case.masks else []
    return cases


def _files(folder: Path) -> list[tuple[Path, tuple[int, int]]]:
    """List the DICOM files at any depth with their sizes."""
    found = []
    for path in sorted(folder.rglob("*.dcm")):
        if path.name.startswith("."):
            continue
        frames, height, width = dicom_shape(path)
        if frames != 1:
            raise ValueError(f"{path}: one frame was expected, got {frames}")
        found.append((path, (height, width)))
    return found


def _image(folder: Path) -> tuple[Path, tuple[int, int]]:
    files = _files(folder)
    if len(files) != 1:
        raise ValueError(f"{folder}: one DICOM file, the mammogram, was expected, got {len(files)}")
    return files[0]


def _mask(folder: Path, shape: Sequence[int]) -> tuple[Path, tuple[int, int]]:
    """Return the mask of a folder: the largest file, and at least half the image on each side."""
    large = [
        (path, found) for path, found in _files(folder) if all(2 * a >= b for a, b in zip(found, shape, strict=True))
    ]
    if not large:
        raise ValueError(f"{folder}: no mask of about {shape[0]} x {shape[1]} pixels (height x width)")
    # A cropped image may be large, but never as large as the mask.
    areas = [height * width for _, (height, width) in large]
    if areas.count(max(areas)) > 1:
        raise ValueError(f"{folder}: several files of {shape[0]} x {shape[1]} pixels; which is the mask?")
    return large[areas.index(max(areas))]
