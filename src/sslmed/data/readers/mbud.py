"""MBUD: small breast ultrasound images in two classes, without masks (Mendeley)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ._cases import Cases, find_root, refuse_partial
from ._pictures import pictures


class MBUD(Cases):
    """Mendeley breast ultrasound dataset (MBUD), known as BUSC too, 250 images without masks.

    Source: Rodrigues, "Breast Ultrasound Image", Mendeley Data, V1, 2017, doi 10.17632/wmy84gzngw.1. Licence: as on
    that page; others list it as CC BY 4.0.

    Layout as downloaded (`us-dataset.zip`): BMP files in `originals/benign/` and `originals/malignant/`. Published
    counts: 100 benign, 150 malignant.

    Known properties: small pictures of the lesion alone, 57 x 93 to 161 x 199 pixels as described by others who read
    the set, each of another shape, so compare "pad" with "stretch" before trusting a classifier; no patient numbers,
    no masks, no normals.

    Args:
        root: the folder `originals`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept another number of images than published.

    Items:
        image (1, H, W) float32 in [0, 1], label (0 benign, 1 malignant), id, the class and the file's name without
        ending.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: the layout or the counts differ from the published ones, or a header is unreadable.

    Example:
        >>> from sslmed.data import MBUD
        >>> MBUD.classes, sum(MBUD.published.values())
        (('benign', 'malignant'), 250)
    """

    classes: tuple[str, ...] = ("benign", "malignant")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"benign": 100, "malignant": 150})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder has the name of MBUD's images and a class in it."""
        return folder.resolve().name == "originals" and (folder / "benign").is_dir()

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.root: Path = find_root(root, "MBUD", "the name originals and benign/ and malignant/ in it", _fits)
        folders = [self.root / name for name in self.classes]
        found = [
            (label, path)
            for label, folder in enumerate(folders)
            if folder.is_dir()
            for path in pictures(folder, (".bmp",))
        ]
        if not found:
            raise ValueError(f"{self.root} holds no images")
        labels, images = zip(*found, strict=True)
        if not allow_partial:
            counts = {name: labels.count(k) for k, name in enumerate(self.classes)}
            refuse_partial("MBUD", self.published, counts, [])
        ids = [f"{path.parent.name}/{path.stem}" for path in images]
        super().__init__(images, None, ids=ids, labels=labels, groups=None, size=size, fit=fit)


def _fits(folder: Path) -> bool:
    # Other sets have folders of these names too.
    return folder.resolve().name == "originals" and any((folder / name).is_dir() for name in MBUD.classes)
