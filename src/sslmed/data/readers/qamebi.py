"""QAMEBI: breast ultrasound with masks in two classes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ._cases import Cases, find_root, refuse_partial
from ._pictures import pictures

# A mask may carry a number of its own, should an image have several.
_NAME = re.compile(r"(?P<number>\d+)\s+(?P<name>\w+)\s+(?P<kind>image|mask|lesion)(\s*\(?\d+\)?)?", re.IGNORECASE)


class QAMEBI(Cases):
    """QAMEBI's breast ultrasound images database (BUID), 232 images of histologically proven lesions.

    Source: Abbasian Ardakani, Mohammadi, Mirza-Aghazadeh-Attari, Acharya, "An open-access breast lesion ultrasound
    image database: Applicable in artificial intelligence studies", Computers in Biology and Medicine 152:106438, 2023,
    doi 10.1016/j.compbiomed.2022.106438; data at qamebi.com. Terms: no licence is stated; cite the article.

    Layout as downloaded: `Benign/1 Benign Image.bmp`, `Benign/1 Benign Mask.tif`, and `Benign/1 Benign Lesion.bmp`, a
    fusion of the two for looking at, which is not read; `Malignant/` alike. Published counts: 109 benign, 123
    malignant.

    Known properties: squares of 590 or 600 pixels as described by others who read the set; no patient numbers and no
    normals. Should an image have several masks, they are merged.

    Args:
        root: the folder with `Benign/` and `Malignant/`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are, of more than one
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept another number of images than published.

    Items:
        image (1, H, W) float32 in [0, 1], mask (1, H, W) bool, label (0 benign, 1 malignant), id such as "1 Benign".

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: the layout or the counts differ from the published ones, an image has no mask or a mask no image, a
            mask has another size than its image, or a header is unreadable.

    Example:
        >>> from sslmed.data import QAMEBI
        >>> QAMEBI.classes, sum(QAMEBI.published.values())
        (('benign', 'malignant'), 232)
    """

    classes: tuple[str, ...] = ("benign", "malignant")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"benign": 109, "malignant": 123})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds images named as in QAMEBI."""
        return any(any(folder.glob(f"{name}/* {name} *.bmp")) for name in ("Benign", "Malignant"))

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.root: Path = find_root(root, "QAMEBI", "Benign/ and Malignant/", _fits)
        found = [
            (label, *case)
            for label, name in enumerate(self.classes)
            for case in _cases_of(self.root / name.capitalize())
        ]
        if not found:
            raise ValueError(f"{self.root} holds no images")
        labels, ids, images, masks = zip(*found, strict=True)
        if not allow_partial:
            wanted = [f"{k} {name.capitalize()}" for name, n in self.published.items() for k in range(1, n + 1)]
            counts = {name: labels.count(k) for k, name in enumerate(self.classes)}
            refuse_partial("QAMEBI", self.published, counts, [name for name in wanted if name not in set(ids)])
        super().__init__(images, masks, ids=ids, labels=labels, groups=None, size=size, fit=fit)


def _fits(folder: Path) -> bool:
    # BUSI's folders have the same names, where letter case does not count.
    return any(
        any((folder / name).glob(f"* {name} *.bmp")) for name in ("Benign", "Malignant") if (folder / name).is_dir()
    )


def _cases_of(folder: Path) -> list[tuple[str, Path, list[Path]]]:
    """Return id, image and masks of each case of a class folder, in the order of their numbers."""
    images: dict[str, Path] = {}
    masks: dict[str, list[Path]] = {}
    for path in pictures(folder, (".bmp", ".tif")) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.stem)
        if match is None or match["name"].lower() != folder.name.lower():
            raise ValueError(f"{path}: a name such as '1 {folder.name} Image.bmp' was expected")
        name, kind = f"{int(match['number'])} {folder.name}", match["kind"].lower()
        if kind == "mask":
            masks.setdefault(name, []).append(path)
        elif kind == "image" and images.setdefault(name, path) is not path:
            raise ValueError(f"{path}: a second image of {name}, beside {images[name].name}")
    for name, files in masks.items():
        if name not in images:
            raise ValueError(f"{files[0]}: a mask without its image {name} Image.bmp")
    for name, image in images.items():
        if name not in masks:
            raise ValueError(f"{image}: an image without its mask {name} Mask.tif")
    return [(name, image, masks[name]) for name, image in images.items()]
