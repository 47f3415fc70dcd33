"""What the readers of public sets share: finding the folder, checking files once, decoding one case."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset

from ..formats._sizes import Sizing
from ..formats.images import image_size, read_image, read_mask


class Cases(Dataset[dict[str, Any]]):
    """Images, with masks and classes where the set has them, read from files on demand.

    A reader tells by `recognises` whether a folder is of its set (the order of trying is `sslmed.data.READERS`), lists
    its files and hands them over; sizes of images and masks are compared here, from the headers, so that
    no mismatch waits for the middle of a training. A reader of other formats overrides `pixels`, and `check`.

    Attributes:
        title: name of the set in results; by default the class's.
        without_labels: settings that read its part without labels, where it has one.
        ids: id of each case.
        labels: class of each case, an index into `classes`, or None where the set has none.
        groups: what must stay on one side of a split, or None where the set has none.
        published: number of images of each class as published.
        counts: number of images of each class as found.
        files: all images and masks that items are made of.
        tables: the tables that ids, classes, groups and the choice of files come from.
        size, fit: as given.
        tiny: ids of the items read so far whose lesion is smaller than a pixel of `size`; one pixel of it is kept.
    """

    classes: tuple[str, ...]
    published: ClassVar[Mapping[str, int]]
    title: ClassVar[str] = ""
    without_labels: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    tables: Sequence[Path] = ()

    @classmethod
    def recognises(cls, folder: Path) -> bool:
        """Tell whether a folder is of this set, by its layout."""
        raise NotImplementedError

    def __init__(
        self,
        images: Sequence[Path],
        masks: Sequence[Sequence[Path]] | None,
        *,
        ids: Sequence[str],
        labels: Sequence[int] | None,
        groups: Sequence[str] | None,
        size: int | None,
        fit: str,
    ) -> None:
        self._sizing = Sizing(size, fit)
        self.size: int | None = self._sizing.size
        self.fit: str = self._sizing.fit
        self.ids: list[str] = list(ids)
        self.labels: list[int] | None = None if labels is None else list(labels)
        self.groups: list[str] | None = None if groups is None else list(groups)
        self._images = list(images)
        self._masks = None if masks is None else [tuple(files) for files in masks]
        self.check()

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each class as found."""
        labels = self.labels or []
        return {name: labels.count(k) for k, name in enumerate(self.classes)}

    @property
    def files(self) -> list[Path]:
        """All images and masks that items are made of, each once."""
        masks = [mask for files in self._masks or () for mask in files]
        return list(dict.fromkeys([*self._images, *masks]))

    @property
    def tiny(self) -> list[str]:
        """Ids of the items read so far with a structure smaller than a pixel of `size`; one pixel of it is kept."""
        return sorted(self._sizing.tiny)

    def check(self) -> None:
        """Raise unless each image has a readable header, and each mask its image's size by its own."""
        masks = self._masks if self._masks is not None else [()] * len(self._images)
        for image, files in zip(self._images, masks, strict=True):
            _check_sizes(image, files)

    def pixels(self, i: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Decode case i: image (1, H, W) float32 in [0, 1], and its mask (1, H, W) bool or None."""
        image = read_image(self._images[i])
        if self._masks is None:
            return image, None
        mask = torch.zeros_like(image, dtype=torch.bool)
        for path in self._masks[i]:
            mask |= read_mask(path)
        return image, mask

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        i = range(len(self.ids))[operator.index(index)]
        image, mask = self.pixels(i)
        case: dict[str, Any] = {"image": self._sizing.image(image)}
        if mask is not None:
            case["mask"] = self._sizing.mask(mask, self.ids[i])
        if self.labels is not None:
            case["label"] = self.labels[i]
        case["id"] = self.ids[i]
        if self.groups is not None:
            case["group"] = self.groups[i]
        return case


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
        raise ValueError(f"root must be the {name} folder, with {layout}, or its parent; got {folder}{several}")
    return found[0]


def visible_files(folder: Path) -> list[Path]:
    """List the files of a folder by name, without hidden ones (macOS leaves `._` copies beside each)."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def shown(names: Iterable[str], *, limit: int = 3) -> str:
    """Word a list of names in a message: the first few, and how many more."""
    names = list(names)
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def refuse_partial(name: str, published: Mapping[str, int], counts: Mapping[str, int], missing: Sequence[str]) -> None:
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
            turned = "; an orientation in the header is not applied" if found == expected[::-1] else ""
            raise ValueError(
                f"{mask}: the mask has {found[0]} x {found[1]} pixels (height x width), "
                f"its image {image.name} {expected[0]} x {expected[1]}{turned}"
            )
