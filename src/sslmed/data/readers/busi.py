"""BUSI: breast ultrasound with masks in three classes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from .._names import lookalikes, refuse_unread
from ..formats._tables import read_csv
from ._cases import Cases, find_root, refuse_partial, shown
from ._pictures import by_number, pictures

_MASK = re.compile(r"(?P<id>.+)_mask(_\d+)?")


class BUSI(Cases):
    """Breast Ultrasound Images (BUSI), 780 images of 600 women.

    Source: Al-Dhabyani, Gomaa, Khaled, Fahmy, "Dataset of breast ultrasound images", Data in Brief 28:104863, 2020,
    doi 10.1016/j.dib.2019.104863. Licence: the article is CC BY 4.0; cite it.

    Layout as downloaded (`Dataset_BUSI_with_GT`): `benign/benign (1).png`, `benign/benign (1)_mask.png`, more lesions
    of an image in `_mask_1.png`, `_mask_2.png`; `malignant/` and `normal/` alike. The masks of an image are merged;
    a normal's is empty, whether its file is there or not. Published counts: 437 benign, 210 malignant, 133 normal.

    Known defects (see also Pawłowska et al., letter in Data in Brief, 2023): near duplicates, within and across
    classes (`benign (433)` and `malignant (145)` are one picture), and no patient numbers; some images of the axilla;
    calipers and position text burnt into some images; a few masks stored as RGB or RGBA. Split by near-duplicate
    group, see `splits.near_duplicates`: where a `groups.csv` (columns image, group) lies in the folder or its parent,
    cases carry its groups.

    Args:
        root: the folder with `benign/`, `malignant/` and `normal/`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are, each of another
            size.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.
        allow_partial: accept another number of images than published.

    Items:
        image (1, H, W) float32 in [0, 1], mask (1, H, W) bool, label (0 benign, 1 malignant, 2 normal), id such as
        "benign (1)", and group where a `groups.csv` gives one.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: the layout or the counts differ from the published ones, an image has no mask or a mask no image, a
            class folder holds a scan that is no PNG, a mask has another size than its image, a header is unreadable,
            or `groups.csv` is, lacks an image, or has two groups that look alike or other columns.

    Example:
        >>> from sslmed.data import BUSI
        >>> BUSI.classes, sum(BUSI.published.values())
        (('benign', 'malignant', 'normal'), 780)
    """

    classes: tuple[str, ...] = ("benign", "malignant", "normal")
    published: ClassVar[Mapping[str, int]] = MappingProxyType({"benign": 437, "malignant": 210, "normal": 133})

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds masks beside images in folders named by BUSI's classes."""
        return any(any(folder.glob(f"{name}/*_mask*.png")) for name in cls.classes)

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | None = None,
        fit: str = "stretch",
        allow_partial: bool = False,
    ) -> None:
        self.root: Path = find_root(root, "BUSI", "benign/, malignant/ and normal/", _fits)
        found = [(label, *case) for label, name in enumerate(self.classes) for case in _cases_of(self.root / name)]
        if not found:
            raise ValueError(f"{self.root} holds no images")
        labels, images, masks = zip(*found, strict=True)
        ids = [image.stem for image in images]
        if not allow_partial:
            wanted = [f"{name} ({k})" for name, n in self.published.items() for k in range(1, n + 1)]
            counts = {name: labels.count(k) for k, name in enumerate(self.classes)}
            refuse_partial("BUSI", self.published, counts, [name for name in wanted if name not in set(ids)])
        self.tables: list[Path] = _tables(self.root)
        super().__init__(images, masks, ids=ids, labels=labels, groups=_groups(self.tables, ids), size=size, fit=fit)


def _fits(folder: Path) -> bool:
    # A partial set may lack a class; the counts say so, where they are asked for.
    return any((folder / name).is_dir() for name in BUSI.classes)


def _cases_of(folder: Path) -> list[tuple[Path, list[Path]]]:
    """Pair the images of a class folder with their masks, in the order of their numbers."""
    images: dict[str, Path] = {}
    masks: dict[str, list[Path]] = {}
    for path in pictures(folder, (".png",)) if folder.is_dir() else []:
        if match := _MASK.fullmatch(path.stem):
            masks.setdefault(match["id"], []).append(path)
        else:
            images[path.stem] = path
    for name in masks:
        if name not in images:
            raise ValueError(f"{masks[name][0]}: a mask without its image {name}.png")
    for name, image in images.items():
        if name not in masks and folder.name != "normal":
            raise ValueError(f"{image}: an image without its mask {name}_mask.png")
    return [(images[name], masks.get(name, [])) for name in sorted(images, key=by_number)]


def _tables(root: Path) -> list[Path]:
    return [path for folder in (root, root.parent) if (path := folder / "groups.csv").is_file()][:1]


def _groups(tables: Sequence[Path], ids: Sequence[str]) -> list[str] | None:
    for path in tables:
        rows = read_csv(path, ("image", "group"))
        refuse_unread(path, rows[0], ("image", "group"))
        table = {row["image"]: row["group"] for row in rows}
        if len(table) != len(rows):
            raise ValueError(f"{path}: {len(rows) - len(table)} images occur twice")
        missing = [name for name in ids if not table.get(name)]
        if missing:
            raise ValueError(f"{path}: no group for {shown(missing)}")
        if alike := lookalikes(table.values()):
            raise ValueError(
                f"{path}: the group {alike[0]!r} looks like {alike[1]!r}: spell them alike if they are one, else more "
                "differently"
            )
        return [table[name] for name in ids]
    return None
