"""A folder of your own images with masks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ..formats._scans import scan_kind
from ..formats.images import FORMATS
from ..names import readable, without_mask_word
from ._cases import Cases, find_root, shown
from ._own_table import read_columns
from .unlabelled import scans_below


class LabelledImages(Cases):
    r"""Images and masks of your own, in two folders under the same names.

    Layout: `images/` and `masks/`, with folders below them as you like; `masks/a/scan 1.png` outlines
    `images/a/scan 1.jpg`, and so does `masks/a/scan 1_mask.png` (or another word, as in `scan 1-Annotation`). The
    endings may differ. The mask of a scan with nothing to outline is all black; scans whose outlines nobody drew belong
    into another folder, for `UnlabelledImages`.

    Beside them, optional: a table `cases.csv` with the column image, and class, group, or both; others are an error. It
    names every image by its path below `images/`, with or without the ending. A group is what must not be parted by a
    split: most often the patient. Without groups, split by near duplicates at least (`splits.near_duplicates`). With
    classes, `masks/` may be absent.

    Args:
        root: the folder with `images/` and with `masks/` or `cases.csv`, or its parent.
        size: side in pixels of the square that images are resized to; None keeps them as they are.
        fit: how images become square: "stretch" does not keep the aspect, "pad" adds black to the shorter side.

    Items:
        image (1, H, W) float32 in [0, 1], mask (1, H, W) bool where there is `masks/`, id, the path below `images/`
        without its ending, and label and group where `cases.csv` has them.

    Attributes:
        classes: the classes of `cases.csv` in alphabetical order; empty where it has none.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: a folder is missing or empty, holds what may be a scan and is no picture that `read_image` reads, or
            two pictures of one name; an image has no mask or a mask no image; a mask has another size than its image; a
            header is unreadable; or `cases.csv` is, is called otherwise, has other columns ("patient" for group), two
            classes or groups that look alike ("P1" and "p1", "patient 7" and "patient 07"), lacks an image, has one
            twice or one that is not there.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for part in ("images", "masks"):
        ...         Path(folder, part).mkdir()
        ...         Image.new("L", (40, 30), 255).save(f"{folder}/{part}/scan 1.png")
        ...     _ = Path(folder, "cases.csv").write_text("image,class,group\nscan 1,benign,patient 7\n")
        ...     scans = LabelledImages(folder, size=32)
        ...     scans.classes, sorted(scans[0]), scans.groups
        (('benign',), ['group', 'id', 'image', 'label', 'mask'], ['patient 7'])
    """

    published: ClassVar[Mapping[str, int]] = MappingProxyType({})

    title: ClassVar[str] = "labelled images"

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder holds `images/` and either `masks/` or `cases.csv`."""
        # Case-sensitive: BUS-BRA has Images and Masks, which some file systems treat as the same names.
        names = set(os.listdir(folder))
        return "images" in names and bool(names & {"masks", "cases.csv"})

    def __init__(self, root: str | os.PathLike[str], *, size: int | None = None, fit: str = "stretch") -> None:
        self.root: Path = find_root(root, "labelled", "images/ and masks/ or cases.csv", _fits)
        images = _pictures(self.root / "images")
        self.tables: list[Path] = [path] if (path := self.root / "cases.csv").is_file() else []
        columns = read_columns(self.root, {name: path.suffix for name, path in images.items()})
        named = columns.get("class")
        folder = self.root / "masks"
        if named is None and not folder.is_dir():
            raise ValueError(f"{self.root}: neither masks/ nor a column class in cases.csv: nothing is labelled")
        self.classes: tuple[str, ...] = tuple(sorted(set(named or ())))
        super().__init__(
            list(images.values()),
            _masks(folder, images) if folder.is_dir() else None,
            ids=list(images),
            labels=None if named is None else [self.classes.index(name) for name in named],
            groups=columns.get("group"),
            size=size,
            fit=fit,
        )


def _fits(folder: Path) -> bool:
    return (folder / "images").is_dir() and any((folder / name).exists() for name in ("masks", "cases.csv"))


def _pictures(folder: Path) -> dict[str, Path]:
    """Return the pictures below a folder by their paths without endings."""
    found: dict[str, Path] = {}
    for path in scans_below(folder):
        kind = scan_kind(path)
        if kind is None:
            continue
        if kind != "image":
            raise ValueError(f"{path}: {', '.join(FORMATS)} were expected; convert it, or move it elsewhere")
        name = readable(path.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise ValueError(f"{path}: a second picture of that name, beside {found[name].name}")
        found[name] = path
    if not found:
        raise ValueError(f"{folder} holds no pictures; looked for {', '.join(FORMATS)} in all its folders")
    return found


def _masks(folder: Path, images: Mapping[str, Path]) -> list[tuple[Path, ...]]:
    """Return each image's mask, which may bear the word in its name."""
    masks: dict[str, Path] = {}
    for written, path in _pictures(folder).items():
        name = written if written in images else without_mask_word(written)
        if name not in images:
            raise ValueError(f"{path}: a mask without its image {folder.parent / 'images' / written}.*")
        if name in masks:
            raise ValueError(f"{path}: a second mask of {name}, beside {masks[name].name}; merge them")
        masks[name] = path
    bare = [name for name in images if name not in masks]
    if bare:
        raise ValueError(
            f"{folder}: no mask for {shown(bare)}, as {bare[0]}.png; one that is all black says that there is nothing "
            "to outline, and images that nobody outlined belong into another folder"
        )
    return [(masks[name],) for name in images]
