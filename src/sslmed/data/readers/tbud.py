"""TBUD: breast ultrasound saved from a website, in two folders of the user's, without masks (Thammasat)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ..formats._scans import scan_kind
from ..formats.images import FORMATS
from ..names import named_as_mask
from ._cases import Cases, find_root, shown
from ._pictures import pictures
from .unlabelled import scans_below


class TBUD(Cases):
    """Thammasat breast ultrasound dataset (TBUD): what you saved of the Online Medical Images database.

    Source: Rodtook, Kirimasthong, Lohitvisate, Makhanov, "Automatic initialization of active contours and level set
    method in ultrasound images of breast abnormalities", Pattern Recognition 79:172, 2018, doi
    10.1016/j.patcog.2018.01.032; pictures on the pages of onlinemedicalimages.com. Terms: no licence is stated; ask
    and cite.

    Layout: there is no archive to download; pictures are saved from the website one by one. Put them in `benign/` and
    `malignant/`, as PNG, JPEG, BMP or TIFF. No count can be checked, since none is agreed on: the article uses 180
    images, the benchmark BUSBench found 263 (120 benign, 143 malignant), others took 122. Say which pictures you used.

    Known defects: position marks and text surround the scan, crop them; the website also has elastograms and colour
    pictures, leave them out; no patient numbers here, though a patient may have several pictures.

    Args:
        root: the folder with `benign/` and `malignant/`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.

    Items:
        image (1, H, W) float32 in [0, 1], label (0 benign, 1 malignant), id, the class and the file's name without
        ending.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: a class folder is missing or without images, a file is named as a mask, two files differ in their
            ending alone, or a header is unreadable.

    Example:
        >>> from sslmed.data import TBUD
        >>> TBUD.classes, dict(TBUD.published)
        (('benign', 'malignant'), {})
    """

    classes: tuple[str, ...] = ("benign", "malignant")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds pictures in `benign/` and `malignant/` and no scan beside them."""
        if not set(cls.classes) <= set(os.listdir(folder)):
            return False
        scans = [path.relative_to(folder) for path in scans_below(folder) if scan_kind(path) is not None]
        # In any other set, masks would be read as images, or a class would be left out.
        return all(path.parent.as_posix() in cls.classes and not named_as_mask(path) for path in scans)

    def __init__(self, root: str | os.PathLike[str], *, size: int | None = None, fit: str = "stretch") -> None:
        self.root: Path = find_root(root, "TBUD", "benign/ and malignant/", _fits)
        images: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            found = pictures(self.root / name, tuple(FORMATS))
            if not found:
                raise ValueError(f"{self.root / name} holds no images")
            if masks := [path.name for path in found if named_as_mask(Path(path.name))]:
                raise ValueError(f"{self.root / name}: {shown(masks)} would be read as images; move masks elsewhere")
            images += found
            labels += [label] * len(found)
        ids = [f"{path.parent.name}/{path.stem}" for path in images]
        for before, path, name in zip(images, images[1:], ids[1:], strict=False):
            if name == f"{before.parent.name}/{before.stem}":
                raise ValueError(f"{path}: {before.name} has the same name; keep one of them")
        super().__init__(images, None, ids=ids, labels=labels, groups=None, size=size, fit=fit)


def _fits(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in TBUD.classes)
