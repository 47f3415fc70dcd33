"""What the readers of public sets share: finding the folder, checking files once, decoding one case."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset

from .images import image_size, read_image, read_mask, resize_image, resize_mask, square_size


class Cases(Dataset[dict[str, Any]]):
    """Images with masks and classes, read from files on demand.

    A reader lists its files and hands them over; sizes are compared here, from the headers, so that no mismatch
    waits for the middle of a training.

    Attributes:
        ids: id of each case.
        labels: class of each case, an index into `classes`.
        groups: what must stay on one side of a split, or None where the set has none.
        published: number of images of each class as published.
        counts: number of images of each class as found.
    """

    classes: ClassVar[tuple[str, ...]]
    published: ClassVar[Mapping[str, int]]

    def __init__(
        self,
        images: Sequence[Path],
        masks: Sequence[Sequence[Path]],
        *,
        ids: Sequence[str],
        labels: Sequence[int],
        groups: Sequence[str] | None,
        size: int | None,
    ) -> None:
        self.size = square_size(size)
        self.ids, self.labels = list(ids), list(labels)
        self.groups = None if groups is None else list(groups)
        self._images, self._masks = list(images), [tuple(files) for files in masks]
        for image, files in zip(self._images, self._masks, strict=True):
            _check_sizes(image, files)

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each class as found."""
        return {name: self.labels.count(k) for k, name in enumerate(self.classes)}

    @property
    def files(self) -> list[Path]:
        """All files that items are made of."""
        return [*self._images, *(mask for files in self._masks for mask in files)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = operator.index(index)
        image = read_image(self._images[i])
        mask = torch.zeros_like(image, dtype=torch.bool)
        for path in self._masks[i]:
            mask |= read_mask(path)
        if self.size is not None:
            image, mask = resize_image(image, self.size), resize_mask(mask, self.size)
        case = {"image": image, "mask": mask, "label": self.labels[i], "id": self.ids[i]}
        return case if self.groups is None else case | {"group": self.groups[i]}


def find_root(root: str | os.PathLike[str], name: str, layout: str, fits: Callable[[Path], bool]) -> Path:
    """Return `root`, or the one folder in it, that `fits` the layout of the set called `name`.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: neither `root` nor a folder in it fits, or several in it do.
    """
    folder = Path(root)
    if not folder.exists():
        raise FileNotFoundError(f"root: no such folder: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"root must be a folder, got the file {folder}")
    if fits(folder):
        return folder
    found = [child for child in sorted(folder.iterdir()) if child.is_dir() and fits(child)]
    if len(found) != 1:
        several = f"; {', '.join(child.name for child in found)} all do, name one of them" if found else ""
        raise ValueError(
            f"root must be the {name} folder, with {layout}, or its parent; got {folder}{several}"
        )
    return found[0]


def visible_files(folder: Path) -> list[Path]:
    """List the files of a folder by name, without hidden ones (macOS leaves `._` copies beside each)."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def shown(names: Iterable[str], *, limit: int = 3) -> str:
    """Word a list of names in a message: the first few, and how many more."""
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def refuse_partial(
    name: str, published: Mapping[str, int], counts: Mapping[str, int], missing: Sequence[str]
) -> None:
    """Raise ValueError unless the counts are the published ones."""
    if dict(published) == dict(counts):
        return
    table = ", ".join(f"{key} {counts[key]} of {published[key]}" for key in published)
    lacking = f" Missing: {shown(missing)}." if missing else ""
    raise ValueError(
        f"{name} is not the published set: {table}.{lacking} Complete the download, or pass allow_partial=True"
    )


def _check_sizes(image: Path, masks: Sequence[Path]) -> None:
    expected = image_size(image)
    for mask in masks:
        found = image_size(mask)
        if found != expected:
            raise ValueError(
                f"{mask}: the mask has {found[0]} x {found[1]} pixels (height x width), "
                f"its image {image.name} {expected[0]} x {expected[1]}"
            )
